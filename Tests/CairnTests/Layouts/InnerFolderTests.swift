import Foundation
import Platform
import Testing

@testable import Cairn

/// A layout's checkpoint in a folder of another one: whatever is wrong with it, files go by their paths in the whole.
@Suite struct InnerFolderTests {
    let bench: Workbench
    init() throws { bench = try Workbench() }

    private func assembly(_ path: String) throws -> Assembly? {
        let view = try CheckpointView(Path(path))
        return try Layouts.layout(of: view)?.assembly(of: view)
    }

    @Test(arguments: [
        ("checkpoint-4", "global_step4", "trainer_state.json"),
        ("checkpoint_4", "pytorch_model", "random_states_0.pkl"),
    ])
    func `a file of DeepSpeed's that was cut off is named by its path`(
        name: String, folder: String, other: String
    ) throws {
        let path = try bench.write(name, [other: Array("{}".utf8)])
        try FileManager.default.copyItem(
            atPath: LayoutSamples.library("deepspeed").path("zero-3/global_step4"),
            toPath: path + "/" + folder)
        #expect(try assembly(path)?.tensors.isEmpty == false)
        let file = "zero_pp_rank_1_mp_rank_00_optim_states.pt"
        try Data([1, 2, 3]).write(to: URL(fileURLWithPath: "\(path)/\(folder)/\(file)"))
        let error = #expect(throws: CairnError.self) { try assembly(path) }
        #expect(error?.path == "\(folder)/\(file)")
        #expect(
            error?.message.hasPrefix(
                "the model can't be put together: \(folder)/\(file) can't be read: ") == true,
            "\(error?.message ?? "")")
    }

    @Test func `a tensor that FSDP's ranks have compressed is named with its file's path`() throws {
        let fixtures = GoldenStore.project + "/Tests/TensorFormatsTests/Fixtures/dcp/"
        let bytes = try ["compressed.distcp", "compressed.metadata"].map {
            try [UInt8](Data(contentsOf: URL(fileURLWithPath: fixtures + $0)))
        }
        let path = try bench.write(
            "checkpoint-4",
            [
                "trainer_state.json": Array("{\"global_step\": 4}".utf8),
                "pytorch_model_fsdp_0/__0_0.distcp": bytes[0], "pytorch_model_fsdp_0/.metadata": bytes[1],
            ])
        let tensors = try #require(try assembly(path)?.tensors)
        #expect(tensors.map(\.name) == ["weight", "flags"])
        #expect(
            tensors.allSatisfy {
                $0.problem?.text.hasPrefix("in pytorch_model_fsdp_0/__0_0.distcp it is compressed") == true
            })
    }
}
