@testable import TensorFormats

/// Asks a tree for all that its interface gives, and counts what is there.
struct TreeProbe {
    /// Values that were looked at, and of those the tensors, and the distributed and sharded ones.
    private(set) var (values, tensors, distributed, refused) = (0, 0, 0, 0)
    private let size: UInt64
    private let source: TorchTree.Source

    /// - Parameters:
    ///   - size: bytes of the file; 0 for a pickle that stands alone.
    ///   - limit: values to look at: a tree may have cycles.
    init(_ tree: TorchTree, fileSize size: UInt64 = 0, limit: Int = 1000) {
        self.size = size
        source = tree.source
        var waiting = [tree.root]
        while let value = waiting.popLast(), values < limit {
            values += 1
            waiting += probe(value).prefix(limit)
        }
        for (path, tensor) in tree.tensors.prefix(limit) {
            check(tensor)
            let steps = path.map(\.name)
            Fuzz.expect(
                tensor.name == nil || tensor.name!.utf8.starts(with: steps.joined(separator: ".").utf8))
            for case .key(let key) in path { _ = probe(key) }
        }
    }

    /// - Returns: what the value leads to.
    private mutating func probe(_ value: TorchTree.Value) -> [TorchTree.Value] {
        let kind = value.kind
        Fuzz.expect((value.string != nil) == (kind == .text))
        Fuzz.expect((value.bytes != nil) == (kind == .bytes))
        Fuzz.expect((value.bool != nil) == (kind == .bool))
        Fuzz.expect(value.isNone == (kind == .none))
        Fuzz.expect(value.int == nil || kind == .integer)
        Fuzz.expect(value.double == nil || kind == .integer || kind == .float)
        Fuzz.expect((value.globalName == nil && value.dtype == nil) || kind == .global)
        Fuzz.expect(value.className == nil || source.pickle.object(value.index) != nil)
        Fuzz.expect(value.tensor == nil || kind == .tensor)
        Fuzz.expect(value.dimensions == nil || [.tuple, .list].contains(kind) || kind == .object)
        Fuzz.expect(kind != .dictionary || value.items != nil)
        _ = (value["a"], value[1], value.attribute("dim"), value.attribute("numel", position: 1))
        if let tensor = value.tensor {
            tensors += 1
            check(tensor)
        }
        do {
            if let tensor = try value.distributedTensor() {
                distributed += 1
                check(tensor.local)
                Fuzz.expect(tensor.placements.count == tensor.mesh.shape.count)
                Fuzz.expect(
                    tensor.mesh.ranks == nil || tensor.mesh.ranks!.count == tensor.mesh.shape.reduce(1, *))
                _ = tensor.mesh.rank
            }
            for shard in try value.shardedTensor()?.local ?? [] {
                distributed += 1
                check(shard.tensor)
            }
        } catch {
            refused += 1
            Fuzz.expect(error.message.hasSuffix("."))
        }
        let pairs = (value.items ?? []) + value.attributes
        return (value.elements ?? []) + pairs.flatMap { [$0.key, $0.value] } + value.arguments
            + [value.namedArguments, value.state].compactMap { $0 }
    }

    private func check(_ tensor: TorchTree.Tensor) {
        Fuzz.expect(
            (tensor.name == nil) == (tensor.problem != nil) && (tensor.name == nil) == (tensor.range == nil))
        Fuzz.expect(tensor.range.map { $0.upperBound <= size } ?? true)
        Fuzz.expect(tensor.shape.count == tensor.stride.count)
    }
}
