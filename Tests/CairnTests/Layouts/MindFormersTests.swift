import Foundation
import Platform
import TensorFormats
import Testing

@testable import Cairn

/// MindSpore Transformers 2.0: `iteration_00000003/` with slices and what says where they are.
@Suite struct MindFormersTests {
    let bench: Workbench
    let layout = MindFormers()

    init() throws { bench = try Workbench() }

    /// An iteration of two ranks that hold a row each, and the optimizer's state of it.
    private func iteration(
        _ name: String = "out/checkpoint/iteration_00000003", _ changes: [String: [UInt8]?] = [:]
    ) throws
        -> String
    {
        var files: [String: [UInt8]] = ["common.json": Self.common]
        for rank in 0..<2 {
            let row = Stored.numbers("w", [1, 3], (0..<3).map { Int32(3 * rank + $0) })
            files["a-model-000000\(rank)-0000002.safetensors"] = Stored.safetensors([row])
            let state = Stored.numbers("adam_m.w", [1, 3], (0..<3).map { Int32(30 + 3 * rank + $0) })
            files["a-opt-000000\(rank)-0000002.safetensors"] = Stored.safetensors([state])
        }
        files["metadata.json"] = Array(Self.metadata.utf8)
        for (file, bytes) in changes { files[file] = bytes }
        return try bench.write(name, files)
    }

    private static let common = Array(
        """
        {"epoch_num": 1, "step_num": 3, "global_step": 3, "loss_scale": 64.0, "global_batch_size": 8, "ckpt_status": null}
        """.utf8)

    private static let metadata: String = {
        let tensors = ["w", "adam_m.w"].map { name in
            """
            "\(name)": {"properties": {"dtype": "Int32", "replica_id": [0, 0], "allow_shape_mismatch": false, "allow_to_save": true},
              "global_shape": [2, 3], "axis_fragmentations": [2, 1],
              "layout": {"device_matrix": [2], "tensor_map": [0, -1], "interleaved_parallel": false, "alias_name": ["tp"], "rank_list": [0, 1]},
              "chunk": [{"global_offset": [0], "local_shape": [1, 3]}, {"global_offset": [1], "local_shape": [1, 3]}]}
            """
        }
        let slices = [("w", "model"), ("adam_m.w", "opt")].flatMap { name, kind in
            (0..<2).map { rank in
                """
                "('\(name)', (\(rank),))": [{"file_name": "a-\(kind)-000000\(rank)-0000002.safetensors", "storage_rank": \(rank),
                  "rank_group": [\(rank)]}]
                """
            }
        }
        return
            "{\"state_dict_metadata\": {\(tensors.joined(separator: ","))}, \"storage_data\": {\(slices.joined(separator: ","))}}"
    }()

    private func inspect(_ changes: [String: [UInt8]?] = [:]) throws -> Inspection {
        let folder = UUID().uuidString
        let path = try iteration(folder + "/iteration_00000003", changes)
        let view = try CheckpointView(Path(path))
        #expect(try Layouts.layout(of: view)?.name == "mindformers")
        return try layout.inspect(view)
    }

    @Test func `an iteration says its step, epoch, ranks and what they are arranged in`() throws {
        let inspection = try inspect()
        #expect(inspection.isComplete && inspection.missing == [] && inspection.unhealthy == nil)
        #expect(inspection.step == 3 && inspection.stepFile == "common.json" && inspection.epoch == 1)
        #expect(inspection.worldSize == 2)
        #expect(inspection.facts.contains { $0 == ("parallel layout", "tp 2") })
    }

    @Test func `what is missing or cut off is named`() throws {
        let file = "a-model-0000001-0000002.safetensors"
        #expect(try inspect([file: nil]).faults.contains { $0 == "\(file) is missing" })
        #expect(
            try inspect([file: Array("{}".utf8)]).faults.contains { $0.hasPrefix("\(file) is not whole") })
        #expect(try inspect(["common.json": nil]).faults == ["common.json is missing"])
        #expect(
            try inspect(["metadata.json": nil]).faults == [
                "metadata.json is missing, which several ranks need"
            ])
        for text in ["", "{", "[]", "{\"state_dict_metadata\": {}}", String(Self.metadata.dropLast(9))] {
            #expect(
                try inspect(["metadata.json": Array(text.utf8)]).faults.contains {
                    $0.contains("metadata.json")
                })
        }
        for text in ["", "{\"global_step\": 3.5}", "{\"global_step\": \"3\"}", "7"] {
            #expect(
                try inspect(["common.json": Array(text.utf8)]).faults.contains { $0.contains("common.json") })
        }
        let other = Stored.safetensors([.numbers("v", [1, 3], [1, 2, 3])])
        #expect(try inspect([file: other]).faults == ["\(file) lacks the tensor w"])
        let start = try #require(Self.metadata.range(of: ",\"('w', (1,))\""))
        let end = try #require(
            Self.metadata.range(of: "]}]", range: start.upperBound..<Self.metadata.endIndex))
        var unstored = Self.metadata
        unstored.removeSubrange(start.lowerBound..<end.upperBound)
        #expect(
            try inspect(["metadata.json": Array(unstored.utf8)]).faults == [
                "metadata.json stores slice 1 of the tensor w nowhere"
            ])
        let third = "a-model-0000000-0000003.safetensors"
        #expect(try inspect([third: other]).faults.contains("the files of the model are of two saves"))
    }

    @Test func `temporary files mean that it is still being written`() throws {
        for name in ["a-model-0000001-0000002.tmp", "tmpab12_xy8"] {
            let faults = try inspect([name: [1]]).faults
            #expect(faults == ["\(name) is there, so it is still being written, or its writing was cut off"])
        }
        // Before the first file has its name, the folder's tells.
        let path = try bench.write("early/iteration_00000009", ["model-0000000-0000001.tmp": [1]])
        let view = try CheckpointView(Path(path))
        #expect(try Layouts.layout(of: view)?.name == "mindformers")
        #expect(try !layout.inspect(view).isComplete)
    }

    @Test func `absurd numbers are no step, and NaN is none that is refused`() throws {
        let huge = Array(
            "{\"global_step\": 9223372036854775807, \"epoch_num\": -1, \"ckpt_status\": 0, \"loss_scale\": NaN}"
                .utf8)
        let inspection = try inspect(["common.json": huge])
        #expect(inspection.step == nil && inspection.isComplete && inspection.epoch == -1)
        let wide = Self.metadata.replacingOccurrences(
            of: "\"storage_rank\": 1", with: "\"storage_rank\": 1000000000000")
        _ = try inspect(["metadata.json": Array(wide.utf8)])
        let outside = Self.metadata.replacingOccurrences(of: "a-opt-0000001", with: "../a-opt-0000001")
        #expect(try inspect(["metadata.json": Array(outside.utf8)]).faults.count == 1)
    }

    @Test func `an unhealthy iteration says why`() throws {
        let common = Array("{\"global_step\": 3, \"ckpt_status\": 1}".utf8)
        #expect(try inspect(["common.json": common]).unhealthy == "common.json has the ckpt_status 1")
        #expect(try inspect(["common.json": Array("{\"ckpt_status\": 0}".utf8)]).unhealthy == nil)
    }

    @Test func `one card needs no metadata, and may leave the optimizer out`() throws {
        let weights = Stored.safetensors([.numbers("w", [2], [1, 2])])
        let path = try bench.write(
            "single/iteration_00000001",
            ["model-0000000-0000001.safetensors": weights, "common.json": Self.common])
        let view = try CheckpointView(Path(path))
        let inspection = try layout.inspect(view)
        #expect(
            inspection.isComplete && inspection.worldSize == 1
                && inspection.missing == ["the optimizer's state"])
        let assembly = try #require(try layout.assembly(of: view))
        #expect(assembly.tensors.map(\.name) == ["w"] && assembly.optimizer.isEmpty)
        let rest = view.changed([
            "model-0000000-0000001.safetensors": nil, "opt-0000000-0000001.safetensors": weights,
        ])
        #expect(try layout.inspect(rest).faults == ["model-0000000-0000001.safetensors is missing"])
    }

    @Test func `an adapter is one, and goes with its configuration`() throws {
        let path = try bench.write(
            "lora/iteration_00000001",
            [
                "model-0000000-0000001.safetensors": Stored.safetensors([.numbers("w.lora_a", [2], [1, 2])]),
                "common.json": Self.common, "mindformers_adapter_config.json": Array("{}".utf8),
            ])
        let view = try CheckpointView(Path(path))
        #expect(try layout.inspect(view).isComplete)
        let files = try #require(try layout.assembly(of: view)).files
        #expect(files.map(\.path) == ["mindformers_adapter_config.json"])
        #expect(layout.part(of: "mindformers_adapter_config.json", tensor: nil) == .model)
    }

    @Test func `slices are numbered, not counted in elements`() throws {
        let view = try CheckpointView(Path(try iteration()))
        let assembly = try #require(try layout.assembly(of: view))
        #expect(
            try view.assembled(assembly.tensors)["w"]?.sha256
                == Stored.numbers("w", [2, 3], (0..<6).map { $0 }).sha256)
        #expect(
            try view.assembled(assembly.optimizer)["adam_m.w"]?.sha256
                == Stored.numbers("", [2, 3], (30..<36).map { $0 }).sha256)
    }

    @Test func `replicas are pieces as well`() throws {
        let view = try LayoutSamples.checkpoints.view("mindformers2/dp2tp2/checkpoint/iteration_00000002")
        let assembly = try #require(try layout.assembly(of: view))
        let tensor = try #require(assembly.tensors.first { $0.name.hasSuffix("linear_fc2.weight") })
        #expect(tensor.pieces.count == 4 && Set(tensor.pieces.map(\.place)).count == 2)
        #expect(try view.assembled(assembly.tensors).count == assembly.tensors.count)
        #expect(try layout.inspect(view).facts.contains { $0 == ("parallel layout", "dp 2, tp 2") })
    }

    // MARK: The pointer

    @Test func `the pointer is the bare number, beside the iterations`() throws {
        _ = try iteration()
        let output = try OutputFolder(Path(bench.path("out")))
        let candidate = try #require(try output.candidates().first)
        #expect(candidate.path == "checkpoint/iteration_00000003")
        let pointer = try #require(layout.pointers(to: candidate).first)
        #expect(
            pointer.path == "checkpoint/latest_checkpointed_iteration.txt" && pointer.text == "3"
                && pointer.mode == 0o640)
        for (text, says) in [
            ("3", "3"), (" 12\n", "12"), ("", nil), ("release", nil), ("-1", nil),
            ("99999999999999999999", nil),
        ] {
            try bench.write("out/checkpoint", ["latest_checkpointed_iteration.txt": Array(text.utf8)])
            #expect(try layout.pointed(in: output)?.says == says)
        }
        try bench.write("out/checkpoint", ["latest_checkpointed_iteration.txt": Array("3".utf8)])
        #expect(try layout.pointed(in: output)?.agrees(with: pointer) == true)
        // Of another framework's.
        try bench.write(
            "megatron", ["latest_checkpointed_iteration.txt": Array("3".utf8), "iter_0000003/common.pt": [1]])
        #expect(try layout.pointed(in: OutputFolder(Path(bench.path("megatron")))) == nil)
    }

    @Test func `a resumed training finds the iteration and the pointer`() throws {
        _ = try iteration()
        try bench.store.saveAll(bench.path("out"), options: SaveAllOptions(run: "r"))
        let result = try bench.store.resume(bench.path("fresh"), options: ResumeOptions(run: "r"))
        #expect(result.path == bench.path("fresh/checkpoint/iteration_00000003") && result.step == 3)
        let pointer = bench.path("fresh/checkpoint/latest_checkpointed_iteration.txt")
        #expect(try String(contentsOfFile: pointer, encoding: .utf8) == "3")
        #expect(try FileManager.default.attributesOfItem(atPath: pointer)[.posixPermissions] as? Int == 0o640)
    }

    @Test func `files belong to what their names say`() {
        #expect(layout.part(of: "a-opt-b-model-0000000-0000001.safetensors", tensor: nil) == .model)
        #expect(layout.part(of: "a-model-b-opt-0000000-0000001.safetensors", tensor: nil) == .optimizer)
        #expect(layout.part(of: "common.json", tensor: nil) == .trainerState)
        #expect(layout.part(of: "metadata.json", tensor: nil) == .model)
        #expect(layout.part(of: "model-0000000-0000001.tmp", tensor: nil) == .marker)
    }
}
