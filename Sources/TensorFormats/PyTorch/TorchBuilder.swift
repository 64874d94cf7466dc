/// The functions that a checkpoint has tensors made by.
enum TorchBuilder: String {
    case tensor = "torch._utils._rebuild_tensor"
    case tensorV2 = "torch._utils._rebuild_tensor_v2"
    case tensorV3 = "torch._utils._rebuild_tensor_v3"
    case quantized = "torch._utils._rebuild_qtensor"
    /// Ascend: the seventh argument is the layout that the device had; the bytes are plain.
    case npu = "torch_npu.utils.storage._rebuild_npu_tensor"
    case npuBefore = "torch_npu.utils._rebuild_npu_tensor"
    case parameter = "torch._utils._rebuild_parameter"
    case parameterWithState = "torch._utils._rebuild_parameter_with_state"
    /// A function, a type, the function's arguments, and a state: buffers and tensors with attributes.
    case fromType = "torch._tensor._rebuild_from_type_v2"
    case fromTypeBefore = "torch._tensor._rebuild_from_type"
    case sparse = "torch._utils._rebuild_sparse_tensor"
    case nested = "torch._utils._rebuild_nested_tensor"
    case onDevice = "torch._utils._rebuild_device_tensor_from_cpu_tensor"

    /// A tensor that another one is made of, by the last step of its name.
    enum Part: String {
        case scales
        case zeroPoints = "zero_points"
        case indices, values
        case compressedIndices = "compressed_indices"
        case plainIndices = "plain_indices"
        case buffer, sizes, strides
        case storageOffsets = "storage_offsets"
    }

    /// Whether it is the newest of those that take a storage; nil for those that take none.
    var tensorIsV3: Bool? {
        switch self {
        case .tensor, .tensorV2, .quantized, .npu, .npuBefore: false
        case .tensorV3: true
        default: nil
        }
    }

    /// The arguments that are tensors or may hold some, each by the indices that lead to it, and the last step of
    /// their names; nil where they have the name of the whole.
    var parts: [(place: [Int], name: Part?)] {
        switch self {
        case .parameter, .parameterWithState, .onDevice: [([0], nil)]
        case .quantized: [([4, 1], .scales), ([4, 2], .zeroPoints)]
        // Coordinates; of compressed rows or columns, see `compressedParts`.
        case .sparse: [([1, 0], .indices), ([1, 1], .values)]
        case .nested: [([0], .buffer), ([1], .sizes), ([2], .strides), ([3], .storageOffsets)]
        default: []
        }
    }

    /// The parts of a sparse tensor whose layout is not `torch.sparse_coo`.
    static let compressedParts: [(place: [Int], name: Part?)] = [
        ([1, 0], .compressedIndices), ([1, 1], .plainIndices), ([1, 2], .values),
    ]

    /// The argument that holds attributes.
    var stateIndex: Int? {
        switch self {
        case .parameterWithState, .fromType, .fromTypeBefore: 3
        default: nil
        }
    }
}

extension Pickle {
    /// What a step adds to a path.
    func name(of step: TensorWalk.Step) -> String {
        switch step {
        case .same: ""
        case .index(let index): String(index)
        case .part(let part): part.rawValue
        case .key(let key): label(key)
        }
    }

    /// A dictionary's key in a path: as Python's `str` has it, for what keys are in checkpoints.
    private func label(_ key: Index, depth: Int = 0) -> String {
        switch self[key] {
        case .none: return "None"
        case .bool(let value): return value ? "True" : "False"
        case .integer(let value): return String(value)
        case .float(let value): return String(value)
        case .text(_, let count), .escapedText(_, let count, _):
            // Longer than any name may be: the name is refused.
            let text =
                text(key) ?? String(repeating: "?", count: min(Int(count), PyTorchLimits.nameLength + 1))
            return depth == 0 ? text : "'" + text + "'"
        case .global: return globalName(key) ?? "?"
        case .tuple where depth < 3, .frozenSet where depth < 3:
            let items = (fixed(key) ?? []).prefix(16).map { label($0, depth: depth + 1) }
            return "(" + items.joined(separator: ", ") + (items.count == 1 ? ",)" : ")")
        default: return "?"
        }
    }
}
