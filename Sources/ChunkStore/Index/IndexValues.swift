internal import Platform

/// Where a chunk is. (Docs/format.md 8, `chunks`)
public struct ChunkLocation: Hashable, Sendable {
    public var pack: UInt32
    public var offset: UInt64
    public var storedLength: UInt32
    public var rawLength: UInt32
    public var codec: Codec
    /// A check found other bytes there: the next save that holds the chunk writes it again.
    public var isDamaged: Bool
    public var base: ChunkID

    static let size = 22

    init(_ entry: PackEntry, pack: UInt32) {
        self.pack = pack
        offset = entry.offset
        storedLength = entry.storedLength
        rawLength = entry.rawLength
        codec = entry.codec
        isDamaged = false
        base = entry.base
    }

    init?(_ value: UnsafeRawBufferPointer) {
        guard value.count >= Self.size else { return nil }
        pack = UInt32(littleEndian: value.loadUnaligned(fromByteOffset: 0, as: UInt32.self))
        offset = UInt64(littleEndian: value.loadUnaligned(fromByteOffset: 4, as: UInt64.self))
        storedLength = UInt32(littleEndian: value.loadUnaligned(fromByteOffset: 12, as: UInt32.self))
        rawLength = UInt32(littleEndian: value.loadUnaligned(fromByteOffset: 16, as: UInt32.self))
        codec = Codec(rawValue: value[20])
        isDamaged = value[21] & 1 != 0
        guard value.count == Self.size + (codec.hasBase ? 32 : 0), offset < 1 << 62,
            max(storedLength, rawLength) <= PackFormat.recordLimit, value[21] <= 1
        else { return nil }
        base = codec.hasBase ? ChunkID(UnsafeRawBufferPointer(rebasing: value[Self.size...])) : .zero
    }

    /// How many bytes the location takes that begins at `position`; nil where they are not there.
    static func length(at position: Int, in bytes: UnsafeRawBufferPointer) -> Int? {
        guard position + size <= bytes.count else { return nil }
        let length = size + (Codec(rawValue: bytes[position + 20]).hasBase ? 32 : 0)
        return position + length <= bytes.count ? length : nil
    }

    func encoded() -> [UInt8] {
        var writer = ByteWriter(capacity: Self.size + 32)
        writer.u32(pack)
        writer.u64(offset)
        writer.u32(storedLength)
        writer.u32(rawLength)
        writer.u8(codec.rawValue)
        writer.u8(isDamaged ? 1 : 0)
        if codec.hasBase { writer.raw(base) }
        return writer.bytes
    }

    func entry(_ id: ChunkID) -> PackEntry {
        PackEntry(
            id: id, offset: offset, rawLength: rawLength, storedLength: storedLength, codec: codec, base: base
        )
    }

    var range: Range<UInt64> { offset..<offset + UInt64(PackFormat.recordHeaderSize) + UInt64(storedLength) }
}

/// How far the index has folded the journal, and what else there is one of. (Docs/format.md 8, `meta`)
struct IndexState: Hashable, Sendable {
    static let version: UInt32 = 1
    static let versionBytes = withUnsafeBytes(of: version.littleEndian) { [UInt8]($0) }
    static let key = [UInt8]("state".utf8)

    var store: [UInt8]
    var journal: Journal.Position
    /// Replaced whenever chunk entries are removed or moved.
    var sweepToken: [UInt8]
    var nextPack: UInt32
    /// `IndexTransaction.catalogDigest`, as it was when the catalog was last changed.
    var catalog = ChunkID.zero

    func encoded() -> [UInt8] {
        var writer = ByteWriter()
        writer.u32(Self.version)
        writer.raw(store)
        writer.u64(journal.offset)
        writer.u64(journal.sequence)
        writer.raw(journal.previous)
        writer.raw(sweepToken)
        writer.u32(nextPack)
        writer.raw(catalog)
        writer.check8()
        return writer.bytes
    }

    init(decoding bytes: [UInt8]) throws(FormatError) {
        var reader = ByteReader(bytes)
        let version = try reader.u32()
        guard version == Self.version else { throw FormatError("has the unknown version \(version)") }
        store = try reader.raw(16)
        journal = Journal.Position(
            offset: try reader.u64(), sequence: try reader.u64(), previous: try reader.id())
        sweepToken = try reader.raw(16)
        nextPack = try reader.u32()
        catalog = try reader.id()
        try reader.check8()
        try reader.expectEnd()
    }

    init(store: [UInt8]) {
        self.store = store
        journal = .start
        sweepToken = Random.bytes(16)
        nextPack = 0
    }
}

/// An iteration as the index keeps it: what a commit record says of it, and what came later.
public struct CatalogEntry: Sendable {
    /// The sequence number of its commit record: never used again.
    public var number: UInt64
    public var run: String
    public var step: UInt64
    public var head: [UInt8]
    public var storedBytes: UInt64
    /// Nanoseconds since 1970 UTC when it was committed.
    public var committedAt: Int64
    public var isSuperseded: Bool
    public var pins: [String]
    public var annotations: [JournalEvent.Annotation]

    public var manifest: ChunkID { .of(head) }
}
