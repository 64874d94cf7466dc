internal import Platform

extension SaveSession {
    /// What the transaction of a commit decides on the newest state of the catalog.
    public enum Decision: Sendable {
        case commit(replacing: UInt64?)
        /// The store has the same iteration already.
        case cancel
    }

    public enum Outcome: Sendable {
        case committed(number: UInt64, storedBytes: UInt64)
        case cancelled
        /// A collection removed chunks that this save relied on: put everything again, then commit again.
        case mustRepeat
    }

    public struct Manifest: Sendable {
        public var run: String
        public var step: UInt64
        public var head: [UInt8]
        public var origin: String
        public var pins: [String]

        public init(run: String, step: UInt64, head: [UInt8], origin: String, pins: [String]) {
            self.run = run
            self.step = step
            self.head = head
            self.origin = origin
            self.pins = pins
        }
    }

    /// Makes everything durable and visible at once. When it returns `.committed`, the iteration survives a power cut.
    /// - Parameter decide: called under the commit lock; may throw to refuse.
    public func commit(
        _ manifest: Manifest, decide: (IndexTransaction) throws -> Decision
    ) throws -> Outcome {
        let head = manifest.head
        try head.withUnsafeBytes { try put([(.of(head), $0)], isContent: false) }
        _ = try finishPacks()
        try FileSystem.syncFolder(store.folder.appending("packs"))
        var removal: ReaderLock?
        defer { withExtendedLifetime(removal) {} }
        let outcome: Outcome = try store.transact { transaction, indexState, position in
            switch try decide(transaction) {
            case .cancel: return .init(event: nil, result: .cancelled)
            case .commit(let replaced):
                removal = try removalLock(replaced)
                guard try !hasLost(transaction, indexState) else {
                    return .init(event: nil, result: .mustRepeat)
                }
                let event = try put(manifest, replaced, into: transaction, &indexState, position)
                return .init(
                    event: .commit(event),
                    result: .committed(number: position.sequence, storedBytes: event.storedBytes))
            }
        }
        switch outcome {
        case .committed: state.change { $0.isDone = true }
        case .cancelled: break
        case .mustRepeat:
            state.change { state in
                state.relied = []
                state.views = []
                state.isRepeated = true
                (state.hasFilter, state.filter) = (false, nil)
            }
        }
        return outcome
    }

    private func removalLock(_ replaced: UInt64?) throws -> ReaderLock? {
        guard let replaced else { return nil }
        let lock = try store.locks.removalLock()
        guard try lock.tryRemoving(replaced) else {
            throw CairnError(
                .busy, "someone is reading the iteration that is to be replaced; try again later")
        }
        return lock
    }

    /// Whether anything that this save relies on has gone since it looked.
    private func hasLost(_ transaction: IndexTransaction, _ indexState: IndexState) throws -> Bool {
        let (relied, views) = state.change { ($0.relied, $0.views) }
        guard views.contains(where: { $0.sweepToken != indexState.sweepToken }) else { return false }
        return try relied.contains { id in
            guard let location = try transaction.chunk(id) else { return true }
            return location.isDamaged
        }
    }

    private func put(
        _ manifest: Manifest, _ replaced: UInt64?, into transaction: IndexTransaction,
        _ indexState: inout IndexState,
        _ position: Journal.Position
    ) throws -> JournalEvent.Commit {
        let before = try transaction.usedBytes()
        var committed: [CommittedPack] = []
        let (packs, areNew) = state.change { state in
            (state.finished, state.views == [View(indexState)] && !state.foundDamaged && !state.isRepeated)
        }
        for pack in packs {
            let voids = areNew ? [] : try voids(pack.entries, transaction)
            let entry = CommittedPack(summary: pack.summary, voids: Self.ranges(voids))
            try store.putChunks(entry, pack.entries, areNew: areNew, into: transaction, &indexState)
            committed.append(entry)
        }
        try transaction.checkWrites()
        var event = JournalEvent.Commit(
            run: manifest.run, step: manifest.step, head: manifest.head, origin: manifest.origin,
            replaces: replaced,
            packs: committed, storedBytes: 0, pins: manifest.pins, version: store.settings.version)
        let record = JournalRecord(
            sequence: position.sequence, time: 0, previous: position.previous, event: .commit(event))
        let growth = try transaction.usedBytes() - min(before, transaction.usedBytes())
        event.storedBytes =
            committed.reduce(0) { $0 + $1.summary.fileLength } + growth
            + UInt64(JournalRecord.padded(record.encoded(store: store.id).bytes.count))
        return event
    }

    /// The places of entries whose chunks another save has committed first.
    private func voids(_ entries: [PackEntry], _ transaction: IndexTransaction) throws -> [Int] {
        try entries.indices.filter { index in
            guard let other = try transaction.chunk(entries[index].id) else { return false }
            return !other.isDamaged
        }
    }

    private static func ranges(_ indices: [Int]) -> [Range<Int>] {
        var ranges: [Range<Int>] = []
        for index in indices {
            if ranges.last?.upperBound == index {
                ranges[ranges.count - 1] = ranges.last!.lowerBound..<index + 1
            } else {
                ranges.append(index..<index + 1)
            }
        }
        return ranges
    }
}
