import Cairn
import Foundation
import Testing

/// Distributed checkpoints of PyTorch, as torch writes them (tools/python/dcp_fixtures.py).
@Suite struct DistributedTests {
    static let fixtures = GoldenStore.project + "/Tests/TensorFormatsTests/Fixtures/dcp"
    let bench: Workbench
    init() throws { bench = try Workbench() }

    @Test func tensorsHaveThePlacesOfTheirItemsAsNames() throws {
        let result = try bench.store.save(Self.fixtures, options: SaveOptions(step: 1))
        // Compressed items can't be seen into; PyTorch's safetensors under the same name can.
        #expect(
            result.warnings == [
                "compressed.distcp is kept as it is, without its tensors being known: No item of `torch.save` "
                    + "ends at byte 1315 of the file: it is compressed or of another format, or its writing was "
                    + "cut off."
            ])
        let tensors = try bench.store.show("1").tensors
        #expect(tensors.contains { $0.name == "@1641" && $0.shape == [2] && $0.dtype == "BOOL" })
        #expect(tensors.contains { $0.name == "flags" && $0.dtype == "BOOL" })
        try bench.store.restore("1", to: bench.path("to"))
        for name in try FileManager.default.contentsOfDirectory(atPath: Self.fixtures) {
            #expect(
                try Data(contentsOf: URL(fileURLWithPath: bench.path("to/" + name)))
                    == Data(contentsOf: URL(fileURLWithPath: Self.fixtures + "/" + name)), "\(name)")
        }
    }
}
