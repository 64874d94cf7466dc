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
        var freed = Freed()
        for pack in try livePacks(where: { id, _ in !dead.contains(id) }) where numbers.contains(pack.number)
        {
            // A pack that is missing has nothing to free, and is no reason to stop.
            guard try FileSystem.status(packs.path(pack.summary.name)) != nil else { continue }
            let file = try File(packs.path(pack.summary.name), dryRun ? .read : .write)
            let before = try file.status().allocated
            for range in try freeBlocks(of: pack) {
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

    /// The stretches of whole blocks between the live records, the pack's header and its table.
    /// - Throws: `.damage` where live records overlap: then the index is wrong, and nothing may be freed.
    private func freeBlocks(of pack: LivePack) throws -> [Range<UInt64>] {
        let summary = pack.summary
        let block = UInt64(PackFormat.blockSize)
        var free: [Range<UInt64>] = []
        var end = UInt64(PackFormat.headerSize)
        for range in pack.records + [summary.tableOffset..<summary.fileLength] {
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
