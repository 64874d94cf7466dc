import Foundation
import Testing

@testable import Cairn

/// Everything that a training's output folder holds, saved at once.
@Suite struct SaveAllTests {
    let bench: Workbench
    var out: String { bench.path("out") }

    init() throws { bench = try Workbench() }

    /// What became of each, as a word.
    private func saveAll(_ options: SaveAllOptions = SaveAllOptions()) throws -> [String] {
        try bench.store.saveAll(out, options: options).map { "\($0.name) \($0.word)" }
    }

    private func steps(superseded: Bool = false) throws -> [UInt64] {
        try bench.store.iterations().filter { $0.superseded == superseded }.map(\.step)
    }

    private func run(_ script: String) throws {
        let process = Foundation.Process()
        process.executableURL = URL(fileURLWithPath: "/bin/sh")
        process.arguments = ["-euc", script]
        process.currentDirectoryURL = URL(fileURLWithPath: out)
        try process.run()
        process.waitUntilExit()
        try #require(process.terminationStatus == 0)
    }

    // MARK: What is saved

    @Test func everyIterationIsSavedOnceTheOldestFirst() throws {
        for step in [10, 9, 100] { try bench.checkpoint(step) }
        var told: [String] = []
        let results = try bench.store.saveAll(out) { told.append($0.name) }
        #expect(results.map(\.name) == ["checkpoint-9", "checkpoint-10", "checkpoint-100"])
        #expect(told == results.map(\.name) && results.allSatisfy { $0.word == "saved" && $0.layout == "hf" })
        #expect(try steps() == [9, 10, 100])
        try bench.checkpoint(11)
        #expect(
            try saveAll() == [
                "checkpoint-9 known", "checkpoint-10 known", "checkpoint-11 saved", "checkpoint-100 known",
            ])
        try bench.store.restore("11", to: bench.path("back"))
        #expect(
            FileManager.default.contentsEqual(atPath: bench.path("back"), andPath: out + "/checkpoint-11"))
    }

    @Test func whatIsIncompleteIsRefusedWithItsReasons() throws {
        try bench.checkpoint(1)
        try bench.checkpoint(2, without: "model.safetensors")
        try bench.checkpoint(3, without: "trainer_state.json")
        try FileManager.default.createDirectory(
            atPath: out + "/checkpoint-4", withIntermediateDirectories: true)
        #expect(
            try saveAll() == [
                "checkpoint-1 saved", "checkpoint-2 refused: the model's weights are missing",
                "checkpoint-3 refused: trainer_state.json is missing, which is written last",
                "checkpoint-4 refused: nothing is in it",
            ])
        #expect(try steps() == [1])
    }

    @Test func whatTakesThePlaceOfAnotherNamesIt() throws {
        var ids: [String?] = []
        for content in [1, 2] {
            try bench.checkpoint(5, content: content)
            guard case .saved(let result)? = try bench.store.saveAll(out).first?.outcome else {
                Issue.record("not saved")
                return
            }
            #expect(result.replaced == ids.last ?? nil)
            ids.append(result.id)
        }
    }

    @Test func namesOfNoFrameworkAreLeftAlone() throws {
        try bench.checkpoint(1)
        for name in [
            "tmp-checkpoint-5", "checkpoint-5.tmp", "5.orbax-checkpoint-tmp-17", ".cairn-set-aside-0",
        ] {
            try bench.checkpoint(5, name: name)
        }
        #expect(try saveAll() == ["checkpoint-1 saved"])
    }

    @Test func whatCanNotBeSavedDoesNotKeepOthersFromIt() throws {
        for step in 1...3 { try bench.checkpoint(step) }
        try run("mkfifo checkpoint-1/pipe; ln -s loop checkpoint-2/loop")
        let results = try bench.store.saveAll(out)
        #expect(results.map(\.name).sorted() == ["checkpoint-1", "checkpoint-2", "checkpoint-3"])
        #expect(results.filter { $0.word.hasPrefix("failed") }.map(\.name) == ["checkpoint-1"])
        // A link that leads in a circle is kept as the link that it is.
        #expect(try steps() == [2, 3])
    }

    @Test func originalsThatCanOnlyBeReadAreSavedWithTheirModes() throws {
        try bench.checkpoint(1)
        try run("chmod 400 checkpoint-1/*; chmod 500 checkpoint-1")
        defer { try? run("chmod 700 checkpoint-1") }
        #expect(try saveAll() == ["checkpoint-1 saved"])
        #expect(try saveAll() == ["checkpoint-1 known"])
        #expect(try bench.store.show("1").files.allSatisfy { $0.mode == 0o400 })
    }

    @Test func theStepIsWhatIsInside() throws {
        try bench.checkpoint(7, name: "checkpoint-3")
        #expect(try saveAll() == ["checkpoint-3 saved"])
        #expect(try steps() == [7])
        #expect(try saveAll() == ["checkpoint-3 known"])
    }

    @Test func oneOfTwoOfTheSameStepIsSavedAndStaysTheOne() throws {
        try bench.checkpoint(5, content: 1)
        try bench.checkpoint(5, content: 2, name: "checkpoint-05")
        let dry = try saveAll(SaveAllOptions(dryRun: true))
        #expect(dry == ["checkpoint-05 saved", "checkpoint-5 refused: step 5 is checkpoint-05 already"])
        #expect(try saveAll() == dry)
        #expect(
            try saveAll() == ["checkpoint-05 known", "checkpoint-5 refused: step 5 is checkpoint-05 already"])
        // Where the other one is gone, it takes its place.
        try FileManager.default.removeItem(atPath: out + "/checkpoint-05")
        #expect(try saveAll() == ["checkpoint-5 saved"])
        #expect(try steps() == [5])
    }

    // MARK: Another content

    @Test func otherTensorsAtAKnownStepTakeItsPlaceAndWhatCameAfterIsSuperseded() throws {
        for step in 1...4 { try bench.checkpoint(step) }
        _ = try saveAll()
        try bench.checkpoint(2, content: 22)
        let results = try bench.store.saveAll(out)
        #expect(results.map(\.word) == ["known", "saved", "known", "known"])
        guard case .saved(let result) = results[1].outcome else { return }
        #expect(result.superseded == [3, 4])
        #expect(try bench.store.resolve("latest").idText == result.id)
        #expect(try steps() == [1, 2] && steps(superseded: true) == [3, 4])
        // They stay so while nothing changes, and count again once the training has come by.
        #expect(try saveAll().allSatisfy { $0.hasSuffix("known") })
        #expect(try steps() == [1, 2])
        try bench.checkpoint(3, content: 33)
        #expect(try saveAll()[2] == "checkpoint-3 saved")
        #expect(try steps() == [1, 2, 3])
    }

    @Test func whatOnlyChangedBesideTheTensorsSupersedesNothing() throws {
        for step in 1...3 { try bench.checkpoint(step) }
        _ = try saveAll()
        try bench.write("out/checkpoint-1", ["eval.json": [1, 2, 3]])
        try run("chmod 640 checkpoint-2/config.json")
        #expect(try saveAll() == ["checkpoint-1 saved", "checkpoint-2 saved", "checkpoint-3 known"])
        #expect(try steps() == [1, 2, 3])
        #expect(try bench.store.show("1").files.contains { $0.path == "eval.json" })
    }

    @Test func anIterationOfWhichOnlyAPartIsLeftStaysWholeInTheStore() throws {
        for step in 1...2 {
            try bench.checkpoint(step)
            try bench.write("out/checkpoint-\(step)", ["extra.bin": [UInt8](repeating: 3, count: 999)])
        }
        _ = try saveAll()
        try FileManager.default.removeItem(atPath: out + "/checkpoint-1/extra.bin")
        #expect(try saveAll() == ["checkpoint-1 known", "checkpoint-2 known"])
        #expect(try steps() == [1, 2] && bench.store.show("1").files.contains { $0.path == "extra.bin" })
    }

    @Test func oneOfWhichAPolicyKeepsTheWeightsAloneIsNotSavedWholeAgain() throws {
        for step in 1...2 { try bench.checkpoint(step) }
        try bench.store.setPolicy(try Policy(json: #"{"keepOptimizerLast": 1}"#), run: "main")
        _ = try saveAll()
        #expect(try bench.store.collect(dryRun: false).stripped.map(\.step) == [1])
        #expect(try saveAll() == ["checkpoint-1 known", "checkpoint-2 known"])
        #expect(try bench.store.show("1").files.map(\.path) == ["config.json", "model.safetensors"])
        let moved = try bench.store.saveAll(out, options: SaveAllOptions(move: true))
        #expect(moved[0].kept == "it is not what was saved", "what is left of it is here alone")
        try bench.checkpoint(1, content: 11)
        #expect(try saveAll()[0] == "checkpoint-1 saved")
        #expect(try steps() == [1] && steps(superseded: true) == [2])
    }

    @Test func newTimesAloneAreNoNews() throws {
        for step in 1...2 { try bench.checkpoint(step) }
        _ = try saveAll()
        let before = try bench.store.iterations().map(\.idText)
        try run("touch -d 2001-01-01 checkpoint-1/*")
        #expect(try saveAll() == ["checkpoint-1 known", "checkpoint-2 known"])
        #expect(try bench.store.iterations().map(\.idText) == before)
    }

    @Test func aPinnedOneStaysAndDoesNotBlockTheOthers() throws {
        for step in 1...3 { try bench.checkpoint(step) }
        _ = try saveAll()
        let pinned = try bench.store.pin("2", name: "keep")
        try bench.checkpoint(2, content: 22)
        try bench.checkpoint(4)
        let results = try bench.store.saveAll(out)
        #expect(results.map(\.name) == ["checkpoint-1", "checkpoint-2", "checkpoint-3", "checkpoint-4"])
        #expect(results[1].word.contains("cairn unpin keep") && results[3].word == "saved")
        #expect(try bench.store.resolve("2").idText == pinned.id)
        #expect(try steps() == [1, 2, 3, 4], "what could not be replaced supersedes nothing")
        _ = try bench.store.unpin("keep")
        #expect(try saveAll()[1] == "checkpoint-2 saved")
    }

    @Test func whatThePolicyWouldDeleteIsNotSavedAgain() throws {
        for step in 1...4 { try bench.checkpoint(step) }
        try bench.store.setPolicy(try Policy(json: #"{"keepLast": 2, "auto": true}"#), run: "main")
        _ = try saveAll()
        #expect(try steps() == [3, 4])
        let again = try saveAll()
        #expect(
            again.map { $0.prefix(20) } == [
                "checkpoint-1 refused", "checkpoint-2 refused", "checkpoint-3 known", "checkpoint-4 known",
            ])
        #expect(again[0].contains("the policy of run main would delete it: no rule keeps it (last 2)"))
        try bench.checkpoint(5)
        #expect(try saveAll().last == "checkpoint-5 saved")
        #expect(try steps() == [4, 5])
    }

    // MARK: Nothing but looking

    @Test func aDryRunWritesNothing() throws {
        for step in 1...2 { try bench.checkpoint(step) }
        _ = try saveAll()
        try bench.checkpoint(1, content: 9)
        try bench.checkpoint(3)
        let before = try FileManager.default.subpathsOfDirectory(atPath: bench.path("store")).sorted()
        let results = try bench.store.saveAll(out, options: SaveAllOptions(move: true, dryRun: true))
        #expect(results.map(\.word) == ["saved", "known", "saved"])
        for result in results {
            if case .saved(let saved) = result.outcome {
                #expect(saved.dryRun && saved.id == nil && saved.newBytes > 0)
            }
        }
        #expect(try steps() == [1, 2] && bench.names() == ["checkpoint-1", "checkpoint-2", "checkpoint-3"])
        #expect(try FileManager.default.subpathsOfDirectory(atPath: bench.path("store")).sorted() == before)
    }

    // MARK: The folder

    @Test func aFolderWithoutIterationsHoldsNone() throws {
        try bench.write("out/runs", ["events": [1]])
        #expect(try saveAll().isEmpty)
    }

    @Test func whatIsNoOutputFolderIsWrongUsage() throws {
        let checkpoint = try bench.checkpoint(1)
        func code(_ path: String, run: String? = nil) -> CairnError.Code? {
            bench.code { try bench.store.saveAll(path, options: SaveAllOptions(run: run)) }
        }
        #expect(code(bench.path("nowhere")) == .notFound)
        #expect(code(checkpoint + "/config.json") == .usage)
        #expect(code(checkpoint) == .usage, "an iteration")
        #expect(code(bench.path("store")) == .usage && code(bench.path("store/packs")) == .usage)
        #expect(code(out, run: "no name") == .usage)
        #expect(try bench.store.iterations().isEmpty)
    }

    @Test func aRunOfAnotherFolderHasToBeNamed() throws {
        try bench.checkpoint(1)
        _ = try saveAll()
        let other = try bench.write("other/checkpoint-1", ["a": [1]])
        let folder = (other as NSString).deletingLastPathComponent
        #expect(bench.code { try bench.store.saveAll(folder) } == .usage)
        #expect(bench.code { try bench.store.saveAll(folder, options: SaveAllOptions(run: "other")) } == nil)
    }

    @Test func theStoreMayLieInTheFolder() throws {
        try bench.checkpoint(1)
        let store = try Store.create(at: out + "/store")
        #expect(try store.saveAll(out).map(\.word) == ["saved"])
        #expect(try store.saveAll(out).map(\.word) == ["known"])
        #expect(try store.iterations().map(\.step) == [1])
    }
}

extension SavedIteration {
    /// The outcome as a word, with the reasons.
    var word: String {
        switch outcome {
        case .saved: "saved"
        case .known: "known"
        case .left: "left"
        case .refused(let reasons): "refused: " + reasons.joined(separator: "; ")
        case .failed(let error): "failed: \(error.message)"
        }
    }
}
