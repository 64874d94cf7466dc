internal import Platform

/// What a collection did, or would do.
public struct CollectionOutcome: Sendable {
    /// Bytes that the file system has back.
    public var reclaimedBytes: UInt64 = 0
    /// Bytes of the records that are live.
    public var liveBytes: UInt64 = 0
    public var removedChunks = 0
    public var removedPacks = 0
    /// Ranges inside of packs stayed, as the file system can't punch holes.
    public var cannotPunch = false
}

extension ChunkStore {
    /// Entries that one sweep transaction removes at most, so that savers wait only for some 20 milliseconds.
    private static let sweepBatch = 8000
    /// The same on a full disk: each entry may dirty a page of the index, and all of them must fit into the reserve.
    private static let sweepBatchInReserve = 1000
    /// How often a collection starts again because the index was made anew in its midst.
    private static let collectionAttempts = 5
    /// Seconds that a collection waits for another one.
    private static let collectionPatience = 10.0

    /// Gives back the space of all chunks that no live iteration reaches. Savers and readers go on meanwhile.
    ///
    /// Killed at any instant it leaves a store in which every live iteration is whole; the next save or collection goes on.
    /// - Parameter without: iterations that count as deleted; only for a dry run.
    /// - Throws: `.damage`, having freed nothing, where index and journal differ or a manifest can't be read; `.busy` where
    ///   another collection runs.
    public func collect(dryRun: Bool, without doomed: Set<UInt64> = []) throws -> CollectionOutcome {
        precondition(dryRun || doomed.isEmpty)
        if dryRun { try checkProcess() } else { try checkWritable() }
        let lock = dryRun ? nil : try waitForCollectionLock()
        defer { withExtendedLifetime(lock) {} }
        guard dryRun || lock != nil else {
            throw CairnError(.busy, "another collection is at work in \(folder); try again when it has ended")
        }
        return try givingUpReserve {
            var result = try collectRepeatedly(dryRun, doomed)
            if !dryRun {
                result.reclaimedBytes += try removeOrphans()
                try restoreReserve()
            }
            return result
        }
    }

    /// Savers hold this lock for an instant, while they clear what dead ones left; another collection for longer.
    private func waitForCollectionLock() throws -> ReaderLock? {
        let start = Clock.monotonic
        while true {
            if let lock = try locks.collectionLock() { return lock }
            guard Clock.monotonic - start < Self.collectionPatience else { return nil }
            Clock.sleep(seconds: 0.002)
        }
    }

    private func collectRepeatedly(_ dryRun: Bool, _ doomed: Set<UInt64>) throws -> CollectionOutcome {
        for attempt in 1... {
            do {
                return try collectLocked(dryRun, doomed)
            } catch is OutdatedPlan {
                guard attempt < Self.collectionAttempts else {
                    throw CairnError(
                        .busy, "the index of \(folder) changes again and again; collect again later")
                }
            }
        }
        preconditionFailure("the loop only ends by returning or throwing")
    }

    private func collectLocked(_ dryRun: Bool, _ doomed: Set<UInt64>) throws -> CollectionOutcome {
        var (reach, marked) = try mark(without: doomed)
        var result = CollectionOutcome()
        var plan = try planSweep(reach, &result)
        if dryRun {
            let deadPacks = Set(plan.deadPacks.map(\.number))
            let whole = try plan.deadPacks.reduce(0 as UInt64) {
                $0 + (try FileSystem.status(packs.path($1.name))?.allocated ?? 0)
            }
            let freed = try freeSpace(
                in: plan.packs.subtracting(deadPacks), dryRun: true, dead: Set(plan.dead))
            result.reclaimedBytes = whole + freed.bytes
            return result
        }
        let hasReserve = try FileSystem.status(folder.appending("reserve")) != nil
        let size = hasReserve ? Self.sweepBatch : Self.sweepBatchInReserve
        var rest = plan.dead[...]
        // A save that was committed since the mark may rely on a chunk that was dead then: its pack stays.
        var kept: Set<UInt32> = []
        while !rest.isEmpty {
            let batch = rest.prefix(size)
            rest = rest.dropFirst(batch.count)
            result.removedChunks += try sweep(batch, [], &plan.token, &reach, &marked, &kept)
        }
        let deadPacks = plan.deadPacks.filter { !kept.contains($0.number) }
        if !deadPacks.isEmpty { _ = try sweep([], deadPacks, &plan.token, &reach, &marked, &kept) }
        result.removedPacks = deadPacks.count
        result.reclaimedBytes = try removeOrphans()
        let freed = try freeSpace(in: plan.packs.subtracting(deadPacks.map(\.number)))
        result.reclaimedBytes += freed.bytes
        result.cannotPunch = freed.cannotPunch
        return result
    }

    /// What all live iterations reach, by the journal; and how far the journal was read.
    func mark(without doomed: Set<UInt64>) throws -> (Reach, Journal.Position) {
        let (fold, end) = try opened.change { opened in
            try locks.reading {
                let (records, end) = try journal.records()
                let fold = JournalFold(records)
                try currentIndex().read { try compare(fold, end, $0) }
                return (fold, end)
            }
        }
        var reach = Reach(self)
        let source = Reach.Source(
            read: { try self.chunk($0) }, bases: { try self.locate($0).map { $0?.location.base ?? .zero } })
        for (number, iteration) in fold.iterations.sorted(by: { $0.key < $1.key })
        where !doomed.contains(number) {
            do {
                try reach.add(iteration.head, from: source)
            } catch let error as CairnError where error.code == .damage {
                throw CairnError(
                    .damage,
                    "nothing was collected, as \(iteration.run)@\(iteration.step) is damaged (\(error.message)); "
                        + "repair it, or give it up with `cairn delete --damaged`", path: error.path)
            }
        }
        return (reach, end)
    }

    struct SweepPlan {
        /// Each before its base, so that whatever is there can be read, however far a sweep has come; else in the order of the ids, so
        /// that a batch touches few pages of the index.
        var dead: [ChunkID] = []
        /// Packs in which something may be freed.
        var packs: Set<UInt32> = []
        /// Packs without any live chunk.
        var deadPacks: [(number: UInt32, name: PackName)] = []
        /// The sweep token of the index that was looked at. Under another one packs may have other numbers, and chunks be back.
        var token: [UInt8] = []
    }

    /// The index is not the one any more that a collection made its plan by.
    struct OutdatedPlan: Error {}

    func planSweep(_ reach: Reach, _ result: inout CollectionOutcome) throws -> SweepPlan {
        var plan = SweepPlan(token: try read { try $0.state().sweepToken })
        var found = 0
        /// Of the dead ones that lean on others.
        var bases: [ChunkID: ChunkID] = [:]
        var isOutdated = false
        let packs = try livePacks { id, location in
            let isLive = reach.ids.contains(id)
            if isLive { found += 1 } else { plan.dead.append(id) }
            if location.base != .zero {
                if !isLive { bases[id] = location.base }
                // It has got another record since the mark.
                if isLive, !reach.ids.contains(location.base) { isOutdated = true }
            }
            return isLive
        }
        guard !isOutdated else { throw OutdatedPlan() }
        plan.dead = Self.sweepOrder(plan.dead, bases)
        guard found == reach.ids.count else {
            throw CairnError(
                .damage,
                "nothing was collected, as chunks that iterations need are missing; run `cairn repair`, "
                    + "or give the iterations up with `cairn delete --damaged`", path: indexPath.text)
        }
        result.liveBytes = packs.reduce(0) { $0 + $1.liveBytes }
        plan.packs = Set(packs.map(\.number))
        plan.deadPacks = packs.filter(\.records.isEmpty).map { ($0.number, $0.summary.name) }
        return plan
    }

    /// Chunks so that each comes before its base, and else in the order of their ids.
    private static func sweepOrder(_ dead: [ChunkID], _ bases: [ChunkID: ChunkID]) -> [ChunkID] {
        /// How many chunks lean on one, each on the next; none has more than a chain may have, even where bases form a circle.
        var heights: [ChunkID: Int] = [:]
        for id in bases.keys {
            var (id, height) = (id, 0)
            while let base = bases[id], height < PackFormat.chainLimit {
                height += 1
                guard heights[base, default: 0] < height else { break }
                heights[base] = height
                id = base
            }
        }
        guard !heights.isEmpty else { return dead.sorted() }
        return dead.map { (height: heights[$0, default: 0], id: $0) }.sorted { $0 < $1 }.map(\.id)
    }

    /// One sweep transaction: marks what was committed since the mark, then removes what is still dead.
    /// - Parameter token: of the plan, and then of this sweep.
    /// - Throws: `OutdatedPlan` where the index has another one.
    func sweep(
        _ batch: ArraySlice<ChunkID>, _ deadPacks: [(number: UInt32, name: PackName)], _ token: inout [UInt8],
        _ reach: inout Reach, _ marked: inout Journal.Position, _ kept: inout Set<UInt32>
    ) throws -> Int {
        var newReach = reach
        var newMarked = marked
        let newToken = Random.bytes(16)
        let removed = try transact { transaction, state, position in
            guard state.sweepToken == token else { throw OutdatedPlan() }
            while newMarked != position {
                guard let (_, bytes) = try transaction.record(newMarked.sequence) else {
                    throw CairnError(.damage, "the index of \(folder) lacks a record; run `cairn repair`")
                }
                let record = try JournalRecord(decoding: bytes, store: id)
                if case .commit(let commit) = record.event {
                    try newReach.add(commit.head, from: source(transaction))
                }
                let (_, hash) = record.encoded(store: id)
                newMarked = Journal.Position(
                    offset: newMarked.offset + UInt64(JournalRecord.padded(bytes.count)),
                    sequence: newMarked.sequence + 1, previous: hash)
            }
            var removed: [ChunkID] = []
            for chunk in batch {
                guard let location = try transaction.chunk(chunk) else { continue }
                guard !newReach.ids.contains(chunk) else {
                    kept.insert(location.pack)
                    continue
                }
                transaction.setPending(location.pack, true)
                removed.append(chunk)
            }
            try transaction.removeChunks(removed.sorted())
            for pack in deadPacks { transaction.removePack(pack.number) }
            let event = JournalEvent.sweep(token: newToken, removedPacks: deadPacks.map(\.name))
            return Decision(event: event, result: removed.count)
        }
        (token, reach, marked) = (newToken, newReach, newMarked)
        return removed
    }
}
