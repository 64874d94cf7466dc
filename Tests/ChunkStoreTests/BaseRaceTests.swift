import Platform
import Testing

@testable import ChunkStore

/// Bases that go, or become other records, while a save leans on them.
@Suite struct BaseRaceTests {
    let toy: ToyStore
    /// Two handles, as two processes have them.
    let saver, collector: ChunkStore
    let base, next: [UInt8]
    let first: UInt64

    init() throws {
        toy = try ToyStore()
        saver = try toy.open()
        collector = try toy.open()
        var generator = SeededGenerator(seed: 1)
        base = ToyStore.tensor(chunks: 3, &generator)
        next = ToyStore.changed(base, &generator)
        first = try ToyStore.save(saver, step: 1, tensor: base)
        try ToyStore.save(saver, step: 2, [[1, 2, 3]])
    }

    private func session() throws -> SaveSession {
        try SaveSession(saver, dryRun: false, encoding: ToyStore.deltas)
    }

    private func commit(
        _ session: SaveSession, _ manifest: SaveSession.Manifest
    ) throws -> SaveSession.Outcome {
        try session.commit(manifest) { _ in .commit(replacing: nil) }
    }

    private func check(_ number: UInt64, _ tensor: [UInt8]) throws {
        for store in [saver, collector, try toy.open()] {
            #expect(try ToyStore.read(store, number) == [tensor])
            #expect(try store.checkStructure().problems.isEmpty)
        }
        try FileSystem.removeFile(toy.folder.appending("index/data.mdb"))
        #expect(try ToyStore.read(try toy.open(), number) == [tensor])
    }

    /// Commits what was put, after a repetition.
    private func commitAgain(_ session: SaveSession, _ first: SaveSession.Manifest) throws -> UInt64 {
        let outcome = try commit(session, first)
        guard case .mustRepeat = outcome else {
            Issue.record("committed what leans on chunks that are gone")
            return 0
        }
        let again = try ToyStore.manifest(step: 3, tensor: next, over: base, session)
        #expect(session.new.chunks == 3 && session.new.bytes == UInt64(next.count))
        guard case .committed(let number, _) = try commit(session, again) else {
            Issue.record("was not committed")
            return 0
        }
        return number
    }

    @Test func aDeltaWhoseBaseASweepRemovedIsWrittenAnew() throws {
        let session = try session()
        defer { session.abandon() }
        let manifest = try ToyStore.manifest(step: 3, tensor: next, over: base, session)
        try ToyStore.delete(collector, [first])
        _ = try collector.collect(dryRun: false)
        let number = try commitAgain(session, manifest)
        #expect(try ToyStore.depths(saver, of: next) == [1, 1, 1])
        try check(number, next)
        _ = try collector.collect(dryRun: false)
        try check(number, next)
    }

    @Test func aDeltaWhoseBaseWasFoundDamagedIsWrittenAnew() throws {
        let session = try session()
        defer { session.abandon() }
        let manifest = try ToyStore.manifest(step: 3, tensor: next, over: base, session)
        let place = try ToyStore.places(saver, of: base)[1]
        try ToyStore.damage(saver, place)
        try collector.markDamaged([place.id])
        let number = try commitAgain(session, manifest)
        #expect(try ToyStore.depths(saver, of: next) == [2, 1, 2])
        try check(number, next)
    }

    @Test func aDeltaOnWhatAnotherSaveWroteAnewCountsAsItIs() throws {
        let session = try session()
        defer { session.abandon() }
        let manifest = try ToyStore.manifest(step: 3, tensor: next, over: base, session)
        try ToyStore.delete(collector, [first])
        _ = try collector.collect(dryRun: false)
        try ToyStore.save(collector, step: 4, tensor: base)
        guard case .committed(let number, _) = try commit(session, manifest) else {
            Issue.record("was not committed")
            return
        }
        try check(number, next)
    }

    /// Two saves at once make each of two chunks lean on the other, where what was committed first has become damaged.
    @Test func basesNeverLeanOnEachOtherInACircle() throws {
        let session = try session()
        defer { session.abandon() }
        let manifest = try ToyStore.manifest(step: 3, tensor: next, over: base, session)
        // The chunks of the other one are committed first, the base goes, and comes back leaning on them.
        let other = try ToyStore.save(collector, step: 4, tensor: next)
        try ToyStore.delete(collector, [first])
        _ = try collector.collect(dryRun: false)
        let again = try ToyStore.save(collector, step: 5, tensor: base, over: next)
        #expect(try ToyStore.depths(collector, of: base) == [2, 2, 2])
        try collector.markDamaged(ToyStore.places(collector, of: next).map(\.id))
        let number = try commitAgain(session, manifest)
        #expect(try ToyStore.depths(saver, of: next) == [1, 1, 1])
        for (number, tensor) in [(number, next), (other, next), (again, base)] { try check(number, tensor) }
    }

    /// A chunk that is there has its bases, however far a sweep has come: whoever finds it may rely on it.
    @Test func aSweepRemovesNoBaseBeforeWhatLeansOnIt() throws {
        var generator = SeededGenerator(seed: 2)
        var tensor = base
        var doomed = [first]
        var tensors = [base]
        for step in 3...7 {
            let changed = ToyStore.changed(tensor, &generator)
            doomed.append(try ToyStore.save(saver, step: UInt64(step), tensor: changed, over: tensor))
            tensor = changed
            tensors.append(tensor)
        }
        #expect(try ToyStore.depths(saver, of: tensor).contains { $0 > 4 })
        try ToyStore.delete(saver, doomed)
        var (reach, marked) = try collector.mark(without: [])
        var outcome = CollectionOutcome()
        let plan = try collector.planSweep(reach, &outcome)
        var token = plan.token
        var kept: Set<UInt32> = []
        #expect(plan.dead.count > 24)
        for (place, id) in plan.dead.enumerated() {
            _ = try collector.sweep([id], [], &token, &reach, &marked, &kept)
            for tensor in tensors {
                for chunk in ToyStore.chunks(of: tensor) where try saver.locate([.of(chunk)])[0] != nil {
                    #expect(try saver.chunk(.of(chunk)) == chunk)
                }
            }
            // In the midst of it a save takes up what is still there.
            if place == plan.dead.count / 2 {
                let number = try ToyStore.save(saver, step: 20, tensor: tensors[3], over: tensors[2])
                #expect(try ToyStore.read(saver, number) == [tensors[3]])
            }
        }
        let number = try #require(try saver.read { try $0.iterationNumber(run: "main", step: 20) })
        try check(number, tensors[3])
    }
}
