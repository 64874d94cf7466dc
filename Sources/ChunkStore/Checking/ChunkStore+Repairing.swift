internal import Platform

extension ChunkStore {
    /// Brings damaged records of the journal back from the index's copies, and makes the index anew from journal and packs.
    ///
    /// The old index is read for the copies alone. Killed at any instant, it leaves a store no worse than before.
    /// - Throws: `.damage` where the journal can't be brought back; nothing has changed then.
    public func rebuild() throws {
        try checkWritable()
        try opened.change { opened in
            try locks.committing {
                try healJournal(&opened)
                try rebuildIndex(&opened)
            }
        }
    }

    /// Writes the index's copies of damaged records to their places. Each copy proves itself by its checksum and the chain.
    /// - Throws: `.damage` where a record before valid ones can't be brought back.
    private func healJournal(_ opened: inout Opened) throws {
        var damage: CairnError?
        do {
            _ = try journal.records()
        } catch let error as CairnError where error.code == .damage {
            damage = error
        }
        // Also without an error: the end may be damaged or lost.
        let copies = (try? lostRecords()) ?? []
        if copies.isEmpty {
            if let damage { throw damage }
            return
        }
        for copy in copies {
            let padding = JournalRecord.padded(copy.bytes.count) - copy.bytes.count
            try journal.file.write(copy.bytes + [UInt8](repeating: 0, count: padding), at: copy.offset)
        }
        try journal.file.syncData()
        _ = try journal.records()
    }

    /// What the index has of the records that the journal has lost, as far as the chain holds; nothing where its pages are damaged.
    private func lostRecords() throws -> [Journal.Stored] {
        guard let index = try? Index.checked(indexPath) else { return [] }
        return try index.read { transaction in
            var position = Journal.Position.start
            var copies: [Journal.Stored] = []
            let end = try transaction.state().journal.sequence
            while position.sequence < end {
                if let stored = try? journal.validRecord(at: position) {
                    position = stored.next
                } else {
                    guard let copy = try recordCopy(at: position, journal, transaction) else { break }
                    copies.append(copy)
                    position = copy.next
                }
            }
            return copies
        }
    }

    /// Journals chunks that were found again, so that they count from now on.
    func commitRepair(_ packs: [(summary: PackSummary, entries: [PackEntry])]) throws {
        guard !packs.isEmpty else { return }
        try FileSystem.syncFolder(folder.appending("packs"))
        try transact { transaction, state, _ in
            let committed = packs.map { CommittedPack(summary: $0.summary, voids: []) }
            for (pack, source) in zip(committed, packs) {
                try putChunks(pack, source.entries, into: transaction, &state)
            }
            return Decision(event: .repair(committed), result: ())
        }
    }

    /// Copies what is live in damaged packs into a new one, and gives the old ones up.
    public func replacePacks(_ damaged: Set<PackName>) throws {
        guard !damaged.isEmpty else { return }
        guard let lock = try locks.collectionLock() else {
            throw CairnError(.busy, "a collection is at work in \(folder); repair again when it has ended")
        }
        defer { withExtendedLifetime(lock) {} }
        let session = try SaveSession(self, dryRun: false)
        var lost = false
        for id in try chunks(in: damaged) {
            guard let record = try? checkedRecord(id) else {
                lost = true
                continue
            }
            try session.copy(record.entry, record.payload)
        }
        try session.commitRepair()
        // A pack with a chunk that could not be read stays: a later repair may have the bytes.
        guard !lost else { return }
        try giveUpPacks(damaged.subtracting(try awaitedPacks(damaged)))
        try removeOrphans()
    }

    /// Of these packs those whose file is missing or cut short, as long as iterations need chunks that are nowhere else: the file
    /// may come back from a copy.
    private func awaitedPacks(_ names: Set<PackName>) throws -> Set<PackName> {
        let fold = try opened.change { opened in
            try locks.reading { JournalFold(try journal.records().records) }
        }
        let gone = try fold.packs.map(\.summary).filter { summary in
            let size = try FileSystem.status(packs.path(summary.name))?.size
            return names.contains(summary.name) && (size ?? 0) < summary.fileLength
        }
        guard !gone.isEmpty else { return [] }
        let located = try locations(fold)
        let (ids, isComplete) = reachable(fold, located)
        return isComplete && ids.allSatisfy { located[$0] != nil } ? [] : Set(gone.map(\.name))
    }

    /// Journals that packs are gone. Those in which the index has a chunk after all stay: it may have been made anew meanwhile.
    private func giveUpPacks(_ names: Set<PackName>) throws {
        try transact { transaction, _, _ in
            let used = try transaction.packsInUse()
            let old = try transaction.packs().filter {
                names.contains($0.summary.name) && !used.contains($0.number)
            }
            for pack in old { transaction.removePack(pack.number) }
            let event = JournalEvent.sweep(
                token: Random.bytes(16), removedPacks: old.map(\.summary.name))
            return Decision(event: old.isEmpty ? nil : event, result: ())
        }
    }
}

extension IndexTransaction {
    /// The numbers of the packs in which chunks are.
    fileprivate func packsInUse() throws -> Set<UInt32> {
        var numbers: Set<UInt32> = []
        try scanChunks { _, location in
            numbers.insert(location.pack)
            return true
        }
        return numbers
    }
}

extension SaveSession {
    /// Makes the chunks that were rewritten count.
    public func commitRepair() throws {
        try store.commitRepair(try finishPacks())
        markDone()
    }
}
