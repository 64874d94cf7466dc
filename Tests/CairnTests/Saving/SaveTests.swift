import Cairn
import Foundation
import Testing

@Suite struct SaveTests {
    let bench: Workbench

    init() throws { bench = try Workbench() }

    private func bytes(_ seed: UInt64, _ count: Int) -> [UInt8] {
        var generator = SeededGenerator(seed: seed)
        return (0..<count).map { _ in UInt8.random(in: .min ... .max, using: &generator) }
    }

    @Test func aTensorThatDidNotChangeIsNotStoredAgain() throws {
        let (frozen, a, b) = (bytes(1, 40_000), bytes(2, 10_000), bytes(3, 10_000))
        let first = try bench.write(
            "checkpoint-1", ["model.safetensors": Workbench.safetensors([("head", a), ("frozen", frozen)])])
        let second = try bench.write(
            "checkpoint-2", ["model.safetensors": Workbench.safetensors([("head", b), ("frozen", frozen)])])
        #expect(try bench.store.save(first).newBytes == 50_000)
        let result = try bench.store.save(second)
        #expect(result.newBytes == 10_000)
        #expect(result.tensors == 2 && result.step == 2 && result.run == "main")
    }

    @Test func aTensorIsTheSameInWhateverFileAndOrder() throws {
        let (a, b) = (bytes(1, 9_000), bytes(2, 9_000))
        try bench.store.save(
            try bench.write(
                "checkpoint-1", ["model.safetensors": Workbench.safetensors([("a", a), ("b", b)])]))
        let other = try bench.write(
            "checkpoint-2", ["x/y.safetensors": Workbench.safetensors([("q", b), ("p", a)])])
        #expect(try bench.store.save(other).newBytes == 0)
    }

    @Test func savingTheSameAgainSucceedsAndSaysSo() throws {
        let folder = try bench.write("checkpoint-7", ["a.bin": bytes(1, 5000)])
        let first = try bench.store.save(folder)
        let second = try bench.store.save(
            folder, options: SaveOptions(metrics: ["eval_loss": 2.5], pin: "gold"))
        #expect(second.unchanged && second.id == first.id && second.newBytes == 0)
        let info = try #require(try bench.store.iterations().first)
        #expect(info.metrics["eval_loss"] == 2.5 && info.pins == ["gold"])
    }

    @Test func otherContentAtTheSameStepIsRefusedWithoutReplace() throws {
        let folder = try bench.write("checkpoint-7", ["a.bin": bytes(1, 5000)])
        let first = try bench.store.save(folder)
        try bench.write("checkpoint-7", ["a.bin": bytes(2, 5000)])
        #expect(bench.code { _ = try bench.store.save(folder) } == .exists)
        let second = try bench.store.save(folder, options: SaveOptions(replace: true))
        #expect(second.id != first.id)
        #expect(try bench.store.iterations().map(\.idText) == [second.id])
    }

    @Test func aPinnedIterationIsNotReplaced() throws {
        let folder = try bench.write("checkpoint-7", ["a.bin": bytes(1, 5000)])
        try bench.store.save(folder, options: SaveOptions(pin: "gold"))
        try bench.write("checkpoint-7", ["a.bin": bytes(2, 5000)])
        #expect(
            bench.code { _ = try bench.store.save(folder, options: SaveOptions(replace: true)) } == .protected
        )
    }

    @Test func theStepComesFromNameContentOrOption() throws {
        let state = [UInt8]("{\"global_step\": 12, \"log_history\": [{\"step\": 12, \"loss\": NaN}]}".utf8)
        let disagreeing = try bench.write("checkpoint-11", ["trainer_state.json": state])
        #expect(bench.code { _ = try bench.store.save(disagreeing) } == .usage)
        #expect(try bench.store.save(disagreeing, options: SaveOptions(step: 13)).step == 13)
        let nameless = try bench.write("final", ["trainer_state.json": state])
        #expect(try bench.store.save(nameless).step == 12)
        let silent = try bench.write("weights", ["a.bin": [1]])
        #expect(bench.code { _ = try bench.store.save(silent) } == .usage)
    }

    @Test func anOutputFolderIsNotAnIteration() throws {
        try bench.write("out/checkpoint-1", ["a.bin": [1]])
        try bench.write("out/checkpoint-2", ["a.bin": [2]])
        #expect(bench.code { _ = try bench.store.save(bench.path("out")) } == .usage)
        #expect(try bench.store.save(bench.path("out"), options: SaveOptions(step: 5)).files == 2)
    }

    @Test func whatNoCheckpointCanHoldIsRefusedByName() throws {
        let folder = try bench.write("checkpoint-1", ["a.bin": [1]])
        #expect(mkfifo(folder + "/pipe", 0o600) == 0)
        #expect(bench.code { _ = try bench.store.save(folder) } == .usage)
        try FileManager.default.removeItem(atPath: folder + "/pipe")
        try FileManager.default.createSymbolicLink(
            atPath: folder + "/out", withDestinationPath: "../elsewhere")
        #expect(bench.code { _ = try bench.store.save(folder) } == .usage)
        try FileManager.default.removeItem(atPath: folder + "/out")
        #expect(
            bench.code { _ = try bench.store.save(bench.folder, options: SaveOptions(step: 1)) } == .usage)
        try FileManager.default.createDirectory(
            atPath: bench.path("empty"), withIntermediateDirectories: true)
        #expect(
            bench.code { _ = try bench.store.save(bench.path("empty"), options: SaveOptions(step: 1)) }
                == .usage)
        #expect(bench.code { _ = try bench.store.save(bench.path("missing")) } == .notFound)
        #expect(try bench.store.iterations().isEmpty)
    }

    @Test func linksAreFollowedOnRequest() throws {
        try bench.write("blobs", ["x": bytes(1, 6000)])
        let folder = try bench.write("checkpoint-1", ["a.bin": [1]])
        try FileManager.default.createSymbolicLink(
            atPath: folder + "/w.bin", withDestinationPath: "../blobs/x")
        let result = try bench.store.save(folder, options: SaveOptions(followLinks: true))
        #expect(result.logicalBytes == 6001)
    }

    @Test func anotherOutputFolderNeedsItsRun() throws {
        try bench.store.save(try bench.write("one/checkpoint-1", ["a.bin": [1]]))
        let other = try bench.write("two/checkpoint-2", ["a.bin": [2]])
        #expect(bench.code { _ = try bench.store.save(other) } == .usage)
        #expect(try bench.store.save(other, options: SaveOptions(run: "second")).run == "second")
        #expect(try bench.store.save(try bench.write("two/checkpoint-3", ["a.bin": [3]])).run == "second")
    }

    @Test func aDryRunWritesNothing() throws {
        let folder = try bench.write("checkpoint-1", ["a.bin": bytes(1, 9000)])
        let result = try bench.store.save(folder, options: SaveOptions(dryRun: true))
        #expect(result.newBytes == 9000 && result.id == nil)
        #expect(try bench.store.iterations().isEmpty)
        #expect(try FileManager.default.contentsOfDirectory(atPath: bench.path("store/packs")).isEmpty)
    }

    @Test func aFileThatOnlyLooksLikeSafetensorsIsKeptWholeWithAWarning() throws {
        let folder = try bench.write("checkpoint-1", ["model.safetensors": bytes(9, 3000)])
        let result = try bench.store.save(folder)
        #expect(result.tensors == 0 && result.warnings.count == 1)
    }

    @Test func policiesPinsAndDeletionsProtectWhatTheyPromise() throws {
        for step in 1...5 {
            try bench.store.save(
                try bench.write("checkpoint-\(step)", ["a.bin": bytes(UInt64(step), 20_000)]))
        }
        _ = try bench.store.pin("1", name: "gold")
        try bench.store.setPolicy(Policy(keepLast: 2), run: "main")
        let planned = try bench.store.collect(dryRun: true)
        let done = try bench.store.collect(dryRun: false)
        #expect(planned.deletedIterations.map(\.step) == [2, 3])
        #expect(done.deletedIterations == planned.deletedIterations)
        #expect(done.reclaimedBytes == planned.reclaimedBytes && done.reclaimedBytes > 30_000)
        #expect(try bench.store.iterations().map(\.step) == [1, 4, 5])
        #expect(bench.code { _ = try bench.store.delete(["1"]) } == .protected)
        #expect(bench.code { _ = try bench.store.delete(["latest"]) } == .protected)
        #expect(bench.code { _ = try bench.store.deleteRun("main") } == .protected)
        #expect(try bench.store.delete(["4"]).deleted.map(\.step) == [4])
    }

    @Test func rulesThatAreThereBeforeTheFirstSaveAreOfItsRun() throws {
        #expect(try bench.store.defaultRun() == "main")
        try bench.store.setPolicy(Policy(keepLast: 1), run: try bench.store.defaultRun())
        try bench.store.save(try bench.write("checkpoint-1", ["a.bin": bytes(1, 100)]))
        #expect(try bench.store.stats().runs.map(\.name) == ["main"])
        #expect(throws: CairnError.self) { try bench.store.resolve("other@latest") }
    }

    @Test func goingBackSupersedesWhatCameAfter() throws {
        for step in 1...3 {
            try bench.store.save(try bench.write("checkpoint-\(step)", ["a.bin": bytes(UInt64(step), 2000)]))
        }
        #expect(try bench.store.rewind(to: "1").map(\.step) == [2, 3])
        #expect(try bench.store.resolve("latest").step == 1)
        #expect(try bench.store.iterations().filter(\.superseded).map(\.step) == [2, 3])
    }

    @Test func whatIsSavedAfterGoingBackTakesThePlaceOfWhatWasSuperseded() throws {
        for step in 1...4 {
            try bench.store.save(try bench.write("checkpoint-\(step)", ["a.bin": bytes(UInt64(step), 2000)]))
        }
        _ = try bench.store.pin("4", name: "gold")
        _ = try bench.store.rewind(to: "1")
        // The same bytes come by again, then others; what is pinned stays.
        let same = try bench.store.save(bench.path("checkpoint-2"))
        #expect(same.newBytes == 0 && !same.unchanged)
        #expect(try bench.store.save(bench.path("checkpoint-4")).unchanged)
        for step in 3...4 {
            try bench.write("checkpoint-\(step)", ["a.bin": bytes(UInt64(step + 6), 2000)])
        }
        try bench.store.save(bench.path("checkpoint-3"))
        #expect(bench.code { try bench.store.save(bench.path("checkpoint-4")) } == .exists)
        #expect(try bench.store.iterations().filter(\.superseded).map(\.step) == [4])
        #expect(try bench.store.resolve("latest").step == 3)
        try bench.store.restore("3", to: bench.path("to"))
        #expect(
            FileManager.default.contentsEqual(
                atPath: bench.path("to/a.bin"), andPath: bench.path("checkpoint-3/a.bin")))
        #expect(try bench.store.verify().ok)
    }

    @Test func aLostIndexChangesNothing() throws {
        for step in 1...3 {
            try bench.store.save(
                try bench.write("checkpoint-\(step)", ["a.bin": bytes(UInt64(step), 20_000)]),
                options: SaveOptions(metrics: ["loss": Double(step)]))
        }
        _ = try bench.store.pin("2", name: "gold")
        _ = try bench.store.annotate("3", metrics: ["loss": 0.5], note: "better")
        try bench.store.setPolicy(Policy(keepLast: 9), run: "main")
        let before = try bench.store.iterations()
        try FileManager.default.removeItem(atPath: bench.path("store/index/data.mdb"))
        let again = try Store.open(at: bench.path("store"))
        let after = try again.iterations()
        #expect(after.map(\.idText) == before.map(\.idText))
        #expect(after.map(\.metrics) == before.map(\.metrics))
        #expect(after.map(\.pins) == before.map(\.pins))
        #expect(try again.policy(run: "main") == Policy(keepLast: 9))
    }
}
