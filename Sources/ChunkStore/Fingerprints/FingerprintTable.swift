public import Platform

/// The fingerprints of one iteration's chunks, in the order of its manifest: a cache, by which the next save of the run sees what has
/// not changed. (Docs/format.md 9)
public struct FingerprintTable: Sendable {
    /// A chunk's fingerprint, and that of the chunk that its record leans on; `.none` where there is none, or it is not known.
    public typealias Entry = (own: Fingerprint, base: Fingerprint)

    /// Of the iteration.
    public var manifest: ChunkID
    private var bytes: [UInt8]

    private static let entrySize = 2 * Fingerprint.size

    public init(manifest: ChunkID, capacity: Int) {
        self.manifest = manifest
        bytes = []
        bytes.reserveCapacity(capacity * Self.entrySize)
    }

    public var count: Int { bytes.count / Self.entrySize }

    public subscript(index: Int) -> Entry {
        bytes.withUnsafeBytes { bytes in
            let start = index * Self.entrySize
            let middle = start + Fingerprint.size
            return (
                Fingerprint(UnsafeRawBufferPointer(rebasing: bytes[start..<middle])),
                Fingerprint(UnsafeRawBufferPointer(rebasing: bytes[middle..<start + Self.entrySize]))
            )
        }
    }

    public mutating func append(_ entry: Entry) {
        entry.own.withUnsafeBytes { bytes.append(contentsOf: $0) }
        entry.base.withUnsafeBytes { bytes.append(contentsOf: $0) }
    }

    /// - Parameter key: of the fingerprints, which a table says nothing about under another one.
    func encoded(store: [UInt8], key: [UInt8]) -> [UInt8] {
        var writer = ByteWriter(capacity: bytes.count + 128)
        writer.raw("CAIRNFPR".utf8)
        writer.u32(1)
        writer.zeros(4)
        writer.raw(store)
        writer.raw(ChunkID.of(key))
        writer.raw(manifest)
        writer.u64(UInt64(count))
        writer.raw(bytes)
        writer.raw(ChunkID.of(writer.bytes))
        return writer.bytes
    }

    /// - Throws: where the bytes are no table of this store and key, or their checksum is another.
    init(decoding bytes: [UInt8], store: [UInt8], key: [UInt8]) throws(FormatError) {
        var reader = ByteReader(bytes)
        try reader.expect("CAIRNFPR")
        guard try reader.u32() == 1 else { throw FormatError("has an unknown version") }
        try reader.zeros(4)
        guard try reader.raw(16) == store, try reader.id() == .of(key) else {
            throw FormatError("belongs to another store or key")
        }
        manifest = try reader.id()
        let count = try reader.u64()
        guard count <= UInt64(reader.remaining / Self.entrySize) else { throw FormatError("ends too early") }
        self.bytes = try reader.raw(Int(count) * Self.entrySize)
        let end = bytes.count - reader.remaining
        let checksum = try reader.id()
        try reader.expectEnd()
        guard bytes.withUnsafeBytes({ ChunkID.of(UnsafeRawBufferPointer(rebasing: $0[..<end])) }) == checksum
        else { throw FormatError("fails its checksum") }
    }
}
