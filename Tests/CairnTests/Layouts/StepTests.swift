import Cairn
import Platform
import Testing

struct StepTests {
    @Test(
        "reads the step from the names that frameworks give",
        arguments: [
            ("checkpoint-500", 500), ("checkpoint-0", 0), ("iteration_00000500", 500), ("iter_0000500", 500),
            ("global_step500", 500), ("global_step_500", 500), ("step-500", 500),
            ("step-9007199254740991", 9_007_199_254_740_991),
            ("iteration_000000000000000000000000000012", 12),
        ] as [(String, UInt64)])
    func names(name: String, step: UInt64) {
        #expect(StepNames.step(of: name) == step)
    }

    @Test(
        "reads no step from other names",
        arguments: [
            "", "checkpoint-", "checkpoint-best", "checkpoint-500.tmp", "my-checkpoint-500",
            "checkpoint-500 ",
            "checkpoint--5", "checkpoint-5e3", "checkpoint_500", "iter-5", "global_step", "global_step_",
            "global_step-5",
            "step_5", "step-+5", "step-9007199254740992", "step-99999999999999999999999", "Checkpoint-5",
            "500",
            "checkpoint-５", "release",
        ])
    func otherNames(name: String) {
        #expect(StepNames.step(of: name) == nil)
    }

    @Test("tells a folder of iterations from an iteration")
    func outputFolders() {
        func names(_ texts: [String]) -> [[UInt8]] { texts.map { [UInt8]($0.utf8) } }
        func noIterations(_ names: [[UInt8]]) -> Bool { StepNames.iterations(entryNames: names).isEmpty }
        let output = names([
            "checkpoint-1000", "runs", "checkpoint-500", "trainer_state.json", "checkpoint-best",
        ])
        #expect(StepNames.iterations(entryNames: output).map(\.step) == [500, 1000])
        let deepspeed = names(["global_step500", "latest", "zero_to_fp32.py"])
        #expect(!noIterations(deepspeed))
        #expect(noIterations(deepspeed + names(["trainer_state.json"])))
        #expect(noIterations(names(["model.safetensors", "config.json"])))
        #expect(noIterations([]))
    }

    @Test("an explicit step wins, the rest must agree")
    func sources() throws {
        let name = (text: "checkpoint-5", step: UInt64(5))
        let content = (file: "trainer_state.json", step: UInt64(5))
        #expect(try StepSource.decide(option: 7, name: name, content: content) == (7, .option))
        #expect(try StepSource.decide(option: 0, name: nil, content: nil) == (0, .option))
        #expect(try StepSource.decide(option: nil, name: name, content: content) == (5, .name))
        #expect(try StepSource.decide(option: nil, name: name, content: nil) == (5, .name))
        #expect(try StepSource.decide(option: nil, name: nil, content: content) == (5, .content))
    }

    @Test("a disagreement names both, and nothing at all asks for --step")
    func noSource() {
        let disagreement = #expect(throws: CairnError.self) {
            try StepSource.decide(option: nil, name: ("checkpoint-5", 5), content: ("trainer_state.json", 6))
        }
        #expect(disagreement?.code == .usage)
        for part in ["checkpoint-5", "step 5", "trainer_state.json", "6", "--step"] {
            #expect(disagreement?.message.contains(part) == true)
        }
        let nothing = #expect(throws: CairnError.self) {
            try StepSource.decide(option: nil, name: nil, content: nil)
        }
        #expect(nothing?.code == .usage && nothing?.message.contains("--step") == true)
        let absurd = #expect(throws: CairnError.self) {
            try StepSource.decide(option: Step.maximum + 1, name: nil, content: nil)
        }
        #expect(absurd?.code == .usage)
    }
}
