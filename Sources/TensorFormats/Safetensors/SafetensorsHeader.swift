/// The header of a safetensors file: a u64 length N (little endian), N bytes of JSON, then the data.
///
/// A value of this type is valid: its tensors tile the data section from its start to the end of the file. It
/// follows what safetensors 0.8.0 accepts rather than its specification, which is stricter in some places and silent
/// in others, with one exception: of two tensors with one name the reference keeps the last, and we keep neither.
public struct SafetensorsHeader: Sendable {
    /// The longest header that the reference reads, in bytes without the length.
    public static let maximumLength: UInt64 = 100_000_000

    /// The tensors in the order of their data; empty ones at the same place in the order of the header.
    public let tensors: [SafetensorsTensor]
    /// The members of `__metadata__` in the order of the header, without repetitions; nil if absent or null.
    public let metadata: [(key: String, value: String)]?
    /// Where the data begins: 8 + N.
    public let headerLength: Int

    /// The bytes of all tensors together.
    public var dataLength: UInt64 { tensors.last?.end ?? 0 }
}

/// A tensor in a safetensors file.
public struct SafetensorsTensor: Sendable, Equatable {
    /// Any text, also the empty one. Compare by UTF-8: `==` of strings takes different names for equal.
    public let name: String
    public let dtype: DType
    /// In elements; empty for a scalar.
    public let shape: [UInt64]
    /// Where it begins, in bytes from the start of the data section.
    public let begin: UInt64
    /// Where it ends, on the same scale.
    public let end: UInt64

    public init(name: String, dtype: DType, shape: [UInt64], begin: UInt64, end: UInt64) {
        self.name = name
        self.dtype = dtype
        self.shape = shape
        self.begin = begin
        self.end = end
    }

    public var byteCount: UInt64 { end - begin }

    public static func == (a: SafetensorsTensor, b: SafetensorsTensor) -> Bool {
        a.name.hasSameBytes(as: b.name) && a.dtype == b.dtype && a.shape == b.shape && a.begin == b.begin
            && a.end == b.end
    }
}
