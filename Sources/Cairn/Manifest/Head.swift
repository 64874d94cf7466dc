public import ChunkStore

/// The bytes whose SHA-256 is an iteration's manifest id: what it is, and where its roots are.
/// (Docs/format.md 6)
public struct Head: Sendable, Equatable {
    /// A valid `RunName`.
    public var run: String
    public var step: UInt64
    /// Nanoseconds since 1970 UTC.
    public var createdAt: Int64
    /// The manifest id of the iteration before, where there is one.
    public var parent: ChunkID?
    /// The framework's arrangement of files, such as `hf-trainer`.
    public var layout: String
    public var tensorCount: Int
    public var fileCount: Int
    /// The sum of the files' sizes, in bytes.
    public var logicalBytes: UInt64
    /// The blob that holds the encoded `Roots`: never empty.
    public var roots: BlobRef
    public var metrics: [String: Double]
    /// The blob that holds the encoded `Metadata`: empty where there is none.
    public var metadata: BlobRef

    public init(
        run: String, step: UInt64, createdAt: Int64, parent: ChunkID?, layout: String, tensorCount: Int,
        fileCount: Int, logicalBytes: UInt64, roots: BlobRef, metrics: [String: Double], metadata: BlobRef
    ) {
        self.run = run
        self.step = step
        self.createdAt = createdAt
        self.parent = parent
        self.layout = layout
        self.tensorCount = tensorCount
        self.fileCount = fileCount
        self.logicalBytes = logicalBytes
        self.roots = roots
        self.metrics = metrics
        self.metadata = metadata
    }

    /// The same value gives the same bytes, always: they are what the manifest id is made of.
    ///
    /// - Precondition: the run's name is valid and the roots are not empty.
    public func encoded() -> [UInt8] {
        precondition(RunName.isValid(run) && roots.length > 0, "a head that no reader would accept")
        var writer = ByteWriter(capacity: 256)
        writer.raw("CHD1".utf8)
        writer.string(run)
        writer.varint(step)
        writer.i64(createdAt)
        writer.bytes(parent?.bytes ?? [])
        writer.string(layout)
        writer.varint(tensorCount)
        writer.varint(fileCount)
        writer.varint(logicalBytes)
        roots.write(to: &writer)
        writer.map(metrics)
        metadata.write(to: &writer)
        return writer.bytes
    }

    /// Accepts exactly what `encoded` writes.
    ///
    /// A run's name becomes the name of a cache file, so a head from a foreign store is refused where its run
    /// is not a valid name.
    public init(decoding bytes: [UInt8]) throws(FormatError) {
        var reader = ByteReader(bytes)
        try reader.expect("CHD1")
        run = try reader.string()
        guard RunName.isValid(run) else { throw FormatError("holds a run whose name is not valid") }
        step = try reader.varint()
        createdAt = try reader.i64()
        parent = try Self.parent(try reader.bytes())
        layout = try reader.string()
        tensorCount = try reader.count()
        fileCount = try reader.count()
        logicalBytes = try reader.varint()
        roots = try BlobRef(from: &reader)
        guard roots.length > 0 else { throw FormatError("holds a head without roots") }
        let start = reader.position
        metrics = try reader.doubles()
        try metrics.requireDistinctKeys(in: bytes[start..<reader.position])
        metadata = try BlobRef(from: &reader)
        try reader.expectEnd()
    }

    /// Equal to the last bit, as the manifest ids are: NaN equals itself, and names compare by their bytes.
    public static func == (a: Head, b: Head) -> Bool { a.encoded() == b.encoded() }

    private static func parent(_ bytes: [UInt8]) throws(FormatError) -> ChunkID? {
        if bytes.isEmpty { return nil }
        guard bytes.count == 32 else { throw FormatError("holds a parent that is not an id") }
        let id = bytes.withUnsafeBytes { ChunkID($0) }
        guard id != .zero else { throw FormatError("holds a parent of zeros") }
        return id
    }
}

extension Dictionary where Key == String {
    /// A Swift dictionary merges keys that Unicode calls equal ("é" in one scalar or in two); the map in the
    /// file does not. One that lost a key that way is refused, because it would encode to other bytes.
    func requireDistinctKeys(in encoded: ArraySlice<UInt8>) throws(FormatError) {
        var reader = ByteReader(encoded)
        guard try reader.varint() == UInt64(count) else {
            throw FormatError("holds two names that differ only in their Unicode normalisation")
        }
    }
}
