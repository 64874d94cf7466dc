import Testing

@testable import TensorFormats

/// Tensors in trees: of the files that torch wrote (tools/python/pytorch_fixtures.py, tree_fixtures.py).
struct TorchTreeTensorTests {
    @Test(arguments: PyTorchTests.accepted)
    func `each tensor has the name that the map has for it`(_ file: String) throws {
        let bytes = try Fixtures.bytes("pytorch/\(file)")
        let (tree, map) = (try TorchTree(pyTorch: bytes), try TensorMap(pyTorch: bytes))
        #expect(tree.tensorMap == map)
        let named = tree.tensors.filter { $0.tensor.name != nil }
        #expect(named.map(\.tensor.name) == map.tensors.map(\.name))
        for ((path, tensor), listed) in zip(named, map.tensors) {
            let range = try #require(tensor.range)
            #expect(bytes[Int(range.lowerBound)..<Int(range.upperBound)] == map.bytes(of: listed, in: bytes))
            #expect(tensor.dtype == listed.dtype && tensor.problem == nil)
            #expect(tensor.shape == listed.shape || listed.dtype == "F4", "\(listed.name)")
            let joined = path.map(\.name).joined(separator: ".")
            #expect(joined == listed.name || listed.name.hasPrefix(joined + "#"))
        }
        for (_, tensor) in tree.tensors where tensor.name == nil {
            #expect(tensor.range == nil && tensor.problem?.hasSuffix(".") == true)
        }
    }

    @Test(arguments: PyTorchTests.accepted)
    func `a path leads to the tensor that it is the path of`(_ file: String) throws {
        let tree = try TorchTree(pyTorch: Fixtures.bytes("pytorch/\(file)"))
        var found = 0
        for (path, tensor) in tree.tensors {
            guard let value = value(at: path, from: tree.root)?.tensor else { continue }
            found += 1
            // A value that stands at several places has the first one's name.
            #expect(value.storageKey == tensor.storageKey && value.shape == tensor.shape)
            #expect(value.storageOffset == tensor.storageOffset && value.stride == tensor.stride)
            #expect(value.range == tensor.range && value.problem == tensor.problem)
        }
        // What a sparse or distributed tensor is made of is no value of a container.
        let hasParts = ["sparse", "distributed", "quantized", "module"].contains { file.hasPrefix($0) }
        #expect(hasParts || found >= tree.tensors.count - 1, "\(found) of \(tree.tensors.count)")
    }

    private func value(at path: [TorchTree.Step], from root: TorchTree.Value) -> TorchTree.Value? {
        var value: TorchTree.Value? = root
        for step in path {
            switch step {
            case .key(let key):
                let items = (value?.items ?? []) + (value?.attributes ?? [])
                value = items.first { $0.key.index == key.index }?.value
            case .index(let index):
                let elements = value?.elements ?? []
                value = index < elements.count ? elements[index] : nil
            case .part: return nil
            }
        }
        return value
    }

    @Test func `what is not plain is described with the reason`() throws {
        let root = try TorchTree(pyTorch: Fixtures.bytes("pytorch/strided.pt")).root
        let transposed = try #require(root["transposed"]?.tensor)
        #expect(
            transposed.name == nil && transposed.problem == "Its elements are not in the order of its shape.")
        #expect(transposed.shape == [8, 6] && transposed.stride == [1, 8] && transposed.storageOffset == 0)
        let column = try #require(root["column"]?.tensor)
        #expect(
            column.storageKey == transposed.storageKey && column.storageOffset == 1 && column.stride == [8])
        #expect(root["plain"]?.tensor?.name == "plain" && root["plain"]?.kind == .tensor)
        let complex = try TorchTree(pyTorch: Fixtures.bytes("pytorch/complex.pt")).root
        #expect(complex["conjugated"]?.tensor?.problem == "Its values are to be conjugated or negated.")
    }

    @Test
    func `tensors are found in parameters and with attributes, and those without a storage are objects`()
        throws
    {
        let root = try TorchTree(pyTorch: Fixtures.bytes("pytorch/parameters.pt")).root
        #expect(root["parameter"]?.tensor?.name == "parameter")
        #expect(root["ordered"]?["weight"]?.arguments.first?.kind == .storage)
        let attributed = try #require(root["attributed"])
        #expect(attributed.tensor?.name == "attributed")
        #expect(attributed.attribute("scale")?.tensor?.name == "attributed.scale")
        let meta = try TorchTree(pyTorch: Fixtures.bytes("pytorch/meta.pt")).root
        #expect(meta["meta"]?.kind == .object && meta["meta"]?.tensor == nil && meta["real"]?.kind == .tensor)
        let sparse = try TorchTree(pyTorch: Fixtures.bytes("pytorch/sparse.pt"))
        #expect(sparse.root["coo"]?.kind == .object && sparse.root["coo"]?.tensor == nil)
        #expect(sparse.tensors.first?.path.map(\.name) == ["coo", "indices"])
    }

    @Test func `of equal texts as keys each leads to its tensor`() throws {
        let tree = try TorchTree(pyTorch: Fixtures.bytes("pytorch/keys.pt"))
        #expect(tree.root[1]?.tensor?.name == "1" && tree.root["1"]?.tensor?.name == "1#2")
        let keys = tree.tensors.map { ($0.path[0], $0.tensor.name) }
        #expect(
            keys.contains { step, name in
                if case .key(let key) = step { key.int == 1 && name == "1" } else { false }
            })
    }

    @Test func `in a pickle alone tensors are described`() throws {
        let bytes = try Fixtures.bytes("pytorch/tied.pt")
        let archive = try ZipArchive(size: UInt64(bytes.count)) {
            Array(bytes[Int($0.lowerBound)..<Int($0.upperBound)])
        }
        let pickle = archive.records[0].data
        let tree = try TorchTree(pickle: Array(bytes[Int(pickle.lowerBound)..<Int(pickle.upperBound)]))
        let tensor = try #require(tree.root["embed"]?.tensor)
        #expect(tensor.shape == [6, 8] && tensor.dtype == "F32" && tensor.name == nil)
        #expect(tensor.problem == "Its bytes are not in the pickle." && tree.tensors.isEmpty)
        #expect(tree.tensorMap == nil)
    }

    // MARK: Distributed tensors

    private static let versions = ["2.4.1", "2.6.0", "2.10.0", "2.13.0"]

    @Test(arguments: versions)
    func `the parts of distributed tensors are where PyTorch has them`(_ version: String) throws {
        let bytes = try Fixtures.bytes("trees/distributed-\(version).pt")
        let root = try TorchTree(pyTorch: bytes).root
        let expected = try #require(try Fixtures.json("trees/distributed-\(version).json").members)
        #expect(expected.count >= 6 && root.items?.count == expected.count)
        for member in expected {
            let value = try #require(root[member.key])
            #expect(value.tensor == nil && value.kind == .object)
            let tensor = try #require(try value.distributedTensor(), "\(member.key)")
            #expect(tensor.local.name == member.key)
            #expect(view(tensor, bytes) == member.value, "\(member.key)")
            #expect(tensor.mesh.ranks == nil || tensor.mesh.rank == 5)
            #expect(try value.shardedTensor() == nil)
        }
    }

    @Test(arguments: versions)
    func `the parts of sharded tensors are where PyTorch has them`(_ version: String) throws {
        let bytes = try Fixtures.bytes("trees/sharded-\(version).pt")
        let root = try TorchTree(pyTorch: bytes).root
        let expected = try Fixtures.json("trees/sharded-\(version).json")
        let value = try #require(root["weight"])
        let tensor = try #require(try value.shardedTensor())
        let local = tensor.local.map { shard -> JSON in
            .array([
                numbers(shard.offsets), numbers(shard.shape), JSON(shard.rank ?? -1),
                hex(of: shard.tensor, bytes),
            ])
        }
        #expect(
            local == expected["weight"]?["local"]?.array && tensor.local[0].tensor.name == "weight.0.0.tensor"
        )
        #expect(tensor.dtype == "F32" && numbers(tensor.shape) == expected["weight"]?["shape"])
        #expect(try value.distributedTensor() == nil && value.tensor == nil)
    }

    private func view(_ tensor: TorchTree.DistributedTensor, _ bytes: [UInt8]) -> JSON {
        let placements = tensor.placements.map { placement -> JSON in
            switch placement {
            case .shard(let dimension): .array([.string("shard"), JSON(dimension)])
            case .stridedShard(let dimension, let factor):
                .array([.string("strided"), JSON(dimension), JSON(factor)])
            case .replicate: .array([.string("replicate")])
            case .partial(let operation): .array([.string("partial"), .string(operation)])
            }
        }
        return .object([
            .init("dtype", .string(tensor.dtype)), .init("shape", numbers(tensor.shape)),
            .init("stride", numbers(tensor.stride)), .init("placements", .array(placements)),
            .init("local", numbers(tensor.local.shape)), .init("bytes", hex(of: tensor.local, bytes)),
            .init("mesh", numbers(tensor.mesh.shape)),
            .init("ranks", tensor.mesh.ranks.map { numbers($0) } ?? .null),
            .init("coordinate", tensor.mesh.coordinate.map { numbers($0) } ?? .null),
            .init("names", tensor.mesh.names.map { .array($0.map { .string($0) }) } ?? .null),
        ])
    }

    private func numbers(_ numbers: [some BinaryInteger]) -> JSON { .array(numbers.map { JSON($0) }) }

    private func hex(of tensor: TorchTree.Tensor, _ bytes: [UInt8]) -> JSON {
        let range = tensor.range ?? 0..<0
        return .string(TensorFormatsTests.hex(bytes[Int(range.lowerBound)..<Int(range.upperBound)]))
    }
}
