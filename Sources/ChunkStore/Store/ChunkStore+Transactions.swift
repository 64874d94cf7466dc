internal import Platform

/// The journal holds something that cannot be folded into the index record by record.
private struct NeedsRebuild: Error {}

extension ChunkStore {
    /// Opens the index at the end of the journal; makes it anew where it is missing, of another version, or of another journal.
    func openIndex() throws {
        let isCurrent = try? opened.change { opened in
            try locks.reading {
                let index = try Index(indexPath, readOnly: isReadOnly)
                opened.index = index
                return try index.read { transaction in
                    let state = try transaction.state()
                    return try follows(state, transaction, journal)
                        && journal.record(at: state.journal) == nil
                }
            }
        }
        if isCurrent == true { return }
        if let damage = try indexDamage() { throw damage }
        guard !isReadOnly else {
            settings.onWait(
                "the index of \(folder) is missing or behind its journal, and the store can only be read: "
                    + "making one for this command alone")
            return try openOwnIndex()
        }
        try opened.change { opened in
            try locks.committing {
                // The index holds what the journal has lost: reading goes on, and the next change says what is to be done.
                if try !hasLostTail(opened) { try catchUp(&opened) }
            }
        }
    }

    /// Whether the record that the index folded last is damaged in the journal.
    private func hasLostTail(_ opened: Opened) throws -> Bool {
        guard let index = opened.index else { return false }
        return try index.read { transaction in
            let state = try transaction.state()
            guard try !follows(state, transaction, journal) else { return false }
            do {
                try checkTail(state, transaction, journal)
                return false
            } catch let error as CairnError where error.code == .damage {
                return true
            }
        }
    }

    /// An index that is there and can't be read is an error, not a reason to make it anew unasked.
    private func indexDamage() throws -> CairnError? {
        try opened.change { opened in
            try locks.reading {
                guard try FileSystem.status(indexPath) != nil else { return nil }
                do {
                    opened.index = try Index(indexPath, readOnly: isReadOnly)
                    try opened.index?.read { _ = try $0.state() }
                    return nil
                } catch let error as CairnError {
                    return error.code == .notFound ? nil : error
                }
            }
        }
    }

    /// Whether the last record that the index folded stands in this journal.
    private func follows(
        _ state: IndexState, _ transaction: IndexTransaction, _ journal: Journal
    ) throws -> Bool {
        guard state.store == id, state.journal.sequence > 0,
            let (offset, bytes) = try transaction.record(state.journal.sequence - 1)
        else { return false }
        return try journal.holds(bytes, at: offset)
    }

    /// Whether the journal lacks more than the index's last record, which alone may have been taken back after a commit that failed.
    func isCutShort(_ journal: Journal, _ transaction: IndexTransaction) throws -> Bool {
        let state = try transaction.state()
        guard state.store == id, state.journal.sequence > 1,
            let (offset, bytes) = try transaction.record(state.journal.sequence - 2)
        else { return false }
        return try !journal.holds(bytes, at: offset)
    }

    /// - Throws: `.damage` where the journal still has other bytes in the place of the index's last record, or was cut short. Where
    ///   it has none any more, or another record, that one was taken back after a commit that failed, and the index is what is wrong.
    private func checkTail(
        _ state: IndexState, _ transaction: IndexTransaction, _ journal: Journal
    ) throws {
        guard state.store == id, state.journal.sequence > 0,
            let (offset, bytes) = try transaction.record(state.journal.sequence - 1)
        else { return }
        guard try !isCutShort(journal, transaction) else {
            throw CairnError(
                .damage,
                "\(journal.file.path) has lost records that the index still has; run `cairn repair` to bring them back",
                path: journal.file.path.text)
        }
        let place = Journal.Position(
            offset: offset, sequence: state.journal.sequence - 1,
            previous: try JournalRecord.Header(bytes, store: id).previous)
        guard try journal.hasBytes(at: offset), (try? journal.validRecord(at: place)) == nil else { return }
        throw CairnError(
            .damage,
            "record \(state.journal.sequence - 1) of \(journal.file.path) is damaged; run `cairn repair` to bring it back",
            path: journal.file.path.text)
    }

    /// Brings the index to the end of the journal, if it may: a committer that was killed may have left it behind.
    func catchUp() throws {
        guard !isReadOnly else { return }
        try opened.change { opened in try locks.committing { try catchUp(&opened) } }
    }

    /// Brings the index to the end of the journal, by folding what it lacks or by making it anew. Under the commit lock.
    func catchUp(_ opened: inout Opened) throws {
        do {
            let index = try currentIndex()
            let transaction = try index.begin()
            guard try follows(transaction.state(), transaction, journal) else {
                try checkTail(transaction.state(), transaction, journal)
                throw NeedsRebuild()
            }
            guard try fold(journal, into: transaction) else { return transaction.abort() }
            try transaction.commit()
        } catch is NeedsRebuild {
            try rebuildIndex(&opened)
        } catch let error as CairnError where error.code == .notFound {
            try rebuildIndex(&opened)
        }
    }

    /// Folds the records that the index lacks. Returns whether there were any.
    private func fold(_ journal: Journal, into transaction: IndexTransaction) throws -> Bool {
        var state = try transaction.state()
        let records = try journal.records(from: state.journal).records
        guard !records.isEmpty else { return false }
        // Whoever wrote them may have been killed before its own sync, and what follows relies on them.
        try journal.file.syncData()
        try transaction.checkCatalog()
        // All are looked at first: the packs of the earlier ones may be gone by a later sweep.
        for stored in records {
            switch stored.record.event {
            case .sweep, .repair: throw NeedsRebuild()
            default: break
            }
        }
        for stored in records {
            switch stored.record.event {
            case .commit(let commit):
                for pack in commit.packs {
                    let entries = try packs.table(pack.summary)
                    try putChunks(pack, entries, into: transaction, &state)
                }
            default: break
            }
            try apply(stored, to: transaction, &state)
        }
        try transaction.seal(state)
        return true
    }

    /// The open index, reopened where a repair has replaced its file.
    func currentIndex() throws -> Index {
        if let index = index.change({ $0 }) {
            // No repair replaces one that is nobody else's.
            if index.path != indexPath { return index }
            if index.inode == (try FileSystem.status(indexPath, followLinks: true)?.inode) { return index }
        }
        try checkIdentity()
        let opened = try Index(indexPath, readOnly: isReadOnly)
        index.change { $0 = opened }
        return opened
    }

    /// That the folder still holds the store that was opened. Of one that somebody has deleted, and perhaps made another in its place,
    /// journal and locks are still open here.
    /// - Throws: `.notAStore` where it doesn't.
    public func checkIdentity() throws {
        let path = folder.appending("cairn.json")
        guard try FileSystem.status(path, followLinks: true) != nil else {
            throw CairnError(
                .notAStore, "the store \(folder) is gone since it was opened; if it was moved, open it there",
                path: folder.text)
        }
        guard try StoreDescription(decoding: File(path, .read).readToEnd(), path: path).id == id else {
            throw CairnError(
                .notAStore, "the store \(folder) was replaced by another since it was opened; open it again",
                path: folder.text)
        }
    }

    /// Looks things up in one consistent state of the index.
    public func read<R>(_ body: (IndexTransaction) throws -> R) throws -> R {
        try checkProcess()
        return try locks.readingBesideOthers { try currentIndex().read(body) }
    }

    /// What a transaction decides: the record that says it, or nil to change nothing; and the result.
    struct Decision<R> {
        var event: JournalEvent?
        var result: R
    }

    /// Decides something on the newest state, journals it and makes it durable; all or nothing.
    ///
    /// When it returns, the change survives a power cut. When it throws, nothing has changed, unless the error says that the
    /// journal could not be cut back.
    func transact<R>(
        _ body: (IndexTransaction, inout IndexState, Journal.Position) throws -> Decision<R>
    ) throws -> R {
        try checkWritable()
        return try opened.change { opened in
            try locks.committing {
                try catchUp(&opened)
                let index = try currentIndex()
                let transaction = try index.begin()
                var state = try transaction.state()
                try transaction.checkCatalog()
                let position = state.journal
                let decision = try body(transaction, &state, position)
                guard let event = decision.event else {
                    transaction.abort()
                    return decision.result
                }
                let stored = journal.prepare(event, at: position)
                try apply(stored, to: transaction, &state)
                try transaction.seal(state)
                try transaction.checkWrites()
                try journal.append(stored)
                do {
                    try transaction.commit()
                } catch {
                    // What the index holds now is unknown: it is opened anew, and compared with the journal, next time.
                    opened.index = nil
                    try journal.cut(back: position)
                    throw error
                }
                return decision.result
            }
        }
    }

    /// Puts the entries of a pack that are not void.
    /// - Parameter areNew: the index is known to have none of them.
    func putChunks(
        _ pack: CommittedPack, _ entries: [PackEntry], areNew: Bool = false,
        into transaction: IndexTransaction,
        _ state: inout IndexState
    ) throws {
        let number = state.nextPack
        state.nextPack += 1
        transaction.setPack(number, pack.summary)
        let live = pack.live(entries.count).map { index in
            (id: entries[index].id, location: ChunkLocation(entries[index], pack: number))
        }
        var new: [ChunkEntry] = []
        for entry in live.sorted(by: { $0.id < $1.id }) {
            if try !areNew && transaction.chunk(entry.id) != nil {
                try transaction.updateChunk(entry.id, entry.location)
            } else {
                new.append(entry)
            }
        }
        try transaction.insertChunks(new, tableFrom: settings.tableThreshold)
    }

    /// Folds one record, but for where its chunks are.
    private func apply(
        _ stored: Journal.Stored, to transaction: IndexTransaction, _ state: inout IndexState
    ) throws {
        let number = stored.record.sequence
        switch stored.record.event {
        case .initialized: break
        case .commit(let commit):
            if let replaced = commit.replaces { try transaction.removeIteration(replaced) }
            transaction.setIteration(number, run: commit.run, step: commit.step, isSuperseded: false)
            let known = try transaction.run(commit.run)
            if known?.origin.isEmpty != false {
                transaction.setRun(commit.run, origin: commit.origin, policy: known?.policy ?? [])
            }
            for pin in commit.pins { transaction.setPin(pin, number) }
        case .delete(let deletions):
            for deletion in deletions { try transaction.removeIteration(deletion.iteration) }
        case .pin(let name, let iteration): transaction.setPin(name, iteration)
        case .unpin(let name): transaction.removePin(name)
        case .policy(let run, let policy):
            transaction.setRun(run, origin: try transaction.run(run)?.origin ?? "", policy: policy)
        case .sweep(let token, _): state.sweepToken = token
        case .repair: state.sweepToken = Random.bytes(16)
        case .annotate(let annotation): try transaction.addNote(annotation)
        case .rewind(let numbers):
            for number in numbers {
                guard let (_, run, step) = try transaction.iteration(number) else { continue }
                transaction.setIteration(number, run: run, step: step, isSuperseded: true)
            }
        }
        transaction.setRecord(stored)
        state.journal = stored.next
    }
}

extension CommittedPack {
    /// The places in the table of the entries that count.
    func live(_ count: Int) -> [Int] {
        var result: [Int] = []
        var next = 0
        for range in voids {
            result += next..<min(range.lowerBound, count)
            next = range.upperBound
        }
        return next < count ? result + Array(next..<count) : result
    }
}

extension ChunkStore {
    /// Changes what the index keeps for itself, and the journal does not know.
    func changeIndex(_ body: (IndexTransaction) throws -> Void) throws {
        try checkProcess()
        try opened.change { opened in
            try locks.committing {
                try catchUp(&opened)
                let transaction = try currentIndex().begin()
                try body(transaction)
                do { try transaction.commit() } catch {
                    opened.index = nil
                    throw error
                }
            }
        }
    }
}
