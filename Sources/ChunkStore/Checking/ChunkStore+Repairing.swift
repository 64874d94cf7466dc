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
        guard let copies = try? Index(indexPath, readOnly: true).read({ try lostRecords(journal, $0) }) else {
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

    /// What the index has of the records that the journal has lost; as far as the chain holds.
    private func lostRecords(
        _ journal: Journal, _ transaction: IndexTransaction
    ) throws -> [(offset: UInt64, bytes: [UInt8])] {
        var position = Journal.Position.start
        var copies: [(offset: UInt64, bytes: [UInt8])] = []
        let end = try transaction.state().journal.sequence
        while position.sequence < end {
            if let stored = try? journal.validRecord(at: position) {
                position = stored.next
                continue
            }
            guard let (offset, bytes) = try transaction.record(position.sequence), offset == position.offset,
                let record = try? JournalRecord(decoding: bytes, store: id),
                record.sequence == position.sequence,
                record.previous == position.previous, try journal.hasBytes(at: offset)
            else { break }
            copies.append((offset, bytes))
            position = .init(
                offset: offset + UInt64(JournalRecord.padded(bytes.count)), sequence: position.sequence + 1,
                previous: record.encoded(store: id).hash)
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
    public func replacePacks(_ numbers: Set<UInt32>) throws {
        guard !numbers.isEmpty else { return }
        guard let lock = try locks.collectionLock() else {
            throw CairnError(.busy, "a collection is at work in \(folder); repair again when it has ended")
        }
        defer { withExtendedLifetime(lock) {} }
        var live: [ChunkID] = []
        var names: [(number: UInt32, name: PackName)] = []
        try read { transaction in
            try transaction.scanChunks { id, location in
                if numbers.contains(location.pack) { live.append(id) }
                return true
            }
            names = try transaction.packs().filter { numbers.contains($0.number) }.map {
                ($0.number, $0.summary.name)
            }
        }
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
            for pack in names { transaction.removePack(pack.number) }
            return Decision(
                event: .sweep(token: Random.bytes(16), removedPacks: names.map(\.name)), result: ())
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
