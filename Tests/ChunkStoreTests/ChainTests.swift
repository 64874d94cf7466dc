import Platform
import Testing

@testable import ChunkStore

/// Chunks that lean on others, through all that becomes of a store.
@Suite struct ChainTests {
    /// One tensor of a few chunks from save to save, and the store with it.
    struct Series {
        let toy: ToyStore
        var store: ChunkStore
        var tensors: [[UInt8]] = []
        var numbers: [UInt64] = []

        /// - Parameter density: about one number in so many changes from save to save.
        init(saves: Int, density: Int, seed: UInt64) throws {
            toy = try ToyStore()
            store = try toy.open(isLarge: seed.isMultiple(of: 2))
            var generator = SeededGenerator(seed: seed)
            var tensor = ToyStore.tensor(chunks: 2, &generator) + [1, 2, 3, 4, 5]
            for step in 1...saves {
                numbers.append(
                    try ToyStore.save(store, step: UInt64(step), tensor: tensor, over: tensors.last ?? []))
                tensors.append(tensor)
                for place in stride(from: 0, to: tensor.count - 4, by: 4)
                where Int.random(in: 0..<density, using: &generator) == 0 {
                    tensor[place] &+= UInt8.random(in: 1...3, using: &generator)
                }
            }
        }

        /// Every iteration from this place on is whole, by this index and by one that is made anew.
        func check(from first: Int = 0) throws {
            for store in [store, try toy.open()] { try check(store, from: first) }
            try FileSystem.removeFile(toy.folder.appending("index/data.mdb"))
            try check(try toy.open(), from: first)
        }

        private func check(_ store: ChunkStore, from first: Int) throws {
            for index in numbers.indices where index >= first {
                #expect(try ToyStore.read(store, numbers[index]) == [tensors[index]], "iteration \(index)")
            }
            let reader = try ChunkReader(store)
            for tensor in tensors[first...] {
                let chunks = ToyStore.chunks(of: tensor)
                var seen = 0
                try reader.read(
                    chunks.map { .of($0) },
                    deliver: { index, bytes in
                        #expect(bytes.elementsEqual(chunks[index]))
                        seen += 1
                    }, failed: { _, error in Issue.record(error) })
                #expect(seen == chunks.count)
            }
            let report = try store.checkStructure()
            #expect(report.problems.isEmpty, "\(report.problems)")
        }

        /// All chunks that the index knows, with the records that each is made from.
        func chains() throws -> [[ChunkPlace]] {
            var ids: [ChunkID] = []
            try store.read { try $0.scanChunkIDs { ids.append($0) } }
            return try store.chains(ids).map { try $0.get() }
        }
    }

    @Test(arguments: [1000, 30, 4, 1])
    func aRestoreReadsAtMostSixteenRecordsAndTwiceTheBytes(density: Int) throws {
        let series = try Series(saves: 18, density: density, seed: UInt64(density))
        let chains = try series.chains()
        for chain in chains {
            #expect(chain.count <= 16)
            let stored = chain.reduce(0) { $0 + Int($1.location.storedLength) }
            #expect(stored <= 2 * Int(chain[0].location.rawLength))
        }
        // The bound is used: not every save starts anew.
        let deepest = chains.map(\.count).max()!
        #expect(density == 1000 ? deepest == 16 : deepest >= 2)
        for (number, tensor) in zip(series.numbers, series.tensors) {
            #expect(try ToyStore.read(series.store, number) == [tensor])
        }
    }

    @Test(arguments: [1000, 4], [1, 2] as [UInt64])
    func whatALiveChunkLeansOnStaysAndThenGoes(density: Int, seed: UInt64) throws {
        let series = try Series(saves: 10, density: density, seed: seed)
        let other = try ToyStore.save(series.store, run: "other", step: 1, [[9, 9]])
        for doomed in [0..<3, 3..<9] {
            let before = Set(try series.chains().flatMap { $0.map(\.id) })
            try ToyStore.delete(series.store, doomed.map { series.numbers[$0] })
            let planned = try series.store.collect(dryRun: true)
            let done = try series.store.collect(dryRun: false)
            #expect(planned.reclaimedBytes == done.reclaimedBytes && done.removedChunks > 0)
            // What is left is what the others need: their own chunks and the bases of these.
            let needed = Set(
                try series.tensors[doomed.upperBound...].flatMap { tensor in
                    try series.store.chains(ToyStore.chunks(of: tensor).map { .of($0) })
                        .flatMap { try $0.get().map(\.id) }
                })
            #expect(needed.isSubset(of: before))
            let own = Set(series.tensors.flatMap { ToyStore.chunks(of: $0).map { ChunkID.of($0) } })
            #expect(Set(try series.chains().map { $0[0].id }).intersection(own) == needed)
            try series.check(from: doomed.upperBound)
        }
        try ToyStore.delete(series.store, [series.numbers[9]])
        _ = try series.store.collect(dryRun: false)
        #expect(try series.chains().count == 2, "the head and the blob of the other run")
        #expect(try ToyStore.read(series.store, other) == [[9, 9]])
        #expect(try FileSystem.names(in: series.toy.folder.appending("packs")).count == 1)
        #expect(try series.store.collect(dryRun: false).reclaimedBytes == 0)
    }

    /// Flips a bit of each pack's table: all is found again by the headers of the records.
    @Test(arguments: [1, 2, 3] as [UInt64])
    func damagedTablesLoseNothing(seed: UInt64) throws {
        var generator = SeededGenerator(seed: seed)
        var series = try Series(saves: 8, density: 1000, seed: seed)
        try ToyStore.delete(series.store, series.numbers[..<3].map { $0 })
        _ = try series.store.collect(dryRun: false)
        let summaries = try series.store.read { try $0.packs().map(\.summary) }
        for summary in summaries where seed == 1 || Bool.random(using: &generator) {
            let file = try File(series.store.packs.path(summary.name), .write)
            let place = summary.tableOffset + UInt64.random(in: 0..<summary.tableLength, using: &generator)
            try file.write([try file.read(1, at: place)[0] ^ 4], at: place)
        }
        try FileSystem.removeFile(series.toy.folder.appending("index/data.mdb"))
        series.store = try series.toy.open()
        for index in 3..<8 {
            #expect(try ToyStore.read(series.store, series.numbers[index]) == [series.tensors[index]])
        }
        let depths = try ToyStore.depths(series.store, of: series.tensors[7])
        // The records move as they are: what leaned on others still does.
        try series.store.replacePacks(try series.store.checkStructure().damagedPacks)
        #expect(try ToyStore.depths(series.store, of: series.tensors[7]) == depths && depths[0] > 1)
        try series.check(from: 3)
        _ = try series.store.collect(dryRun: false)
        try series.check(from: 3)
    }

    /// A pack's void records are found again as well, and lean on what was never theirs to count.
    @Test func salvageTakesNoRecordThatLeansOnItself() throws {
        var generator = SeededGenerator(seed: 8)
        let toy = try ToyStore()
        let store = try toy.open()
        let base = ToyStore.tensor(chunks: 2, &generator)
        let next = ToyStore.changed(base, &generator)
        let last = ToyStore.changed(next, &generator)
        let first = try ToyStore.save(store, step: 1, tensor: base)
        // Its deltas on `base` are void, as another save is faster.
        let slow = try SaveSession(store, dryRun: false, encoding: ToyStore.deltas)
        let manifest = try ToyStore.manifest(step: 2, tensor: next, over: base, slow)
        var numbers = [try ToyStore.save(store, step: 3, tensor: next)]
        guard
            case .committed(let second, _) = try slow.commit(
                manifest, decide: { _ in .commit(replacing: nil) })
        else {
            Issue.record("was not committed")
            return
        }
        let voidPack = try #require(slow.state.change { $0.finished.first?.summary })
        // Now `base` goes and comes back, leaning on `next`; and something leans on `next` that is in no other pack.
        try ToyStore.delete(store, [first])
        _ = try store.collect(dryRun: false)
        numbers.append(try ToyStore.save(store, step: 4, tensor: base, over: next))
        numbers.append(try ToyStore.save(store, step: 5, tensor: last, over: next))
        for summary in [voidPack] + (try store.read { try $0.packs().map(\.summary).suffix(2) }) {
            let file = try File(store.packs.path(summary.name), .write)
            try file.write([0], at: summary.tableOffset)
        }
        for _ in 0..<4 {
            try FileSystem.removeFile(toy.folder.appending("index/data.mdb"))
            let again = try toy.open()
            for (number, tensor) in zip(numbers + [second], [next, base, last, next]) {
                #expect(try ToyStore.read(again, number) == [tensor])
            }
        }
    }

    /// A base that is damaged is found beside what leans on it, and heals all of that once its bytes are written again.
    @Test func aBaseThatIsWrittenAgainHealsWhatLeansOnIt() throws {
        var generator = SeededGenerator(seed: 9)
        let series = try Series(saves: 5, density: 1000, seed: 9)
        try ToyStore.delete(series.store, [series.numbers[0]])
        _ = try series.store.collect(dryRun: false)
        let bases = try ToyStore.places(series.store, of: series.tensors[0])
        try ToyStore.damage(series.store, bases[0])
        let lost = Set(series.tensors[1...].map { ChunkID.of(ToyStore.chunks(of: $0)[0]) })
        #expect(try series.store.damagedBases(of: lost).subtracting(lost) == [bases[0].id])
        try series.store.markDamaged(lost.union([bases[0].id]))
        #expect(try series.store.damagedChunks() == lost.union([bases[0].id]))
        // A save takes no damaged base, and says so; what leans on it is not used either.
        let session = try SaveSession(series.store, dryRun: false, encoding: ToyStore.deltas)
        defer { session.abandon() }
        let changed = ToyStore.changed(series.tensors[4], &generator)
        let manifest = try ToyStore.manifest(step: 8, tensor: changed, over: series.tensors[4], session)
        _ = try session.commit(manifest) { _ in .commit(replacing: nil) }
        #expect(session.lostBases == [.of(ToyStore.chunks(of: series.tensors[4])[0])])
        #expect(try ToyStore.depths(series.store, of: changed)[0] == 1)
        #expect(try ToyStore.depths(series.store, of: changed)[1] > 1)
        // The same bytes once more.
        try ToyStore.save(series.store, step: 9, tensor: series.tensors[0])
        try series.store.unmarkWhole()
        #expect(try series.store.damagedChunks() == [])
        try series.check(from: 1)
    }

    @Test func aMissingBaseIsSaid() throws {
        var generator = SeededGenerator(seed: 10)
        let series = try Series(saves: 3, density: 1000, seed: 10)
        let base = try ToyStore.places(series.store, of: series.tensors[0])[0]
        try series.store.changeIndex { try $0.removeChunks([base.id]) }
        let session = try SaveSession(series.store, dryRun: false, encoding: ToyStore.deltas)
        defer { session.abandon() }
        let changed = ToyStore.changed(series.tensors[2], &generator)
        let manifest = try ToyStore.manifest(step: 8, tensor: changed, over: series.tensors[2], session)
        guard
            case .committed(let number, _) = try session.commit(
                manifest, decide: { _ in .commit(replacing: nil) })
        else {
            Issue.record("was not committed")
            return
        }
        #expect(session.lostBases == [.of(ToyStore.chunks(of: series.tensors[2])[0])])
        #expect(try ToyStore.read(series.store, number) == [changed])
    }

    /// What is missing where the same iteration stands already is written, too.
    @Test func chunksThatAreMissingAreHealedWithNothingElseToCommit() throws {
        let series = try Series(saves: 2, density: 1000, seed: 11)
        let lost = try ToyStore.places(series.store, of: series.tensors[1])[0]
        try series.store.changeIndex { try $0.removeChunks([lost.id]) }
        let session = try SaveSession(series.store, dryRun: false, encoding: ToyStore.deltas)
        defer { session.abandon() }
        _ = try ToyStore.manifest(step: 2, tensor: series.tensors[1], over: series.tensors[0], session)
        #expect(try session.commitHealing())
        try series.check()
        // And with nothing missing, nothing is.
        let packs = try FileSystem.names(in: series.toy.folder.appending("packs")).count
        let again = try SaveSession(series.store, dryRun: false, encoding: ToyStore.deltas)
        _ = try ToyStore.manifest(step: 2, tensor: series.tensors[1], over: series.tensors[0], again)
        #expect(try again.commitHealing())
        again.abandon()
        #expect(try FileSystem.names(in: series.toy.folder.appending("packs")).count == packs)
    }

    /// Random saves, each leaning on any iteration, deletions, collections and rebuilds against a dictionary.
    @Test(arguments: [1, 2, 3] as [UInt64])
    func aStoreWithDeltasIsADictionary(seed: UInt64) throws {
        var generator = SeededGenerator(seed: seed)
        let toy = try ToyStore()
        var store = try toy.open(isLarge: seed.isMultiple(of: 2))
        var expected: [UInt64: [UInt8]] = [:]
        var all: [[UInt8]] = []
        for round in 0..<30 {
            switch Int.random(in: 0..<10, using: &generator) {
            case 0..<5:
                let live = expected.values.randomElement(using: &generator)
                var tensor = live ?? ToyStore.tensor(chunks: 3, &generator)
                if Int.random(in: 0..<4, using: &generator) == 0,
                    let old = all.randomElement(using: &generator)
                {
                    tensor = old
                } else {
                    tensor = ToyStore.changed(tensor, &generator)
                }
                all.append(tensor)
                let number = try ToyStore.save(
                    store, step: UInt64(round + 1), tensor: tensor, over: live ?? [],
                    elementSize: [1, 2, 4, 8].randomElement(using: &generator)!)
                expected[number] = tensor
            case 5, 6:
                let doomed = expected.keys.sorted().shuffled(using: &generator).prefix(3)
                try ToyStore.delete(store, [UInt64](doomed))
                for number in doomed { expected[number] = nil }
            case 7, 8: _ = try store.collect(dryRun: false)
            default:
                try FileSystem.removeFile(toy.folder.appending("index/data.mdb"))
                store = try toy.open(isLarge: seed.isMultiple(of: 2))
            }
            for (number, tensor) in expected.shuffled(using: &generator).prefix(3) {
                #expect(try ToyStore.read(store, number) == [tensor], "seed \(seed), round \(round)")
            }
            let report = try store.checkStructure()
            #expect(report.problems.isEmpty, "seed \(seed), round \(round): \(report.problems)")
        }
    }
}
