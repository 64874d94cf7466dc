import ChunkStore
import Foundation
import Testing

@testable import Cairn

/// What a save takes along, and what it says and remembers of it.
@Suite struct SaveOptionsTests {
    let bench: Workbench

    init() throws { bench = try Workbench() }

    private func contents(_ path: String) throws -> Data {
        try Data(contentsOf: URL(fileURLWithPath: bench.path(path)))
    }

    private func isLink(_ path: String) throws -> Bool {
        try FileManager.default.attributesOfItem(atPath: bench.path(path))[.type] as? FileAttributeType
            == .typeSymbolicLink
    }

    /// As the Hugging Face cache keeps models: a snapshot is nothing but links.
    @Test func aSnapshotOfACacheIsSavedWithWhatItsLinksPointTo() throws {
        let model = Workbench.safetensors([("w", [UInt8](repeating: 7, count: 9000))])
        try bench.write("models--x/blobs", ["aa11": model, "bb22": [UInt8]("{}".utf8)])
        let snapshot = bench.path("models--x/snapshots/f00d")
        try FileManager.default.createDirectory(atPath: snapshot, withIntermediateDirectories: true)
        for (name, blob) in [("model.safetensors", "aa11"), ("config.json", "bb22")] {
            try FileManager.default.createSymbolicLink(
                atPath: snapshot + "/" + name, withDestinationPath: "../../blobs/" + blob)
        }
        let error = #expect(throws: CairnError.self) {
            try bench.store.save(snapshot, options: SaveOptions(step: 1))
        }
        #expect(error?.code == .usage && error?.message.contains("--follow-links") == true)
        #expect(error?.message.contains("f00d/config.json ") == true)
        let result = try bench.store.save(snapshot, options: SaveOptions(step: 1, followLinks: true))
        #expect(result.tensors == 1 && result.files == 2)
        try bench.store.restore("1", to: bench.path("to"))
        #expect(try contents("to/model.safetensors") == Data(model) && !isLink("to/model.safetensors"))
    }

    @Test func linksThatLeadInACircleAreWrongUsageWhereTheyAreFollowed() throws {
        let folder = try bench.write("checkpoint-1", ["sub/a.bin": [1]])
        try FileManager.default.createSymbolicLink(atPath: folder + "/sub/up", withDestinationPath: "..")
        try bench.store.save(folder, options: SaveOptions(dryRun: true))
        let options = SaveOptions(followLinks: true)
        let error = #expect(throws: CairnError.self) { try bench.store.save(folder, options: options) }
        #expect(error?.code == .usage && error?.message.contains("circle") == true)
    }

    /// `last` is such a link; its own name says no step, that of its folder does.
    @Test func whatIsSavedMayItselfBeALink() throws {
        let folder = try bench.write("out/checkpoint-5", ["a.bin": [1, 2, 3]])
        try FileManager.default.createSymbolicLink(
            atPath: bench.path("last"), withDestinationPath: "out/checkpoint-5")
        let result = try bench.store.save(bench.path("last"))
        #expect(result.step == 5 && result.files == 1)
        #expect(try bench.store.save(folder).unchanged)
        try bench.store.restore("5", to: bench.path("to"))
        #expect(try !isLink("to") && contents("to/a.bin") == Data([1, 2, 3]))
    }

    @Test func onlyTheModelIsSavedOnRequest() throws {
        let model = Workbench.safetensors([("w", [1, 2, 3])])
        let folder = try bench.write(
            "checkpoint-5",
            [
                "model.safetensors": model, "config.json": [1], "tokenizer.json": [2], "optimizer.pt": [3],
                "rng_state.pth": [4], "trainer_state.json": [UInt8]("{\"global_step\": 5}".utf8),
                "training_args.bin": [5], "global_step5/zero.pt": [6],
            ])
        #expect(try bench.store.save(folder, options: SaveOptions(modelOnly: true)).files == 3)
        let files = try bench.store.show("5").files.filter { $0.bytes > 0 }.map(\.path)
        #expect(files == ["config.json", "model.safetensors", "tokenizer.json"])
    }

    @Test func anOutputFolderIsRefusedWithTheNamesOfItsIterations() throws {
        for step in [10, 9, 100] { try bench.write("out/checkpoint-\(step)", ["a.bin": [1]]) }
        let error = #expect(throws: CairnError.self) { try bench.store.save(bench.path("out")) }
        #expect(error?.code == .usage)
        #expect(error?.message.contains("checkpoint-9, checkpoint-10, checkpoint-100") == true)
    }

    @Test func theSameIterationAgainDiffersInTimesOnly() throws {
        let folder = try bench.write("checkpoint-5", ["a.bin": [1, 2, 3]])
        let first = try bench.store.save(folder, options: SaveOptions(metadata: ["a": "1"]))
        let change = { (attributes: [FileAttributeKey: Any]) in
            try FileManager.default.setAttributes(attributes, ofItemAtPath: folder + "/a.bin")
        }
        try change([.modificationDate: Date(timeIntervalSince1970: 1000)])
        let again = SaveOptions(metrics: ["loss": 1], metadata: ["b": "2"], pin: "gold")
        let second = try bench.store.save(folder, options: again)
        #expect(second.unchanged && second.id == first.id)
        let info = try bench.store.show("gold").info
        #expect(info.metadata == ["a": "1", "b": "2"] && info.metrics == ["loss": 1])
        try change([.posixPermissions: 0o600])
        #expect(bench.code { try bench.store.save(folder) } == .exists)
    }

    @Test(
        arguments: [
            (0, 5, 5), (-1, 999_999_999, -1), (9_223_372_036, 854_775_807, .max),
            (9_223_372_036, 854_775_808, .max), (15_000_000_000, 0, .max), (.max, 0, .max),
            (-9_223_372_036, 0, -9_223_372_036_000_000_000), (-15_000_000_000, 0, .min), (.min, 0, .min),
        ] as [(Int64, UInt32, Int64)])
    func aFileOfAnyTimeIsShown(seconds: Int64, nanoseconds: UInt32, expected: Int64) {
        let entry = Roots.Entry(
            path: [97], kind: .file(.opaque(.empty)), mode: 0o644, mtime: seconds, nanoseconds: nanoseconds)
        #expect(FileInfo(entry, size: 0).modifiedAt == expected)
    }

    /// ext4 has times until 2446.
    @Test func aTimeFarAwayComesBack() throws {
        let folder = try bench.write("checkpoint-1", ["a.bin": [1], "b.bin": [2]])
        for (name, seconds) in [("a.bin", 15_000_000_000), ("b.bin", -1)] {
            var times = [timespec](repeating: timespec(tv_sec: seconds, tv_nsec: 123_456_789), count: 2)
            #expect(utimensat(AT_FDCWD, folder + "/" + name, &times, 0) == 0)
        }
        try bench.store.save(folder)
        #expect(try bench.store.show("1").files.count == 2)
        try bench.store.restore("1", to: bench.path("to"))
        for name in ["a.bin", "b.bin"] {
            var (before, after) = (stat(), stat())
            #expect(stat(folder + "/" + name, &before) == 0 && stat(bench.path("to/") + name, &after) == 0)
            #expect(
                before.st_mtim.tv_sec == after.st_mtim.tv_sec
                    && before.st_mtim.tv_nsec == after.st_mtim.tv_nsec)
        }
    }

    @Test func anIterationKnowsTheOneBeforeIt() throws {
        func save(_ step: Int) throws -> IterationInfo {
            try bench.store.save(try bench.write("checkpoint-\(step)", ["a.bin": [UInt8(step)]]))
            return try bench.store.resolve("\(step)")
        }
        let (first, second) = (try save(10), try save(20))
        #expect(first.parent == nil && second.parent == first.id)
        // By steps, not by the order of saving; and nothing that a rewind has left behind.
        #expect(try save(15).parent == first.id)
        _ = try bench.store.rewind(to: "15")
        #expect(try save(30).parent == (try bench.store.resolve("15")).id)
    }

    private func trainerState(_ step: Int, _ loss: Double) -> [UInt8] {
        [UInt8](
            """
            {"global_step": \(step), "best_metric": 0.25, "best_global_step": 3, "log_history": [
            {"step": 3, "eval_loss": 0.25, "eval_f1": 0.5}, {"step": \(step), "eval_loss": \(loss), "loss": NaN}]}
            """.utf8)
    }

    /// Every command that takes a reference finds the metric that the trainer kept track of.
    @Test func plainBestIsByTheMetricThatTheFrameworkRecorded() throws {
        try bench.store.save(try bench.write("checkpoint-2", ["a.bin": [2]]))
        for (step, loss) in [(3, 0.25), (6, 0.5)] {
            let files = ["trainer_state.json": trainerState(step, loss)]
            try bench.store.save(try bench.write("checkpoint-\(step)", files))
        }
        #expect(try bench.store.resolve("best").step == 3)
        #expect(try bench.store.restore("main@best", to: bench.path("to")).step == 3)
        #expect(try bench.store.pin("best", name: "gold").step == 3)
        #expect(bench.code { _ = try bench.store.delete(["best"]) } == .protected)
        #expect(try bench.store.rewind(to: "best").map(\.step) == [6])
        // A policy says otherwise.
        let best = [Policy.Best(count: 1, metric: "eval_loss", direction: .max)]
        try bench.store.setPolicy(Policy(keepBest: best), run: "main")
        #expect(try bench.store.resolve("best").step == 6)
    }

    @Test func aMilestoneIsPinnedAsItIsSaved() throws {
        try bench.store.save(try bench.write("checkpoint-1", ["a.bin": [1]]))
        try bench.store.setPolicy(Policy(keepLast: 1, milestones: [1, 2]), run: "main")
        for step in 2...4 {
            try bench.store.save(try bench.write("checkpoint-\(step)", ["a.bin": [UInt8(step)]]))
        }
        #expect(try bench.store.pins().map(\.name) == ["milestone-2"])
        // The one that was there already has no pin, but is a milestone of the policy all the same.
        #expect(try bench.store.collect(dryRun: false).deletedIterations.map(\.step) == [3])
        #expect(bench.code { _ = try bench.store.delete(["2"]) } == .protected)
        // A pin outlives its policy.
        try bench.store.setPolicy(Policy(keepLast: 1), run: "main")
        #expect(try bench.store.collect(dryRun: false).deletedIterations.map(\.step) == [1])
    }

    @Test func anAutomaticPolicyIsAppliedAfterEachSave() throws {
        try bench.store.save(
            try bench.write("checkpoint-1", ["a.bin": [UInt8](repeating: 1, count: 50_000)]))
        try bench.store.setPolicy(Policy(keepLast: 2, auto: true), run: "main")
        #expect(try bench.store.save(try bench.write("checkpoint-2", ["a.bin": [2]])).deleted.isEmpty)
        let third = try bench.write("checkpoint-3", ["a.bin": [3]])
        #expect(try bench.store.save(third, options: SaveOptions(dryRun: true)).deleted.isEmpty)
        let result = try bench.store.save(third)
        #expect(result.deleted.map(\.step) == [1] && result.reclaimedBytes > 0)
        #expect(try bench.store.iterations().map(\.step) == [2, 3])
    }

    /// Saves step 2 of `main`, of whose iterations only the last is to be kept, from a folder or from memory.
    private func saveUnderAPolicy(isState: Bool, _ progress: Cairn.Progress = .silent) throws -> SaveResult {
        try bench.store.save(
            try bench.write("checkpoint-1", ["a.bin": [1]]), options: SaveOptions(run: "main"))
        try bench.store.setPolicy(Policy(keepLast: 1, auto: true), run: "main")
        guard isState else {
            let folder = try bench.write("checkpoint-2", ["a.bin": [2]])
            return try bench.store.save(folder, options: SaveOptions(run: "main"), progress: progress)
        }
        let save = try bench.store.beginSave(StateSaveOptions(run: "main", step: 2))
        try [2 as UInt8].withUnsafeBytes { try save.add(file: "a.bin", $0) }
        return try save.commit(progress: progress)
    }

    @Test(arguments: [false, true])
    func whatIsDurableIsSavedWhateverKeepsThePolicyFromBeingApplied(isState: Bool) throws {
        let other = try bench.write("checkpoint-9", ["a.bin": [9]])
        try bench.store.save(other, options: SaveOptions(run: "other"))
        let packs = bench.path("store/packs")
        let pack = try #require(try FileManager.default.contentsOfDirectory(atPath: packs).first)
        try FileManager.default.removeItem(atPath: packs + "/" + pack)
        let result = try saveUnderAPolicy(isState: isState)
        #expect(result.id != nil && result.warnings.count == 1)
        #expect(result.warnings[0].contains("not applied to the end: nothing was collected, as other@9"))
        // It came so far.
        #expect(result.deleted.map(\.step) == [1])
        #expect(try bench.store.iterations(run: "main").map(\.step) == [2])
    }

    @Test(arguments: [false, true])
    func whoeverStopsASaveAfterItsCommitIsToldThatItIsSaved(isState: Bool) throws {
        let path = bench.store.path
        let progress = Progress(isInterrupted: {
            (try? Store.open(at: path).iterations().contains { $0.step == 2 }) ?? true
        })
        let result = try saveUnderAPolicy(isState: isState, progress)
        #expect(result.id != nil && result.deleted.isEmpty)
        #expect(result.warnings == ["this is saved, but the policy was not applied to the end: interrupted"])
        #expect(try bench.store.iterations().map(\.step) == [1, 2])
    }
}
