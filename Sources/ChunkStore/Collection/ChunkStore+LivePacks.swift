internal import Platform

/// A pack, and where the records lie in it that are live.
struct LivePack {
    var number: UInt32
    var summary: PackSummary
    /// In ascending order.
    var records: [Range<UInt64>] = []

    var liveBytes: UInt64 { records.reduce(0) { $0 + UInt64($1.count) } }
}

extension ChunkStore {
    /// What the index says of a record; as small as can be, for there is one for each chunk.
    private struct Found {
        var offset: UInt64
        /// The beginning of its id: enough to see that the place is another chunk's.
        var id: UInt64
        var storedLength: UInt32
        var isLive: Bool

        init(_ id: ChunkID, _ location: ChunkLocation, isLive: Bool) {
            offset = location.offset
            self.id = id.prefix
            storedLength = location.storedLength
            self.isLive = isLive
        }
    }

    /// All packs, with the records of the chunks that are live, in the order of their numbers. Under the collection lock.
    ///
    /// Pages of the index have no checksums, and what is not found here is freed: so the index must say what the journal says, and
    /// every chunk must be where the table of its pack says.
    /// - Throws: `.damage` where it is not so.
    func livePacks(where isLive: (ChunkID, ChunkLocation) -> Bool) throws -> [LivePack] {
        try checkProcess()
        try catchUp()
        var found: [UInt32: [Found]] = [:]
        let summaries = try opened.change { opened in
            try locks.reading {
                let (records, end) = try journal.records()
                let fold = JournalFold(records)
                return try currentIndex().read { transaction in
                    try compare(fold, end, transaction)
                    try transaction.scanChunks { id, location in
                        found[location.pack, default: []].append(
                            Found(id, location, isLive: isLive(id, location)))
                        return true
                    }
                    return try transaction.packs()
                }
            }
        }
        // The packs are only looked at now: nobody removes one, and no committer has to wait.
        let packs = try summaries.map { number, summary in
            let records = try check(found.removeValue(forKey: number) ?? [], summary)
            return LivePack(number: number, summary: summary, records: records)
        }
        guard found.isEmpty else { throw differs("has a chunk in no pack") }
        return packs
    }

    /// The live ones of these records, all of which must stand in the pack's table.
    private func check(_ found: [Found], _ summary: PackSummary) throws -> [Range<UInt64>] {
        guard !found.isEmpty else { return [] }
        var entries = try packs.table(summary)[...]
        var live: [Range<UInt64>] = []
        for record in found.sorted(by: { $0.offset < $1.offset }) {
            entries = entries.drop { $0.offset < record.offset }
            guard let entry = entries.popFirst(), entry.offset == record.offset,
                entry.storedLength == record.storedLength, entry.id.prefix == record.id
            else { throw differs("has another place for a chunk than the pack \(packs.path(summary.name))") }
            if record.isLive { live.append(entry.range) }
        }
        return live
    }
}
