import Foundation
import Platform
import TensorFormats
import Testing

@testable import Cairn

/// Weights that are nowhere but beside the optimizer's state stay where only weights are kept.
@Suite struct OnlyWeightsTests {
    let bench: Workbench
    init() throws { bench = try Workbench() }

    private static let expected = LibraryTreeTests.Tree.all.first {
        $0.library == "deepspeed" && $0.path == "zero-3"
    }!.iterations.first { $0["step"]?.uint64 == 4 }!

    /// A checkpoint with DeepSpeed's folder inside it.
    private func write(
        _ name: String, tree: String = "zero-3", folder: String, _ others: [String: [UInt8]]
    ) throws -> String {
        let samples = LayoutSamples.library("deepspeed")
        let path = try bench.write(name, others)
        try FileManager.default.copyItem(
            atPath: samples.path(tree + "/global_step4"), toPath: path + "/" + folder)
        return path
    }

    private static let trainer: [String: [UInt8]] = [
        "config.json": Array("{}".utf8), "trainer_state.json": Array("{\"global_step\": 4}".utf8),
        "latest": Array("global_step4".utf8), "zero_to_fp32.py": Array("pass".utf8),
        "rng_state_0.pth": [1], "rng_state_1.pth": [1],
    ]

    /// That the model of an iteration is still the one that DeepSpeed loads.
    private func hasWeights(_ reference: String) throws -> Bool {
        let info = try bench.store.resolve(reference)
        let view = try bench.store.view(of: info)
        let layout = try #require(try Layouts.layout(of: view))
        let model = try #require(try layout.assembly(of: view)).tensors
        return try view.assembled(model) == ExpectedTensor.all(Self.expected["model"])
    }

    private func files(_ reference: String) throws -> [String] {
        try bench.store.show(reference).files.filter { $0.kind == .file }.map(\.path)
    }

    @Test(arguments: ["checkpoint-4", "best"])
    func `a Trainer's checkpoint without gathered weights keeps DeepSpeed's`(_ name: String) throws {
        let path = try write(name, folder: "global_step4", Self.trainer)
        try bench.store.save(path, options: SaveOptions(run: "r", step: 4, modelOnly: true))
        #expect(try hasWeights("r@4"))
        let kept = try files("r@4")
        #expect(kept.filter { $0.hasSuffix("_optim_states.pt") }.count == 2)
        #expect(!kept.contains("rng_state_0.pth") && !kept.contains("trainer_state.json"))
        try bench.store.export("r@4", to: bench.path("hf"), options: ExportOptions(layout: "hf"))
        #expect(FileManager.default.fileExists(atPath: bench.path("hf/model.safetensors")))
    }

    @Test func `older iterations keep them too when they lose the optimizer`() throws {
        for step in [4, 5] {
            let path = try write("checkpoint-\(step)", folder: "global_step4", Self.trainer)
            try bench.store.save(path, options: SaveOptions(run: "r", step: UInt64(step)))
        }
        _ = try bench.store.pin("r@4", name: "release", weightsOnly: true)
        try bench.store.setPolicy(Policy(keepOptimizerLast: 1), run: "r")
        #expect(try bench.store.collect(dryRun: false).stripped.map(\.step) == [4])
        #expect(try hasWeights("release"))
        #expect(try !files("release").contains("rng_state_0.pth"))
        #expect(try bench.store.verify().ok)
    }

    @Test func `gathered weights are enough`() throws {
        var files = Self.trainer
        files["model.safetensors"] = Workbench.safetensors([("w", [1, 2])])
        let path = try write("checkpoint-4", folder: "global_step4", files)
        try bench.store.save(path, options: SaveOptions(run: "r", modelOnly: true))
        #expect(try self.files("r@4") == ["config.json", "model.safetensors"])
    }

    @Test func `an adapter's file without anything in it is not taken for the weights`() throws {
        var files = Self.trainer
        files["adapter_config.json"] = Array("{}".utf8)
        files["adapter_model.safetensors"] = Workbench.safetensors([("w", [])])
        let path = try write("checkpoint-4", folder: "global_step4", files)
        try bench.store.save(path, options: SaveOptions(run: "r", modelOnly: true))
        #expect(try hasWeights("r@4"))
    }

    @Test func `accelerate's and other folders of DeepSpeed keep theirs`() throws {
        for (run, name, folder, others) in [
            ("a", "checkpoint_4", "pytorch_model", ["random_states_0.pkl": [1]]),
            ("l", "checkpoint-4", "pytorch_model", ["CHECKPOINT_COMPLETE": [], "metadata.json": [1]]),
            ("d", "anything", "global_step4", ["latest": [1]]),
            ("p", "x.ckpt", "checkpoint", ["zero_to_fp32.py": [1]]),
        ] as [(String, String, String, [String: [UInt8]])] {
            let path = try write(run + "/" + name, folder: folder, others)
            try bench.store.save(path, options: SaveOptions(run: run, step: 4, modelOnly: true))
            let states = try files("\(run)@4").filter { $0.hasSuffix("_states.pt") }
            #expect(states.count == 4, "\(name): \(states)")
        }
    }

    @Test func `what is only the optimizer's goes, whatever the layout`() throws {
        let sample = LayoutSamples.library("torch").path("verl-sft/global_step_2")
        try bench.store.save(sample, options: SaveOptions(run: "v", modelOnly: true))
        let kept = try files("v@2")
        #expect(!kept.contains { $0.contains("optim") } && kept.contains { $0.contains("model_world_size") })
    }

    @Test func `lost roots of weights only are found again`() throws {
        let path = try write("checkpoint-4", folder: "global_step4", Self.trainer)
        try bench.store.save(path, options: SaveOptions(run: "r", modelOnly: true))
        let view = try CheckpointView(Path(path))
        let files = try WeightFiles(view)
        let stored = try self.files("r@4")
        #expect(view.files.map(\.path).filter { files.has([UInt8]($0.utf8)) } == stored)
    }
}
