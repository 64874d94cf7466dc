extension DType {
    /// The name in the module `torch`; nil where PyTorch has no such type.
    public var torchName: String? {
        switch self {
        case .bool: "bool"
        case .f4: "float4_e2m1fn_x2"
        case .f6E2M3, .f6E3M2: nil
        case .u8: "uint8"
        case .i8: "int8"
        case .f8E5M2: "float8_e5m2"
        case .f8E4M3: "float8_e4m3fn"
        case .f8E8M0: "float8_e8m0fnu"
        case .f8E4M3FNUZ: "float8_e4m3fnuz"
        case .f8E5M2FNUZ: "float8_e5m2fnuz"
        case .i16: "int16"
        case .u16: "uint16"
        case .f16: "float16"
        case .bf16: "bfloat16"
        case .i32: "int32"
        case .u32: "uint32"
        case .f32: "float32"
        case .c64: "complex64"
        case .f64: "float64"
        case .i64: "int64"
        case .u64: "uint64"
        }
    }

    /// The class of its storages in the module `torch`; nil for the younger types, whose storages are bytes.
    var torchStorage: String? {
        switch self {
        case .bool: "BoolStorage"
        case .u8: "ByteStorage"
        case .i8: "CharStorage"
        case .i16: "ShortStorage"
        case .f16: "HalfStorage"
        case .bf16: "BFloat16Storage"
        case .i32: "IntStorage"
        case .f32: "FloatStorage"
        case .c64: "ComplexFloatStorage"
        case .f64: "DoubleStorage"
        case .i64: "LongStorage"
        default: nil
        }
    }

    /// The shape as PyTorch has it, whose 4-bit numbers come in pairs.
    /// - Returns: nil where they are not pairs along the last axis.
    func torchShape(_ shape: [UInt64]) -> [UInt64]? {
        guard self == .f4 else { return shape }
        guard let last = shape.last, last % 2 == 0 else { return nil }
        return shape.dropLast() + [last / 2]
    }
}
