import Foundation
import Platform
import Testing

@testable import ChunkStore

/// Random operations against a dictionary: what was committed is there, byte for byte, whatever happened since.
@Suite struct ModelTests {
    struct Expected {
        var run: String
        var step: UInt64
        var contents: [[UInt8]]
        var pins: Set<String> = []
    }

    /// Half of the stores work as if they were large.
    @Test(arguments: [1, 2, 3, 4, 5, 6] as [UInt64])
    func aStoreIsADictionary(seed: UInt64) throws {
        var generator = SeededGenerator(seed: seed)
        let toy = try ToyStore()
        let isLarge = seed.isMultiple(of: 2)
        var store = try toy.open(isLarge: isLarge)
        var expected: [UInt64: Expected] = [:]
        var pool: [[UInt8]] = []
        var oldIndex: [UInt8]?
        let index = toy.folder.appending("index/data.mdb")
        var step: UInt64 = 0
        for round in 0..<60 {
            switch Int.random(in: 0..<14, using: &generator) {
            case 0..<5:
                step += 1
                let contents = contents(&pool, &generator)
                let number = try ToyStore.save(store, step: step, contents, packLimit: 20_000)
                expected[number] = Expected(run: "main", step: step, contents: contents)
            case 5:
                guard let (old, value) = expected.randomElement(using: &generator), value.pins.isEmpty else {
                    continue
                }
                let contents = contents(&pool, &generator)
                let number = try ToyStore.save(store, step: value.step, contents, replace: true)
                expected[old] = nil
                expected[number] = Expected(run: "main", step: value.step, contents: contents)
            case 6, 7:
                let doomed = expected.filter { $0.value.pins.isEmpty }.keys.shuffled(using: &generator)
                    .prefix(2)
                let (deleted, inUse) = try store.delete { _ in
                    doomed.map { JournalEvent.Deletion(iteration: $0, reason: "test") }
                }
                #expect(deleted.count == doomed.count && inUse.isEmpty)
                for number in doomed { expected[number] = nil }
            case 8:
                guard let number = expected.keys.randomElement(using: &generator) else { continue }
                let name = "pin\(round)"
                try store.change { _ in (.pin(name: name, iteration: number), ()) }
                expected[number]!.pins.insert(name)
            case 9, 10:
                let planned = try store.collect(dryRun: true)
                let done = try store.collect(dryRun: false)
                #expect(planned.reclaimedBytes == done.reclaimedBytes, "seed \(seed), round \(round)")
                #expect(try store.collect(dryRun: false).reclaimedBytes == 0)
            case 11:
                oldIndex = try File(index, .read).readToEnd()
            case 12:
                guard let bytes = oldIndex else { continue }
                try FileSystem.removeFile(index)
                try FileSystem.publish(bytes, at: index)
                store = try toy.open(isLarge: isLarge)
            default:
                try FileSystem.removeFile(index)
                store = try toy.open(isLarge: isLarge)
            }
            try check(store, expected, "seed \(seed), round \(round)")
        }
    }

    private func contents(_ pool: inout [[UInt8]], _ generator: inout SeededGenerator) -> [[UInt8]] {
        (0..<Int.random(in: 0...5, using: &generator)).map { _ in
            if !pool.isEmpty, Bool.random(using: &generator) { return pool.randomElement(using: &generator)! }
            let length = [0, 1, 100, 4096, 4097, 20_000, 600_000].randomElement(using: &generator)!
            let word = generator.next()
            let bytes = (0..<length).map {
                UInt8(truncatingIfNeeded: (word &+ UInt64($0 / 4096)) >> UInt64($0 % 8))
            }
            pool.append(bytes)
            return bytes
        }
    }

    private func check(_ store: ChunkStore, _ expected: [UInt64: Expected], _ what: String) throws {
        let catalog = try store.read { try $0.catalog(store: store.id) }
        #expect(Set(catalog.map(\.number)) == Set(expected.keys), "\(what)")
        for entry in catalog {
            let value = try #require(expected[entry.number])
            #expect(entry.step == value.step && Set(entry.pins) == value.pins, "\(what)")
            #expect(try ToyStore.read(store, entry.number) == value.contents, "\(what)")
        }
        let report = try store.checkStructure()
        #expect(report.problems.isEmpty, "\(what): \(report.problems)")
    }
}
