/// What `torch.save` is given: Python's values and containers, and tensors by their place in a list.
public indirect enum TorchValue: Sendable {
    case none
    case bool(Bool)
    case integer(Int64)
    case float(Double)
    case text(String)
    case bytes([UInt8])
    case tuple([TorchValue])
    case list([TorchValue])
    /// Keys are texts, numbers, or tuples of them.
    case dictionary([(key: TorchValue, value: TorchValue)])
    /// The class that state dictionaries of modules have.
    case orderedDictionary([(key: TorchValue, value: TorchValue)])
    /// A tensor by its number. Where a number comes twice, it is one tensor; two tensors of the same content are
    /// views of one storage, as tied parameters are.
    case tensor(Int)

    /// How deep containers may lie in containers: what Cairn itself reads, and less than what Python writes.
    public static let maximumDepth = PyTorchLimits.depth
}

extension TorchValue {
    /// Throws where it nests too deeply, or names a tensor that is not there.
    func check(tensorCount: Int, depth: Int = 0) throws(TensorFileError) {
        guard depth <= Self.maximumDepth else {
            throw TensorFileError(
                .invalidValue, "The value has containers over \(Self.maximumDepth) deep in one another.")
        }
        switch self {
        case .tensor(let number):
            guard (0..<tensorCount).contains(number) else {
                throw TensorFileError(
                    .invalidValue, "The value names tensor \(number), but there are \(tensorCount).")
            }
        case .text(let text):
            guard text.utf8.count <= Self.maximumTextLength else { throw Self.tooLong }
        case .bytes(let bytes):
            guard bytes.count <= Self.maximumTextLength else { throw Self.tooLong }
        case .tuple(let items), .list(let items):
            for item in items { try item.check(tensorCount: tensorCount, depth: depth + 1) }
        case .dictionary(let items), .orderedDictionary(let items):
            for item in items {
                try item.key.check(tensorCount: tensorCount, depth: depth + 1)
                try item.value.check(tensorCount: tensorCount, depth: depth + 1)
            }
        case .none, .bool, .integer, .float: break
        }
    }

    /// Bytes; each may become two in the pickle, whose lengths have 32 bits.
    private static let maximumTextLength = 1 << 30
    private static let tooLong = TensorFileError(.tooLarge, "A text or bytes in the value has over 1 GiB.")
}

extension PickleWriter {
    /// - Parameter tensor: writes the tensor of a number.
    mutating func value(_ value: TorchValue, tensor: (inout PickleWriter, Int) -> Void) {
        switch value {
        case .none: none()
        case .bool(let value): bool(value)
        case .integer(let value): integer(value)
        case .float(let value): float(value)
        case .text(let value): text(value)
        case .bytes(let value): data(value)
        case .tuple(let items):
            tuple(items.count) { for item in items { $0.value(item, tensor: tensor) } }
        case .list(let items):
            list(items) { $0.value($1, tensor: tensor) }
        case .dictionary(let items):
            dictionary(items) {
                $0.value($1.key, tensor: tensor)
                $0.value($1.value, tensor: tensor)
            }
        case .orderedDictionary(let items):
            orderedDictionary(items) {
                $0.value($1.key, tensor: tensor)
                $0.value($1.value, tensor: tensor)
            }
        case .tensor(let number): shared(number) { tensor(&$0, number) }
        }
    }
}
