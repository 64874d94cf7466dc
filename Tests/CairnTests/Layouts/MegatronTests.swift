import Foundation
import Platform
import TensorFormats
import Testing

@testable import Cairn

/// Megatron-LM: a folder for each rank, put together by the names of its tensors, and what all ranks share.
@Suite struct MegatronTests {
    let layout = Megatron()
    let bench: Workbench

    init() throws { bench = try Workbench() }

    @Test(arguments: ["legacy_torch_tp2", "torch_dist"])
    func theSamplesSayHowTheyWereWritten(tree: String) throws {
        let output = try LayoutSamples.checkpoints.output("megatron/" + tree)
        let found = try output.iterations()
        #expect(
            found.map(\.step) == [10, 20]
                && found.allSatisfy { $0.inspection.isComplete && $0.inspection.worldSize == 2 })
        let facts = found[1].inspection.facts.map { "\($0.name): \($0.value)" }
        #expect(
            facts
                == (tree == "torch_dist"
                    ? ["format: torch_dist", "parallel layout: tp 2", "checkpoint version: 3.0"]
                    : ["format: torch", "precision: fp32", "checkpoint version: 3.0"]))
        #expect(try layout.pointed(in: output) == layout.pointers(to: found[1].candidate).first)
    }

    @Test func aRankWithoutTheOptimizersFileIsNoticedWhereOthersHaveIt() throws {
        let view = try LayoutSamples.checkpoints.view("megatron/legacy_torch_tp2/iter_0000010")
        let (first, second) = ("mp_rank_00/distrib_optim.pt", "mp_rank_01/distrib_optim.pt")
        #expect(try layout.inspect(view.changed([second: nil])).faults == ["\(second) is missing"])
        #expect(try layout.inspect(view.changed([first: nil, second: nil])).isComplete)
    }

    // MARK: Made-up ranks

    private func view(_ ranks: [String: TorchValue], _ tensors: [TorchFile.Tensor]) throws -> CheckpointView {
        let files = try ranks.map { ("\($0)/model_optim_rng.pt", try TorchFile.of($1, tensors)) }
        return try CheckpointView(
            Path(try bench.write(UUID().uuidString, Dictionary(uniqueKeysWithValues: files))))
    }

    private func assembly(_ names: [String], ranks: [String] = ["mp_rank_00", "mp_rank_01"]) throws
        -> Assembly?
    {
        let tensors = names.map { _ in TorchFile.Tensor(shape: [4, 6]) }
        let model = TorchValue.dictionary(names.enumerated().map { (.text($1), .tensor($0)) })
        let state = TorchValue.named(["iteration": .integer(3), "model": model])
        return try layout.assembly(
            of: try view(Dictionary(uniqueKeysWithValues: ranks.map { ($0, state) }), tensors))
    }

    @Test func whatNoRuleKnowsIsRefusedUnlessItIsWhole() throws {
        #expect(try assembly(["decoder.layers.0.unknown.weight"], ranks: ["mp_rank_00"])?.tensors.count == 1)
        let error = #expect(throws: CairnError.self) { try assembly(["decoder.layers.0.unknown.weight"]) }
        #expect(
            error?.message
                == "the model can't be put together: nothing says along which axis decoder.layers.0.unknown.weight "
                + "is divided among 2 ranks of tensor parallelism")
        // Where no argument says how long they are, low-rank projections may be whole or not.
        #expect(throws: CairnError.self) {
            try assembly(["decoder.layers.0.self_attention.linear_kv_down_proj.weight"])
        }
        #expect(throws: CairnError.self) { try assembly(["decoder.layers.0.mlp.experts.weight1"]) }
    }

    @Test func whatTensorParallelismDividesIsJoinedByTheRulesOfItsName() throws {
        let layer = "decoder.layers.0."
        let shapes: [(String, [UInt64])] = [
            ("embedding.word_embeddings.weight", [8, 6]), ("output_layer.weight", [8, 6]),
            ("embedding.position_embeddings.weight", [4, 6]),
            (layer + "self_attention.linear_qkv.weight", [8, 6]),
            (layer + "self_attention.linear_qkv.layer_norm_weight", [4, 6]),
            (layer + "self_attention.linear_proj.weight", [4, 12]),
            (layer + "self_attention.q_layernorm.weight", [4, 6]),
            (layer + "mlp.linear_fc1.weight", [8, 6]), (layer + "mlp.linear_fc1.bias", [8, 6]),
            (layer + "mlp.linear_fc2.weight", [4, 12]),
            (layer + "mlp.linear_fc2.bias", [4, 6]), (layer + "mlp.router.weight", [4, 6]),
            (layer + "mlp.router.expert_bias", [4, 6]),
            (layer + "mlp.shared_experts.gate_weight", [4, 6]),
            (layer + "self_attention.core_attention.softmax_offset", [8, 6]),
            ("mtp.layers.0.eh_proj.weight", [8, 6]), ("mtp.layers.0.enorm.weight", [4, 6]),
            // Before megatron-core.
            ("language_model.embedding.word_embeddings.weight", [8, 6]),
            ("encoder.layers.0.self_attention.dense.weight", [4, 12]),
            ("encoder.layers.0.self_attention.query_key_value.weight", [8, 6]),
            ("encoder.layers.0.mlp.dense_h_to_4h.weight", [8, 6]),
            ("encoder.layers.0.mlp.dense_4h_to_h.weight", [4, 12]), ("lm_head.dense.weight", []),
        ]
        for (name, shape) in shapes {
            guard !shape.isEmpty else {
                #expect(throws: CairnError.self, "\(name)") { try assembly([name]) }
                continue
            }
            #expect(try assembly([name])?.tensors.first?.shape == shape, "\(name)")
        }
    }

    @Test func theSecondLayerTellsWhetherTheFirstIsGated() throws {
        let names = ["decoder.layers.0.mlp.linear_fc1.weight", "decoder.layers.0.mlp.linear_fc2.weight"]
        let model = TorchValue.named([
            "model": .dictionary(names.enumerated().map { (.text($1), .tensor($0)) })
        ])
        let ranks = ["mp_rank_00": model, "mp_rank_01": model]
        let gated = try layout.assembly(of: try view(ranks, [.init(shape: [6, 2]), .init(shape: [2, 3])]))
        #expect(gated?.tensors[0].pieces.count == 4 && gated?.tensors[0].shape == [12, 2])
        #expect(
            gated?.tensors[0].pieces[1].place == .run(start: 12, count: 6, from: 6)
                && gated?.tensors[0].pieces[2].place == .run(start: 6, count: 6, from: 0))
        let plain = try layout.assembly(of: try view(ranks, [.init(shape: [6, 2]), .init(shape: [2, 6])]))
        #expect(
            plain?.tensors[0].pieces.map(\.place) == [
                .box(offset: [0, 0], shape: [6, 2]), .box(offset: [6, 0], shape: [6, 2]),
            ])
    }

    /// A tree that megatron-core wrote, in whose first rank an argument is another number.
    private func changed(_ tree: String, _ argument: String, _ number: UInt8) throws -> CheckpointView {
        let view = try LayoutSamples.library("ranks-megatron").view("\(tree)/iter_0000020")
        let path = "mp_rank_00_000/model_optim_rng.pt"
        var bytes = try #require(try view.read(path))
        let name = try #require(bytes.firstRange(of: Array(argument.utf8)))
        // As a pickle has a number below 256, behind what remembers the name.
        let place = try #require(bytes[name.upperBound...].prefix(12).firstIndex(of: UInt8(ascii: "K")))
        bytes[place + 1] = number
        // The first record is the pickle's; a checksum of zero is one that was not computed.
        let behind = try #require(bytes.firstRange(of: [0x50, 0x4B, 7, 8])).lowerBound
        let directory = try #require(bytes.firstRange(of: [0x50, 0x4B, 1, 2])).lowerBound
        for start in [behind + 4, directory + 16] {
            bytes.replaceSubrange(start..<start + 4, with: [0, 0, 0, 0])
        }
        return view.changed([path: bytes])
    }

    @Test func expertsOfARankInOneTensorAreToldApartByTheirNumber() throws {
        #expect(try layout.assembly(of: changed("experts-grouped", "num_experts", 4)) != nil)
        for experts in [0, 3, 5, 250] as [UInt8] {
            let error = #expect(throws: CairnError.self) {
                try layout.assembly(of: try changed("experts-grouped", "num_experts", experts))
            }
            #expect(error?.message.contains("mlp.experts.weight1") == true, "\(error?.message ?? "")")
        }
    }

    @Test func expertsThatRanksDivideOtherwiseThanInEqualPartsAreRefused() throws {
        for divided in [3, 8] as [UInt8] {
            let error = #expect(throws: CairnError.self) {
                try layout.assembly(of: try changed("experts-halves", "expert_tensor_parallel_size", divided))
            }
            #expect(
                error?.message.contains(
                    "experts are divided among \(divided) ranks of tensor parallelism, and the rest among 4")
                    == true)
        }
    }

    @Test func whatMambasTensorsDoNotSayIsRefused() throws {
        let mixer = "decoder.layers.0.mixer."
        let shapes: [(String, [UInt64])] = [
            ("in_proj.weight", [24, 8]), ("conv1d.weight", [14, 1, 4]), ("out_proj.weight", [8, 8]),
            ("dt_bias", [2]),
        ]
        func assembly(_ changed: [String: [UInt64]]) throws -> Assembly? {
            let known = shapes.filter { changed[$0.0] != [] }
            let model = TorchValue.dictionary(
                known.enumerated().map { (.text(mixer + $0.element.0), .tensor($0.offset)) })
            let state = TorchValue.named(["model": model])
            return try layout.assembly(
                of: try view(
                    ["mp_rank_00": state, "mp_rank_01": state],
                    known.map { .init(shape: changed[$0.0] ?? $0.1) }))
        }
        #expect(try assembly([:])?.tensors.map(\.shape) == [[48, 8], [28, 1, 4], [8, 16], [4]])
        for changed in [
            ["in_proj.weight": [25, 8]], ["in_proj.weight": [8, 8]], ["conv1d.weight": [15, 1, 4]],
            ["dt_bias": []],
            ["out_proj.weight": []], ["dt_bias": [3]], ["in_proj.weight": []],
        ] as [[String: [UInt64]]] {
            let error = #expect(throws: CairnError.self) { try assembly(changed) }
            #expect(error?.message.contains("nothing says along which axis \(mixer)") == true)
        }
    }

    @Test func ranksThatDisagreeOnWhatAllHaveAreNamed() throws {
        let name = "decoder.final_layernorm.weight"
        var files: [String: [UInt8]] = [:]
        for rank in 0..<2 {
            let state = TorchValue.named(["iteration": .integer(3), "model": .named([name: .tensor(0)])])
            files["mp_rank_0\(rank)/model_optim_rng.pt"] = try TorchFile.of(
                state, [.init(shape: [4], first: Float(rank))])
        }
        try bench.store.save(try bench.write("iter_0000003", files), options: SaveOptions(run: "r", step: 3))
        let error = #expect(throws: CairnError.self) {
            try bench.store.export("r@3", to: bench.path("out"), options: ExportOptions(layout: "hf"))
        }
        #expect(
            error?.message
                == "the tensor \(name) can't be put together: mp_rank_00/model_optim_rng.pt and "
                + "mp_rank_01/model_optim_rng.pt have different bytes for its elements [0:4]")
    }

    @Test func layersAreNumberedThroughTheStagesOfThePipeline() throws {
        func stage(_ counts: [Int]) -> TorchValue {
            .dictionary(
                counts.enumerated().map { part, count in
                    let names =
                        (0..<count).map { "decoder.layers.\($0).input_layernorm.weight" }
                        + (count > 2 ? ["mtp.layers.0.enorm.weight"] : [])
                    return (.text("model\(part)"), .dictionary(names.map { (.text($0), .tensor(0)) }))
                })
        }
        let view = try view(
            ["mp_rank_00_000": stage([1, 2]), "mp_rank_00_001": stage([2, 3])], [.init(shape: [2])])
        let assembly = try #require(try layout.assembly(of: view))
        #expect(
            assembly.tensors.map(\.name) == (0..<8).map { "decoder.layers.\($0).input_layernorm.weight" } + [
                "mtp.layers.0.enorm.weight"
            ])
        let first = { (layer: Int) in assembly.tensors[layer].pieces[0] }
        #expect(
            first(0).file == "mp_rank_00_000/model_optim_rng.pt"
                && first(1).file == "mp_rank_00_001/model_optim_rng.pt")
        #expect(
            first(3).tensor == "model1.decoder.layers.0.input_layernorm.weight"
                && first(3).file.hasPrefix("mp_rank_00_000"))
        #expect(
            first(5).tensor == "model1.decoder.layers.0.input_layernorm.weight"
                && first(5).file.hasPrefix("mp_rank_00_001"))
    }

    @Test func expertsHaveTheNumberThatTheyHaveAmongAll() throws {
        let names = [
            "decoder.layers.0.mlp.experts.local_experts.0.linear_fc2.weight",
            "decoder.layers.0.mlp.experts.linear_fc1.weight1",
            "decoder.layers.0.mlp.experts.weight1", "decoder.layers.0.mlp.experts.weight2",
            "decoder.layers.0.mlp.router.weight",
        ]
        let ranks = ["mp_rank_00_000_000", "mp_rank_00_000_001"]
        let tensors = try #require(try assembly(names, ranks: ranks)).tensors
        let prefix = "decoder.layers.0.mlp."
        #expect(
            tensors.map(\.name)
                == [
                    "experts.local_experts.0.linear_fc2.weight", "experts.local_experts.2.linear_fc2.weight",
                    "experts.linear_fc1.weight1",
                    "experts.linear_fc1.weight3", "experts.weight1", "experts.weight2", "router.weight",
                ].map { prefix + $0 })
        #expect(tensors.map(\.shape) == [[4, 6], [4, 6], [4, 6], [4, 6], [4, 12], [8, 6], [4, 6]])
        #expect(tensors[1].pieces[0].file == "mp_rank_00_000_001/model_optim_rng.pt")
        #expect(
            tensors[4].pieces.map(\.place) == [
                .run(start: 0, count: 24, from: 0), .run(start: 24, count: 24, from: 0),
            ])
    }

    @Test func partsThatDoNotFitAreRefused() throws {
        let state = { (shape: Int) in
            TorchValue.named(["model": .named(["output_layer.weight": .tensor(shape)])])
        }
        for shape: [UInt64] in [[4, 5], [4], [4, 6, 1]] {
            let ranks = ["mp_rank_00": state(0), "mp_rank_01": state(1)]
            let view = try view(ranks, [.init(shape: [4, 6]), .init(shape: shape)])
            #expect(throws: CairnError.self, "\(shape)") { try layout.assembly(of: view) }
        }
        let lacking = try view(
            ["mp_rank_00": state(0), "mp_rank_01": .named(["model": .named([:])])], [.init(shape: [4, 6])])
        #expect(throws: CairnError.self) { try layout.assembly(of: lacking) }
        let missing = try view(["mp_rank_00": state(0), "mp_rank_02": state(0)], [.init(shape: [4, 6])])
        #expect(try layout.inspect(missing).faults == ["mp_rank_01/model_optim_rng.pt is missing"])
        #expect(throws: CairnError.self) { try layout.assembly(of: missing) }
    }

    @Test func whateverStandsInAStateIsTakenCalmly() throws {
        for value in TorchValue.hostile {
            for key in ["model", "model0", "model-1", "args", "iteration", "checkpoint_version", "optimizer"]
            {
                let state = TorchValue.named(["iteration": .integer(1), "model": .named(["a": .tensor(0)])])
                guard case .dictionary(let items) = state else { continue }
                let changed = TorchValue.dictionary(
                    items.filter { if case .text(key) = $0.key { false } else { true } } + [
                        (.text(key), value)
                    ])
                let view = try view(
                    ["mp_rank_00": changed, "mp_rank_01_002_9007199254740991": changed],
                    [.init(shape: [2, 2])])
                #expect(try layout.inspect(view).faults.count < 30)
                _ = try? layout.assembly(of: view)
            }
        }
    }

    // MARK: torch_dist

    @Test func digestsNameFilesThatHaveToBeThere() throws {
        let view = try LayoutSamples.library("ranks-torch").view("newer/iter_0000030")
        #expect(try layout.inspect(view).faults.isEmpty)
        let text = #"{"files": {"gone": "00", "../outside": "00", "metadata.json": 3}}"#
        #expect(
            try layout.inspect(view.changed(["integrity.json": Array(text.utf8)])).faults == [
                "gone is missing, which integrity.json names",
                "../outside is missing, which integrity.json names",
            ])
        #expect(
            try layout.inspect(view.changed(["integrity.json": Array("{".utf8)])).faults == [
                "integrity.json is not JSON, so its writing was cut off"
            ])
    }

    @Test func whatIsSharedSaysWhichStepItIs() throws {
        let view = try LayoutSamples.library("ranks-torch").view("newer/iter_0000030")
        let inspection = try layout.inspect(view)
        #expect(inspection.step == 30 && inspection.worldSize == 4)
        #expect(inspection.facts.contains { $0 == ("precision", "bf16") })
        // Of buckets nothing says which parameter they are of.
        #expect(try layout.assembly(of: view)?.optimizer.count == 2)
    }

    // MARK: Output folders

    @Test func iterationsReleasesAndThoseThatAreNotKeptAreFound() throws {
        try bench.write("out/iter_0000010/mp_rank_00", ["model_optim_rng.pt": []])
        try bench.write("out/release", ["metadata.json": []])
        try bench.write("out/non_persistent/iter_0000012", [".metadata": []])
        try bench.write("out/logs/iter", ["x": []])
        let found = try layout.candidates(in: try OutputFolder(Path(bench.path("out"))))
        #expect(Set(found.map(\.path)) == ["iter_0000010", "release", "non_persistent/iter_0000012"])
        let pointers = Dictionary(
            uniqueKeysWithValues: found.map { ($0.path, layout.pointers(to: $0).first) })
        let name = "latest_checkpointed_iteration.txt"
        #expect(pointers["iter_0000010"] == Pointer(path: name, text: "10"))
        #expect(pointers["release"] == Pointer(path: name, text: "release"))
        #expect(
            pointers["non_persistent/iter_0000012"] == Pointer(path: "non_persistent/" + name, text: "12"))
        for (text, expected) in [
            ("10", "10"), ("0000010\n", "10"), ("release", "release"), ("", nil), ("garbage", nil),
            ("-1", nil),
        ] {
            try bench.write("out", [name: Array(text.utf8)])
            #expect(
                try layout.pointed(in: try OutputFolder(Path(bench.path("out"))))?.says == expected, "\(text)"
            )
        }
    }

    @Test func filesAndTensorsBelongToModelAndOptimizer() {
        let file = "mp_rank_01_000/model_optim_rng.pt"
        let expected: [(String, String?, ModelFiles.Part)] = [
            (file, nil, .model), (file, "model.a", .model), (file, "model1.a", .model),
            (file, "optimizer.a", .optimizer),
            (file, "opt_param_scheduler.a", .scheduler), (file, "rng_state.0.torch_rng_state", .rng),
            (file, "rerun_state_machine.a", .trainerState), ("mp_rank_00/distrib_optim.pt", nil, .optimizer),
            ("mp_rank_00/layer_wise_optimizer_3.pt", nil, .optimizer),
            ("train_dataloader_dprank003.pt", nil, .trainerState),
            ("__0_1.distcp", "@0", .model), (".metadata", nil, .model), ("metadata.json", nil, .model),
            ("common.pt", nil, .model),
            ("integrity.json", nil, .marker),
        ]
        for (path, tensor, part) in expected {
            #expect(layout.part(of: path, tensor: tensor) == part, "\(path) \(tensor ?? "")")
        }
        #expect(layout.takesOutputFolder && layout.allowsMoving && layout.rank(of: file) == nil)
    }
}
