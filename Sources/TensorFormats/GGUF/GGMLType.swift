/// The element type of a tensor in a GGUF file: plain numbers, or blocks of quantised ones with their scales.
///
/// (ggml, `ggml_type` and the sizes of its blocks)
public struct GGMLType: Sendable, Equatable {
    /// As safetensors spells it where it has the type, else ggml's own, such as `Q4_K`.
    public let name: String
    /// Elements of a block along the fastest axis; 1 for plain numbers.
    public let blockElements: UInt64
    /// Bytes of a block.
    public let blockLength: UInt64
    /// Bytes of the numbers in it; 1 for blocks, which are mixtures.
    let bytesPerNumber: Int

    private init(_ dtype: DType) {
        name = dtype.name
        blockElements = 1
        blockLength = UInt64(dtype.bitsPerElement / 8)
        bytesPerNumber = dtype.bytesPerNumber
    }

    private init(_ name: String, _ elements: UInt64, _ length: UInt64) {
        self.name = name
        blockElements = elements
        blockLength = length
        bytesPerNumber = 1
    }

    /// - Parameter number: as it stands in the file.
    /// - Returns: nil for a number that is not known, or whose type ggml has given up.
    public init?(number: UInt32) {
        switch number {
        case 0: self.init(.f32)
        case 1: self.init(.f16)
        case 2: self.init("Q4_0", 32, 18)
        case 3: self.init("Q4_1", 32, 20)
        case 6: self.init("Q5_0", 32, 22)
        case 7: self.init("Q5_1", 32, 24)
        case 8: self.init("Q8_0", 32, 34)
        case 9: self.init("Q8_1", 32, 36)
        case 10: self.init("Q2_K", 256, 84)
        case 11: self.init("Q3_K", 256, 110)
        case 12: self.init("Q4_K", 256, 144)
        case 13: self.init("Q5_K", 256, 176)
        case 14: self.init("Q6_K", 256, 210)
        case 15: self.init("Q8_K", 256, 292)
        case 16: self.init("IQ2_XXS", 256, 66)
        case 17: self.init("IQ2_XS", 256, 74)
        case 18: self.init("IQ3_XXS", 256, 98)
        case 19: self.init("IQ1_S", 256, 50)
        case 20: self.init("IQ4_NL", 32, 18)
        case 21: self.init("IQ3_S", 256, 110)
        case 22: self.init("IQ2_S", 256, 82)
        case 23: self.init("IQ4_XS", 256, 136)
        case 24: self.init(.i8)
        case 25: self.init(.i16)
        case 26: self.init(.i32)
        case 27: self.init(.i64)
        case 28: self.init(.f64)
        case 29: self.init("IQ1_M", 256, 56)
        case 30: self.init(.bf16)
        case 34: self.init("TQ1_0", 256, 54)
        case 35: self.init("TQ2_0", 256, 66)
        case 39: self.init("MXFP4", 32, 17)
        case 40: self.init("NVFP4", 64, 36)
        case 41: self.init("Q1_0", 128, 18)
        case 42: self.init("Q2_0", 64, 18)
        default: return nil
        }
    }

    /// Bytes of a tensor.
    /// - Parameter shape: the slowest axis first.
    /// - Returns: nil beyond 63 bits, and where the fastest axis is not whole blocks.
    func byteCount(shape: [UInt64]) -> UInt64? {
        guard (shape.last ?? 1) % blockElements == 0, let elements = shape.product(), elements <= Int64.max
        else { return nil }
        let (length, overflow) = (elements / blockElements).multipliedReportingOverflow(by: blockLength)
        return overflow || length > Int64.max ? nil : length
    }
}
