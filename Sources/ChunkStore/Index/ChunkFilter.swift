/// Says of most chunks that an index lacks that it lacks them, without a look into its tree: a Bloom filter in blocks of a cache
/// line. (Putze, Sanders, Singler: Cache-, Hash- and Space-Efficient Bloom Filters, 2007)
///
/// A look-up costs a microsecond and more where the index is large, so that a save of many new chunks took a tenth longer than
/// into an empty store. The filter costs one pass over the ids, so it is made once a save has met many that are new.
struct ChunkFilter: Sendable {
    /// Bits for each entry: about one in 200 chunks that are new is looked up for nothing.
    private static let bitsAnEntry = 16
    private static let wordsABlock = 8
    private static let hashes = 4
    /// 32 MiB. An index of more entries has no filter.
    private static let largestBlockCount = 1 << 19

    private var words: [UInt64]
    private let mask: UInt64

    /// Nil where it would be too large.
    init?(capacity: Int) {
        let bitsABlock = Self.wordsABlock * UInt64.bitWidth
        var blocks = 1
        while blocks * bitsABlock < capacity * Self.bitsAnEntry { blocks *= 2 }
        guard blocks <= Self.largestBlockCount else { return nil }
        words = [UInt64](repeating: 0, count: blocks * Self.wordsABlock)
        mask = UInt64(blocks - 1)
    }

    mutating func insert(_ id: ChunkID) {
        for (word, bit) in Self.places(id, mask) { words[word] |= bit }
    }

    /// False: the id was not inserted.
    func mayContain(_ id: ChunkID) -> Bool {
        Self.places(id, mask).allSatisfy { word, bit in words[word] & bit != 0 }
    }

    /// The block by the lowest bits of the id's last word, the bits in it by the highest.
    private static func places(_ id: ChunkID, _ mask: UInt64) -> some Sequence<(Int, UInt64)> {
        let word = id.suffix
        let block = Int(word & mask) * wordsABlock
        return (0..<hashes).lazy.map { index in
            let bit = word >> (64 - 9 * UInt64(index + 1)) & 511
            return (block + Int(bit >> 6), 1 << (bit & 63))
        }
    }
}

extension IndexTransaction {
    /// A filter with all chunks, or nil where there are too many.
    func chunkFilter() throws -> ChunkFilter? {
        guard var filter = ChunkFilter(capacity: try chunkCount()) else { return nil }
        try scanChunkIDs { filter.insert($0) }
        return filter
    }
}
