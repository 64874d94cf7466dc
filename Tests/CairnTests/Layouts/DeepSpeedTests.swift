import Foundation
import Platform
import TensorFormats
import Testing

@testable import Cairn

/// DeepSpeed: what each rank keeps, put together as DeepSpeed itself does.
@Suite struct DeepSpeedTests {
    let layout = DeepSpeed()
    let bench: Workbench

    init() throws { bench = try Workbench() }

    @Test func aCheckpointSaysHowItWasWritten() throws {
        let output = try LayoutSamples.checkpoints.output("deepspeed/zero1_fp32")
        let found = try #require(try output.iterations().last)
        #expect(found.layout?.name == "deepspeed" && found.step == 2 && found.inspection.isComplete)
        #expect(
            found.inspection.facts.map { "\($0.name): \($0.value)" } == [
                "parallel layout: dp 2, tp 1, pp 1", "ZeRO stage: 1", "precision: fp32",
                "DeepSpeed version: 0.19.8",
            ])
        #expect(try layout.pointed(in: output) == layout.pointers(to: found.candidate).first)
    }

    @Test func theFilesOfAPipelinesLayersHaveToBeThere() throws {
        let view = try LayoutSamples.library("ranks-deepspeed").view("pipeline/global_step3")
        #expect(try layout.inspect(view).isComplete)
        for (layer, left) in [("00", 4), ("02", 4), ("03", 4)] {
            #expect(
                try layout.inspect(view.changed(["layer_\(layer)-model_states.pt": nil])).faults == [
                    "files of the pipeline's layers are missing: those that are there hold \(left) of 6 parameters"
                ])
        }
        let divided = view.changed(["layer_00-model_01-model_states.pt": []])
        let error = #expect(throws: CairnError.self) { try layout.assembly(of: divided) }
        #expect(error?.message.contains("layer 0 is divided among ranks of tensor parallelism") == true)
    }

    // MARK: Made-up tags

    /// Two parameters of 3 and 4 elements, of which two ranks have 4 each, with one of padding at the end: ZeRO 1.
    private func tag(
        state: [String: TorchValue] = [:], optimizer: [String: TorchValue] = [:], counts: [UInt64] = [4, 4],
        ranks: Int = 2
    ) throws -> [String: [UInt8]] {
        let known: KeyValuePairs<String, TorchValue> = [
            "module": .named(["a": .tensor(0), "b": .tensor(1), "seen": .tensor(2)]),
            "buffer_names": .list([.text("seen")]),
            "param_shapes": .list([.named(["a": .sizes(3), "b": .sizes(2, 2)])]),
            "shared_params": .named([:]),
            "global_steps": .integer(5), "dp_world_size": .integer(2), "mp_world_size": .integer(1),
            "ds_config": .named(["zero_optimization": .named(["stage": .integer(1)])]), "optimizer": .none,
        ]
        let tensors = [TorchFile.Tensor(shape: [3]), .init(shape: [2, 2]), .init(shape: [2], first: 7)]
        var files = ["mp_rank_00_model_states.pt": try TorchFile.of(Self.with(known, state), tensors)]
        for rank in 0..<ranks {
            let known: KeyValuePairs<String, TorchValue> = [
                "single_partition_of_fp32_groups": .list([.tensor(0)]),
                "partition_count": .list([.integer(2)]),
                "zero_stage": .integer(1),
            ]
            let row = TorchFile.Tensor(shape: [counts[rank]], first: Float(100 + 4 * rank))
            files["zero_pp_rank_\(rank)_mp_rank_00_optim_states.pt"] = try TorchFile.of(
                .named(["optimizer_state_dict": Self.with(known, optimizer)]), [row, row])
        }
        return files
    }

    private static func with(_ known: KeyValuePairs<String, TorchValue>, _ other: [String: TorchValue])
        -> TorchValue
    {
        let kept = known.filter { other[$0.key] == nil }.map { (TorchValue.text($0.key), $0.value) }
        return .dictionary(kept + other.sorted { $0.key < $1.key }.map { (.text($0.key), $0.value) })
    }

    private func view(_ files: [String: [UInt8]], _ name: String = UUID().uuidString) throws -> CheckpointView
    {
        try CheckpointView(Path(try bench.write(name, files)))
    }

    @Test func theRowsOfTheRanksAreCutIntoParameters() throws {
        let view = try view(try tag())
        #expect(try layout.inspect(view).faults == [])
        let assembly = try #require(try layout.assembly(of: view))
        #expect(assembly.tensors.map(\.name) == ["a", "b", "seen"])
        let file = { (rank: Int) in "zero_pp_rank_\(rank)_mp_rank_00_optim_states.pt" }
        let row = "optimizer_state_dict.single_partition_of_fp32_groups.0"
        #expect(
            assembly.tensors[1].pieces == [
                .init(file: file(0), tensor: row, place: .run(start: 0, count: 1, from: 3)),
                .init(file: file(1), tensor: row, place: .run(start: 1, count: 3, from: 0)),
            ])
        let found = try view.assembled(assembly.tensors)
        #expect(found["a"] == Self.tensor([3], [100, 101, 102]))
        #expect(found["b"] == Self.tensor([2, 2], [103, 104, 105, 106]))
        #expect(found["seen"] == Self.tensor([2], [7, 8]))
    }

    private static func tensor(_ shape: [UInt64], _ values: [Float]) -> ExpectedTensor {
        let digest = values.withUnsafeBytes { SHA256Hasher().digest($0) }
        let text = digest.withUnsafeBytes { $0.map { String(format: "%02x", $0) }.joined() }
        return ExpectedTensor(dtype: "F32", shape: shape, sha256: text)
    }

    @Test func withoutZeROTheModuleHasTheWeights() throws {
        let stage = TorchValue.named([
            "zero_optimization": .named(["stage": .integer(0)]), "bf16": .named(["enabled": .bool(true)]),
        ])
        let view = try view(try tag(state: ["param_shapes": .none, "ds_config": stage]))
        let inspection = try layout.inspect(view)
        #expect(inspection.isComplete && inspection.facts.contains { $0 == ("precision", "bf16") })
        let tensors = try #require(try layout.assembly(of: view)).tensors
        #expect(tensors.map(\.pieces[0].file) == [String](repeating: "mp_rank_00_model_states.pt", count: 3))
        let alone = try tag(state: ["param_shapes": .none, "ds_config": stage]).filter {
            $0.key.hasPrefix("mp")
        }
        #expect(try layout.inspect(try self.view(alone)).missing == ["the optimizer's state"])
    }

    @Test func partsOfAnOlderCheckpointThatWasWrittenOverAreNoticed() throws {
        var files = try tag()
        files["zero_pp_rank_2_mp_rank_00_optim_states.pt"] =
            files["zero_pp_rank_1_mp_rank_00_optim_states.pt"]
        let faults = try layout.inspect(try view(files)).faults
        #expect(faults.count == 1 && faults[0].contains("zero_pp_rank_2_mp_rank_00_optim_states.pt is there"))
    }

    @Test func rowsThatAreNotThoseOfTheParametersAreRefused() throws {
        let cases: [([String: [UInt8]], String)] = [
            (try tag(counts: [4, 2]), "too few elements for b"),
            (try tag(counts: [4, 6]), "have 7 elements, and the ranks 10"),
            (try tag(state: ["param_shapes": .list([])]), "in 0 groups, where the ranks have 1"),
            (
                try tag(optimizer: ["single_partition_of_fp32_groups": .list([])]),
                "no rank has any of the weights"
            ),
            (try tag(optimizer: ["param_alignment_paddings": .list([.list([.integer(1)])])]), "in 1 groups"),
            (try tag(ranks: 1), "1 of 2 parts of the optimizer's state are there"),
            (
                try tag().filter { !$0.key.contains("rank_0_") },
                "the optimizer's state of some rank is missing"
            ),
            (try tag().filter { $0.key.hasPrefix("zero") }, "no file has the model's state"),
            (
                try tag().merging(["mp_rank_01_model_states.pt": try TorchFile.of(.named([:]))]) { a, _ in a
                },
                "divided among 2 ranks of tensor parallelism"
            ),
            (try tag(state: ["ds_autoep_layers": .list([.named([:])])]), "divided by AutoEP"),
            (
                try tag().merging(["zero_pp_rank_1_mp_rank_00_optim_states.pt": [1, 2]]) { $1 },
                "zero_pp_rank_1_mp_rank_00_optim_states.pt can't be read"
            ),
        ]
        for (files, words) in cases {
            let error = #expect(throws: CairnError.self) { try layout.assembly(of: try view(files)) }
            #expect(error?.message.contains(words) == true, "\(error?.message ?? "") instead of \(words)")
            #expect(error?.code == .inconsistent)
        }
    }

    @Test(arguments: [
        "param_shapes", "dp_world_size", "mp_world_size", "global_steps", "ds_config", "num_experts",
        "module", "shared_params",
        "buffer_names", "checkpoint_parallel_dimensions", "frozen_param_shapes", "epoch", "optimizer",
    ])
    func whateverStandsInAStateIsTakenCalmly(key: String) throws {
        for value in TorchValue.hostile {
            let view = try view(try tag(state: [key: value]))
            let inspection = try layout.inspect(view)
            #expect(inspection.faults.count < 60)
            _ = try? layout.assembly(of: view)
        }
    }

    @Test(arguments: [
        "single_partition_of_fp32_groups", "partition_count", "zero_stage", "base_optimizer_state",
        "param_alignment_paddings",
        "fp32_flat_groups", "optimizer_state_dict",
    ])
    func whateverStandsInAnOptimizersStateIsTakenCalmly(key: String) throws {
        for value in TorchValue.hostile {
            let view = try view(try tag(optimizer: [key: value]))
            #expect(try layout.inspect(view).faults.count < 60)
            _ = try? layout.assembly(of: view)
        }
    }

    @Test func absurdNumbersOfRanksAreNotCountedTo() throws {
        let files = try tag(optimizer: ["partition_count": .integer(1 << 40)])
        let faults = try layout.inspect(try view(files)).faults
        #expect(faults.contains("zero_pp_rank_2_mp_rank_00_optim_states.pt is missing"))
        #expect(faults.last?.contains("more of the 1099511627776 files like these are missing") == true)
        let more = try tag(state: ["mp_world_size": .integer(.max)])
        #expect(
            try layout.inspect(try view(more)).faults == [
                "mp_rank_00_model_states.pt names more ranks than there can be"
            ])
    }

    // MARK: In the checkpoints of others

    @Test(arguments: ["zero-2", "zero-3"])
    func whatItKeepsInATrainersCheckpointIsPutTogetherAndMissed(tree: String) throws {
        let samples = LayoutSamples.library("deepspeed")
        let folder = try bench.write(
            "out/checkpoint-4",
            [
                "trainer_state.json": Array("{\"global_step\": 4}".utf8),
                "scheduler.pt": try TorchFile.of(.named([:])),
                "rng_state_0.pth": try TorchFile.of(.named([:])),
                "rng_state_1.pth": try TorchFile.of(.named([:])),
                "config.json": Array("{}".utf8), "latest": Array("global_step4".utf8),
            ])
        try FileManager.default.copyItem(
            atPath: samples.path("\(tree)/global_step4"), toPath: folder + "/global_step4")
        let view = try CheckpointView(Path(folder))
        let trainer = try #require(try Layouts.layout(of: view))
        #expect(trainer.name == "hf")
        let inspection = try trainer.inspect(view)
        #expect(inspection.isComplete && inspection.worldSize == 2, "\(inspection.faults)")
        #expect(inspection.facts.contains { $0 == ("DeepSpeed version", "0.19.8") })
        let lost = "zero_pp_rank_1_mp_rank_00_optim_states.pt"
        #expect(
            try trainer.inspect(view.changed(["global_step4/" + lost: nil])).faults == [
                "global_step4: \(lost) is missing"
            ])
        let expected = try #require(
            try samples.json("expected.json").array?.first { $0["path"]?.stringValue == tree }?["iterations"]?
                .array?.first {
                    $0["step"]?.uint64 == 4
                })
        let assembly = try #require(try trainer.assembly(of: view))
        #expect(try view.assembled(assembly.tensors) == ExpectedTensor.all(expected["model"]))
        #expect(assembly.files.map(\.name) == ["config.json"])
    }

    @Test func whatItKeepsInAFolderOfAcceleratesIsPutTogetherAndMissed() throws {
        let samples = LayoutSamples.library("deepspeed")
        let folder = try bench.write("checkpoint_0", ["random_states_0.pkl": try TorchFile.of(.named([:]))])
        try FileManager.default.copyItem(
            atPath: samples.path("zero-1/global_step4"), toPath: folder + "/pytorch_model")
        let view = try CheckpointView(Path(folder))
        let found = try #require(try Layouts.layout(of: view))
        #expect(found.name == "accelerate")
        #expect(try found.inspect(view).faults.isEmpty)
        #expect(try found.assembly(of: view)?.tensors.count == 8)
        let file = "pytorch_model/mp_rank_00_model_states.pt"
        #expect(try found.inspect(view.changed([file: nil])).faults.isEmpty == false)
    }

    // MARK: Output folders

    @Test func aTagIsAnyTextAndTheTrainersPartIsNone() throws {
        for name in ["epoch-3-final", "checkpoint-9", "global_step12"] {
            try bench.write("out/" + name, try tag())
        }
        try bench.write("out/global_step13", ["offloaded_tensors/rank00/x": []])
        try bench.write("out/logs", ["mp_rank_00_model_states.pt.log": []])
        let found = try layout.candidates(in: try OutputFolder(Path(bench.path("out"))))
        #expect(
            Set(found.map(\.name)) == ["epoch-3-final", "checkpoint-9", "global_step12", "global_step13"])
        #expect(found.first { $0.name == "global_step12" }?.step == 12)
        try bench.write("out", ["trainer_state.json": Array("{}".utf8)])
        #expect(try layout.candidates(in: try OutputFolder(Path(bench.path("out")))).isEmpty)
    }

    @Test func thePointerHoldsTheTag() throws {
        let tag = Candidate(name: "global_step7", path: "global_step7", step: 7)
        let universal = Candidate(name: "global_step7_universal", path: "global_step7_universal", step: 7)
        #expect(layout.pointers(to: tag) == [Pointer(path: "latest", text: "global_step7")])
        #expect(
            layout.pointers(to: universal) == [
                Pointer(path: "latest_universal", text: "global_step7_universal")
            ]
        )
        for (text, expected) in [("global_step7", "global_step7"), (" a b\n", "a b"), ("", nil), ("\n", nil)]
        {
            try bench.write("out", ["latest": Array(text.utf8)])
            #expect(try layout.pointed(in: try OutputFolder(Path(bench.path("out"))))?.says == expected)
        }
        try bench.write("other", ["latest_universal": Array("x".utf8)])
        #expect(
            try layout.pointed(in: try OutputFolder(Path(bench.path("other"))))
                == Pointer(path: "latest_universal", text: "x"))
    }

    @Test func filesAndTensorsBelongToModelAndOptimizer() {
        let state = "mp_rank_00_model_states.pt"
        let optimizer = "bf16_zero_pp_rank_3_mp_rank_01_optim_states.pt"
        let expected: [(String, String?, ModelFiles.Part)] = [
            (state, nil, .model), (state, "module.a", .model),
            (state, "optimizer.state.0.exp_avg", .optimizer),
            (state, "lr_scheduler.x", .scheduler), (state, "random_ltd.x", .trainerState),
            (optimizer, nil, .model),
            (optimizer, "optimizer_state_dict.single_partition_of_fp32_groups.0", .model),
            (optimizer, "optimizer_state_dict.fp32_flat_groups.1", .model),
            (optimizer, "optimizer_state_dict.base_optimizer_state.state.0.exp_avg", .optimizer),
            ("layer_00-model_00-model_states.pt", nil, .model),
            ("layer_0_expert_3_mp_rank_00_model_states.pt", nil, .model),
            ("expp_rank_0_mp_rank_00_optim_states.pt", nil, .optimizer), ("zero/a.b/fp32.pt", nil, .model),
            ("zero/a.b/exp_avg.pt", nil, .optimizer), ("zero/optimizer_state.pt", nil, .optimizer),
            ("offloaded_tensors/rank00/x", nil, .optimizer), ("latest", nil, .marker),
            ("zero_to_fp32.py", nil, .marker),
        ]
        for (path, tensor, part) in expected {
            #expect(layout.part(of: path, tensor: tensor) == part, "\(path) \(tensor ?? "")")
        }
        #expect(layout.takesOutputFolder && layout.allowsMoving && layout.rank(of: optimizer) == nil)
    }
}
