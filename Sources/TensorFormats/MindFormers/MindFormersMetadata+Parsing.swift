extension MindFormersMetadata {
    /// The longest file that is read, in bytes. What is made of one takes about twice as much.
    public static let maximumLength = 128 << 20

    /// Reads the file. Members that are not known are passed over.
    ///
    /// - Throws: `MindFormersError` for what is no such file, for tensors whose slices are not what their layout makes of their
    ///   shape, and for slices of tensors that are not there.
    public init(parsing bytes: [UInt8]) throws(MindFormersError) {
        guard bytes.count <= Self.maximumLength else {
            throw MindFormersError("The file metadata.json has over 128 MiB.")
        }
        do {
            var reader = MindFormersReader(try JSONLexer(bytes))
            try reader.read()
            self.init(
                style: bytes.contains(UInt8(ascii: "\n")) ? .indented : .compact, tensors: reader.tensors,
                slices: reader.slices)
        } catch let error as JSONError {
            throw MindFormersError("The file metadata.json is not valid: \(error).")
        } catch let error as MindFormersError {
            throw error
        } catch {
            throw MindFormersError("The file metadata.json is not valid.")
        }
        try check()
    }

    /// That each slice that is stored is one of its tensor's, and comes once.
    private func check() throws(MindFormersError) {
        var known: [ExactText: Set<Int>] = [:]
        for tensor in tensors { known[ExactText(tensor.name)] = Set(tensor.chunks.map(\.slice)) }
        for stored in slices where known[ExactText(stored.tensor)]?.remove(stored.slice) == nil {
            throw MindFormersError(
                "The file metadata.json stores slice \(stored.slice) of the tensor \(stored.tensor.quoted), which it does "
                    + "not describe, or does so twice.")
        }
    }
}
