import ChunkStore
import Foundation
import Testing

@testable import Cairn

/// Iterations that several ranks save together.
@Suite struct StatePartTests {
    let bench: Workbench
    init() throws { bench = try Workbench() }

    @discardableResult
    private func save(
        rank: Int, of worldSize: Int = 2, step: UInt64, attempt: String = "a", seed: UInt64 = 1,
        replicated: Bool = false, _ change: (inout StateSaveOptions) -> Void = { _ in }
    ) throws -> SaveResult {
        let memory = StateSaveTests.Memory()
        memory.add("w", [200, 200], seed: replicated ? 99 : seed * 10 + UInt64(rank) + step * 1000)
        var options = StateSaveOptions(step: step)
        options.part = StatePart(rank: rank, worldSize: worldSize, attempt: attempt)
        change(&options)
        let save = try bench.store.beginSave(options)
        try save.add(
            .init(
                file: "rank_0000\(rank)/model.safetensors", name: "w", dtype: "F32", shape: [200, 200],
                bytes: UnsafeRawBufferPointer(memory.tensors[0].bytes)))
        return try save.commit()
    }

    private var steps: [UInt64] { get throws { try bench.store.iterations().map(\.step) } }

    @Test func `an iteration is there when the last of its ranks is in, whatever their order`() throws {
        #expect(try save(rank: 1, of: 3, step: 5) { $0.metrics = ["loss": 1] }.isPart)
        #expect(try steps.isEmpty && bench.store.stats().runs.isEmpty)
        #expect(try save(rank: 0, of: 3, step: 5).isPart)
        #expect(try steps.isEmpty)
        let last = try save(rank: 2, of: 3, step: 5) { $0.pin = "good" }
        #expect(!last.isPart && last.run == "main")
        let info = try bench.store.resolve("good")
        #expect(last.iteration == info.idText && info.storedBytes > 3 * 100_000)
        #expect(info.step == 5 && info.tensors == 3 && info.files == 3 && info.metrics["loss"] == 1)
        let files = try bench.store.show("5").files.filter { $0.kind == .file }.map(\.path)
        #expect(files == (0..<3).map { "rank_0000\($0)/model.safetensors" })
        #expect(try bench.store.iterations().count == 1 && bench.store.verify().damaged.isEmpty)
        #expect(try bench.store.show("5").info.metadata.isEmpty)
        // The parts are gone, and what they held is still there.
        _ = try bench.store.collect(dryRun: false)
        #expect(try bench.store.verify().damaged.isEmpty)
        try bench.store.restore("5", to: bench.path("to"))
    }

    @Test func `what all ranks have is stored once`() throws {
        try save(rank: 0, step: 5, replicated: true)
        let one = try bench.store.stats()
        let second = try save(rank: 1, step: 5, replicated: true)
        #expect(second.newBytes == 0)
        #expect(try bench.store.stats().uniqueBytes < one.uniqueBytes + 8192)
    }

    @Test func `a rank that comes twice, or again after a crash, does no harm`() throws {
        try save(rank: 0, step: 5, seed: 1)
        try save(rank: 0, step: 5, seed: 1)
        #expect(try steps.isEmpty)
        // A process that knows nothing of the last one.
        Store.ownParts.change { $0[bench.store.chunks.id] = nil }
        try save(rank: 0, step: 5, seed: 2)
        #expect(try steps.isEmpty)
        try save(rank: 1, step: 5, seed: 2)
        #expect(try steps == [5])
        // The whole step again: the same.
        try save(rank: 0, step: 5, seed: 2)
        try save(rank: 1, step: 5, seed: 2)
        #expect(try steps == [5] && bench.store.verify().damaged.isEmpty)
    }

    @Test func `a pin may come from any rank, and takes the whole iteration`() throws {
        try save(rank: 0, step: 5) { $0.pin = "good" }
        #expect(throws: CairnError.self) { try bench.store.resolve("good") }
        try save(rank: 1, step: 5)
        #expect(try bench.store.resolve("good").step == 5)
        #expect(try bench.store.show("good").info.metadata.isEmpty)
    }

    @Test func `an iteration that is to be replaced is not taken for the new one`() throws {
        for rank in 0..<2 { try save(rank: rank, step: 5, seed: 1) { $0.replace = true } }
        let old = try bench.store.resolve("5").idText
        #expect(try save(rank: 1, step: 5, attempt: "b", seed: 2) { $0.replace = true }.isPart)
        #expect(try bench.store.resolve("5").idText == old)
        let last = try save(rank: 0, step: 5, attempt: "b", seed: 2) { $0.replace = true }
        #expect(!last.isPart && last.iteration != old)
        #expect(try bench.store.resolve("5").idText == last.iteration)
    }

    /// How many parts wait for others.
    private var partCount: Int {
        get throws {
            let store = bench.store
            return try store.chunks.read { try $0.catalog(store: store.chunks.id) }
                .count { PartRun.isPart($0.run) }
        }
    }

    @Test func `the parts are gone as soon as their iteration is there`() throws {
        try save(rank: 0, step: 5)
        #expect(try partCount == 1)
        try save(rank: 1, step: 5)
        #expect(try partCount == 0)
    }

    @Test func `a training that goes back makes a step of new parts alone`() throws {
        for step: UInt64 in [4, 5] { for rank in 0..<2 { try save(rank: rank, step: step) } }
        _ = try bench.store.rewind(to: "4")
        #expect(try save(rank: 0, step: 5, seed: 2).isPart)
        #expect(try bench.store.resolve("latest").step == 4)
        #expect(try !save(rank: 1, step: 5, seed: 2).isPart)
        #expect(try bench.store.resolve("latest").step == 5)
    }

    @Test func `a part that could not be removed is not taken for a new one`() throws {
        try save(rank: 0, step: 5)
        let part = PartRun("main", rank: 0, of: 2).name
        do {
            let info = try #require(try bench.store.iteration(run: part, step: 5))
            let held = try bench.store.manifest(of: info)
            try save(rank: 1, step: 5)
            withExtendedLifetime(held) {}
        }
        #expect(try partCount == 1)
        let whole = try bench.store.resolve("5").idText
        #expect(try save(rank: 1, step: 5, seed: 2) { $0.replace = true }.isPart)
        #expect(try bench.store.resolve("5").idText == whole)
        #expect(try !save(rank: 0, step: 5, seed: 2) { $0.replace = true }.isPart)
        #expect(try bench.store.resolve("5").idText != whole && partCount == 0)
    }

    @Test func `parts of a training that broke off are not put together with those of the next`() throws {
        try save(rank: 0, step: 5, attempt: "a", seed: 1)
        try save(rank: 1, step: 5, attempt: "b", seed: 2)
        #expect(try steps.isEmpty)
        try save(rank: 0, step: 5, attempt: "b", seed: 2)
        #expect(try steps == [5])
    }

    @Test func `parts that never make an iteration are collected once the training has gone on`() throws {
        try save(rank: 0, step: 5, seed: 1)
        try save(rank: 0, step: 6, seed: 1)
        try save(rank: 1, step: 6, seed: 1)
        let before = try bench.store.collect(dryRun: false)
        #expect(before.reclaimedBytes > 100_000)
        #expect(try steps == [6])
        // This one may still become an iteration.
        try save(rank: 1, step: 7, seed: 1)
        _ = try bench.store.collect(dryRun: false)
        try save(rank: 0, step: 7, seed: 1)
        #expect(try steps == [6, 7] && bench.store.verify().damaged.isEmpty)
    }

    @Test func `an iteration puts away the parts of its own ranks alone`() throws {
        try save(rank: 0, of: 3, step: 5)
        for rank in 0..<2 { try save(rank: rank, step: 6) }
        for rank in 1..<3 { try save(rank: rank, of: 3, step: 5) }
        #expect(try steps == [5, 6] && partCount == 0)
    }

    @Test func `ranks that disagree on a file are told so, and each step can be tried again`() throws {
        func save(_ rank: Int, _ text: String) throws {
            var options = StateSaveOptions(step: 1)
            options.part = StatePart(rank: rank, worldSize: 2, attempt: "a")
            let save = try bench.store.beginSave(options)
            try Array(text.utf8).withUnsafeBytes { try save.add(file: "config.json", $0) }
            _ = try save.commit()
        }
        try save(0, "{}")
        #expect(throws: CairnError.self) { try save(1, "[]") }
        #expect(try partCount == 1)
        try save(1, "{}")
        #expect(try steps == [1])
    }

    @Test func `nobody else uses the names of parts`() throws {
        #expect(throws: CairnError.self) { try RunName(PartRun.prefix + "x") }
        #expect(throws: CairnError.self) { try save(rank: 2, of: 2, step: 1) }
        try save(rank: 0, step: 1)
        #expect(throws: CairnError.self) { try bench.store.resolve("latest") }
        try save(rank: 1, step: 1)
        #expect(try bench.store.defaultRun() == "main" && bench.store.stats().runs.map(\.name) == ["main"])
    }
}
