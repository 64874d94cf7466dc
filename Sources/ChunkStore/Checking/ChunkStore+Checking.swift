internal import Platform

extension ChunkStore {
    /// What is wrong with the structure of a store, each as a sentence.
    public struct StructureReport: Sendable {
        public var problems: [String] = []
        /// Packs whose header, table or trailer is damaged, by number.
        public var damagedPacks: Set<UInt32> = []
        /// Iterations whose commit record is damaged, as far as the index still knows them.
        public var damagedIterations: Set<UInt64> = []
    }

    /// Checks journal, index and the packs' tables, and whether the index says what journal and tables say.
    public func checkStructure() throws -> StructureReport {
        var report = StructureReport()
        try checkProcess()
        try opened.change { opened in
            try locks.reading {
                let journal = opened.journal
                try currentIndex(&opened).read { transaction in
                    let records = try checkJournal(journal, transaction, &report)
                    try checkPacks(transaction, &report)
                    guard let records, report.damagedPacks.isEmpty else { return }
                    let fold = JournalFold(records)
                    do {
                        try compare(fold, records.last!.next, transaction)
                        try compareLocations(fold, transaction)
                    } catch let error as CairnError where error.code == .damage {
                        report.problems.append(error.message)
                    }
                }
            }
        }
        return report
    }

    /// All records, or nil where one is damaged.
    private func checkJournal(
        _ journal: Journal, _ transaction: IndexTransaction, _ report: inout StructureReport
    ) throws -> [Journal.Stored]? {
        let end = try transaction.state().journal.sequence
        var position = Journal.Position.start
        var records: [Journal.Stored] = []
        var isWhole = true
        for sequence in 0..<end {
            do {
                let stored = try journal.validRecord(at: position)
                position = stored.next
                records.append(stored)
            } catch let error as FormatError {
                isWhole = false
                report.problems.append(
                    "Record \(sequence) of the journal, at byte \(position.offset), \(error); run `cairn repair`."
                )
                report.damagedIterations.insert(sequence)
                guard let (offset, bytes) = try transaction.record(sequence),
                    let record = try? JournalRecord(decoding: bytes, store: id)
                else { return nil }
                position = .init(
                    offset: offset + UInt64(JournalRecord.padded(bytes.count)), sequence: sequence + 1,
                    previous: record.encoded(store: id).hash)
            }
        }
        return isWhole ? records : nil
    }

    private func checkPacks(_ transaction: IndexTransaction, _ report: inout StructureReport) throws {
        for (number, summary) in try transaction.packs() {
            do {
                try checkFrame(summary)
                _ = try packs.table(summary)
            } catch let error as CairnError where error.code == .damage {
                report.damagedPacks.insert(number)
                report.problems.append(error.message + ".")
            }
        }
    }

    /// Header and trailer of a pack.
    private func checkFrame(_ summary: PackSummary) throws {
        let path = packs.path(summary.name)
        do {
            let file = try File(path, .read)
            try PackFormat.checkHeader(
                try file.read(PackFormat.headerSize, at: 0), store: id, name: summary.name)
            let trailer = try file.read(
                PackFormat.trailerSize, at: summary.fileLength - UInt64(PackFormat.trailerSize))
            guard
                try PackSummary(trailer: trailer, name: summary.name, fileLength: summary.fileLength)
                    == summary
            else {
                throw FormatError("has another trailer than the journal says")
            }
        } catch let error as FormatError {
            throw CairnError(.damage, "\(path) \(error); run `cairn repair`", path: path.text)
        } catch let error as CairnError where error.code == .notFound || error.code == .changed {
            throw CairnError(
                .damage, "\(path) is missing or cut short; restore it from a copy", path: path.text)
        }
    }

    /// Whether every chunk that the index knows is where the tables say.
    private func compareLocations(_ fold: JournalFold, _ transaction: IndexTransaction) throws {
        var located: [ChunkID: (PackName, PackEntry)] = [:]
        for pack in fold.packs {
            let entries = try packs.table(pack.summary)
            for index in pack.live(entries.count) {
                located[entries[index].id] = (pack.summary.name, entries[index])
            }
        }
        var names: [UInt32: PackName] = [:]
        for (number, summary) in try transaction.packs() { names[number] = summary.name }
        try transaction.scanChunks { id, location in
            guard let (name, entry) = located[id], names[location.pack] == name, location.entry(id) == entry
            else {
                throw CairnError(
                    .damage,
                    "The index has another place for the chunk \(id.hex.prefix(16)) than the journal; "
                        + "run `cairn repair`.")
            }
            return true
        }
    }

    /// Notes in the index that chunks are damaged, so that the next save that holds them writes them again.
    public func markDamaged(_ ids: some Sequence<ChunkID>) throws {
        guard !isReadOnly else { return }
        try changeIndex { transaction in
            var state = try transaction.state()
            for id in ids {
                guard var location = try transaction.chunk(id), !location.isDamaged else { continue }
                location.isDamaged = true
                try transaction.updateChunk(id, location)
                state.sweepToken = Random.bytes(16)
            }
            transaction.setState(state)
        }
    }
}

extension ChunkStore {
    /// Chunks that were marked as damaged.
    public func damagedChunks() throws -> Set<ChunkID> {
        try read { transaction in
            var ids: Set<ChunkID> = []
            try transaction.scanChunks { id, location in
                if location.isDamaged { ids.insert(id) }
                return true
            }
            return ids
        }
    }

    /// The chunks that lie in these packs.
    public func chunks(in packs: Set<UInt32>) throws -> Set<ChunkID> {
        guard !packs.isEmpty else { return [] }
        return try read { transaction in
            var ids: Set<ChunkID> = []
            try transaction.scanChunks { id, location in
                if packs.contains(location.pack) { ids.insert(id) }
                return true
            }
            return ids
        }
    }
}
