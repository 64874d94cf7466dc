internal import Platform

extension ChunkStore {
    /// What freeing space gave.
    struct Freed {
        /// Bytes that the file system has back.
        var bytes: UInt64 = 0
        /// The file system can't punch holes, so ranges inside of packs stayed.
        var cannotPunch = false
    }

    /// Frees every whole block of these packs in which no live record lies. Under the collection lock.
    /// - Parameter dryRun: only says how much that would be.
    func freeSpace(in numbers: Set<UInt32>, dryRun: Bool = false, dead: Set<ChunkID> = []) throws -> Freed {
        let (live, summaries) = try liveRanges(in: numbers, without: dead)
        var freed = Freed()
        for (number, summary) in summaries.sorted(by: { $0.key < $1.key }) {
            let file = try File(packs.path(summary.name), dryRun ? .read : .write)
            let before = try file.status().allocated
            for range in try freeBlocks(of: summary, live: live[number] ?? []) {
                let data = file.dataRanges(in: range)
                if dryRun {
                    freed.bytes += data.reduce(0) { $0 + UInt64($1.count) }
                } else if !data.isEmpty, try !file.punch(range) {
                    freed.cannotPunch = true
                }
            }
            if !dryRun { freed.bytes += before - min(before, try file.status().allocated) }
        }
        if !dryRun, !numbers.isEmpty { try clearPending(numbers) }
        return freed
    }

    /// Looks things up in an index that has every chunk where the tables say: whatever it lacks would be freed.
    /// - Throws: `.damage` where it differs from journal or tables.
    private func checkedRead<R>(_ body: (IndexTransaction) throws -> R) throws -> R {
        try checkProcess()
        return try opened.change { opened in
            try locks.reading {
                let (records, end) = try opened.journal.records()
                let fold = JournalFold(records)
                return try currentIndex(&opened).read { transaction in
                    try compare(fold, end, transaction)
                    try compareLocations(fold, transaction)
                    return try body(transaction)
                }
            }
        }
    }

    /// Where live records lie in these packs, in the order of their offsets.
    private func liveRanges(
        in numbers: Set<UInt32>, without dead: Set<ChunkID>
    ) throws -> ([UInt32: [Range<UInt64>]], [UInt32: PackSummary]) {
        try checkedRead { transaction in
            var live: [UInt32: [Range<UInt64>]] = [:]
            try transaction.scanChunks { id, location in
                if numbers.contains(location.pack), !dead.contains(id) {
                    live[location.pack, default: []].append(location.range)
                }
                return true
            }
            var summaries: [UInt32: PackSummary] = [:]
            for (number, summary) in try transaction.packs() where numbers.contains(number) {
                summaries[number] = summary
            }
            return (live.mapValues { $0.sorted { $0.lowerBound < $1.lowerBound } }, summaries)
        }
    }

    /// The stretches of whole blocks between the live records, the pack's header and its table.
    /// - Throws: `.damage` where live records overlap: then the index is wrong, and nothing may be freed.
    private func freeBlocks(of summary: PackSummary, live: [Range<UInt64>]) throws -> [Range<UInt64>] {
        let block = UInt64(PackFormat.blockSize)
        var free: [Range<UInt64>] = []
        var end = UInt64(PackFormat.headerSize)
        for range in live + [summary.tableOffset..<summary.fileLength] {
            guard range.lowerBound >= end else {
                throw CairnError(
                    .damage,
                    "live records of \(packs.path(summary.name)) overlap, so nothing was freed; run `cairn repair`",
                    path: packs.path(summary.name).text)
            }
            let first = (end + block - 1) / block * block
            let last = range.lowerBound / block * block
            if first < last { free.append(first..<last) }
            end = range.upperBound
        }
        return free
    }

    /// Forgets that these packs have ranges to free. The index alone changes: it is its own note, not the journal's.
    private func clearPending(_ numbers: Set<UInt32>) throws {
        try changeIndex { transaction in for number in numbers { transaction.setPending(number, false) } }
    }
}
