import Foundation
import Platform
import TensorFormats
import Testing

@testable import Cairn

/// What makes folders of accelerate, LLaMA-Factory v1, orbax and TensorFlow incomplete, and how they are told from others.
@Suite struct FolderLayoutTests {
    let bench: Workbench

    init() throws { bench = try Workbench() }

    private func faults(_ view: CheckpointView, _ changes: [String: [UInt8]?]) throws -> [String] {
        let changed = view.changed(changes)
        return try #require(try Layouts.layout(of: changed)).inspect(changed).faults
    }

    // MARK: accelerate

    @Test func `accelerate's are found where it numbers them, and where the loop names them`() throws {
        let source = LayoutSamples.library("accelerate").path("named/step_2")
        for path in ["out/checkpoints/checkpoint_3", "out/step_500", "out/epoch_7"] {
            try FileManager.default.createDirectory(
                atPath: bench.path((path as NSString).deletingLastPathComponent),
                withIntermediateDirectories: true)
            try FileManager.default.copyItem(atPath: source, toPath: bench.path(path))
        }
        try bench.write("out/step_9", ["notes.txt": [1]])
        let all = try OutputFolder(Path(bench.path("out"))).iterations()
        #expect(all.map(\.candidate.path) == ["checkpoints/checkpoint_3", "epoch_7", "step_500"])
        #expect(all.map(\.step) == [3, 7, 500] && all.map(\.inspection.epoch) == [nil, 7, nil])
        #expect(all.allSatisfy { $0.layout?.name == "accelerate" && $0.inspection.worldSize == 2 })
        let one = try bench.store.save(bench.path("out/step_500"), options: SaveOptions(run: "r"))
        #expect(one.step == 500)
    }

    @Test func `a rank's random numbers, an optimizer and custom objects are looked at`() throws {
        let view = try LayoutSamples.library("accelerate").view("named/step_2")
        #expect(try faults(view, ["random_states_0.pkl": nil]) == ["random_states_0.pkl is missing"])
        #expect(
            try faults(view, ["random_states_0.pkl": nil, "random_states_1.pkl": nil])
                == ["random_states_0.pkl is missing, which is written behind the rest"])
        for file in ["random_states_1.pkl", "optimizer.bin", "scheduler.bin", "custom_checkpoint_0.pkl"] {
            for bytes in [[], Array(try view.read(file)!.dropLast(9))] {
                #expect(try faults(view, [file: bytes]).contains { $0.hasPrefix(file) }, "\(file)")
            }
        }
        let rest = view.changed(["optimizer.bin": nil, "scheduler.bin": nil])
        #expect(try Accelerate().inspect(rest).missing == ["the optimizer's state", "the scheduler's state"])
        #expect(Accelerate().rank(of: "random_states_1.pkl") == 1)
    }

    @Test func `a Trainer's checkpoint with FSDP stays the Trainer's`() throws {
        let files = [
            "trainer_state.json": Array("{\"global_step\": 1}".utf8), "optimizer.bin": try LoopTests.torch(),
        ]
        let view = try CheckpointView(Path(bench.write("checkpoint-1", files)))
        #expect(try Layouts.layout(of: view)?.name == "hf")
    }

    @Test func `tensors of FSDP's folders are accelerate's model and optimizer`() throws {
        let model = LayoutSamples.library("torch").path("nested-2/step-4")
        let random = LayoutSamples.library("accelerate").path("named/step_2/random_states_0.pkl")
        try bench.write("fsdp/checkpoint_1", [:])
        try FileManager.default.createDirectory(
            atPath: bench.path("fsdp/checkpoint_1"), withIntermediateDirectories: true)
        try FileManager.default.copyItem(
            atPath: model, toPath: bench.path("fsdp/checkpoint_1/pytorch_model_fsdp_0"))
        try FileManager.default.copyItem(atPath: model, toPath: bench.path("fsdp/checkpoint_1/optimizer_0"))
        try FileManager.default.copyItem(
            atPath: random, toPath: bench.path("fsdp/checkpoint_1/random_states_0.pkl"))
        let view = try CheckpointView(Path(bench.path("fsdp/checkpoint_1")))
        #expect(try Layouts.layout(of: view)?.name == "accelerate")
        #expect(try Accelerate().inspect(view).isComplete)
        let assembly = try #require(try Accelerate().assembly(of: view))
        #expect(try view.assembled(assembly.tensors).count == 13)
        #expect(
            assembly.optimizer.allSatisfy { $0.pieces.allSatisfy { $0.file.hasPrefix("optimizer_0/") } }
                && !assembly.optimizer.isEmpty)
        #expect(
            try faults(view, ["pytorch_model_fsdp_0/.metadata": nil]) == [
                "in pytorch_model_fsdp_0, .metadata is missing, which is written last"
            ])
        // It is one iteration, and not two of DCP.
        #expect(
            try Checkpoints.iterations(at: bench.path("fsdp/checkpoint_1")).map(\.layout) == ["accelerate"])
    }

    @Test func `a Trainer's folders of FSDP are looked into, and its model is put together`() throws {
        let folder = bench.path("checkpoint-4")
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        for name in ["pytorch_model_fsdp_0", "optimizer_0"] {
            try FileManager.default.copyItem(
                atPath: LayoutSamples.library("torch").path("nested-2/step-4"), toPath: folder + "/" + name)
        }
        let state = try LoopTests.torch()
        try bench.write(
            "checkpoint-4",
            [
                "trainer_state.json": Array("{\"global_step\": 4}".utf8), "scheduler.pt": state,
                "rng_state_0.pth": state,
                "rng_state_1.pth": state,
            ])
        let view = try CheckpointView(Path(folder))
        #expect(try Layouts.layout(of: view)?.name == "hf")
        let inspection = try HuggingFace().inspect(view)
        #expect(inspection.isComplete && inspection.worldSize == 2 && inspection.missing == [])
        let assembly = try #require(try HuggingFace().assembly(of: view))
        #expect(try view.assembled(assembly.tensors).count == 13 && !assembly.optimizer.isEmpty)
        for name in ["pytorch_model_fsdp_0", "optimizer_0"] {
            #expect(
                try faults(view, [name + "/.metadata": nil]) == [
                    "in \(name), .metadata is missing, which is written last"
                ])
        }
        let absurd = view.changed(["rng_state_9007199254740991.pth": state])
        #expect(try HuggingFace().inspect(absurd).faults == ["rng_state_2.pth is missing"])
    }

    // MARK: LLaMA-Factory v1

    @Test func `without its mark LLaMA-Factory's is not complete, even where somebody names it`() throws {
        let samples = LayoutSamples.library("llamafactory")
        var view = try samples.view("one/checkpoint-6")
        view.mayBeUnfinished = false
        #expect(try Layouts.layout(of: view)?.name == "llamafactory")
        #expect(
            try LlamaFactory1().inspect(view).faults == [
                "CHECKPOINT_COMPLETE is missing, which is written last"
            ])
    }

    @Test func `each rank's state is looked at, and what a resumed training starts anew is said`() throws {
        let view = try LayoutSamples.library("llamafactory").view("two/checkpoint-2")
        #expect(try faults(view, ["rng_state/rank_0.pt": nil]) == ["rng_state/rank_0.pt is missing"])
        #expect(try faults(view, ["dataloader/rank_0.pt": nil]) == ["dataloader/rank_0.pt is missing"])
        #expect(
            try faults(view, ["dataloader/rank_1.pt": [1]]).first?.hasPrefix(
                "dataloader/rank_1.pt is not whole") == true)
        #expect(try faults(view, ["scheduler.pt": []]).first?.hasPrefix("scheduler.pt is not whole") == true)
        for text in ["", "{}", "{\"global_step\": -1, \"num_training_steps\": 1}", "{\"global_step\": NaN}"] {
            #expect(
                try faults(view, ["metadata.json": Array(text.utf8)]).contains {
                    $0.contains("metadata.json")
                }, "\(text)")
        }
        let state = view.files.map(\.path).filter { $0.hasPrefix("optimizer/") || $0.hasPrefix("rng_state/") }
        let rest = view.changed(Dictionary(uniqueKeysWithValues: state.map { ($0, nil) }))
        #expect(
            try LlamaFactory1().inspect(rest).missing == [
                "the optimizer's state", "the random numbers' state",
            ])
        #expect(LlamaFactory1().rank(of: "rng_state/rank_3.pt") == 3)
    }

    @Test func `a Trainer's checkpoint is not LLaMA-Factory v1's, nor the other way round`() throws {
        for (name, layout) in [
            ("hf-trainer/basic/checkpoint-2", "hf"), ("hf-trainer/lora/checkpoint-1", "hf"),
        ] {
            #expect(try Layouts.layout(of: LayoutSamples.checkpoints.view(name))?.name == layout)
        }
    }

    // MARK: orbax

    @Test func `what orbax did not finish has another name, or is told`() throws {
        let samples = LayoutSamples.library("orbax")
        #expect(try Orbax().candidates(in: samples.output("kept")).allSatisfy { !$0.name.contains("tmp") })
        let view = try samples.view("kept/3")
        #expect(
            try faults(view, ["_CHECKPOINT_METADATA": Array("{\"item_".utf8)]).first?.contains(
                "_CHECKPOINT_METADATA") == true)
        #expect(
            try faults(view, ["_CHECKPOINT_METADATA": Array("{\"commit_timestamp_nsecs\": null}".utf8)])
                == ["_CHECKPOINT_METADATA says that it was never finished"])
        #expect(try faults(view, ["default/_METADATA": []]).first?.contains("default/_METADATA") == true)
        #expect(try faults(view, ["default/manifest.ocdbt": nil]) == ["default/manifest.ocdbt is missing"])
        #expect(
            try faults(view, ["default/ocdbt.process_0/manifest.ocdbt": []]) == [
                "default/ocdbt.process_0/manifest.ocdbt is empty"
            ])
        let data = try #require(view.files.map(\.path).first { $0.hasPrefix("default/d/") })
        #expect(try faults(view, [data: []]) == ["\(data) is empty"])
        let items = Array("{\"item_handlers\": {\"state\": \"x\", \"default\": \"y\"}}".utf8)
        #expect(try faults(view, ["_CHECKPOINT_METADATA": items]) == ["state is missing"])
        let absurd = Array("{\"item_handlers\": 7, \"metrics\": [1], \"commit_timestamp_nsecs\": NaN}".utf8)
        #expect(try faults(view, ["_CHECKPOINT_METADATA": absurd]) == [])
    }

    @Test func `metrics are orbax's own, in the metadata or in a file`() throws {
        let view = try LayoutSamples.library("orbax").view("kept/3")
        let inside = Array(
            "{\"item_handlers\": {\"default\": \"\"}, \"metrics\": {\"loss\": 0.5, \"note\": \"x\"}}".utf8)
        #expect(try Orbax().inspect(view.changed(["_CHECKPOINT_METADATA": inside])).metrics == ["loss": 0.5])
        let file = view.changed(["metrics/metrics": Array("{\"loss\": 0.25, \"nan\": NaN}".utf8)])
        let metrics = try Orbax().inspect(file).metrics
        #expect(metrics["loss"] == 0.25 && metrics["nan"]?.isNaN == true)
        #expect(Orbax().part(of: "metrics/metrics", tensor: nil) == .trainerState)
        #expect(Orbax().part(of: "default/commit_success.txt", tensor: nil) == .marker)
    }

    @Test func `numbered folders of others are none of orbax's`() throws {
        try bench.write("out/5", ["model.txt": [1]])
        try bench.write("out/run_6", ["_METADATA": [1]])
        #expect(try Orbax().candidates(in: OutputFolder(Path(bench.path("out")))).isEmpty)
        #expect(Orbax().step(ofFile: "500") == 500 && Orbax().step(ofFile: "ckpt_500") == 500)
    }

    // MARK: TensorFlow

    @Test func `files of a step are told by their names, and the data has to be as long as the index says`()
        throws
    {
        let samples = LayoutSamples.library("tensorflow")
        let output = try samples.output("managed")
        let candidate = try #require(try output.candidates().first { $0.step == 20 })
        #expect(candidate.files == ["ckpt-20.data-00000-of-00001", "ckpt-20.index"])
        let view = try output.view(of: candidate)
        #expect(
            try faults(view, ["ckpt-20.index": nil]) == ["ckpt-20.index is missing, which is written last"])
        #expect(
            try faults(view, ["ckpt-20.data-00000-of-00001": nil]) == [
                "ckpt-20.data-00000-of-00001 is missing"
            ])
        let data = try #require(try view.read("ckpt-20.data-00000-of-00001"))
        #expect(
            try faults(view, ["ckpt-20.data-00000-of-00001": Array(data.dropLast())])
                == ["ckpt-20.data-00000-of-00001 ends at byte \(data.count - 1) of \(data.count)"])
        let index = try #require(try view.read("ckpt-20.index"))
        var damaged = index
        damaged[3] = 0xFF
        #expect(try faults(view, ["ckpt-20.index": damaged]).first?.contains("ckpt-20.index") == true)
        #expect(
            try TensorFlow().inspect(view).step == 20
                && TensorFlow().inspect(view).stepFile == "ckpt-20.data-00000-of-00001")
    }

    @Test func `an index of something else, and a folder with several, are no checkpoint of TensorFlow`()
        throws
    {
        try bench.write("out", ["words-5.index": Array("words and their places".utf8), "list.index": [1]])
        let all = try OutputFolder(Path(bench.path("out"))).iterations()
        #expect(all.allSatisfy { $0.layout == nil })
        #expect(try Layouts.layout(of: LayoutSamples.library("tensorflow").view("managed")) == nil)
    }

    @Test func `its pointer is a text proto, relative or not`() throws {
        let layout = TensorFlow()
        let samples = LayoutSamples.library("tensorflow")
        let output = try samples.output("managed")
        let set = try #require(try layout.pointed(in: output))
        #expect(set.says == "ckpt-30")
        let candidates = try output.candidates()
        #expect(candidates.map { layout.pointers(to: $0).contains(where: set.agrees) } == [false, true])
        #expect(
            layout.pointers(to: candidates[0])[0].text
                == "model_checkpoint_path: \"ckpt-20\"\nall_model_checkpoint_paths: \"ckpt-20\"\n")
        for (text, says) in [
            ("model_checkpoint_path: \"/abs/out/ckpt-7\"", "ckpt-7"), ("", nil),
            ("model_checkpoint_path: \"\"", nil),
            ("model_checkpoint_path: ckpt", nil), ("model_checkpoint_path:", nil), ("\u{0}\u{1}", nil),
        ] as [(String, String?)] {
            try bench.write("out", ["checkpoint": Array(text.utf8)])
            #expect(try layout.pointed(in: OutputFolder(Path(bench.path("out"))))?.says == says)
        }
        try bench.store.saveAll(samples.path("managed"), options: SaveAllOptions(run: "r"))
        let result = try bench.store.resume(bench.path("fresh"), options: ResumeOptions(run: "r"))
        #expect(result.path == bench.path("fresh/ckpt-30") && result.step == 30)
        #expect(try layout.pointed(in: OutputFolder(Path(bench.path("fresh"))))?.says == "ckpt-30")
    }
}
