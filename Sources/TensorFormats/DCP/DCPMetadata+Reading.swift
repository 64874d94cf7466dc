extension DCPMetadata {
    /// Reads the pickle, of which nothing is imported or called.
    ///
    /// Classes count by their names, not by their modules, which have changed between versions. Items that belong
    /// to no tensor or object, and what else writers add, are left out.
    ///
    /// - Parameter bytes: the whole of `.metadata`, or of `__0.metadata` and the like, which ranks write on their own.
    /// - Throws: `TensorFileError` where it is no such pickle, contradicts itself, or is too large.
    public init(parsing bytes: [UInt8]) throws(TensorFileError) {
        let pickle = try Unpickler.read(bytes, limits: .metadata)
        var reader = DCPMetadataReader(pickle)
        self = try reader.read()
    }
}

extension PickleLimits {
    /// Of `.metadata`: a chunk with its item takes about 200 bytes and 26 values, 6 of them objects, so that a million
    /// of them fit, in 1.2 GiB of memory. What was tried to take the most took less.
    static let metadata = PickleLimits(
        length: 320 << 20, nodeCount: 32 << 20, objectCount: 8 << 20, edgeCount: 64 << 20)
}
