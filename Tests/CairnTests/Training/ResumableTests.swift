import Foundation
import Testing

@testable import Cairn

/// What `verify --resumable` says that a training would miss.
@Suite struct ResumableTests {
    let bench: Workbench

    init() throws { bench = try Workbench() }

    /// Of a saved copy of a real checkpoint, without some of its files.
    private func lacking(_ sample: String, without missing: [String] = []) throws -> [String] {
        let name = (sample as NSString).lastPathComponent
        let folder = bench.path(UUID().uuidString)
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        let copy = folder + "/" + name
        try FileManager.default.copyItem(
            atPath: LayoutSamples.checkpoints.path(sample), toPath: copy)
        for file in missing { try FileManager.default.removeItem(atPath: copy + "/" + file) }
        let saved = try bench.store.save(copy, options: SaveOptions(run: "r\(UUID().uuidString.prefix(8))"))
        return try bench.store.resumability("\(saved.run)@\(saved.step)").lacking
    }

    private let trainer = "hf-trainer/basic/checkpoint-2"

    @Test func whatIsWholeLacksNothing() throws {
        #expect(try lacking(trainer).isEmpty)
        #expect(try lacking("verl/fsdp/global_step_2").isEmpty)
    }

    @Test func theStateThatATrainerPassesOverInSilenceIsNamed() throws {
        #expect(
            try lacking(trainer, without: ["optimizer.pt", "scheduler.pt", "rng_state.pth"]) == [
                "the optimizer's state", "the scheduler's state", "the random numbers' state",
            ])
        #expect(
            try lacking(trainer, without: ["scheduler.pt"]) == [
                "scheduler.pt is missing, though other state of the training is there",
                "the scheduler's state",
            ])
    }

    @Test func theModelAndTheStepAreNamed() throws {
        let found = try lacking(trainer, without: ["model.safetensors", "trainer_state.json"])
        #expect(found.contains("the model's weights are missing"))
        #expect(found.contains("trainer_state.json is missing, which is written last"))
        let path = try bench.write("loop", ["latest.pt": LoopTests.torch()]) + "/latest.pt"
        try bench.store.save(path, options: SaveOptions(run: "loop", step: 7))
        #expect(
            try bench.store.resumability("loop@7").lacking.contains(
                "the step, which neither its name nor any file in it says"))
    }

    @Test func whatASingleRankLacksIsNamed() throws {
        for kind in ["model", "optim", "extra_state"] {
            let file = "actor/\(kind)_world_size_2_rank_1.pt"
            #expect(try lacking("verl/fsdp/global_step_2", without: [file]) == ["\(file) is missing"])
        }
    }

    @Test func whatIsInNoLayoutIsSaidToBe() throws {
        let path = try bench.write("notes-5", ["notes.txt": [1]])
        let saved = try bench.store.save(path, options: SaveOptions(run: "r", step: 5))
        #expect(
            try bench.store.resumability("r@\(saved.step)").lacking
                == ["it is in no layout that a training goes on from"])
    }
}
