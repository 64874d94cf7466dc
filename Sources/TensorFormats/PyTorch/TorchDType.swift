/// The element type of a tensor or a storage of PyTorch.
struct TorchDType: Hashable {
    /// As `TensorMap.Tensor.dtype` has it.
    let name: String
    /// Bytes of one element.
    let elementLength: UInt64
    /// Bytes of the numbers in it.
    let bytesPerNumber: Int
    /// Elements in each `elementLength` bytes: PyTorch counts a pair of 4-bit numbers as one element, safetensors
    /// counts two.
    var packed: UInt64 = 1

    private init(_ dtype: DType) {
        name = dtype.name
        elementLength = UInt64(max(8, dtype.bitsPerElement)) / 8
        bytesPerNumber = dtype.bytesPerNumber
        packed = dtype == .f4 ? 2 : 1
    }

    private init(_ name: String, _ elementLength: UInt64, _ bytesPerNumber: Int) {
        self.name = name
        self.elementLength = elementLength
        self.bytesPerNumber = bytesPerNumber
    }

    /// A dtype by its name in the module `torch`.
    /// - Returns: nil where the size of its elements is not known.
    init?(dtype name: String) {
        switch name {
        case "bool": self.init(.bool)
        case "uint8": self.init(.u8)
        case "int8": self.init(.i8)
        case "int16": self.init(.i16)
        case "uint16": self.init(.u16)
        case "float16": self.init(.f16)
        case "bfloat16": self.init(.bf16)
        case "int32": self.init(.i32)
        case "uint32": self.init(.u32)
        case "float32": self.init(.f32)
        case "int64": self.init(.i64)
        case "uint64": self.init(.u64)
        case "float64": self.init(.f64)
        case "complex64": self.init(.c64)
        case "complex32": self.init("complex32", 4, 2)
        case "complex128": self.init("C128", 16, 8)
        case "float8_e4m3fn": self.init(.f8E4M3)
        case "float8_e5m2": self.init(.f8E5M2)
        case "float8_e4m3fnuz": self.init(.f8E4M3FNUZ)
        case "float8_e5m2fnuz": self.init(.f8E5M2FNUZ)
        case "float8_e8m0fnu": self.init(.f8E8M0)
        case "float4_e2m1fn_x2": self.init(.f4)
        case "qint8", "quint8": self.init(name, 1, 1)
        case "qint32": self.init(name, 4, 4)
        default: return nil
        }
    }

    /// A dtype by its full name, such as `torch.bfloat16`.
    init?(global name: String) {
        guard name.hasPrefix("torch.") else { return nil }
        self.init(dtype: String(name.dropFirst(6)))
    }

    /// What is in a storage of the class of this name, such as `FloatStorage`.
    /// - Returns: nil where the size of its elements is not known, as for numbers packed below a byte.
    init?(storage name: String) {
        let names = [
            "FloatStorage": "float32", "DoubleStorage": "float64", "HalfStorage": "float16",
            "BFloat16Storage": "bfloat16", "LongStorage": "int64", "IntStorage": "int32",
            "ShortStorage": "int16", "CharStorage": "int8", "ByteStorage": "uint8", "BoolStorage": "bool",
            "ComplexFloatStorage": "complex64", "ComplexDoubleStorage": "complex128", "QInt8Storage": "qint8",
            "QUInt8Storage": "quint8", "QInt32Storage": "qint32",
        ]
        guard let dtype = names[name] else { return nil }
        self.init(dtype: dtype)
    }
}
