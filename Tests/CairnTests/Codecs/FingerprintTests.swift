import Foundation
import Platform
import Testing

@testable import Cairn
@testable import ChunkStore

/// The table of fingerprints is a cache: what it says is only believed where it is this iteration's, whole, and under the store's key.
@Suite struct FingerprintTests {
    let bench: Workbench
    let first, second: [UInt8]

    init() throws {
        bench = try Workbench()
        var generator = SeededGenerator(seed: 31)
        first = Tensor.floats(4000, &generator)
        var bytes = first
        bytes[5000] &+= 1
        second = bytes
        try bench.save(1, [Tensor("w", first)])
    }

    private var table: String { bench.path("store/fingerprints/run-main") }
    private var key: String { bench.path("store/key") }

    private func current() -> FingerprintTable? {
        bench.store.chunks.fingerprintKey(makes: false).flatMap {
            bench.store.chunks.fingerprints(run: "main", key: $0)
        }
    }

    /// Writes a table that says of what is to be saved that nothing has changed.
    private func lie(manifest: ChunkID? = nil, key: [UInt8]? = nil, count: Int? = nil) throws {
        let chunks = bench.store.chunks
        let ownKey = try #require(chunks.fingerprintKey(makes: false))
        let known = try #require(chunks.fingerprints(run: "main", key: ownKey))
        var table = FingerprintTable(manifest: manifest ?? known.manifest, capacity: known.count)
        let fingerprinter = Fingerprinter(key: ownKey)
        for start in stride(from: 0, to: second.count, by: 4096) {
            let chunk = [UInt8](second[start..<min(start + 4096, second.count)])
            table.append((chunk.withUnsafeBytes { fingerprinter.fingerprint($0) }, .none))
        }
        #expect(table.count == known.count)
        if let count {
            let all = table
            table = FingerprintTable(manifest: known.manifest, capacity: count)
            for index in 0..<count { table.append(all[index % all.count]) }
        }
        chunks.setFingerprints(table, run: "main", key: key ?? ownKey)
    }

    private func isBelieved(_ options: SaveOptions = SaveOptions()) throws -> Bool {
        let result = try bench.save(2, [Tensor("w", second)], options)
        guard result.newBytes > 0 else { return true }
        #expect(result.newBytes == 4096)
        #expect(try bench.restores("2", as: bench.path("out/checkpoint-2")))
        #expect(current()?.manifest == result.id.flatMap { ChunkID(hex: $0) } || options.rehash)
        return false
    }

    /// That the others are not believed means nothing unless this one is.
    @Test func whoHasTheKeyIsBelieved() throws {
        try lie()
        #expect(try isBelieved())
    }

    @Test func aSaveThatHashesEverythingBelievesNothing() throws {
        try lie()
        #expect(try !isBelieved(SaveOptions(rehash: true)))
    }

    @Test func aTableOfAnotherIterationIsIgnored() throws {
        try lie(manifest: .of([1]))
        #expect(try !isBelieved())
    }

    @Test(arguments: [0, 1, 3, 5])
    func aTableOfAnotherLengthIsIgnored(count: Int) throws {
        try lie(count: count)
        #expect(try !isBelieved())
    }

    @Test func aTableUnderAnotherKeyIsIgnored() throws {
        try lie(key: [UInt8](repeating: 1, count: 16))
        #expect(try !isBelieved())
    }

    @Test(arguments: [0, 8, 20, 40, 70, 100, 130, 180, -1])
    func aTableWithAFlippedBitIsIgnored(place: Int) throws {
        try lie()
        let size = try FileManager.default.attributesOfItem(atPath: table)[.size] as! Int
        try bench.flip(table, place < 0 ? size - 1 : place)
        #expect(try !isBelieved())
    }

    @Test(arguments: [0, 1, 31, 32, 33, 120, 160])
    func aTableThatIsCutShortOrGoesOnIsIgnored(cut: Int) throws {
        try lie()
        let bytes = try Data(contentsOf: URL(fileURLWithPath: table))
        try (cut == 0 ? bytes + [0] : bytes.dropLast(cut)).write(to: URL(fileURLWithPath: table))
        #expect(try !isBelieved())
    }

    @Test(arguments: ["key", "fingerprints/run-main"])
    func aKeyOrTableThatIsGoneIsMadeAnew(name: String) throws {
        try lie()
        try FileManager.default.removeItem(atPath: bench.path("store/" + name))
        #expect(try !isBelieved())
        let attributes = try FileManager.default.attributesOfItem(atPath: key)
        #expect(attributes[.posixPermissions] as? Int == 0o600)
    }

    @Test func aDryRunMakesNoKeyAndNoTable() throws {
        try FileManager.default.removeItem(atPath: key)
        let before = try Data(contentsOf: URL(fileURLWithPath: table))
        #expect(try bench.save(2, [Tensor("w", second)], SaveOptions(dryRun: true)).newBytes == 4096)
        #expect(!FileManager.default.fileExists(atPath: key))
        #expect(try Data(contentsOf: URL(fileURLWithPath: table)) == before)
    }

    @Test func theTableFollowsWhatIsSaved() throws {
        var third = first
        third[9000] &+= 1
        for (step, bytes, replace) in [
            (2, second, false), (2, first, true), (2, first, false), (3, third, false),
        ] {
            let result = try bench.save(step, [Tensor("w", bytes)], SaveOptions(replace: replace))
            #expect(current()?.manifest == result.id.flatMap { ChunkID(hex: $0) })
            #expect(try bench.restores("\(step)", as: bench.path("out/checkpoint-\(step)")))
        }
        // Nothing has changed: the table says the same, of another iteration.
        let before = try #require(current())
        try bench.save(4, [Tensor("w", third)])
        let after = try #require(current())
        #expect(before.manifest != after.manifest)
        for index in 0..<before.count {
            // What had changed gets its fingerprint once it stops to change.
            #expect(before[index].own == .none || before[index].own == after[index].own)
            #expect(before[index].base == after[index].base && after[index].own != .none)
        }
        #expect((0..<after.count).contains { after[$0].base != .none }, "one chunk is a delta")
        #expect(try bench.store.verify().ok)
    }

    /// Files that come, go and change places, blobs that stand twice, and such without a byte.
    @Test func placesAreFoundWhateverElseTheCheckpointHolds() throws {
        let lists: [[String: [UInt8]]] = [
            ["b": second, "a": first, "empty": []],
            [
                "a": first, "aa": [], "b": second, "c": first,
                "m.safetensors": Tensor.file([Tensor("e", []), Tensor("w", first)]),
            ],
            [
                "a": second, "b": first, "c": first,
                "m.safetensors": Tensor.file([Tensor("w", first), Tensor("e", [])]),
            ],
            ["m.safetensors": Tensor.file([Tensor("w", second), Tensor("v", second), Tensor("e", [])])],
            ["a": first, "b": second],
        ]
        for (index, files) in lists.enumerated() {
            let folder = try bench.write("mixed/checkpoint-\(index + 10)", files)
            try bench.store.save(folder, options: SaveOptions(run: "main"))
            #expect(try bench.restores("\(index + 10)", as: folder))
        }
        #expect(try bench.store.verify().ok)
    }
}
