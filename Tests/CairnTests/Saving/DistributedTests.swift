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
                "compressed.distcp is kept as it is, without its tensors being known: Its items are compressed "
                    + "with zstd."
            ])
        let tensors = try bench.store.show("1").tensors
        #expect(tensors.contains { $0.name == "@1641" && $0.shape == [2] && $0.dtype == "BOOL" })
        #expect(tensors.contains { $0.name == "flags" && $0.dtype == "BOOL" })
        try restoresAsItWas(Self.fixtures)
    }

    private func restoresAsItWas(_ folder: String) throws {
        try bench.store.restore("1", to: bench.path("to"))
        for name in try FileManager.default.contentsOfDirectory(atPath: folder) {
            #expect(
                try Data(contentsOf: URL(fileURLWithPath: bench.path("to/" + name)))
                    == Data(contentsOf: URL(fileURLWithPath: folder + "/" + name)), "\(name)")
        }
    }

    @Test func `what torch has compressed is whole, is kept as it is, and is refused by its name`() throws {
        let bytes = try ["compressed.distcp", "compressed.metadata"].map {
            try [UInt8](Data(contentsOf: URL(fileURLWithPath: Self.fixtures + "/" + $0)))
        }
        let folder = try bench.write("step-1", ["__0_0.distcp": bytes[0], ".metadata": bytes[1]])
        let found = try Checkpoints.iterations(at: folder)
        #expect(found.map(\.layout) == ["dcp"] && found.allSatisfy(\.isComplete))
        let saved = try bench.store.save(folder)
        #expect(saved.warnings.count == 1 && saved.layout == "dcp")
        try restoresAsItWas(folder)
        let shown = try bench.store.show("1").tensors
        #expect(shown.map(\.name) == ["weight", "flags"] && shown.map(\.shape) == [[4, 6], [2]])
        let options = ExportOptions(layout: "hf")
        let refusal = #expect(throws: CairnError.self) {
            try bench.store.export("1", to: bench.path("hf"), options: options)
        }
        #expect(
            refusal?.message
                == "the tensor weight can't be put together: in __0_0.distcp it is compressed (stream.zstd/1), which only "
                + "PyTorch undoes; use `cairn restore`")
    }

    @Test func `a compressed file that was cut off is not whole`() throws {
        let bytes = try ["compressed.distcp", "compressed.metadata"].map {
            try [UInt8](Data(contentsOf: URL(fileURLWithPath: Self.fixtures + "/" + $0)))
        }
        let folder = try bench.write(
            "step-1", ["__0_0.distcp": bytes[0].dropLast(), ".metadata": bytes[1]])
        #expect(try Checkpoints.iterations(at: folder).first?.faults.count == 1)
    }
}
