internal import Platform

extension ChunkStore {
    /// Compares every entry of the index with the fold of the journal up to the record that the index folded last.
    /// - Throws: `.damage` where they differ.
    func checkIndex(
        _ records: [Journal.Stored], _ transaction: IndexTransaction, _ report: inout StructureReport
    ) throws {
        let state = try transaction.state()
        let known = records.prefix(Int(clamping: state.journal.sequence))
        guard state.store == id, let last = known.last, state.journal.sequence <= UInt64(records.count) else {
            report.index = .obsolete
            return
        }
        let fold = JournalFold([Journal.Stored](known))
        try compare(fold, last.next, transaction)
        try compareRecords(known, transaction)
        let located = try compareLocations(fold, transaction, except: report.damagedPacks)
        let lost = try reachable(fold, located).ids.contains {
            try located[$0] != nil && transaction.chunk($0) == nil
        }
        if lost { throw differs("has lost chunks that iterations need") }
    }

    func differs(_ how: String) -> CairnError {
        CairnError(
            .damage, "the index \(indexPath) \(how); run `cairn repair`, which rebuilds it",
            path: indexPath.text)
    }

    /// - Throws: `.damage` where the index does not say what the journal says of iterations, pins, runs and packs.
    func compare(_ fold: JournalFold, _ end: Journal.Position, _ transaction: IndexTransaction) throws {
        let damage = differs("differs from the journal")
        guard try transaction.state().journal == end,
            try Set(transaction.iterationNumbers()) == Set(fold.iterations.keys),
            try Set(transaction.packs().map(\.summary)) == Set(fold.packs.map(\.summary))
        else { throw damage }
        let pins = try transaction.pins()
        guard pins.count == fold.pins.count, pins.allSatisfy({ fold.pins[$0.name] == $0.iteration }) else {
            throw damage
        }
        let runs = try transaction.runs()
        guard runs.count == fold.runs.count,
            runs.allSatisfy({
                fold.runs[$0.name]?.origin == $0.origin && fold.runs[$0.name]?.policy == $0.policy
            })
        else { throw damage }
        for (number, iteration) in fold.iterations {
            guard let found = try transaction.iteration(number), found.run == iteration.run,
                found.step == iteration.step, found.isSuperseded == iteration.isSuperseded,
                try transaction.iterationNumber(run: found.run, step: found.step) == number,
                try transaction.notes(number).map(\.encoded) == iteration.annotations.map(\.encoded)
            else { throw damage }
        }
    }

    private func compareRecords(
        _ records: ArraySlice<Journal.Stored>, _ transaction: IndexTransaction
    ) throws {
        for stored in records {
            guard let copy = try transaction.record(stored.record.sequence), copy.offset == stored.offset,
                copy.bytes == stored.bytes
            else { throw differs("has another record \(stored.record.sequence) than the journal") }
        }
    }

    /// Whether every chunk that the index knows is where the tables say. Says nothing of packs whose table is damaged.
    /// - Returns: where the tables say that chunks are; a location's pack is its place in the fold.
    private func compareLocations(
        _ fold: JournalFold, _ transaction: IndexTransaction, except damaged: Set<PackName>
    ) throws -> [ChunkID: ChunkLocation] {
        let located = try locations(fold)
        let names = Dictionary(
            try transaction.packs().map { ($0.number, $0.summary.name) }, uniquingKeysWith: { one, _ in one })
        try transaction.scanChunks { id, location in
            guard let name = names[location.pack] else { throw differs("has a chunk in no pack") }
            let truth = located[id]
            let trueName = truth.map { fold.packs[Int($0.pack)].summary.name }
            if damaged.contains(name) || trueName.map(damaged.contains) == true { return true }
            guard let truth, trueName == name, truth.entry(id) == location.entry(id) else {
                throw differs("has another place for the chunk \(id.hex.prefix(16)) than the journal")
            }
            return true
        }
        return located
    }
}

extension JournalEvent.Annotation {
    fileprivate var encoded: [UInt8] {
        var writer = ByteWriter()
        write(to: &writer)
        return writer.bytes
    }
}
