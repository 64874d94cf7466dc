import Foundation
import Platform
import TensorFormats
import Testing

@testable import Cairn

/// Single files of training loops: people's own, Lightning's, and those of other formats.
@Suite struct LoopTests {
    let bench: Workbench

    init() throws { bench = try Workbench() }

    /// A file of `torch.save`: a model of one tensor, and what else is given.
    static func torch(_ members: [(String, TorchValue)] = [], model: String? = "model") throws -> [UInt8] {
        let state = TorchValue.orderedDictionary([(.text("fc.weight"), .tensor(0))])
        let all = (model.map { [($0, state)] } ?? []) + members
        let file = try TorchFileWriter.file(
            of: model == nil && members.isEmpty ? state : .dictionary(all.map { (.text($0.0), $0.1) }),
            tensors: [.init(name: "fc.weight", dtype: .i32, shape: [2], content: 0)])
        return file.bytes([Stored.numbers("", [2], [7, 8]).bytes])
    }

    private func found(_ files: [String: [UInt8]], _ folder: String = UUID().uuidString) throws -> [Found] {
        try OutputFolder(Path(try bench.write(folder, files))).iterations()
    }

    private func view(_ name: String, _ bytes: [UInt8]) throws -> CheckpointView {
        let folder = UUID().uuidString
        try bench.write(folder, [name: bytes])
        return try CheckpointView(Path(bench.path(folder + "/" + name)))
    }

    // MARK: Plain files

    @Test func `steps come from inside, else from the name, compared as numbers`() throws {
        let optimizer = ("optimizer", TorchValue.dictionary([(.text("state"), .dictionary([]))]))
        let all = try found([
            "ckpt_9.pth": Self.torch([optimizer, ("epoch", .integer(9))]),
            "ckpt_10.pth": Self.torch([optimizer, ("epoch", .integer(10))]),
            "model_epoch=3_step=120_val_loss=0.25.pt": Self.torch([optimizer]),
            "model_5.pt": Self.torch([optimizer, ("global_step", .integer(500)), ("epoch", .integer(5))]),
            "mine_12.pt": Self.torch([optimizer]),
            "latest.pt": Self.torch([optimizer, ("iteration", .integer(777))]),
            "checkpoint.pth.tar": Self.torch([optimizer, ("epoch", .integer(30))]),
            "best.pt": Self.torch([optimizer]),
        ])
        let steps = Dictionary(uniqueKeysWithValues: all.map { ($0.candidate.name, $0.step) })
        #expect(
            steps == [
                "ckpt_9.pth": 9, "ckpt_10.pth": 10, "model_epoch=3_step=120_val_loss=0.25.pt": 120,
                "model_5.pt": 500,
                "mine_12.pt": 12, "latest.pt": 777, "checkpoint.pth.tar": 30, "best.pt": nil,
            ])
        #expect(
            all.allSatisfy {
                $0.layout?.name == "torch" && $0.inspection.isComplete && $0.inspection.missing == []
            })
        let named = try #require(all.first { $0.step == 120 })
        #expect(named.inspection.metrics == ["val_loss": 0.25] && named.inspection.epoch == 3)
        #expect(all.first { $0.step == 500 }?.inspection.epoch == 5)
    }

    @Test func `a name that counts epochs and a step inside are no contradiction when one file is saved`()
        throws
    {
        let path = try bench.write(
            "one", ["ckpt_3.pth": Self.torch([("optimizer", .dictionary([])), ("step", .integer(900))])])
        let result = try bench.store.save(path + "/ckpt_3.pth", options: SaveOptions(run: "r"))
        #expect(result.step == 900)
        let info = try #require(try bench.store.iteration(run: "r", step: 900))
        #expect(info.layout == "torch")
    }

    @Test func `other files are no iterations, whatever their names`() throws {
        let tensor = try TorchFileWriter.file(
            of: .tensor(0), tensors: [.init(name: "", dtype: .i32, shape: [2], content: 0)]
        ).bytes([Stored.numbers("", [2], [1, 2]).bytes])
        let data = try TorchFileWriter.file(
            of: .dictionary([(.text("images"), .tensor(0)), (.text("labels"), .tensor(0))]),
            tensors: [.init(name: "", dtype: .i32, shape: [2], content: 0)]
        ).bytes([Stored.numbers("", [2], [1, 2]).bytes])
        let list = try TorchFileWriter.file(of: .list([.text("a")]), tensors: []).bytes([])
        let state = try Self.torch()
        let all = try found([
            "ckpt_1.pt": tensor, "model_2.pt": data, "latest.pth": list,
            "step_3.bin": Array("not torch".utf8),
            "best_model.bin": [UInt8](repeating: 0, count: 900), "model.pt": Array("PK\u{3}\u{4}zip".utf8),
            "optimizer.pt": state, "training_args.bin": state, "pytorch_model.bin": state,
            "rng_state_0.pth": state,
            "model_world_size_2_rank_0.pt": state, "mp_rank_00_model_states.pt": state, "vocab.pt": state,
            "config.json": [],
            "model_00001-of-00002.pt": state, "notes.txt": [1], "step_9.npy": [1],
        ])
        #expect(all.map(\.candidate.name) == [])
    }

    @Test func `a watch says nothing of other files`() throws {
        let list = try TorchFileWriter.file(of: .list([.text("a")]), tensors: []).bytes([])
        let folder = try bench.write(
            "watched", ["latest.pth": list, "step_3.bin": Array("not torch".utf8), "ckpt_4.pt": Self.torch()])
        var names: [String] = []
        try bench.store.watch(folder, options: WatchOptions(run: "r", once: true), progress: .silent) {
            names.append($0.name)
        }
        #expect(names == ["ckpt_4.pt"])
    }

    @Test func `a link to another one is no iteration of its own`() throws {
        let folder = try bench.write("links", ["ckpt_1.pt": Self.torch(), "ckpt_2.pt": Self.torch()])
        try FileManager.default.createSymbolicLink(
            atPath: folder + "/latest.pt", withDestinationPath: "ckpt_2.pt")
        #expect(
            try OutputFolder(Path(folder)).iterations().map(\.candidate.name) == ["ckpt_1.pt", "ckpt_2.pt"])
    }

    @Test func `a file that is cut off or empty is named, and not taken for another's`() throws {
        let whole = try Self.torch([("optimizer", .dictionary([])), ("step", .integer(4))])
        for length in [0, 200, whole.count / 2, whole.count - 1] {
            let all = try found(["ckpt_4.pth": Array(whole[..<length])])
            #expect(all.map { $0.layout?.name } == ["torch"], "\(length)")
            #expect(all.first?.inspection.faults.first?.contains("ckpt_4.pth") == true, "\(length)")
        }
    }

    @Test func `weights alone lack the optimizer, and a whole module is one`() throws {
        let state = try PlainTorch().inspect(view("model_3.pt", Self.torch(model: nil)))
        #expect(state.missing == ["the optimizer's state"] && state.step == 3)
        let samples = LayoutSamples.checkpoints
        let module = try samples.view("pytorch/whole_model.pt")
        #expect(try Layouts.layout(of: module)?.name == "torch")
        let names = try PlainTorch().assembly(of: module)?.tensors.map(\.name) ?? []
        let weights = try samples.view("pytorch/model_weights.pt")
        #expect(
            try Set(names) == Set(PlainTorch().assembly(of: weights)?.tensors.map(\.name) ?? [])
                && names.count == 9)
    }

    @Test func `a tensor that is not stored as it is says so, and ranks' parts are no model`() throws {
        let view = try LayoutSamples.checkpoints.view("pytorch/exotic.pt")
        let assembly = try PlainTorch().assembly(of: view)
        let transposed = try #require(assembly?.tensors.first { $0.name == "transposed" })
        #expect(
            transposed.pieces == []
                && transposed.problem?.hasPrefix("in exotic.pt its elements are not") == true)
        let rank = try LayoutSamples.checkpoints.view("dcp/w2/fsdp2_dtensor_rank0.pt")
        #expect(try PlainTorch().assembly(of: rank) == nil)
    }

    @Test func `tensors belong to what the file's keys say`() {
        let layout = PlainTorch()
        for (tensor, part) in [
            ("model.fc.weight", ModelFiles.Part.model), ("optimizer.state.0.exp_avg", .optimizer),
            ("fc.weight", .model),
            ("optimizer_state_dict.state.0.step", .optimizer), ("lr_scheduler.x", .scheduler),
            ("rng_state", .rng), ("epoch", .trainerState),
        ] {
            #expect(layout.part(of: "a.pt", tensor: tensor) == part, "\(tensor)")
        }
    }

    // MARK: Lightning

    private func lightning(_ step: Int, _ extra: [(String, TorchValue)] = []) throws -> [UInt8] {
        try Self.torch(
            [
                ("epoch", .integer(1)), ("global_step", .integer(Int64(step))),
                ("pytorch-lightning_version", .text("2.6.6")),
                ("optimizer_states", .list([.dictionary([(.text("state"), .dictionary([]))])])),
            ] + extra, model: "state_dict")
    }

    @Test func `Lightning's files say step, epoch and the metric that they go by`() throws {
        let callback = TorchValue.dictionary([
            (.text("monitor"), .text("val_loss")), (.text("current_score"), .tensor(0)),
            (.text("best_model_path"), .text("/gone/epoch=0-step=4.ckpt")),
        ])
        let callbacks = TorchValue.dictionary([(.text("ModelCheckpoint{...}"), callback)])
        let file = try TorchFileWriter.file(
            of: .dictionary([
                (.text("pytorch-lightning_version"), .text("2.6.6")), (.text("global_step"), .integer(8)),
                (.text("epoch"), .integer(1)),
                (.text("state_dict"), .orderedDictionary([(.text("w"), .tensor(1))])),
                (.text("callbacks"), callbacks),
            ]),
            tensors: [
                .init(name: "", dtype: .f32, shape: [], content: 0),
                .init(name: "", dtype: .i32, shape: [1], content: 1),
            ]
        ).bytes([withUnsafeBytes(of: Float(0.125)) { [UInt8]($0) }, [1, 0, 0, 0]])
        let one = try #require(try found(["epoch=1-step=8-val_loss=0.12.ckpt": file]).first)
        #expect(one.layout?.name == "lightning" && one.step == 8 && one.inspection.epoch == 1)
        #expect(one.inspection.metrics == ["val_loss": 0.125] && one.inspection.bestMetricName == "val_loss")
        #expect(one.inspection.bestStep == 4 && one.inspection.missing == ["the optimizer's state"])
        let named = try #require(try found(["epoch=1-step=8-val_loss=0.12.ckpt": lightning(8)]).first)
        #expect(named.inspection.metrics == ["val_loss": 0.12])
    }

    @Test func `the last one is an iteration where no other has its step`() throws {
        let files = try ["epoch=0-step=4.ckpt": lightning(4), "last.ckpt": lightning(9)]
        #expect(try found(files).map(\.candidate.name) == ["epoch=0-step=4.ckpt", "last.ckpt"])
        let copy = try ["epoch=0-step=4.ckpt": lightning(4), "last.ckpt": lightning(4)]
        #expect(try found(copy).map(\.candidate.name) == ["epoch=0-step=4.ckpt"])
    }

    @Test func `Lightning's are found where it puts them, and cut off ones are named`() throws {
        let all = try found([
            "lightning_logs/version_2/checkpoints/epoch=0-step=4.ckpt": lightning(4),
            "lightning_logs/version_10/checkpoints/epoch=0-step=6.ckpt": lightning(6),
            "checkpoints/epoch=0-step=5.ckpt": lightning(5),
            "checkpoints/epoch=0-step=7.ckpt": Array(lightning(7).dropLast(30)),
            "checkpoints/epoch=0-step=8.ckpt": [],
            "other.ckpt": Array("text".utf8), "plain_3.ckpt": Self.torch([("optimizer", .dictionary([]))]),
        ])
        #expect(
            all.map(\.candidate.path) == [
                "plain_3.ckpt", "checkpoints/epoch=0-step=5.ckpt",
                "lightning_logs/version_10/checkpoints/epoch=0-step=6.ckpt",
                "checkpoints/epoch=0-step=7.ckpt", "checkpoints/epoch=0-step=8.ckpt",
            ])
        #expect(all.map { $0.layout?.name } == ["torch", "lightning", "lightning", "lightning", "lightning"])
        #expect(all.map(\.inspection.isComplete) == [true, true, true, false, false])
    }

    @Test func `the link to the last one is a pointer, written where no file has its name`() throws {
        let layout = Lightning()
        let folder = try bench.write(
            "out", ["epoch=0-step=4.ckpt": lightning(4), "epoch=1-step=8.ckpt": lightning(8)])
        try FileManager.default.createSymbolicLink(
            atPath: folder + "/last.ckpt", withDestinationPath: "epoch=1-step=8.ckpt")
        let output = try OutputFolder(Path(folder))
        let iterations = try output.iterations()
        #expect(iterations.map(\.step) == [4, 8])
        let set = try #require(try layout.pointed(in: output))
        #expect(set.says == "epoch=1-step=8.ckpt" && set.isLink)
        #expect(layout.pointers(to: iterations[1].candidate) == [set])
        try bench.store.saveAll(folder, options: SaveAllOptions(run: "r"))
        let result = try bench.store.resume(bench.path("fresh"), options: ResumeOptions(run: "r"))
        #expect(result.path == bench.path("fresh/epoch=1-step=8.ckpt"))
        #expect(
            try FileManager.default.destinationOfSymbolicLink(atPath: bench.path("fresh/last.ckpt"))
                == "epoch=1-step=8.ckpt")
        // Again, and where a file has the name.
        #expect(try bench.store.resume(bench.path("fresh"), options: ResumeOptions(run: "r")).step == 8)
        try FileManager.default.removeItem(atPath: bench.path("fresh/last.ckpt"))
        try bench.write("fresh", ["last.ckpt": Array("mine".utf8)])
        #expect(try bench.store.resume(bench.path("fresh"), options: ResumeOptions(run: "r")).step == 8)
        #expect(try String(contentsOfFile: bench.path("fresh/last.ckpt"), encoding: .utf8) == "mine")
    }

    @Test func `a folder that is not where Lightning wrote it is said, and its pickle left alone`() throws {
        func file(_ folder: String) throws -> [UInt8] {
            let callbacks = TorchValue.dictionary([
                (
                    .text("ModelCheckpoint{}"),
                    .dictionary([
                        (.text("dirpath"), .text(folder)),
                        (.text("best_model_path"), .text(folder + "/x.ckpt")),
                    ])
                ), (.text("EarlyStopping"), .dictionary([(.text("patience"), .integer(3))])),
            ])
            return try Self.torch(
                [
                    ("pytorch-lightning_version", .text("2.6.6")), ("global_step", .integer(4)),
                    ("callbacks", callbacks),
                ], model: "state_dict")
        }
        let name = "epoch=0-step=4.ckpt"
        func notes(_ folder: String, relocate: Bool = false) throws -> [String] {
            let options = ResumeOptions(run: "r", relocate: relocate)
            return try bench.store.resume(bench.path(folder), options: options).notes.filter {
                $0.contains("dirpath") || $0.contains("folder of checkpoints")
            }
        }
        try bench.write("out", [name: file(bench.path("out"))])
        #expect(try notes("out").isEmpty)
        for relocate in [false, true] {
            let said = try notes("fresh", relocate: relocate)
            #expect(
                said == [
                    "\(name) says that the folder of checkpoints is \(bench.path("out")), which is elsewhere; that stands in a pickle "
                        + "and stays, so Lightning forgets which were the best unless it writes there again"
                ])
        }
        let copy = FileManager.default.contents(atPath: bench.path("fresh/" + name))
        #expect(copy == FileManager.default.contents(atPath: bench.path("out/" + name)))
    }

    @Test func `a folder of FSDP has Lightning's state beside the tensors`() throws {
        let meta = try TorchFileWriter.file(
            of: .dictionary([
                (.text("pytorch-lightning_version"), .text("2.6.6")), (.text("global_step"), .integer(8)),
                (.text("loops"), .dictionary([])),
            ]), tensors: []
        ).bytes([])
        let writer = try DCPWriter([
            .init(path: [.name("model"), .name("w")], dtype: .i32, shape: [1], content: 0)
        ])
        var files = ["x.ckpt/meta.pt": meta, "x.ckpt/.metadata": writer.metadata]
        for file in writer.files { files["x.ckpt/" + file.name] = file.parts.bytes([[1, 2, 3, 4]]) }
        let one = try #require(try found(files).first)
        #expect(one.layout?.name == "lightning" && one.step == 8 && one.inspection.isComplete)
        let view = try CheckpointView(Path(bench.write("fsdp", files) + "/x.ckpt"))
        #expect(try Lightning().assembly(of: view)?.tensors.map(\.name) == ["w"])
        files["x.ckpt/meta.pt"] = nil
        let cut = try CheckpointView(Path(bench.write("fsdp", files) + "/x.ckpt")).changed(["meta.pt": nil])
        #expect(try Layouts.layout(of: cut)?.name == "dcp")
        // By its own name, what is written last is missing.
        let rest = try LayoutSamples.library("lightning").view("fsdp/epoch=1-step=4.ckpt").changed([
            "meta.pt": nil
        ])
        #expect(try Layouts.layout(of: rest)?.name == "lightning")
        #expect(try Lightning().inspect(rest).faults == ["meta.pt is missing, which is written last"])
        files["x.ckpt/meta.pt"] = Array(meta.dropLast(9))
        let broken = try CheckpointView(Path(bench.write("fsdp2", files) + "/x.ckpt"))
        #expect(try Lightning().inspect(broken).faults.contains { $0.contains("meta.pt is not whole") })
    }

    @Test func `what DeepSpeed writes for Lightning lies in a folder of its own`() throws {
        let samples = LayoutSamples.library("lightning")
        for (tree, lost) in [("deepspeed-2", "mp_rank_00"), ("deepspeed-3", "zero_pp_rank_1_mp_rank_00")] {
            let view = try samples.view("\(tree)/epoch=1-step=4.ckpt")
            let inspection = try Lightning().inspect(view)
            #expect(inspection.isComplete && inspection.step == 4 && inspection.worldSize == 2)
            #expect(inspection.facts.contains { $0 == ("DeepSpeed version", "0.19.8") })
            let file = "checkpoint/\(lost)_model_states.pt"
            let rest = view.changed([file: nil])
            #expect(try Layouts.layout(of: rest)?.name == "lightning")
            #expect(
                try Lightning().inspect(rest).faults == ["in checkpoint, \(lost)_model_states.pt is missing"])
            let optimizer = "checkpoint/zero_pp_rank_1_mp_rank_00_optim_states.pt"
            let error = #expect(throws: CairnError.self) {
                try Lightning().assembly(of: view.changed([optimizer: nil]))
            }
            #expect(error?.message.contains("1 of 2 parts of the optimizer's state are there") == true)
            let cut = view.changed([file: [1, 2, 3]])
            #expect(try Layouts.layout(of: cut)?.name == "lightning")
            #expect(try Lightning().inspect(cut).faults.first?.contains(file.dropFirst(11)) == true)
        }
        let part = Lightning().part
        let optimizer = "checkpoint/zero_pp_rank_0_mp_rank_00_optim_states.pt"
        #expect(part(optimizer, "optimizer_state_dict.fp32_flat_groups.0") == .model)
        #expect(part(optimizer, "optimizer_state_dict.base_optimizer_state.state.0.exp_avg") == .optimizer)
    }

    @Test func `before Lightning 2-1 names in DeepSpeed's files had a word in front`() throws {
        let state = TorchValue.dictionary([
            (.text("pytorch-lightning_version"), .text("2.0.9")), (.text("loops"), .dictionary([])),
            (.text("module"), .dictionary([(.text("_forward_module.net.weight"), .tensor(0))])),
            (.text("param_shapes"), .none), (.text("optimizer"), .dictionary([])),
        ])
        let file = "x.ckpt/checkpoint/mp_rank_00_model_states.pt"
        let folder = try bench.write("old", [file: try TorchFile.of(state, [.init(shape: [2])])])
        let view = try CheckpointView(Path(folder + "/x.ckpt"))
        let tensors = try Layouts.layout(of: view)?.assembly(of: view)?.tensors
        #expect(tensors?.map(\.name) == ["net.weight"])
        #expect(tensors?.first?.pieces.first?.file == "checkpoint/mp_rank_00_model_states.pt")
    }

    // MARK: Other formats

    @Test func `arrays of NumPy are iterations where their names say so`() throws {
        let fixtures = GoldenStore.project + "/Tests/TensorFormatsTests/Fixtures/numpy"
        let name = try #require(
            FileManager.default.contentsOfDirectory(atPath: fixtures).sorted().first { $0.hasSuffix(".npz") })
        let bytes = try [UInt8](Data(contentsOf: URL(fileURLWithPath: fixtures + "/" + name)))
        let all = try found([
            "params_step_9.npz": bytes, "params_step_10.npz": Array(bytes.dropLast(1)), "data_11.npz": bytes,
            "stats.npz": bytes,
            "ckpt_12.npz": [],
        ])
        #expect(all.map(\.candidate.name) == ["params_step_9.npz", "params_step_10.npz", "ckpt_12.npz"])
        #expect(
            all.map(\.inspection.isComplete) == [true, false, false]
                && all.allSatisfy { $0.layout?.name == "npz" })
    }

    @Test func `files of GGUF are known by their first bytes, and all of a model's are needed`() throws {
        let samples = LayoutSamples.library("gguf")
        let split = try samples.view("split")
        #expect(try Layouts.layout(of: split)?.name == "gguf" && GGUF().inspect(split).isComplete)
        let inspection = try GGUF().inspect(samples.view("single"))
        #expect(inspection.facts.contains { $0 == ("architecture", "llama") })
        let name = split.files[1].path
        #expect(try GGUF().inspect(split.changed([name: nil])).faults == ["\(name) is missing"])
        #expect(
            try GGUF().inspect(split.changed([split.files[2].path: nil])).faults == [
                "\(split.files[2].path) is missing"
            ])
        #expect(try GGUF().inspect(split.changed([name: []])).faults.first?.contains(name) == true)
        let other = split.changed(["model.safetensors": Stored.safetensors([])])
        #expect(try Layouts.layout(of: other)?.name == "hf")
        #expect(try Layouts.layout(of: view("x.gguf", Array("text".utf8))) == nil)
    }
}
