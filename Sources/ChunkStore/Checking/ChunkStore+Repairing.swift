internal import Platform

extension ChunkStore {
    /// Brings damaged records of the journal back from the index's copies, and makes the index anew from journal and packs.
    ///
    /// The old index is read only where the journal is damaged. Killed at any instant, it leaves a store no worse than before.
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
        let journal = opened.journal
        let damage: CairnError?
        do {
            let end = try journal.records().end
            // Bytes behind the last record: a torn tail, or a last record that was committed and damaged since.
            guard try journal.hasBytes(at: end.offset) else { return }
            damage = nil
        } catch let error as CairnError where error.code == .damage {
            damage = error
        }
        let copies = try lostRecords()
        if copies.isEmpty, let damage { throw damage }
        for copy in copies {
            let padding = JournalRecord.padded(copy.bytes.count) - copy.bytes.count
            try journal.file.write(copy.bytes + [UInt8](repeating: 0, count: padding), at: copy.offset)
        }
        try journal.file.syncData()
        _ = try journal.records()
    }

    /// What the index has of the records that the journal has lost, as far as the chain holds; nothing where reading it crashes a
    /// child process.
    private func lostRecords() throws -> [(offset: UInt64, bytes: [UInt8])] {
        let answer = try? inChild { store, _ in
            var writer = ByteWriter()
            let journal = store.opened.change { $0.journal }
            try Index(store.indexPath, readOnly: true).read { transaction in
                for copy in try store.lostRecords(journal, transaction) {
                    writer.u64(copy.offset)
                    writer.bytes(copy.bytes)
                }
            }
            return writer.bytes
        }
        guard let answer else { return [] }
        var reader = ByteReader(answer)
        var copies: [(offset: UInt64, bytes: [UInt8])] = []
        while reader.remaining > 0 { copies.append((try reader.u64(), try reader.bytes())) }
        return copies
    }

    private func lostRecords(
        _ journal: Journal, _ transaction: IndexTransaction
    ) throws -> [Journal.Stored] {
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
        let live = try chunks(in: damaged)
        let old = try read { try $0.packs().filter { damaged.contains($0.summary.name) } }
        let session = try SaveSession(self, dryRun: false)
        var lost = false
        for id in live {
            guard let bytes = try? chunk(id) else {
                lost = true
                continue
            }
            try bytes.withUnsafeBytes { try session.rewrite([(id, $0)]) }
        }
        try session.commitRepair()
        // A pack with a chunk that could not be read stays: a later repair may have the bytes.
        guard !lost else { return }
        try transact { transaction, state, _ in
            for pack in old { transaction.removePack(pack.number) }
            return Decision(
                event: .sweep(token: Random.bytes(16), removedPacks: old.map(\.summary.name)), result: ())
        }
        try removeOrphans()
    }
}

extension SaveSession {
    /// Makes the chunks that were rewritten count.
    public func commitRepair() throws {
        try store.commitRepair(try finishPacks())
        markDone()
    }
}
