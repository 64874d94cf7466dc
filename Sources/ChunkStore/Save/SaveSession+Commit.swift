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
        /// Bytes that its parts took when they were saved.
        public var storedBefore: UInt64

        public init(
            run: String, step: UInt64, head: [UInt8], origin: String, pins: [String],
            storedBefore: UInt64 = 0
        ) {
            self.run = run
            self.step = step
            self.head = head
            self.origin = origin
            self.pins = pins
            self.storedBefore = storedBefore
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
        var outdated: [Written] = []
        var packs: [CommittedPack] = []
        let outcome: Outcome = try store.transact { transaction, indexState, position in
            switch try decide(transaction) {
            case .cancel: return .init(event: nil, result: .cancelled)
            case .commit(let replaced):
                removal = try removalLock(replaced)
                outdated = try outdatedDeltas(transaction, indexState)
                guard try outdated.isEmpty && !hasLost(transaction, indexState) else {
                    return .init(event: nil, result: .mustRepeat)
                }
                let event = try put(manifest, replaced, into: transaction, &indexState, position)
                packs = event.packs
                return .init(
                    event: .commit(event),
                    result: .committed(number: position.sequence, storedBytes: event.storedBytes))
            }
        }
        switch outcome {
        case .committed:
            state.change { $0.isDone = true }
            freeVoids(packs)
        case .cancelled: break
        case .mustRepeat: prepareToRepeat(without: outdated)
        }
        return outcome
    }

    /// Frees the blocks of records that never count, as when several ranks save the same tensors at once. Where that fails, it is left to
    /// the next collection.
    private func freeVoids(_ committed: [CommittedPack]) {
        let entries = state.change { state in
            Dictionary(uniqueKeysWithValues: state.finished.map { ($0.summary.name, $0.entries) })
        }
        let block = UInt64(PackFormat.blockSize)
        for pack in committed where !pack.voids.isEmpty {
            guard let entries = entries[pack.summary.name],
                let file = try? File(store.packs.path(pack.summary.name), .write)
            else { continue }
            for void in pack.voids {
                let first = (entries[void.lowerBound].range.lowerBound + block - 1) / block * block
                let last = entries[void.upperBound - 1].range.upperBound / block * block
                if first < last, (try? file.punch(first..<last)) != true { break }
            }
        }
    }

    /// Makes the chunks count that were written in the place of damaged or lost ones, where there is nothing else to commit.
    /// - Returns: false where everything is to be put again first, as for `.mustRepeat`.
    public func commitHealing() throws -> Bool {
        guard foundDamaged || new.chunks > 0 else { return true }
        _ = try finishPacks()
        try FileSystem.syncFolder(store.folder.appending("packs"))
        let (outdated, isCommitted) = try store.transact { transaction, indexState, _ in
            let outdated = try outdatedDeltas(transaction, indexState)
            guard try outdated.isEmpty && isHealing(transaction) else {
                return .init(event: nil, result: (outdated, false))
            }
            let packs = try putPacks(into: transaction, &indexState)
            return .init(event: .repair(packs), result: ([], true))
        }
        if isCommitted { markDone() }
        if !outdated.isEmpty { prepareToRepeat(without: outdated) }
        return outdated.isEmpty
    }

    /// Whether anything of what was written is damaged or missing in the store, but for the pieces of the manifest.
    private func isHealing(_ transaction: IndexTransaction) throws -> Bool {
        let (packs, pieces, foundDamaged) = state.change { ($0.finished, $0.pieces, $0.foundDamaged) }
        if foundDamaged { return true }
        return try packs.contains { pack in
            try pack.entries.contains { try !pieces.contains($0.id) && transaction.chunk($0.id) == nil }
        }
    }

    /// - Parameter outdated: records that are never to count: their chunks are written again.
    private func prepareToRepeat(without outdated: [Written]) {
        state.change { state in
            state.relied = []
            state.views = []
            state.isRepeated = true
            (state.hasFilter, state.filter) = (false, nil)
            for record in outdated where state.outdated.insert(record).inserted {
                state.written.remove(record.entry.id)
                state.newChunks -= 1
                state.newBytes -= UInt64(record.entry.rawLength)
            }
        }
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

    /// The deltas of this save that can't count as the store is now: what they lean on has gone, is damaged or has become another
    /// record since, or they would take the place of a damaged record, which only one without a base may.
    private func outdatedDeltas(
        _ transaction: IndexTransaction, _ indexState: IndexState
    ) throws -> [Written] {
        let (packs, known, isUnchanged) = state.change { state in
            let isUnchanged = state.views.allSatisfy { $0.sweepToken == indexState.sweepToken }
            return (state.finished, state.outdated, isUnchanged && !state.isRepeated)
        }
        guard !isUnchanged else { return [] }
        let locate = store.locator(transaction)
        return try packs.flatMap { pack in
            try pack.entries.lazy.filter(\.codec.hasBase).map { Written(pack: pack.summary.name, entry: $0) }
                .filter { try !known.contains($0) && !isSound($0.entry, transaction, locate) }
        }
    }

    private func isSound(
        _ entry: PackEntry, _ transaction: IndexTransaction, _ locate: ChunkLocator
    ) throws -> Bool {
        // Where another save has committed the chunk first, this record never counts.
        if let other = try transaction.chunk(entry.id) { return !other.isDamaged }
        guard let base = try locate(entry.base), let chain = try? store.chain(base, locate) else {
            return false
        }
        return chain.allSatisfy { !$0.location.isDamaged }
            && store.recovery.allows(Int(entry.storedLength), before: chain)
    }

    private func put(
        _ manifest: Manifest, _ replaced: UInt64?, into transaction: IndexTransaction,
        _ indexState: inout IndexState,
        _ position: Journal.Position
    ) throws -> JournalEvent.Commit {
        let before = try transaction.usedBytes()
        let committed = try putPacks(into: transaction, &indexState)
        try transaction.checkWrites()
        var event = JournalEvent.Commit(
            run: manifest.run, step: manifest.step, head: manifest.head, origin: manifest.origin,
            replaces: replaced,
            packs: committed, storedBytes: 0, pins: manifest.pins, version: store.settings.version)
        let record = JournalRecord(
            sequence: position.sequence, time: 0, previous: position.previous, event: .commit(event))
        let growth = try transaction.usedBytes() - min(before, transaction.usedBytes())
        event.storedBytes =
            manifest.storedBefore + committed.reduce(0) { $0 + $1.summary.fileLength } + growth
            + UInt64(JournalRecord.padded(record.encoded(store: store.id).bytes.count))
        return event
    }

    /// Puts the entries of all packs of this save, but for those that are void.
    private func putPacks(
        into transaction: IndexTransaction, _ indexState: inout IndexState
    ) throws -> [CommittedPack] {
        let (packs, areNew) = state.change { state in
            (state.finished, state.views == [View(indexState)] && !state.foundDamaged && !state.isRepeated)
        }
        var committed: [CommittedPack] = []
        for pack in packs {
            let voids = areNew ? [] : try voids(pack, transaction)
            let entry = CommittedPack(summary: pack.summary, voids: Self.ranges(voids))
            try store.putChunks(entry, pack.entries, areNew: areNew, into: transaction, &indexState)
            committed.append(entry)
        }
        return committed
    }

    /// The places of entries whose chunks another save has committed first, or which were written again.
    private func voids(
        _ pack: (summary: PackSummary, entries: [PackEntry]), _ transaction: IndexTransaction
    ) throws -> [Int] {
        let outdated = state.change { $0.outdated }
        return try pack.entries.indices.filter { index in
            let entry = pack.entries[index]
            if outdated.contains(Written(pack: pack.summary.name, entry: entry)) { return true }
            guard let other = try transaction.chunk(entry.id) else { return false }
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
