import Foundation
import Platform
import TensorFormats
import Testing

@testable import Cairn

/// verl: the files of FSDP's ranks, or Megatron's, in the folders of what PPO and SFT train.
@Suite struct VeRLTests {
    let layout = VeRL()
    let bench: Workbench

    init() throws { bench = try Workbench() }

    @Test func theSampleOfPPOIsFoundWithWhatSaysHowItsModelIsBuilt() throws {
        let output = try LayoutSamples.checkpoints.output("verl/fsdp")
        let found = try output.iterations()
        #expect(
            found.map(\.step) == [1, 2]
                && found.allSatisfy { $0.layout?.name == "verl" && $0.inspection.isComplete })
        #expect(
            found[0].inspection.facts.map { "\($0.name): \($0.value)" } == [
                "strategy: FSDP2", "parallel layout: fsdp 2", "precision: fp32",
            ])
        #expect(try layout.pointed(in: output) == layout.pointers(to: found[1].candidate).first)
        let assembly = try #require(try layout.assembly(of: try output.view(of: found[1].candidate)))
        #expect(
            assembly.files.map(\.path) == ["actor/huggingface/config.json"]
                && assembly.files.map(\.name) == ["config.json"])
        let embedding = try #require(assembly.tensors.first { $0.name == "model.embed_tokens.weight" })
        #expect(embedding.shape == [64, 32] && embedding.dtype == "F32")
        #expect(
            embedding.pieces.map(\.place) == [
                .box(offset: [0, 0], shape: [32, 32]), .box(offset: [32, 0], shape: [32, 32]),
            ])
    }

    // MARK: Made-up steps

    private func files(_ folder: String, ranks: Int = 2, kinds: [String] = ["model", "optim", "extra_state"])
        throws -> [String: [UInt8]]
    {
        var files = [
            folder + "fsdp_config.json": Array("{\"FSDP_version\": 2, \"world_size\": \(ranks)}".utf8)
        ]
        for kind in kinds {
            for rank in 0..<ranks {
                files["\(folder)\(kind)_world_size_\(ranks)_rank_\(rank).pt"] = try TorchFile.of(
                    .named(["w": .tensor(0)]), [.init(shape: [2])])
            }
        }
        return files
    }

    private func ppo() throws -> [String: [UInt8]] {
        let data = try TorchFile.of(.named([:]))
        return try files("actor/").merging(files("critic/")) { a, _ in a }.merging(["data.pt": data]) {
            a, _ in a
        }
    }

    private func inspection(_ files: [String: [UInt8]], mayBeUnfinished: Bool = true) throws -> Inspection {
        var view = try CheckpointView(Path(try bench.write(UUID().uuidString, files)))
        view.mayBeUnfinished = mayBeUnfinished
        #expect(layout.recognises(view))
        return try layout.inspect(view)
    }

    @Test func whatVerlLeavesOfAStepThatItPrunedIsNoCheckpoint() throws {
        let whole = try ppo()
        #expect(try inspection(whole).isComplete)
        let left = whole.filter { !$0.key.hasPrefix("actor/") }
        #expect(
            try inspection(left).faults == [
                "actor is missing, which verl deletes from the steps that it does not keep"
            ])
        let path = try bench.write("out/global_step_5", ["data.pt": whole["data.pt"]!])
        let view = try CheckpointView(Path(path))
        #expect(layout.recognises(view))
        #expect(
            try layout.inspect(view).faults == [
                "actor is missing, which verl deletes from the steps that it does not keep"
            ])
        #expect(throws: CairnError.self) { try layout.assembly(of: view) }
    }

    @Test func eachFileOfEachRankIsNeeded() throws {
        let whole = try ppo()
        for name in whole.keys.sorted() {
            let faults = try inspection(whole.filter { $0.key != name }).faults
            #expect(faults.contains { $0.hasPrefix(name + " is missing") }, "\(name): \(faults)")
            let cut = try inspection(whole.merging([name: Array(whole[name]!.dropLast(9))]) { $1 }).faults
            #expect(cut.contains { $0.hasPrefix(name) }, "\(name): \(cut)")
        }
        // What is written last may be left out of what is known to be whole.
        let rest = try inspection(whole.filter { $0.key != "data.pt" }, mayBeUnfinished: false)
        #expect(rest.isComplete && rest.missing == ["the data loader's state"])
        let model = try files("", kinds: ["model"]).merging(["data_0.pt": whole["data.pt"]!]) { a, _ in a }
        let lacking = try inspection(model)
        #expect(
            lacking.isComplete
                && lacking.missing == ["the optimizer's state", "the scheduler's and random numbers' state"])
    }

    @Test func filesOfAnotherNumberOfRanksDoNotCount() throws {
        let older = try ppo().merging(files("actor/", ranks: 4)) { a, _ in a }
        #expect(try inspection(older).isComplete)
    }

    @Test func absurdConfigurationsAreTakenCalmly() throws {
        for text in [
            "", "[]", "{", "{\"world_size\": 9223372036854775807}", "{\"world_size\": -1}",
            "{\"world_size\": NaN}", "{\"world_size\": \"2\"}", "{\"world_size\": 0}",
        ] {
            let files = try ppo().merging(["actor/fsdp_config.json": Array(text.utf8)]) { $1 }
            let found = try inspection(files)
            let isWhole = [
                "[]", "{\"world_size\": -1}", "{\"world_size\": NaN}", "{\"world_size\": \"2\"}",
                "{\"world_size\": 0}",
            ]
            .contains(text)
            #expect(found.isComplete == isWhole && found.faults.count < 40, "\(text): \(found.faults)")
        }
    }

    @Test func whateverStandsInAModelIsTakenCalmly() throws {
        for value in TorchValue.hostile {
            let file = try TorchFile.of(.named(["w": value]), [.init(shape: [2])])
            let path = try bench.write(
                UUID().uuidString,
                try files("", ranks: 1).merging(["model_world_size_1_rank_0.pt": file, "data_0.pt": file]) {
                    $1
                })
            let view = try CheckpointView(Path(path))
            _ = try layout.inspect(view)
            _ = try? layout.assembly(of: view)
        }
        // Nor what is no dictionary.
        for value in TorchValue.hostile {
            let file = try TorchFile.of(value, [.init(shape: [2])])
            let path = try bench.write(
                UUID().uuidString,
                try files("", ranks: 1).merging(["model_world_size_1_rank_0.pt": file]) { $1 })
            _ = try layout.inspect(try CheckpointView(Path(path)))
        }
    }

    @Test func megatronsRanksShareACheckpoint() throws {
        let step = bench.path("out/global_step_10")
        try bench.write(
            "out/global_step_10/actor/huggingface",
            ["config.json": Array("{}".utf8), "model.safetensors": [1]])
        try FileManager.default.copyItem(
            atPath: LayoutSamples.checkpoints.path("megatron/torch_dist/iter_0000010"),
            toPath: step + "/actor/dist_ckpt")
        try bench.write("out/global_step_10", ["data.pt": try TorchFile.of(.named([:]))])
        let view = try CheckpointView(Path(step))
        #expect(try Layouts.layout(of: view)?.name == "verl")
        let inspection = try layout.inspect(view)
        #expect(inspection.isComplete && inspection.worldSize == 2, "\(inspection.faults)")
        #expect(inspection.facts.first { $0.name == "strategy" }?.value == "Megatron")
        let assembly = try #require(try layout.assembly(of: view))
        #expect(assembly.files.map(\.path) == ["actor/huggingface/config.json"])
        #expect(try view.assembled(assembly.tensors).count == assembly.tensors.count)
        let plain = try Megatron().assembly(of: try CheckpointView(Path(step + "/actor/dist_ckpt")))
        #expect(assembly.tensors.map(\.name) == plain?.tensors.map(\.name) && !assembly.tensors.isEmpty)
        let without = view.changed(["actor/dist_ckpt/metadata.json": nil])
        #expect(
            try layout.inspect(without).faults == [
                "actor/dist_ckpt/metadata.json is missing, which is written last"
            ])
    }

    // MARK: Output folders

    @Test func thePointerHoldsTheStep() throws {
        let name = "latest_checkpointed_iteration.txt"
        let candidate = Candidate(name: "global_step_7", path: "global_step_7", step: 7)
        #expect(layout.pointers(to: candidate) == [Pointer(path: name, text: "7")])
        try bench.write("out", [name: Array("7".utf8)])
        #expect(try layout.pointed(in: try OutputFolder(Path(bench.path("out")))) == nil)
        try bench.write("out/global_step_7", ["data.pt": []])
        for (text, expected) in [("7", "7"), ("07\n", "7"), ("", nil), ("release", nil)] {
            try bench.write("out", [name: Array(text.utf8)])
            #expect(try layout.pointed(in: try OutputFolder(Path(bench.path("out"))))?.says == expected)
        }
        try bench.write("out/global_step7", ["x": []])
        #expect(
            try layout.candidates(in: try OutputFolder(Path(bench.path("out")))).map(\.name) == [
                "global_step_7"
            ])
    }

    @Test func filesBelongToModelAndOptimizerAndRanks() {
        let expected: [(String, String?, ModelFiles.Part)] = [
            ("actor/model_world_size_2_rank_1.pt", nil, .model),
            ("actor/optim_world_size_2_rank_1.pt", nil, .optimizer),
            ("actor/extra_state_world_size_2_rank_1.pt", nil, .rng),
            ("extra_state_world_size_2_rank_1.pt", "lr_scheduler.x", .scheduler),
            ("actor/fsdp_config.json", nil, .model), ("actor/huggingface/config.json", nil, .model),
            ("actor/huggingface/tokenizer.json", nil, .other), ("actor/dist_ckpt/__0_0.distcp", nil, .model),
            ("critic/model_world_size_2_rank_1.pt", nil, .trainerState), ("data.pt", nil, .trainerState),
            ("data_3.pt", nil, .trainerState),
            ("actor/lora_adapter/adapter_model.safetensors", nil, .model),
            ("actor/transformer_config.json", nil, .model),
        ]
        for (path, tensor, part) in expected {
            #expect(layout.part(of: path, tensor: tensor) == part, "\(path)")
        }
        #expect(
            layout.rank(of: "actor/optim_world_size_16_rank_11.pt") == 11 && layout.rank(of: "data.pt") == nil
        )
        #expect(layout.takesOutputFolder && layout.allowsMoving)
    }
}
