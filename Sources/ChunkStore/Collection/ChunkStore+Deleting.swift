public import Platform

extension ChunkStore {
    /// Decides on the newest state, journals what is decided, and makes it durable; nothing happens where `event` is nil.
    ///
    /// When it returns, the change survives a power cut; when it throws, nothing has changed.
    public func change<R>(_ body: (IndexTransaction) throws -> (event: JournalEvent?, result: R)) throws -> R
    {
        try givingUpReserve {
            try transact { transaction, _, _ in
                let (event, result) = try body(transaction)
                return Decision(event: event, result: result)
            }
        }
    }

    /// Removes iterations. `decide` names them on the newest state, under the commit lock.
    /// - Returns: those that were removed, and the numbers of those that someone is reading, which stay.
    public func delete(
        _ decide: (IndexTransaction) throws -> [JournalEvent.Deletion]
    ) throws -> (deleted: [JournalEvent.Deletion], inUse: [UInt64]) {
        try givingUpReserve {
            let lock = try locks.removalLock()
            defer { withExtendedLifetime(lock) {} }
            return try transact { transaction, _, _ in
                var deleted: [JournalEvent.Deletion] = []
                var inUse: [UInt64] = []
                for deletion in try decide(transaction) {
                    if try lock.tryRemoving(deletion.iteration) {
                        deleted.append(deletion)
                    } else {
                        inUse.append(deletion.iteration)
                    }
                }
                return Decision(event: deleted.isEmpty ? nil : .delete(deleted), result: (deleted, inUse))
            }
        }
    }

    /// Runs what must work on a full disk: if there is no space, gives up the reserve and runs it once more.
    func givingUpReserve<R>(_ body: () throws -> R) throws -> R {
        do {
            return try body()
        } catch let error as CairnError where error.errno == CairnError.noSpace {
            try giveUpReserve()
            return try body()
        }
    }

    /// The right to change what a training goes on from in a folder, for as long as the lock is kept: one process at a time.
    /// - Parameters:
    ///   - folder: absolute and without links.
    ///   - check: called again and again while another process has it; what it throws ends the waiting.
    /// - Returns: nil where nothing can be written to the store, so that there is nobody to wait for.
    public func resuming(
        _ folder: Path, check: () throws -> Void
    ) throws -> ResumeLock? {
        guard !isReadOnly else { return nil }
        let number = ChunkID.of(folder.bytes).withUnsafeBytes { $0.loadUnaligned(as: UInt64.self) }
        return try locks.resumeLock(number >> 2, check: check)
    }

    /// Protects an iteration from removal for as long as the lock is kept; finds it still there, and the journal saying so.
    /// - Throws: `.notFound` where it has been removed meanwhile; `.damage` where its commit record is damaged.
    public func reading(_ iteration: UInt64) throws -> ReaderLock {
        let lock = try locks.readerLock(iteration)
        try checkProcess()
        let isCommitted: Bool? = try opened.change { opened in
            try locks.reading {
                try currentIndex().read { transaction in
                    guard try transaction.iteration(iteration) != nil,
                        let (offset, bytes) = try transaction.record(iteration)
                    else { return nil }
                    return try journal.holds(bytes, at: offset)
                }
            }
        }
        guard let isCommitted else {
            throw CairnError(.notFound, "the iteration was deleted meanwhile; see `cairn list`")
        }
        guard isCommitted else {
            throw CairnError(
                .damage,
                "record \(iteration) of \(folder.appending("journal")), its commit, is damaged; run `cairn repair`",
                path: folder.appending("journal").text)
        }
        return lock
    }
}
