/// A tensor as a pickle describes it, before anything is known of the file.
struct TorchTensor {
    var name: String
    /// Where the walk found it; below 0 for one that it did not.
    var path: Int32 = -1
    /// The node of the arguments that it is made with.
    let arguments: Pickle.Index
    /// The node of the persistent id.
    let storage: Pickle.Index
    /// Of the storage, in the file.
    let key: String
    /// nil where the size of an element is not known.
    private(set) var dtype: TorchDType?
    /// Elements of the storage in front of it.
    var offset: UInt64
    let shape: [UInt64]
    /// Elements of the storage from one to the next along each axis.
    let stride: [UInt64]
    /// Whether its elements lie in the order of its shape: not for a transposed tensor.
    let isContiguous: Bool
    /// Whether its values are to be conjugated or negated.
    private(set) var isFlagged = false

    /// Whether its bytes are its values, in the order of its shape.
    var isPlain: Bool { isContiguous && !isFlagged }

    /// Reads the arguments of `_rebuild_tensor`, `_v2`, `_v3`, `_rebuild_qtensor` or `_rebuild_npu_tensor`.
    init(_ name: String, arguments node: Pickle.Index, isV3: Bool, in pickle: Pickle) throws(TensorFileError)
    {
        let arguments = Array(pickle.tuple(node) ?? [])
        guard arguments.count >= (isV3 ? 7 : 4), case .persistent(let id) = pickle[arguments[0]],
            let storage = try TorchStorage(id: id, in: pickle),
            case .integer(let offset) = pickle[arguments[1]], offset >= 0,
            let shape = pickle.dimensions(arguments[2]), let stride = pickle.dimensions(arguments[3]),
            shape.count == stride.count
        else {
            throw TensorFileError(.invalidPickle, "The tensor \(name.quoted) is built in an unknown way.")
        }
        self.name = name
        self.arguments = node
        self.storage = arguments[0]
        self.key = storage.key
        self.offset = UInt64(offset)
        self.shape = shape
        self.stride = stride
        isContiguous = Self.isContiguous(shape, stride)
        if isV3 {
            dtype = TorchDType(global: pickle.globalName(arguments[6]) ?? "")
        } else if case .typed(let dtype) = storage.elements {
            self.dtype = dtype
        }
        let metadata = isV3 ? 7 : 6
        if arguments.count > metadata, case .dictionary = pickle[arguments[metadata]] { isFlagged = true }
    }

    /// Whether the elements lie one behind the other in the order of the shape. The stride of a dimension of one
    /// element, or of a tensor without any, says nothing.
    private static func isContiguous(_ shape: [UInt64], _ stride: [UInt64]) -> Bool {
        if shape.contains(0) { return true }
        var expected: UInt64 = 1
        for (length, step) in zip(shape, stride).reversed() where length != 1 {
            guard step == expected else { return false }
            let (product, overflow) = expected.multipliedReportingOverflow(by: length)
            if overflow { return false }
            expected = product
        }
        return true
    }

    /// Where its bytes lie in its storage; nil where that is beyond 64 bits or the type is not known.
    var range: Range<UInt64>? {
        guard let dtype else { return nil }
        var length = dtype.elementLength
        if shape.contains(0) { length = 0 }
        for dimension in shape {
            let (product, overflow) = length.multipliedReportingOverflow(by: dimension)
            if overflow { return nil }
            length = product
        }
        let (start, overflow) = offset.multipliedReportingOverflow(by: dtype.elementLength)
        let (end, beyond) = start.addingReportingOverflow(length)
        return overflow || beyond ? nil : start..<end
    }

    /// Elements of the storage up to the last one that it has; nil where that is beyond 64 bits. It has at least one.
    var reach: UInt64? {
        var reach = offset
        for (length, step) in zip(shape, stride) {
            let (distance, overflow) = (length &- 1).multipliedReportingOverflow(by: step)
            let (end, beyond) = reach.addingReportingOverflow(distance)
            if length == 0 || overflow || beyond { return nil }
            reach = end
        }
        return reach == .max ? nil : reach + 1
    }

    /// The shape as safetensors counts it: single numbers along the last axis, where PyTorch counts pairs.
    var unpackedShape: [UInt64]? {
        guard let packed = dtype?.packed, packed > 1 else { return shape }
        guard let last = shape.last else { return nil }
        let (length, overflow) = last.multipliedReportingOverflow(by: packed)
        return overflow ? nil : shape.dropLast() + [length]
    }
}

extension Pickle {
    /// The lengths in a tuple or list, which may stand in a `torch.Size`; nil where it is none of these.
    func dimensions(_ index: Index) -> [UInt64]? {
        var index = index
        if let object = object(index), globalName(object.function) == "torch.Size",
            let arguments = tuple(object.arguments), arguments.count == 1, let size = arguments.first
        {
            index = size
        }
        var items = tuple(index)
        if case .list(let chain) = self[index] {
            items = elements(of: chain, maximumCount: PyTorchLimits.dimensionCount)[...]
        }
        guard let items, items.count <= PyTorchLimits.dimensionCount else { return nil }
        var dimensions: [UInt64] = []
        for item in items {
            guard case .integer(let length) = self[item], length >= 0 else { return nil }
            dimensions.append(UInt64(length))
        }
        return dimensions
    }
}
