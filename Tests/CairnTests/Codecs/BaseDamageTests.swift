import Foundation
import Testing

@testable import Cairn
@testable import ChunkStore

/// A base that is damaged or gone: saves go on without it, reads name what is lost, and a repair finds its bytes.
@Suite struct BaseDamageTests {
    let bench: Workbench
    let tensors: [[UInt8]]

    /// `main@1` to `main@4`; the chunks of each lean on those of the one before.
    init() throws {
        bench = try Workbench()
        var generator = SeededGenerator(seed: 41)
        var bytes = Tensor.floats(4000, &generator)
        var tensors: [[UInt8]] = []
        for step in 1...4 {
            try bench.save(step, [Tensor("w", bytes), Tensor("same", [1, 2, 3, 4])])
            tensors.append(bytes)
            for place in stride(from: 0, to: bytes.count, by: 400) { bytes[place] &+= 1 }
        }
        tensors.append(bytes)
        self.tensors = tensors
        #expect(try bench.deltas("4") == 4)
    }

    private func next() throws -> SaveResult {
        try Store.open(at: bench.path("store")).save(
            try bench.write("out/checkpoint-5", ["model.safetensors": Tensor.file([Tensor("w", tensors[4])])])
        )
    }

    private func open() throws -> Store { try Store.open(at: bench.path("store"), repairing: true) }

    @Test(arguments: [false, true])
    func aDamagedBaseAtASaveIsSaidAndLeftAlone(isFound: Bool) throws {
        try bench.damage(try bench.places("1")[1])
        if isFound { #expect(try bench.store.verify().damaged.map(\.step) == [1, 2, 3, 4]) }
        let result = try next()
        #expect(
            result.warnings.count == 1 && result.warnings[0].contains("1 earlier chunk is damaged"),
            "\(result.warnings)")
        #expect(try bench.deltas("5") == 3)
        #expect(try bench.store.verify(["5"]).ok)
        #expect(try bench.restores("5", as: bench.path("out/checkpoint-5")))
    }

    @Test func aMissingBaseAtASaveIsSaidAndLeftAlone() throws {
        let base = try bench.places("1")[1]
        try bench.store.chunks.changeIndex { try $0.removeChunks([base.id]) }
        let result = try next()
        #expect(result.warnings.count == 1, "\(result.warnings)")
        #expect(try bench.deltas("5") == 3)
        #expect(try bench.restores("5", as: bench.path("out/checkpoint-5")))
    }

    @Test func aPackThatIsGoneAtASaveIsSaid() throws {
        for pack in Set(try bench.places("1").map(\.pack) + bench.places("4").map(\.pack)) {
            try FileManager.default.removeItem(atPath: bench.store.chunks.packs.path(pack).text)
        }
        let result = try next()
        #expect(result.warnings.count == 1, "\(result.warnings)")
        #expect(try bench.deltas("5") == 0)
        #expect(try bench.restores("5", as: bench.path("out/checkpoint-5")))
    }

    /// Also one that was named: what is to be saved is whole all the same.
    @Test(arguments: [nil, "main@4"])
    func anIterationWhoseManifestIsDamagedIsNoBase(base: String?) throws {
        let roots = try bench.store.manifest(of: try bench.store.resolve("4")).manifest.head.roots
        try bench.damage(try #require(try bench.store.chunks.locate([roots.id])[0]))
        let folder = try bench.write(
            "out/checkpoint-5", ["model.safetensors": Tensor.file([Tensor("w", tensors[4])])])
        let result = try Store.open(at: bench.path("store")).save(folder, options: SaveOptions(base: base))
        #expect(result.warnings.contains { $0.contains("nothing leans on main@4") }, "\(result.warnings)")
        #expect(try bench.restores("5", as: folder))
    }

    @Test func everyIterationThatLeansOnADamagedBaseIsNamed() throws {
        try bench.damage(try bench.places("1")[1])
        let report = try bench.store.verify()
        #expect(report.damaged.map(\.step) == [1, 2, 3, 4])
        #expect(report.damaged.allSatisfy { $0.tensors == ["w"] && $0.files == ["model.safetensors"] })
        for step in 1...4 {
            #expect(
                bench.code { try bench.store.restore("\(step)", to: bench.path("to-\(step)")) } == .damage)
        }
        // The base is marked itself, so that a save of its bytes writes them again, and all are whole.
        #expect(try bench.places("1")[1].location.isDamaged)
        try bench.store.save(bench.path("out/checkpoint-1"), options: SaveOptions(step: 9))
        #expect(try bench.store.verify().ok)
        #expect(try bench.store.chunks.damagedChunks().isEmpty)
        for step in 1...4 { #expect(try bench.restores("\(step)", as: bench.path("out/checkpoint-\(step)"))) }
    }

    /// Here the base is no live iteration's.
    @Test func aRepairLooksForTheBytesOfBases() throws {
        _ = try bench.store.delete(["1"])
        _ = try bench.store.collect(dryRun: false)
        let bases = try bench.places("2").map(\.location.base)
        try bench.damage(try #require(try bench.store.chunks.locate([bases[1]])[0]))
        #expect(try bench.store.verify().damaged.map(\.step) == [2, 3, 4])
        let report = try open().repair(from: [bench.path("out/checkpoint-1")])
        #expect(report.ok && report.repairedChunks == 1, "\(report)")
        #expect(try open().verify().ok)
        for step in 2...4 { #expect(try bench.restores("\(step)", as: bench.path("out/checkpoint-\(step)"))) }
        _ = try bench.store.collect(dryRun: false)
        for step in 2...4 { #expect(try bench.restores("\(step)", as: bench.path("out/checkpoint-\(step)"))) }
    }

    @Test func aRepairTakesBasesFromAnotherStore() throws {
        try FileManager.default.copyItem(atPath: bench.path("store"), toPath: bench.path("copy"))
        _ = try bench.store.delete(["1"])
        _ = try bench.store.collect(dryRun: false)
        let bases = try bench.places("2").map(\.location.base)
        try bench.damage(try #require(try bench.store.chunks.locate([bases[1]])[0]))
        #expect(try open().repair(from: [bench.path("copy")]).ok)
        for step in 2...4 { #expect(try bench.restores("\(step)", as: bench.path("out/checkpoint-\(step)"))) }
    }

    /// The bytes of what leans on the base heal as far as anything leans on them.
    @Test func aRepairFromWhatLeansOnABaseHealsWhatItCan() throws {
        _ = try bench.store.delete(["1"])
        _ = try bench.store.collect(dryRun: false)
        let bases = try bench.places("2").map(\.location.base)
        try bench.damage(try #require(try bench.store.chunks.locate([bases[1]])[0]))
        let report = try open().repair(from: [bench.path("out/checkpoint-3")])
        #expect(report.damaged.map(\.step) == [2])
        for step in 3...4 { #expect(try bench.restores("\(step)", as: bench.path("out/checkpoint-\(step)"))) }
        #expect(try open().repair(from: [bench.path("out/checkpoint-2")]).ok)
        #expect(try bench.restores("2", as: bench.path("out/checkpoint-2")))
    }

    /// Header, table and trailer of every pack: the records move as they are.
    @Test(arguments: ["header", "table", "trailer"])
    func aRepairOfFramesKeepsDeltas(place: String) throws {
        _ = try bench.store.delete(["1", "2"])
        _ = try bench.store.collect(dryRun: false)
        let stored = try bench.places("4").map(\.location.storedLength)
        for summary in try bench.store.chunks.read({ try $0.packs().map(\.summary) }) {
            let offset =
                place == "header"
                ? 20 : place == "table" ? Int(summary.tableOffset) + 9 : Int(summary.fileLength) - 30
            try bench.flip(bench.store.chunks.packs.path(summary.name).text, offset)
        }
        if place == "table" { try FileManager.default.removeItem(atPath: bench.path("store/index/data.mdb")) }
        #expect(try open().repair().ok)
        #expect(try open().verify().ok)
        let again = try Store.open(at: bench.path("store"))
        #expect(try bench.places("4").map(\.location.storedLength) == stored)
        _ = try again.collect(dryRun: false)
        for step in 3...4 { #expect(try bench.restores("\(step)", as: bench.path("out/checkpoint-\(step)"))) }
    }
}
