internal import Platform

/// Many chunk entries in the order of their ids, cut into parts of some pages. (Docs/format.md 8, `tables`)
///
/// A tree of random keys is the wrong place for many entries at once: 262,144 new chunks among a million dirty each of its
/// pages, and a save took twice as long as into an empty store. So a save of many new chunks adds them as one table; of like
/// size, tables are merged, so that few have to be looked through.
struct ChunkTable: Hashable {
    /// The greater, the newer.
    var number: UInt32
    /// Entries when it was made.
    var count: UInt32

    /// Tables of like size that are merged.
    static let mergeCount = 4
    /// Entries of a table that is not merged any more: it would hold the commit lock for seconds.
    static let mergeLimit: UInt32 = 4 << 20

    /// By how many powers of 4 it is large.
    var level: Int { (UInt32.bitWidth - 1 - max(count, 1).leadingZeroBitCount) / 2 }

    /// The key of the part that begins with this id.
    func key(_ id: ChunkID) -> [UInt8] { IndexTransaction.key(number) + id.bytes }
}

typealias ChunkEntry = (id: ChunkID, location: ChunkLocation)

/// One part of a table, as it lies in the index: how many entries, their ids, their locations.
struct ChunkTablePart {
    /// Bytes at most: eight pages of 4096 bytes, but for LMDB's header. LMDB looks for eight in a row, mostly at the end of its file;
    /// single pages it would take from among all that earlier commits freed, and write one by one.
    static let maximumSize = 8 * 4096 - 16

    private let bytes: UnsafeRawBufferPointer
    let count: Int

    /// Nil where these bytes are no part.
    init?(_ bytes: UnsafeRawBufferPointer) {
        guard bytes.count >= 2 else { return nil }
        count = Int(UInt16(littleEndian: bytes.loadUnaligned(as: UInt16.self)))
        guard count > 0, 2 + count * 32 <= bytes.count else { return nil }
        self.bytes = bytes
    }

    func id(_ index: Int) -> ChunkID {
        ChunkID(UnsafeRawBufferPointer(rebasing: bytes[2 + index * 32..<2 + (index + 1) * 32]))
    }

    /// The place of an id among the others.
    func find(_ id: ChunkID) -> Int? {
        let place = (0..<count).partitioningIndex { self.id($0) >= id }
        return place < count && self.id(place) == id ? place : nil
    }

    /// Nil where the bytes hold no locations.
    func location(_ index: Int) -> ChunkLocation? {
        var position = 2 + count * 32
        for _ in 0..<index {
            guard let length = ChunkLocation.length(at: position, in: bytes) else { return nil }
            position += length
        }
        return location(at: position)?.location
    }

    private func location(at position: Int) -> (location: ChunkLocation, end: Int)? {
        guard let length = ChunkLocation.length(at: position, in: bytes),
            let location = ChunkLocation(
                UnsafeRawBufferPointer(rebasing: bytes[position..<position + length]))
        else { return nil }
        return (location, position + length)
    }

    /// All entries, or nil where the bytes hold none.
    func entries() -> [ChunkEntry]? {
        var position = 2 + count * 32
        var entries: [ChunkEntry] = []
        for index in 0..<count {
            guard let (location, end) = location(at: position) else { return nil }
            entries.append((id(index), location))
            position = end
        }
        return position == bytes.count ? entries : nil
    }
}

/// Fills one part after the other.
struct ChunkTablePartBuilder {
    private var ids = ByteWriter()
    private var locations = ByteWriter()
    private(set) var first: ChunkID?
    private var count = 0

    /// Returns false, having added nothing, where the part is full.
    mutating func add(_ entry: ChunkEntry) -> Bool {
        let location = entry.location.encoded()
        let size = 2 + ids.bytes.count + 32 + locations.bytes.count + location.count
        guard size <= ChunkTablePart.maximumSize else { return false }
        ids.raw(entry.id)
        locations.raw(location)
        first = first ?? entry.id
        count += 1
        return true
    }

    var bytes: [UInt8] {
        var writer = ByteWriter(capacity: ChunkTablePart.maximumSize)
        writer.u16(UInt16(count))
        writer.raw(ids.bytes)
        writer.raw(locations.bytes)
        return writer.bytes
    }
}
