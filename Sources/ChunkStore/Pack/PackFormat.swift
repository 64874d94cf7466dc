internal import Platform

/// The pieces of a pack file. (Docs/format.md 3)
public struct PackName: Hashable, Sendable, CustomStringConvertible {
    /// 16 bytes.
    public let bytes: [UInt8]

    public init(_ bytes: [UInt8]) {
        precondition(bytes.count == 16)
        self.bytes = bytes
    }

    /// From a file name such as `0123....pack`; nil for anything else.
    public init?(fileName: [UInt8]) {
        guard fileName.count == 37, fileName.suffix(5).elementsEqual(".pack".utf8),
            let bytes = [UInt8](hex: String(decoding: fileName.prefix(32), as: UTF8.self))
        else { return nil }
        self.bytes = bytes
    }

    public var fileName: String { bytes.hex + ".pack" }
    public var description: String { "packs/\(fileName)" }
}

/// One record of a pack as its table lists it.
public struct PackEntry: Hashable, Sendable {
    public var id: ChunkID
    /// Where the record's header begins in the pack.
    public var offset: UInt64
    public var rawLength: UInt32
    public var storedLength: UInt32
    public var codec: Codec
    /// `.zero` where the codec has none.
    public var base: ChunkID = .zero

    /// - Parameter offset: what `PackWriter` finds, where it is not known yet.
    package init(
        id: ChunkID, offset: UInt64 = 0, rawLength: UInt32, storedLength: UInt32, codec: Codec,
        base: ChunkID = .zero
    ) {
        self.id = id
        self.offset = offset
        self.rawLength = rawLength
        self.storedLength = storedLength
        self.codec = codec
        self.base = base
    }

    /// Bytes of header and payload.
    public var recordLength: UInt64 { UInt64(PackFormat.recordHeaderSize) + UInt64(storedLength) }
    public var range: Range<UInt64> { offset..<offset + recordLength }
}

public enum PackFormat {
    static let version: UInt32 = 1
    public static let headerSize = 64
    public static let recordHeaderSize = 96
    public static let trailerSize = 64
    public static let blockSize = 4096
    /// Entries of a table take this many bytes, those with a base 32 more.
    static let entrySize = 52
    /// More than any record holds, raw or stored: 4 times the largest chunk.
    static let recordLimit: UInt32 = 16 << 20
    /// The most records that a chunk is made from, whatever a store's setting: a reader refuses more.
    static let chainLimit = 64

    static func header(store: [UInt8], name: PackName) -> [UInt8] {
        var writer = ByteWriter(capacity: headerSize)
        writer.raw("CAIRNPAK".utf8)
        writer.u32(version)
        writer.u32(0)
        writer.raw(store)
        writer.raw(name.bytes)
        writer.zeros(8)
        writer.check8()
        return writer.bytes
    }

    static func checkHeader(_ bytes: [UInt8], store: [UInt8], name: PackName) throws(FormatError) {
        var reader = ByteReader(bytes)
        try reader.expect("CAIRNPAK")
        let found = try reader.u32()
        guard found == version else { throw FormatError("has the unknown version \(found)") }
        try reader.zeros(4)
        guard try reader.raw(16) == store else { throw FormatError("belongs to another store") }
        guard try reader.raw(16) == name.bytes else { throw FormatError("has another pack's name") }
        try reader.zeros(8)
        try reader.check8()
    }

    static func recordHeader(_ entry: PackEntry) -> [UInt8] {
        var writer = ByteWriter(capacity: recordHeaderSize)
        writer.raw("CREC".utf8)
        writer.u8(entry.codec.rawValue)
        writer.zeros(3)
        writer.u32(entry.rawLength)
        writer.u32(entry.storedLength)
        writer.raw(entry.id)
        writer.raw(entry.base)
        writer.u64(entry.offset)
        writer.check8()
        return writer.bytes
    }

    static func entry(fromRecordHeader bytes: [UInt8]) throws(FormatError) -> PackEntry {
        var reader = ByteReader(bytes)
        try reader.expect("CREC")
        let codec = Codec(rawValue: try reader.u8())
        try reader.zeros(3)
        let rawLength = try reader.u32()
        let storedLength = try reader.u32()
        let id = try reader.id()
        let base = try reader.id()
        let offset = try reader.u64()
        try reader.check8()
        return PackEntry(
            id: id, offset: offset, rawLength: rawLength, storedLength: storedLength, codec: codec, base: base
        )
    }

    static func table(_ entries: [PackEntry]) -> [UInt8] {
        var writer = ByteWriter(capacity: 8 + entries.count * entrySize)
        writer.raw("CTAB".utf8)
        writer.u32(UInt32(entries.count))
        for entry in entries {
            writer.raw(entry.id)
            writer.u64(entry.offset)
            writer.u32(entry.rawLength)
            writer.u32(entry.storedLength)
            writer.u8(entry.codec.rawValue)
            writer.zeros(3)
            if entry.codec.hasBase { writer.raw(entry.base) }
        }
        return writer.bytes
    }

    /// The entries of a table. They lie one behind the other between the pack's header and the table.
    static func entries(fromTable bytes: [UInt8], tableOffset: UInt64) throws(FormatError) -> [PackEntry] {
        var reader = ByteReader(bytes)
        try reader.expect("CTAB")
        let count = Int(try reader.u32())
        guard count <= reader.remaining / entrySize else { throw FormatError("ends too early") }
        var entries: [PackEntry] = []
        entries.reserveCapacity(count)
        var end = UInt64(headerSize)
        for _ in 0..<count {
            let id = try reader.id()
            let offset = try reader.u64()
            let rawLength = try reader.u32()
            let storedLength = try reader.u32()
            let codec = Codec(rawValue: try reader.u8())
            try reader.zeros(3)
            let entry = PackEntry(
                id: id, offset: offset, rawLength: rawLength, storedLength: storedLength, codec: codec,
                base: codec.hasBase ? try reader.id() : .zero)
            guard offset >= end, rawLength > 0, max(rawLength, storedLength) <= recordLimit,
                entry.recordLength <= tableOffset,
                offset <= tableOffset - entry.recordLength
            else { throw FormatError("lists records that overlap or lie outside the pack") }
            end = entry.range.upperBound
            entries.append(entry)
        }
        try reader.expectEnd()
        return entries
    }
}

/// A finished pack, as commit and repair records name it.
public struct PackSummary: Hashable, Sendable {
    public var name: PackName
    public var tableOffset: UInt64
    public var tableLength: UInt64
    public var tableHash: ChunkID
    /// Bytes, a multiple of 4,096.
    public var fileLength: UInt64

    func trailer() -> [UInt8] {
        var writer = ByteWriter(capacity: PackFormat.trailerSize)
        writer.raw("CAIRNEND".utf8)
        writer.u64(tableOffset)
        writer.u64(tableLength)
        writer.raw(tableHash)
        writer.check8()
        return writer.bytes
    }

    /// From the last 64 bytes of the pack's file.
    init(trailer bytes: [UInt8], name: PackName, fileLength: UInt64) throws(FormatError) {
        var reader = ByteReader(bytes)
        try reader.expect("CAIRNEND")
        let offset = try reader.u64()
        let length = try reader.u64()
        let hash = try reader.id()
        try reader.check8()
        self.init(
            name: name, tableOffset: offset, tableLength: length, tableHash: hash, fileLength: fileLength)
    }

    init(name: PackName, tableOffset: UInt64, tableLength: UInt64, tableHash: ChunkID, fileLength: UInt64) {
        self.name = name
        self.tableOffset = tableOffset
        self.tableLength = tableLength
        self.tableHash = tableHash
        self.fileLength = fileLength
    }

    func write(to writer: inout ByteWriter) {
        writer.raw(name.bytes)
        writer.u64(tableOffset)
        writer.u64(tableLength)
        writer.raw(tableHash)
        writer.u64(fileLength)
    }

    init(from reader: inout ByteReader) throws(FormatError) {
        let name = PackName(try reader.raw(16))
        let offset = try reader.u64()
        let length = try reader.u64()
        let hash = try reader.id()
        let fileLength = try reader.u64()
        guard fileLength.isMultiple(of: UInt64(PackFormat.blockSize)), fileLength > 0, fileLength < 1 << 62,
            length <= fileLength, offset <= fileLength - length
        else { throw FormatError("names a pack whose table lies outside it") }
        self.init(
            name: name, tableOffset: offset, tableLength: length, tableHash: hash, fileLength: fileLength)
    }
}
