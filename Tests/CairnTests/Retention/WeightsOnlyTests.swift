import Foundation
import Testing

@testable import Cairn

/// Older iterations lose the optimizer's state, and nothing else.
@Suite struct WeightsOnlyTests {
    let bench: Workbench

    init() throws {
        bench = try Workbench()
        for step in 1...4 {
            var generator = SeededGenerator(seed: UInt64(step))
            let path = try bench.write(
                "out/checkpoint-\(step)",
                [
                    "model.safetensors": Workbench.safetensors([("w", generator.bytes(9000))]),
                    "config.json": Array("{}".utf8), "optimizer.pt": generator.bytes(50_000),
                    "extra/notes.txt": [1], "rng_state/rank_0.pt": generator.bytes(100),
                ])
            try bench.store.save(
                path, options: SaveOptions(metrics: ["loss": Double(step)], metadata: ["a": "1"]))
        }
    }

    private func files(_ reference: String) throws -> [String] {
        try bench.store.show(reference).files.map(\.path)
    }

    private static let whole = [
        "config.json", "extra", "extra/notes.txt", "model.safetensors", "optimizer.pt", "rng_state",
        "rng_state/rank_0.pt",
    ]
    private static let weights = ["config.json", "extra", "extra/notes.txt", "model.safetensors"]

    @Test func allButTheLastKeepTheirWeightsAlone() throws {
        _ = try bench.store.annotate("1", metrics: ["acc": 0.5], note: "fine")
        let before = try bench.store.iterations()
        try bench.store.setPolicy(Policy(keepOptimizerLast: 2), run: "main")

        let dry = try bench.store.collect(dryRun: true)
        #expect(dry.stripped.map(\.step) == [1, 2] && dry.stripped.allSatisfy { $0.newID == nil })
        #expect(try bench.store.iterations().map(\.id) == before.map(\.id))

        let result = try bench.store.collect(dryRun: false)
        #expect(result.stripped.map(\.step) == [1, 2] && result.deletedIterations.isEmpty)
        #expect(result.stripped.map(\.droppedBytes) == [50_100, 50_100])
        #expect(result.reclaimedBytes > 90_000)
        let after = try bench.store.iterations()
        #expect(after.map(\.step) == [1, 2, 3, 4] && after[2...].map(\.id) == before[2...].map(\.id))
        #expect(result.stripped.map(\.newID) == after[..<2].map(\.idText))
        for step in ["1", "2"] { #expect(try files(step) == Self.weights) }
        for step in ["3", "4"] { #expect(try files(step) == Self.whole) }
        let first = try bench.store.show("1")
        #expect(first.info.metadata == ["a": "1", "weights_of": "\"\(before[0].idText)\""])
        #expect(first.info.metrics == ["loss": 1, "acc": 0.5] && first.info.notes == ["fine"])
        #expect(first.info.createdAt == before[0].createdAt)
        #expect(first.info.files == 3 && first.info.tensors == 1)

        try bench.store.restore("1", to: bench.path("restored"))
        #expect(
            FileManager.default.contents(atPath: bench.path("restored/model.safetensors"))
                == FileManager.default.contents(atPath: bench.path("out/checkpoint-1/model.safetensors")))
        #expect(try bench.store.verify().ok)
        #expect(try bench.store.collect(dryRun: false).stripped.isEmpty)
    }

    @Test func aPinHoldsTheWholeUnlessItIsForTheWeights() throws {
        _ = try bench.store.pin("1", name: "gold")
        _ = try bench.store.pin("2", name: "release", weightsOnly: true)
        try bench.store.setPolicy(Policy(keepOptimizerLast: 1), run: "main")
        #expect(try bench.store.collect(dryRun: false).stripped.map(\.step) == [2, 3])
        #expect(try files("gold") == Self.whole)
        #expect(try files("release") == Self.weights)
        #expect(try bench.store.pins().map(\.name) == ["gold", "release"])
    }

    @Test func anotherPinHoldsTheWholeAgain() throws {
        _ = try bench.store.pin("1", name: "release", weightsOnly: true)
        _ = try bench.store.pin("1", name: "gold")
        try bench.store.setPolicy(Policy(keepOptimizerLast: 1), run: "main")
        #expect(try bench.store.collect(dryRun: false).stripped.map(\.step) == [2, 3])
        _ = try bench.store.pin("1", name: "gold", weightsOnly: true)
        #expect(try bench.store.collect(dryRun: false).stripped.map(\.step) == [1])
    }

    @Test func whatARuleDeletesIsNotStrippedFirst() throws {
        try bench.store.setPolicy(Policy(keepLast: 2, keepOptimizerLast: 1), run: "main")
        let dry = try bench.store.collect(dryRun: true)
        let result = try bench.store.collect(dryRun: false)
        for one in [dry, result] {
            #expect(one.deletedIterations.map(\.step) == [1, 2] && one.stripped.map(\.step) == [3])
        }
    }

    @Test func whatNoTrainingGoesOnFromIsNoneOfTheLast() throws {
        for step in 5...6 {
            let path = try bench.write(
                "out/checkpoint-\(step)", ["model.safetensors": Workbench.safetensors([("w", [1])])])
            try bench.store.save(path)
        }
        try bench.store.setPolicy(Policy(keepOptimizerLast: 1), run: "main")
        #expect(try bench.store.collect(dryRun: false).stripped.map(\.step) == [1, 2, 3])
        #expect(try files("4") == Self.whole)
    }

    @Test func theRuleIsKeptAndShown() throws {
        let policy = Policy(keepLast: 3, keepOptimizerLast: 2, auto: true)
        try bench.store.setPolicy(policy, run: "main")
        #expect(try bench.store.policy(run: "main") == policy)
        #expect(bench.code { try bench.store.setPolicy(Policy(keepOptimizerLast: 0), run: "main") } == .usage)
    }
}
