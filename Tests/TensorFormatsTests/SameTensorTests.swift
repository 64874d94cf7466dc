import Testing

@testable import TensorFormats

/// One tensor, saved by the library of each format.
struct SameTensorTests {
    @Test(arguments: ["numpy/same.npy", "numpy/same.npz", "gguf/same.gguf", "mindspore/same.ckpt"])
    func `a tensor is the same blob in every format`(_ path: String) throws {
        let file = try Fixture(path)
        let map = try TensorMap(String(path.split(separator: ".").last!), file)
        let original = try Fixture("numpy/same.safetensors")
        let expected = try TensorMap("safetensors", original)
        let (tensor, reference) = (try #require(map.tensors.first), try #require(expected.tensors.first))
        #expect(map.tensors.count == 1 && expected.tensors.count == 1)
        #expect(tensor.dtype == reference.dtype && tensor.shape == reference.shape)
        // A lone array has no name.
        #expect(tensor.name == reference.name || path.hasSuffix(".npy") && tensor.name.isEmpty)
        #expect(map.extents[tensor.extent].length == 48 * 32 * 4 && tensor.offset == 0)
        #expect(map.extents[tensor.extent].elementSize == expected.extents[reference.extent].elementSize)
        #expect(map.bytes(of: tensor, in: file.bytes) == expected.bytes(of: reference, in: original.bytes))
    }
}
