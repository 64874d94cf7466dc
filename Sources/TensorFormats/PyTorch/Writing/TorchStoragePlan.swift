/// A tensor of which all is known that its pickle needs.
struct TorchTensorPlan {
    var name: String
    var dtype: DType
    var torchName: String
    var shape: [UInt64]
    var strides: [UInt64]
    var storage: TorchStoragePlan.Storage

    init(_ tensor: TorchFileWriter.Tensor) throws(TensorFileError) {
        guard let torchName = tensor.dtype.torchName else {
            throw TensorFileError(
                .unsupportedDType,
                "PyTorch has no type for the tensor \(tensor.name.quoted), which is \(tensor.dtype.name).")
        }
        // Strides count an empty dimension as 1, so they may be beyond 64 bits where the size is 0.
        guard let byteCount = tensor.dtype.byteCount(shape: tensor.shape),
            let shape = tensor.dtype.torchShape(tensor.shape), shape.count <= PyTorchLimits.dimensionCount,
            let strides = Self.strides(shape)
        else {
            throw TensorFileError(
                .invalidShape,
                "PyTorch can't have the tensor \(tensor.name.quoted) of type \(tensor.dtype.name) and shape "
                    + "\(tensor.shape).")
        }
        name = tensor.name
        dtype = tensor.dtype
        self.torchName = torchName
        self.shape = shape
        self.strides = strides
        storage = .init(content: tensor.content, dtype: tensor.dtype, byteCount: byteCount)
    }

    /// Of elements that lie one behind the other in the order of the shape.
    private static func strides(_ shape: [UInt64]) -> [UInt64]? {
        var (strides, step): ([UInt64], UInt64) = ([], 1)
        for length in shape.reversed() {
            strides.append(step)
            let (product, overflow) = step.multipliedReportingOverflow(by: max(1, length))
            if overflow || product > UInt64(Int64.max) { return nil }
            step = product
        }
        return strides.reversed()
    }
}

/// The storages of a file, numbered as the pickle comes across them.
struct TorchStoragePlan {
    struct Storage: Hashable {
        var content: Int
        /// Storages of one content in two types would be two classes under one key.
        var dtype: DType
        var byteCount: UInt64
    }

    private let tensors: [TorchTensorPlan]
    private(set) var used: [Storage] = []
    private var keys: [Storage: Int] = [:]

    init(_ tensors: [TorchTensorPlan]) { self.tensors = tensors }

    /// That no content has two lengths, and the file stays far below 2^63 bytes.
    func checkLengths() throws(TensorFileError) {
        var total: UInt64 = 0
        var lengths: [Int: UInt64] = [:]
        for tensor in tensors {
            let byteCount = tensor.storage.byteCount
            guard lengths.updateValue(byteCount, forKey: tensor.storage.content) ?? byteCount == byteCount
            else {
                throw TensorFileError(
                    .invalidShape, "The tensor \(tensor.name.quoted) has not as many bytes as its content.")
            }
            let (sum, overflow) = total.addingReportingOverflow(byteCount)
            guard !overflow, sum < 1 << 62 else {
                throw TensorFileError(.tooLarge, "The tensors have 4 EiB or more.")
            }
            total = sum
        }
    }

    mutating func write(_ number: Int, to pickle: inout PickleWriter) {
        let tensor = tensors[number]
        let key = keys[tensor.storage] ?? used.count
        if key == used.count {
            keys[tensor.storage] = key
            used.append(tensor.storage)
        }
        let storageClass = tensor.dtype.torchStorage
        pickle.call(
            "torch._utils", storageClass == nil ? "_rebuild_tensor_v3" : "_rebuild_tensor_v2",
            storageClass == nil ? 7 : 6
        ) {
            $0.persistent { $0.storage(tensor, key: key) }
            $0.integer(0 as Int64)
            $0.tuple(tensor.shape.count) { for length in tensor.shape { $0.integer(length) } }
            $0.tuple(tensor.strides.count) { for step in tensor.strides { $0.integer(step) } }
            // No gradient, no hooks.
            $0.bool(false)
            $0.orderedDictionary([Never]()) { _, _ in }
            if storageClass == nil { $0.global("torch", tensor.torchName) }
        }
    }
}

extension PickleWriter {
    fileprivate mutating func storage(_ tensor: TorchTensorPlan, key: Int) {
        tuple(5) {
            $0.text("storage")
            if let name = tensor.dtype.torchStorage {
                $0.global("torch", name)
            } else {
                $0.global("torch.storage", "UntypedStorage")
            }
            $0.text(String(key))
            $0.text("cpu")
            // Elements, or bytes where the storage has no type.
            let elementLength = tensor.dtype.torchStorage == nil ? 1 : UInt64(tensor.dtype.bitsPerElement / 8)
            $0.integer(tensor.storage.byteCount / elementLength)
        }
    }
}
