import Foundation
import Platform
import TensorFormats
import Testing

@testable import Cairn

/// Distributed checkpoints of PyTorch, torchtitan's among them, and what DCP's writer of Hugging Face files leaves.
@Suite struct DCPTests {
    let bench: Workbench
    let layout = DCP()

    init() throws { bench = try Workbench() }

    /// A checkpoint with one tensor of the model, and what else is given.
    private func checkpoint(_ items: [DCPWriter.Item] = []) throws -> [String: [UInt8]] {
        let weight = DCPWriter.Item(path: [.name("model"), .name("w")], dtype: .i32, shape: [4], content: 0)
        let writer = try DCPWriter([weight] + items)
        var files = [".metadata": writer.metadata]
        let content = Stored.numbers("", [4], [1, 2, 3, 4]).bytes
        for file in writer.files { files[file.name] = file.parts.bytes([content]) }
        return files
    }

    private func object(_ path: [String], _ value: TorchValue) -> DCPWriter.Item {
        .init(path: path.map { .name($0) }, value: .object(value))
    }

    private func view(_ files: [String: [UInt8]], _ name: String = UUID().uuidString) throws -> CheckpointView
    {
        try CheckpointView(Path(try bench.write(name, files)))
    }

    // MARK: Steps

    @Test func `the step is what the training saved of itself, as a number or a tensor`() throws {
        for path in [
            ["train_state", "step"], ["step"], ["global_step"], ["app", "train_state", "step"],
            ["trainer", "iteration"],
        ] {
            let inspection = try layout.inspect(view(checkpoint([object(path, .integer(77))])))
            #expect(inspection.step == 77, "\(path)")
        }
        // torchtitan of 2025 has a tensor of int32 there.
        let titan = try LayoutSamples.library("torch").view("flat-2/step-4")
        #expect(try layout.inspect(titan).step == 4)
        for (path, value) in [
            (["optimizer", "state", "w", "step"], TorchValue.integer(77)), (["step"], .text("77")),
            (["step"], .integer(-1)),
            (["step"], .float(1e300)), (["model", "step"], .integer(5)), (["step"], .float(.nan)),
        ] {
            #expect(try layout.inspect(view(checkpoint([object(path, value)]))).step == nil, "\(path)")
        }
        #expect(try layout.inspect(view(checkpoint([object(["epoch"], .float(1.5))]))).epoch == 1.5)
    }

    @Test func `without a step inside, the name says it`() throws {
        try bench.write("out/step-30", try checkpoint())
        let found = try OutputFolder(Path(bench.path("out"))).iterations()
        #expect(found.map(\.step) == [30] && found.map(\.inspection.step) == [nil])
    }

    // MARK: Candidates

    @Test func `torchtitan's are found from above, and a folder of any name by what is in it`() throws {
        try bench.write("out/checkpoint/step-20", try checkpoint())
        try bench.write("out/epoch_3", try checkpoint())
        try bench.write("out/best", try checkpoint())
        try bench.write("out/begun_4", ["__0_0.distcp": [1]])
        try bench.write("out/tb_5", ["events.out": [1]])
        // Parts of checkpoints of others, and another program's folder.
        for name in ["pytorch_model_fsdp_0", "optimizer_0", "optimizer", "dist_ckpt", "sharded", ".cache"] {
            try bench.write("out/" + name, try checkpoint())
        }
        try bench.write("out/flutter", [".metadata": Array("version:".utf8)])
        let output = try OutputFolder(Path(bench.path("out")))
        let found = Set(try layout.candidates(in: output).map(\.path))
        #expect(found == ["checkpoint/step-20", "epoch_3", "best", "begun_4", "flutter"])
        let iterations = try output.iterations()
        #expect(iterations.allSatisfy { $0.layout?.name == "dcp" })
        #expect(
            Set(iterations.map(\.candidate.path)) == ["checkpoint/step-20", "epoch_3", "best", "begun_4"])
        #expect(Set(iterations.filter(\.inspection.isComplete).map(\.step)) == [20, 3, nil])
    }

    // MARK: Completeness

    @Test func `stale files of a larger world are no part of it, and no fault`() throws {
        var files = try checkpoint()
        let whole = try layout.inspect(view(files))
        files["__7_0.distcp"] = [1, 2, 3]
        let inspection = try layout.inspect(view(files))
        #expect(inspection.isComplete && inspection.worldSize == whole.worldSize && whole.worldSize == 1)
        let assembly = try #require(try layout.assembly(of: view(files)))
        #expect(assembly.tensors.flatMap(\.pieces).allSatisfy { $0.file == "__0_0.distcp" })
    }

    @Test func `what is missing, cut off or being written anew is named`() throws {
        let files = try checkpoint()
        func faults(_ change: (inout [String: [UInt8]]) -> Void) throws -> [String] {
            var changed = files
            change(&changed)
            let view = try view(changed)
            #expect(try layout.recognises(view))
            return try layout.inspect(view).faults
        }
        #expect(try faults { $0[".metadata"] = nil } == [".metadata is missing, which is written last"])
        #expect(try faults { $0[".metadata"] = [] }.first?.hasPrefix(".metadata is not whole") == true)
        #expect(
            try faults { $0[".metadata"]!.removeLast(20) }.first?.hasPrefix(".metadata is not whole") == true)
        #expect(
            try faults { $0["__0_0.distcp"] = nil }.first?.contains("\"__0_0.distcp\" is missing") == true)
        #expect(try faults { $0["__0_0.distcp"]!.removeLast(1) }.first?.contains("__0_0.distcp") == true)
        #expect(
            try faults { $0[".metadata.tmp"] = [1] }
                == [".metadata.tmp is there, so it is still being written, or its writing was cut off"])
    }

    @Test func `ranks that wrote metadata of their own are put together, and a missing one is named`() throws
    {
        let samples = LayoutSamples.library("torch")
        let whole = try samples.view("alone/step-2")
        let inspection = try layout.inspect(whole)
        #expect(inspection.isComplete && inspection.worldSize == 2 && inspection.step == 2)
        #expect(
            try layout.inspect(whole.changed(["__0.metadata": nil])).faults == ["__0.metadata is missing"])
        #expect(
            try layout.inspect(whole.changed(["__1.metadata": nil])).faults == ["__1.metadata is missing"])
        let half = try layout.inspect(whole.changed(["__1.metadata": nil, "__1_0.distcp": nil])).faults
        #expect(half.contains { $0.contains("no chunk of \"model.embed.weight\"") })
    }

    // MARK: Names

    @Test(
        arguments: [
            (["model", "layers.0.w"], DCPRole.model("layers.0.w")), (["layers.0.w"], .model("layers.0.w")),
            (["state_dict", "a", "b"], .model("a.b")), (["student", "w"], .model("student.w")),
            (["app", "model", "w"], .model("w")),
            (["optimizer", "state", "w.x", "exp_avg"], .optimizer("exp_avg.w.x")),
            (["optimizer", "state.w.x.exp_avg"], .optimizer("exp_avg.w.x")),
            (["optimizer_1", "state", "w", "step"], .optimizer("step.w")),
            (["optimizer", "state", "0", "exp_avg"], .optimizer(nil)),
            (["optimizer", "param_groups", "0", "lr"], .optimizer(nil)),
            (["optim", "param_groups.w.x.lr"], .optimizer(nil)), (["lr_scheduler", "last_epoch"], .other),
            (["train_state", "step"], .other), (["dataloader", "0"], .other), (["step"], .other),
        ] as [([String], DCPRole)])
    func `keys tell what a tensor is for`(_ keys: [String], _ role: DCPRole) {
        let path = keys.map { key in Int64(key).map { DCPMetadata.Key.index($0) } ?? .name(key) }
        #expect(DCPRole(keys.joined(separator: "."), path) == role)
    }

    @Test func `without paths the names' parts are the keys`() {
        #expect(DCPRole("model.layers.0.w", nil) == .model("layers.0.w"))
        #expect(DCPRole("optimizer.state.layers.0.w.exp_avg", nil) == .optimizer("exp_avg.layers.0.w"))
        #expect(DCPRole("", nil) == .model(""))
        #expect(DCPRole("", []) == .model(""))
    }

    @Test func `the state of an optimizer alone is no model`() throws {
        let samples = LayoutSamples.library("llamafactory")
        let assembly = try #require(try layout.assembly(of: samples.view("two/checkpoint-2/optimizer")))
        #expect(assembly.tensors.isEmpty && !assembly.optimizer.isEmpty)
    }

    // MARK: Files of Hugging Face

    /// A file of a rank with rows of a tensor from `offset` on.
    private func shard(_ offset: UInt64, _ values: [Int32], info: String? = nil) -> [UInt8] {
        let info = info ?? "{\"w\": {\"saved_offsets\": [\(offset)]}}"
        return Stored.safetensors(
            [.numbers("w", [UInt64(values.count)], values)],
            metadata: [("DCP_VERSION", "1.0"), ("DCP_SHARDING_INFO", info)])
    }

    @Test func `files of each rank are complete where their chunks tile`() throws {
        let files = [
            "shard-00001-model-00001-of-00001.safetensors": shard(0, [1, 2, 3]),
            "shard-00002-model-00001-of-00001.safetensors": shard(3, [4]),
            "config.json": Array("{}".utf8),
        ]
        let whole = try view(files, "out/step-5")
        #expect(try Layouts.layout(of: whole)?.name == "dcp")
        #expect(try layout.inspect(whole).isComplete && layout.inspect(whole).worldSize == 2)
        let assembly = try #require(try layout.assembly(of: whole))
        #expect(
            try whole.assembled(assembly.tensors)["w"]?.sha256
                == Stored.numbers("", [4], [1, 2, 3, 4]).sha256)
        #expect(assembly.files.map(\.path) == ["config.json"])
        func faults(_ changes: [String: [UInt8]?]) throws -> [String] {
            try layout.inspect(whole.changed(changes)).faults
        }
        let (first, second) = (
            "shard-00001-model-00001-of-00001.safetensors", "shard-00002-model-00001-of-00001.safetensors"
        )
        #expect(try faults([first: nil]).first == "no file of rank 1 is there, such as \(first)")
        #expect(
            try faults([second: shard(4, [4])]).contains {
                $0.contains("no chunk of \"w\" has the element at [3]")
            })
        #expect(try faults([second: shard(2, [4])]).contains { $0.contains("overlap") })
        #expect(try faults([second: []]).contains { $0.hasPrefix("\(second) is not whole") })
        for info in [
            "", "[]", "{\"w\": {}}", "{\"w\": {\"saved_offsets\": [0, 0]}}",
            "{\"w\": {\"saved_offsets\": [-1]}}",
            "{\"w\": {\"saved_offsets\": [18446744073709551615]}}",
        ] {
            #expect(try faults([second: shard(0, [4], info: info)]).count == 1, "\(info)")
        }
        // The same name with another type, and with other axes.
        for other in [
            Stored(name: "w", dtype: .f32, shape: [1], bytes: [0, 0, 0, 0]), .numbers("w", [1, 1], [4]),
        ] {
            let offsets = other.shape.map { _ in "3" }.joined(separator: ",")
            let bytes = Stored.safetensors(
                [other], metadata: [("DCP_SHARDING_INFO", "{\"w\": {\"saved_offsets\": [\(offsets)]}}")])
            #expect(try faults([second: bytes]).contains { $0.contains("contradict") })
        }
        #expect(
            try faults(["shard-00001-model-00001-of-00003.safetensors": shard(0, [1])]).contains {
                $0.contains("of two saves")
            })
    }

    @Test func `files that are to be merged are complete once they are`() throws {
        let merged = try LayoutSamples.library("torch").view("hf-merged/step-4")
        #expect(try Layouts.layout(of: merged)?.name == "dcp" && layout.inspect(merged).isComplete)
        let faults = try layout.inspect(merged.changed(["model.safetensors.index.json": nil])).faults
        #expect(
            faults == [
                "model.safetensors.index.json is missing, which is written once the files in sharded are merged"
            ])
    }

    @Test func `a model that one rank wrote is a model of Hugging Face`() throws {
        let view = try LayoutSamples.checkpoints.view("dcp/w2/hf_rank0_full")
        #expect(try Layouts.layout(of: view)?.name == "hf")
        #expect(try HuggingFace().inspect(view).isComplete)
    }
}
