internal import Platform
internal import TensorFormats

/// What files of PyTorch hold.
extension CheckpointView {
    /// - Throws: `TensorFileError` where it is no such file, or is not whole.
    func tree(of file: File) throws -> TorchTree {
        try TorchTree(pyTorch: file.size) { try read(file, $0) }
    }

    /// The tree of a file, or why there is none, as a fault.
    func treeOrFault(of file: File) throws -> (tree: TorchTree?, fault: String?) {
        do {
            return (try tree(of: file), nil)
        } catch let error as TensorFileError {
            return (nil, file.size == 0 ? "\(file.path) is empty" : Self.fault(file.path, error))
        }
    }

    /// A number of a tree: one of Python's, or a tensor with one element.
    func number(_ value: TorchTree.Value?, in file: File) throws -> TensorNumber? {
        guard let value else { return nil }
        if let int = value.int { return .integer(Int64(int)) }
        if let double = value.double { return .float(double) }
        guard let tensor = value.tensor, let dtype = tensor.dtype, let range = tensor.range else {
            return nil
        }
        return try number(
            dtype, tensor.shape, range.lowerBound, range.upperBound - range.lowerBound, in: file)
    }

    /// Whether a file begins as `torch.save` begins one: with the pickle of a zip file, or with the magic number of older ones.
    static func beginsAsTorch(_ prefix: [UInt8]) -> Bool {
        let legacy: [UInt8] = [0x8A, 0x0A, 0x6C, 0xFC, 0x9C, 0x46, 0xF9, 0x20, 0x6A, 0xA8, 0x50, 0x19]
        if prefix.count >= 14, prefix[0] == 0x80, prefix[2..<14].elementsEqual(legacy) { return true }
        // Signature, 22 bytes, the lengths of name and extra field, the name.
        guard prefix.starts(with: [0x50, 0x4B, 3, 4]), prefix.count >= 30 else { return false }
        let length = Int(prefix[26]) | Int(prefix[27]) << 8
        let name = prefix[30...].prefix(length)
        return [UInt8](name).suffix(9).elementsEqual("/data.pkl".utf8)
            || name.suffix(8).elementsEqual("/version".utf8)
    }

    /// Of a file's first bytes, as many as `beginsAsTorch` looks at.
    static let torchPrefix: UInt64 = 512

    func beginsAsTorch(_ file: File) throws -> Bool {
        Self.beginsAsTorch(try read(file, 0..<min(file.size, Self.torchPrefix)))
    }
}

/// The tensors of a model in a file of PyTorch.
struct TorchModel {
    let tree: TorchTree
    let file: String

    /// The tensors below a key of the root, or all of them, by the names that `state_dict()` gives them.
    ///
    /// Those whose values do not stand in the file (conjugated ones, say) are there with what hinders.
    /// - Returns: nil where they are parts of distributed ones.
    func tensors(below key: String?) -> [Assembly.Tensor]? {
        guard let state = key.map({ tree.root[$0] }) ?? tree.root, !Self.isOfOneRank(state) else {
            return nil
        }
        var found: [Assembly.Tensor] = []
        for (path, tensor) in tree.tensors {
            var names = path.map(\.name)
            if let key {
                guard names.first == key, names.count > 1 else { continue }
                names.removeFirst()
            }
            found.append(.init(whole: Self.plain(names).joined(separator: "."), tensor, file: file))
        }
        return found
    }

    /// Whether tensors of a state dictionary are the parts that one process has of distributed ones.
    private static func isOfOneRank(_ state: TorchTree.Value) -> Bool {
        (state.items ?? []).contains { item in
            // One in a form that is not known is refused with an error.
            guard let whole = try? (item.value.distributedTensor(), item.value.shardedTensor()) else {
                return true
            }
            return whole.0 != nil || whole.1 != nil
        }
    }

    /// Without the attributes of a module that was pickled as a whole.
    private static func plain(_ names: [String]) -> [String] {
        let attributes: Set = ["_modules", "_parameters", "_buffers"]
        guard names.contains(where: attributes.contains) else { return names }
        return names.filter { !attributes.contains($0) }
    }
}
