import Glibc
import Platform
import Testing

@testable import ChunkStore

/// Saves and collections step by step, in the orders that matter.
@Suite struct InterleavingTests {
    let toy: ToyStore
    /// Two handles, as two processes have them.
    let saver, collector: ChunkStore
    let shared = [UInt8](repeating: 7, count: 9000)
    let own = [UInt8](repeating: 8, count: 9000)

    /// `main@1` with `shared` and `own` is deleted but not collected; `main@2` is what stays.
    init() throws {
        toy = try ToyStore()
        saver = try toy.open()
        collector = try toy.open()
        let first = try ToyStore.save(saver, step: 1, [shared, own])
        try ToyStore.save(saver, step: 2, [[1, 2, 3]])
        _ = try saver.delete { _ in [.init(iteration: first, reason: "test")] }
    }

    private func manifest(_ session: SaveSession, step: UInt64, _ contents: [[UInt8]]) throws
        -> SaveSession.Manifest
    {
        let head = ToyStore.head(try ToyStore.put(contents, session), salt: step)
        return .init(run: "main", step: step, head: head, origin: "", pins: [])
    }

    private func commit(_ session: SaveSession, _ manifest: SaveSession.Manifest) throws
        -> SaveSession.Outcome
    {
        try session.commit(manifest) { _ in .commit(replacing: nil) }
    }

    private func knows(_ bytes: [UInt8]) throws -> Bool {
        try saver.locate([.of([UInt8](bytes.prefix(ToyStore.chunkSize)))])[0] != nil
    }

    /// The sweep of a mark, in one batch, as a collection does it.
    private func sweep(
        _ mark: (Reach, Journal.Position), _ plan: ChunkStore.SweepPlan
    ) throws -> (removed: Int, kept: Set<UInt32>) {
        var (reach, marked) = mark
        var token = plan.token
        var kept: Set<UInt32> = []
        let removed = try collector.sweep(plan.dead[...], [], &token, &reach, &marked, &kept)
        let packs = plan.deadPacks.filter { !kept.contains($0.number) }
        _ = try collector.sweep([], packs, &token, &reach, &marked, &kept)
        try collector.removeOrphans()
        _ = try collector.freeSpace(in: plan.packs.subtracting(packs.map(\.number)))
        return (removed, kept)
    }

    private func plan(_ mark: (Reach, Journal.Position)) throws -> ChunkStore.SweepPlan {
        var outcome = CollectionOutcome()
        return try collector.planSweep(mark.0, &outcome)
    }

    private func check(_ number: UInt64, _ contents: [[UInt8]]) throws {
        for store in [saver, collector, try toy.open()] {
            #expect(try ToyStore.read(store, number) == contents)
            #expect(try store.checkStructure().problems.isEmpty)
        }
    }

    @Test func aChunkThatACommitTakesUpBetweenMarkAndSweepStays() throws {
        let mark = try collector.mark(without: [])
        let plan = try plan(mark)
        #expect(plan.deadPacks.count == 1)
        let number = try ToyStore.save(saver, step: 3, [shared])
        let (removed, kept) = try sweep(mark, plan)
        // Its two chunks and their list stay, and with them the pack; the rest of the pack goes.
        #expect(removed == plan.dead.count - 3 && removed > 0)
        #expect(kept == Set(plan.deadPacks.map(\.number)))
        #expect(try knows(shared) && !knows(own))
        try check(number, [shared])
    }

    @Test func aChunkThatASaveFoundAndASweepRemovedIsPutAgain() throws {
        let session = try SaveSession(saver, dryRun: false)
        defer { session.abandon() }
        let first = try manifest(session, step: 3, [shared])
        #expect(session.new.chunks == 0, "the save was to find its chunks in the store")
        let outcome = try collector.collect(dryRun: false)
        #expect(outcome.removedPacks == 1)
        guard case .mustRepeat = try commit(session, first) else {
            Issue.record("committed chunks that are gone")
            return
        }
        #expect(try saver.read { try $0.iterationNumber(run: "main", step: 3) } == nil)
        let second = try manifest(session, step: 3, [shared])
        #expect(session.new.chunks == 2)
        guard case .committed(let number, _) = try commit(session, second) else {
            Issue.record("was not committed")
            return
        }
        try check(number, [shared])
    }

    @Test func aSweepOfOtherChunksIsNoReasonToPutAgain() throws {
        let session = try SaveSession(saver, dryRun: false)
        defer { session.abandon() }
        // Found under the old token, and live; what is swept meanwhile is not what this save relies on.
        let manifest = try manifest(session, step: 3, [[1, 2, 3]])
        let token = try saver.read { try $0.state().sweepToken }
        _ = try collector.collect(dryRun: false)
        #expect(try saver.read { try $0.state().sweepToken } != token)
        guard case .committed(let number, _) = try commit(session, manifest) else {
            Issue.record("was not committed")
            return
        }
        try check(number, [[1, 2, 3]])
    }

    @Test func whatWasFoundBeforeAndAfterASweepIsLookedUpUnderTheOlderToken() throws {
        let session = try SaveSession(saver, dryRun: false)
        defer { session.abandon() }
        _ = try ToyStore.put([shared], session)
        _ = try collector.collect(dryRun: false)
        // Found under the new token; the chunks of before are gone all the same.
        let manifest = try manifest(session, step: 3, [shared, [1, 2, 3]])
        guard case .mustRepeat = try commit(session, manifest) else {
            Issue.record("committed chunks that are gone")
            return
        }
    }

    /// Where the index has a chunk; it stands there once.
    private func place(_ chunk: ChunkID) throws -> PackName {
        try saver.read { transaction in
            var count = 0
            try transaction.scanChunks { id, _ in
                count += id == chunk ? 1 : 0
                return true
            }
            #expect(count == 1)
        }
        return try #require(try saver.locate([chunk])[0]).pack
    }

    /// With single entries in the index, and with tables.
    @Test(arguments: [false, true])
    func ofTwoSavesWithTheSameNewChunksBothAreWhole(isLarge: Bool) throws {
        let contents = [[UInt8](repeating: 5, count: 20_000)]
        let chunk = ChunkID.of([UInt8](contents[0][..<ToyStore.chunkSize]))
        let stores = try [0, 1].map { _ in try toy.open(isLarge: isLarge) }
        let (one, other) = (
            try SaveSession(stores[0], dryRun: false), try SaveSession(stores[1], dryRun: false)
        )
        let (first, second) = (
            try manifest(one, step: 3, contents), try manifest(other, step: 4, contents)
        )
        #expect(one.new.chunks > 0 && one.new.chunks == other.new.chunks)
        guard case .committed(let a, _) = try commit(one, first) else {
            Issue.record("was not committed")
            return
        }
        let pack = try place(chunk)
        guard case .committed(let b, _) = try commit(other, second) else {
            Issue.record("was not committed")
            return
        }
        #expect(try place(chunk) == pack, "what was committed first counts")
        try check(a, contents)
        // The second one's records are void, so its pack is space to give back; but not the first one's.
        _ = try collector.collect(dryRun: false)
        try check(a, contents)
        try check(b, contents)
        _ = try saver.delete { _ in [.init(iteration: a, reason: "test")] }
        _ = try collector.collect(dryRun: false)
        try check(b, contents)
    }

    @Test func whatWasPutBeforeARepetitionMayBeInTheStoreByThen() throws {
        let many = (0..<5 * ToyStore.chunkSize).map { UInt8($0 / ToyStore.chunkSize) }
        let session = try SaveSession(saver, dryRun: false)
        defer { session.abandon() }
        let first = try manifest(session, step: 3, [shared, many])
        _ = try collector.collect(dryRun: false)
        // One save has its entries in a table, the other one in the tree.
        let other = try ToyStore.save(try toy.open(isLarge: true), step: 4, [many])
        guard case .mustRepeat = try commit(session, first) else {
            Issue.record("committed chunks that are gone")
            return
        }
        let second = try manifest(session, step: 3, [shared, many])
        guard case .committed(let number, _) = try commit(session, second) else {
            Issue.record("was not committed")
            return
        }
        try check(number, [shared, many])
        try check(other, [many])
        _ = try collector.collect(dryRun: false)
        try check(number, [shared, many])
    }

    @Test func aCommitterThatIsKilledBeforeItsIndexCommitIsNoDamageToACollection() throws {
        let mark = try collector.mark(without: [])
        let position = try saver.read { try $0.state().journal }
        try saver.journal.append(saver.journal.prepare(.unpin(name: "none"), at: position))
        #expect(try sweep(mark, try plan(mark)).removed > 0)
        #expect(try saver.checkStructure().problems.isEmpty)
    }

    @Test func aPlanOfBeforeARebuildIsGivenUp() throws {
        _ = try collector.collect(dryRun: false)
        let mark = try collector.mark(without: [])
        let number = try ToyStore.save(saver, step: 3, [shared])
        let plan = try plan(mark)
        #expect(plan.deadPacks.count == 1)
        // The first pack is gone, so that the others get smaller numbers than the plan has.
        try saver.rebuild()
        #expect(throws: ChunkStore.OutdatedPlan.self) { try sweep(mark, plan) }
        try check(number, [shared])
        _ = try collector.collect(dryRun: false)
        try check(number, [shared])
    }

    @Test(arguments: [false, true])
    func aChunkThatIsKnownToBeDamagedIsPutAgain(isLarge: Bool) throws {
        let contents = [[UInt8](repeating: 5, count: 20_000), [1]]
        let store = try toy.open(isLarge: isLarge)
        try ToyStore.save(store, step: 3, contents)
        let chunk = ChunkID.of([UInt8](contents[0][..<ToyStore.chunkSize]))
        let pack = try place(chunk)
        try store.markDamaged([chunk])
        #expect(try store.damagedChunks() == [chunk])
        let number = try ToyStore.save(store, step: 4, contents)
        #expect(try place(chunk) != pack && store.damagedChunks().isEmpty)
        _ = try collector.collect(dryRun: false)
        try check(number, contents)
        let known = try place(chunk)
        try FileSystem.removeFile(toy.folder.appending("index/data.mdb"))
        try check(number, contents)
        #expect(try place(chunk) == known, "the last record of a chunk counts, in a new index as well")
    }

    /// As after a commit whose index could not be written, or with a journal from a copy.
    @Test func anIndexThatIsAheadOfItsJournalIsMadeAnew() throws {
        let number = try ToyStore.save(saver, step: 3, [own])
        let end = try saver.read { try $0.state().journal.offset }
        try ToyStore.save(saver, step: 4, [shared])
        try File(toy.folder.appending("journal"), .write).truncate(to: end)
        let again = try toy.open()
        #expect(try again.read { try $0.iterationNumbers() }.last == number)
        #expect(try again.read { try $0.iterationNumber(run: "main", step: 4) } == nil)
        try check(number, [own])
    }

    @Test func aPackThatIsBeingWrittenIsNotTakenForALeftover() throws {
        let session = try SaveSession(saver, dryRun: false)
        let contents = [[UInt8](repeating: 6, count: 20_000)]
        let manifest = try manifest(session, step: 3, contents)
        _ = try collector.collect(dryRun: false)
        try collector.removeLeftovers()
        guard case .committed(let number, _) = try commit(session, manifest) else {
            Issue.record("was not committed")
            return
        }
        try check(number, contents)
    }

    @Test func anIterationThatIsReadIsNotReplaced() throws {
        let number = try ToyStore.save(saver, step: 3, [shared])
        var reader: ReaderLock? = try saver.reading(number)
        let error = #expect(throws: CairnError.self) {
            try ToyStore.save(collector, step: 3, [[3]], replace: true)
        }
        #expect(error?.code == .busy)
        try check(number, [shared])
        withExtendedLifetime(reader) {}
        reader = nil
        let other = try ToyStore.save(collector, step: 3, [[3]], replace: true)
        #expect(other != number)
        try check(other, [[3]])
    }

    @Test func anIterationThatIsReadIsNotDeletedAndAnIterationThatIsDeletedIsNotRead() throws {
        let number = try ToyStore.save(saver, step: 3, [shared])
        try ToyStore.save(saver, step: 4, [[4]])
        var reader: ReaderLock? = try saver.reading(number)
        let deletion = JournalEvent.Deletion(iteration: number, reason: "test")
        let held = try collector.delete { _ in [deletion] }
        #expect(held.deleted.isEmpty && held.inUse == [number])
        withExtendedLifetime(reader) {}
        reader = nil
        #expect(try collector.delete { _ in [deletion] }.deleted.count == 1)
        #expect(throws: CairnError.self) { try saver.reading(number) }
    }

    @Test func aChildThatIsAboutToRunAnotherProgramKeepsNoLockOfItsParent() throws {
        let number = try ToyStore.save(saver, step: 3, [shared])
        var reader: ReaderLock? = try saver.reading(number)
        // Between fork and exec a child has all descriptors. This one stays there.
        let fork = try #require(dlsym(nil, "_Fork"))
        let pid = unsafeBitCast(fork, to: (@convention(c) () -> Int32).self)()
        if pid == 0 { while true { pause() } }
        defer {
            kill(pid, SIGKILL)
            waitpid(pid, nil, 0)
        }
        withExtendedLifetime(reader) {}
        reader = nil
        let deletion = JournalEvent.Deletion(iteration: number, reason: "test")
        #expect(try collector.delete { _ in [deletion] }.inUse.isEmpty)
    }
}
