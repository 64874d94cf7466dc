/// What the index of a TensorFlow checkpoint says, `ckpt-30.index`: which tensors there are, and where their bytes lie in the data files.
///
/// It is a sorted table of names as LevelDB writes one; the entry without a name describes the whole.
/// (tensorflow, `core/util/tensor_bundle` and `core/lib/io/format.cc`)
public struct TensorBundle: Sendable, Equatable {
    /// A tensor, or a part of one that is cut into slices.
    public struct Tensor: Sendable, Equatable {
        /// Such as `model/kernel/.ATTRIBUTES/VARIABLE_VALUE`. Of the text of a graph, and of slices, it is what the table has.
        public var name: String
        /// As `TensorMap.Tensor.dtype` has it; nil where it is none of numbers.
        public var dtype: String?
        public var shape: [UInt64]
        /// Which of the data files.
        public var shard: UInt64
        /// Bytes from the start of that file.
        public var offset: UInt64
        /// Bytes; 0 for a tensor whose slices are entries of their own.
        public var length: UInt64
    }

    /// How many data files there are.
    public let shardCount: UInt64
    /// By name.
    public let tensors: [Tensor]

    init(shardCount: UInt64, tensors: [Tensor]) {
        self.shardCount = shardCount
        self.tensors = tensors
    }

    /// How the data files' names end: `.data-00000-of-00002`.
    public static func shardSuffix(_ shard: UInt64, of count: UInt64) -> String {
        func padded(_ number: UInt64) -> String {
            let digits = String(number)
            return String(repeating: "0", count: max(0, 5 - digits.utf8.count)) + digits
        }
        return ".data-\(padded(shard))-of-\(padded(count))"
    }

    /// The bytes that each data file with tensors has at least.
    public var shardLengths: [UInt64: UInt64] {
        var lengths: [UInt64: UInt64] = [:]
        for tensor in tensors {
            lengths[tensor.shard] = max(lengths[tensor.shard] ?? 0, tensor.offset + tensor.length)
        }
        return lengths
    }
}
