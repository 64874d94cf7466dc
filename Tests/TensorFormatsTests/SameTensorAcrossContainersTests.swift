import Testing

@testable import TensorFormats

/// The same tensor is a blob of the same bytes, whatever of PyTorch's files it comes from.
struct SameTensorAcrossContainersTests {
    /// 24 numbers of the type float32 that count up, 4 times 6.
    private static let bytes = (0..<24).flatMap { little(UInt64(Float($0).bitPattern), 4) }

    @Test(arguments: [
        "same.safetensors", "same.pt", "same-before-1.6.pt", "same.distcp", "one.distcp", "torch-2.0.distcp",
    ])
    func `a tensor is cut out of every container as the same bytes`(_ name: String) throws {
        let file = try Fixtures.bytes("dcp/\(name)")
        let map =
            switch name.split(separator: ".").last {
            case "safetensors": TensorMap(try SafetensorsHeader(file: file))
            case "pt": try TensorMap(pyTorch: file)
            default: try TensorMap(distributed: file)
            }
        let tensor = try #require(map.tensors.first { $0.shape == [4, 6] && $0.dtype == "F32" })
        let extent = map.extents[tensor.extent]
        #expect(extent.length == tensor.length && extent.elementSize == 4)
        #expect(Array(map.bytes(of: tensor, in: file)) == Self.bytes)
    }
}
