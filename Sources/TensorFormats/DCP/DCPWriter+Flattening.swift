extension DCPWriter {
    /// The leaves of a nested state dictionary, as PyTorch finds them from 2.4 on: dictionaries are gone into, and lists
    /// in which there are tensors or dictionaries; anything else is a leaf. Empty containers that are gone into vanish.
    ///
    /// - Parameters:
    ///   - value: a dictionary; keys are texts, or integers, which become texts.
    ///   - tensors: what it names by number. Each is one chunk.
    /// - Throws: `TensorFileError` where a tensor lies in a tuple, or a key is of another kind.
    public static func items(
        of value: TorchValue, tensors: [TorchFileWriter.Tensor]
    ) throws(TensorFileError) -> [Item] {
        try value.check(tensorCount: tensors.count)
        guard value.members != nil else {
            throw TensorFileError(
                .invalidValue, "A state dictionary is a dictionary, and this value is none.")
        }
        var items: [Item] = []
        try collect(value, at: [], tensors, into: &items)
        return items
    }

    private static func collect(
        _ value: TorchValue, at path: [Key], _ tensors: [TorchFileWriter.Tensor], into items: inout [Item]
    ) throws(TensorFileError) {
        if let members = value.members {
            for member in members {
                try collect(member.value, at: path + [try key(member.key, in: path)], tensors, into: &items)
            }
        } else if case .list(let elements) = value, value.isGoneInto {
            for (index, element) in elements.enumerated() {
                try collect(element, at: path + [.index(index)], tensors, into: &items)
            }
        } else if case .tensor(let number) = value {
            let tensor = tensors[number]
            items.append(
                Item(path: path, dtype: tensor.dtype, shape: tensor.shape, content: tensor.content))
        } else if value.holdsTensor {
            let name = path.map(\.text).joined(separator: ".")
            throw TensorFileError(
                .invalidValue, "The tuple \(name.quoted) holds a tensor, which no checkpoint of DCP can.")
        } else {
            items.append(Item(path: path, value: .object(value)))
        }
    }

    private static func key(_ key: TorchValue, in path: [Key]) throws(TensorFileError) -> Key {
        switch key {
        case .text(let text): return .name(text)
        case .integer(let number): return .name(String(number))
        default:
            let name = path.map(\.text).joined(separator: ".")
            throw TensorFileError(.invalidName, "A key in \(name.quoted) is neither a text nor an integer.")
        }
    }
}

extension TorchValue {
    fileprivate var members: [(key: TorchValue, value: TorchValue)]? {
        switch self {
        case .dictionary(let items), .orderedDictionary(let items): items
        default: nil
        }
    }

    /// Whether PyTorch looks for leaves in it.
    fileprivate var isGoneInto: Bool {
        switch self {
        case .dictionary, .orderedDictionary: true
        case .list(let items):
            items.contains { item in
                if case .tensor = item { return true }
                return item.isGoneInto
            }
        default: false
        }
    }

    fileprivate var holdsTensor: Bool {
        switch self {
        case .tensor: true
        case .list(let items), .tuple(let items): items.contains { $0.holdsTensor }
        case .dictionary(let items), .orderedDictionary(let items):
            items.contains { $0.key.holdsTensor || $0.value.holdsTensor }
        default: false
        }
    }
}
