/// The element type of a tensor, by the name that safetensors files give it.
///
/// The order of the cases is the reference's rank order: its writer lays tensors out by descending rank, so the
/// order is part of the format (safetensors 0.8.0, `Dtype`).
public enum DType: String, CaseIterable, Sendable {
    case bool = "BOOL"
    case f4 = "F4"
    case f6E2M3 = "F6_E2M3"
    case f6E3M2 = "F6_E3M2"
    case u8 = "U8"
    case i8 = "I8"
    case f8E5M2 = "F8_E5M2"
    case f8E4M3 = "F8_E4M3"
    case f8E8M0 = "F8_E8M0"
    case f8E4M3FNUZ = "F8_E4M3FNUZ"
    case f8E5M2FNUZ = "F8_E5M2FNUZ"
    case i16 = "I16"
    case u16 = "U16"
    case f16 = "F16"
    case bf16 = "BF16"
    case i32 = "I32"
    case u32 = "U32"
    case f32 = "F32"
    case c64 = "C64"
    case f64 = "F64"
    case i64 = "I64"
    case u64 = "U64"

    /// The name in a file, such as `BF16`.
    public var name: String { rawValue }

    /// The size of one element in bits: 4 and 6 for the types that are packed below a byte.
    public var bitsPerElement: Int {
        switch self {
        case .f4: 4
        case .f6E2M3, .f6E3M2: 6
        case .bool, .u8, .i8, .f8E5M2, .f8E4M3, .f8E8M0, .f8E4M3FNUZ, .f8E5M2FNUZ: 8
        case .i16, .u16, .f16, .bf16: 16
        case .i32, .u32, .f32: 32
        case .c64, .f64, .i64, .u64: 64
        }
    }
}

extension DType: Comparable {
    /// The place in the reference's order, from 0 for `BOOL`.
    public var rank: Int {
        switch self {
        case .bool: 0
        case .f4: 1
        case .f6E2M3: 2
        case .f6E3M2: 3
        case .u8: 4
        case .i8: 5
        case .f8E5M2: 6
        case .f8E4M3: 7
        case .f8E8M0: 8
        case .f8E4M3FNUZ: 9
        case .f8E5M2FNUZ: 10
        case .i16: 11
        case .u16: 12
        case .f16: 13
        case .bf16: 14
        case .i32: 15
        case .u32: 16
        case .f32: 17
        case .c64: 18
        case .f64: 19
        case .i64: 20
        case .u64: 21
        }
    }

    /// Lower rank first.
    public static func < (a: DType, b: DType) -> Bool { a.rank < b.rank }
}

extension DType {
    /// The bytes that a tensor of this type and `shape` takes.
    ///
    /// - Returns: nil where the count of elements or of bits passes 64 bits (even where a later dimension is 0, as
    ///   the reference has it) or where the elements do not fill whole bytes.
    public func byteCount(shape: [UInt64]) -> UInt64? {
        guard let bits = bitCount(shape: shape), bits % 8 == 0 else { return nil }
        return bits / 8
    }

    /// The same in bits; nil on overflow only.
    func bitCount(shape: [UInt64]) -> UInt64? {
        guard let elements = shape.product() else { return nil }
        let (bits, overflow) = elements.multipliedReportingOverflow(by: UInt64(bitsPerElement))
        return overflow ? nil : bits
    }
}
