import Foundation
import Platform
import Testing

@testable import ChunkStore

/// The chunks of an index, in its tree and in tables, against a dictionary.
@Suite struct TableTests {
    let folder: Platform.Path
    let path: Platform.Path

    init() throws {
        folder = Platform.Path(NSTemporaryDirectory() + "cairn-tables-" + UUID().uuidString)
        path = folder.appending("data.mdb")
        try FileSystem.makeFolder(folder)
        try Index.create(path, state: IndexState(store: Random.bytes(16)), first: nil)
    }

    private func location(_ generator: inout SeededGenerator) -> ChunkLocation {
        var location = ChunkLocation(
            PackEntry(
                id: .zero, offset: generator.next() >> 4,
                rawLength: UInt32.random(in: 1...4096, using: &generator),
                storedLength: UInt32.random(in: 1...4096, using: &generator), codec: .raw, base: .zero),
            pack: UInt32(truncatingIfNeeded: generator.next()))
        if Bool.random(using: &generator) {
            location.codec = Codec(rawValue: 200)
            location.base = id(&generator)
        }
        location.isDamaged = Bool.random(using: &generator)
        return location
    }

    private func id(_ generator: inout SeededGenerator) -> ChunkID {
        withUnsafeBytes(of: (generator.next(), generator.next(), generator.next(), generator.next())) {
            ChunkID($0)
        }
    }

    private func check(_ index: Index, _ expected: [ChunkID: ChunkLocation]) throws {
        try index.read { transaction in
            var found: [ChunkID: ChunkLocation] = [:]
            try transaction.scanChunks { id, location in
                #expect(found.updateValue(location, forKey: id) == nil, "an id stands in two places")
                return true
            }
            #expect(found == expected)
            for (id, location) in expected { #expect(try transaction.chunk(id) == location) }
            let tables = try transaction.tables()
            for level in Dictionary(grouping: tables, by: \.level).values {
                #expect(level.count < ChunkTable.mergeCount)
            }
        }
    }

    @Test(arguments: [1, 2, 3] as [UInt64])
    func anIndexIsADictionary(seed: UInt64) throws {
        defer { _ = try? FileSystem.removeTree(folder) }
        var generator = SeededGenerator(seed: seed)
        let index = try Index(path, readOnly: false)
        var expected: [ChunkID: ChunkLocation] = [:]
        for _ in 0..<40 {
            let transaction = try index.begin()
            let new = (0..<Int.random(in: 1...700, using: &generator)).map { _ in
                (id: id(&generator), location: location(&generator))
            }
            try transaction.insertChunks(new.sorted { $0.id < $1.id }, tableFrom: 50)
            for entry in new { expected[entry.id] = entry.location }
            // Half of all in some rounds, so that parts and tables become empty.
            let count = Int.random(in: 0...9, using: &generator) == 0 ? expected.count / 2 : 100
            let removed = expected.keys.sorted().shuffled(using: &generator).prefix(count).sorted()
            try transaction.removeChunks(removed)
            for id in removed { expected[id] = nil }
            for id in expected.keys.sorted().shuffled(using: &generator).prefix(50) {
                let changed = location(&generator)
                try transaction.updateChunk(id, changed)
                expected[id] = changed
            }
            for _ in 0..<20 { #expect(try transaction.chunk(id(&generator)) == nil) }
            try transaction.commit()
            try check(index, expected)
        }
        let transaction = try index.begin()
        try transaction.removeChunks(expected.keys.sorted())
        #expect(try transaction.tables().isEmpty)
        try transaction.commit()
        try check(index, [:])
    }

    @Test func aPartThatIsNoneIsDamage() throws {
        defer { _ = try? FileSystem.removeTree(folder) }
        var generator = SeededGenerator(seed: 4)
        let index = try Index(path, readOnly: false)
        let transaction = try index.begin()
        let entries = (0..<100).map { _ in (id: id(&generator), location: location(&generator)) }.sorted {
            $0.id < $1.id
        }
        try transaction.insertChunks(entries, tableFrom: 1)
        let table = try #require(transaction.tables().first)
        // Says that it holds more entries than it has bytes for.
        try transaction.transaction.put(
            transaction.databases.tables, table.key(entries[0].id),
            [255, 255] + [UInt8](repeating: 0, count: 90))
        #expect(throws: CairnError.self) { try transaction.chunk(entries[0].id) }
        #expect(throws: CairnError.self) { try transaction.scanChunks { _, _ in true } }
        transaction.abort()
    }
}
