extension DType {
    /// The name in MindSpore, as its files have it; nil where it has no such type.
    public var mindSporeName: String? {
        switch self {
        case .bool: "Bool"
        case .f8E4M3: "Float8E4M3FN"
        case .f8E5M2: "Float8E5M2"
        case .u8: "UInt8"
        case .i8: "Int8"
        case .i16: "Int16"
        case .u16: "UInt16"
        case .f16: "Float16"
        case .bf16: "BFloat16"
        case .i32: "Int32"
        case .u32: "UInt32"
        case .f32: "Float32"
        case .c64: "Complex64"
        case .f64: "Float64"
        case .i64: "Int64"
        case .u64: "UInt64"
        case .f4, .f6E2M3, .f6E3M2, .f8E8M0, .f8E4M3FNUZ, .f8E5M2FNUZ: nil
        }
    }

    /// The type of that name, in upper or lower case, as MindSpore Transformers reads it; nil where there is none.
    public init?(mindSporeName name: String) {
        let name = name.lowercased()
        guard let dtype = Self.allCases.first(where: { $0.mindSporeName?.lowercased() == name }) else {
            return nil
        }
        self = dtype
    }
}
