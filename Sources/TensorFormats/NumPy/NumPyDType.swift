/// The element type of a NumPy array.
struct NumPyDType: Equatable {
    /// As `TensorMap.Tensor.dtype` has it; where safetensors has no such type, NumPy's own name without the byte
    /// order, such as `U5` or `M8[ns]`.
    let name: String
    /// Bytes of one element.
    let elementLength: UInt64
    /// Bytes of the numbers in it.
    let bytesPerNumber: Int

    /// Reads what a header says, such as `<f4`.
    /// - Throws: `.byteOrder`, or `.unsupported` where elements are not plain bytes of one length.
    init(_ descr: PythonLiteral) throws(TensorFileError) {
        guard let text = descr.text else {
            throw TensorFileError(.unsupported, "The array has fields, so that it is no single tensor.")
        }
        let isPrefixed = ["<", ">", "|", "="].contains(text.prefix(1))
        let plain = isPrefixed ? text.dropFirst() : text[...]
        let kind = plain.first ?? " "
        let digits = plain.dropFirst().prefix { $0.isASCII && $0.isNumber }
        let unit = plain.dropFirst(1 + digits.count)
        let hasUnit = unit.isEmpty || "Mm".contains(kind) && unit.hasPrefix("[") && unit.hasSuffix("]")
        if kind == "O" {
            throw TensorFileError(.unsupported, "The array holds objects of Python, which are pickled.")
        }
        guard let count = UInt64(digits), count <= 1 << 31, hasUnit, "biufcmMSUV".contains(kind) else {
            throw TensorFileError(.unsupported, "The array has elements of the unknown type \(text.quoted).")
        }
        elementLength = kind == "U" ? count * 4 : count
        if text.hasPrefix(">"), kind == "U" || elementLength > 1, kind != "S", kind != "V" {
            throw TensorFileError(.byteOrder, "The numbers in the array are big endian.")
        }
        let whole = Self.names[String(plain)]
        name = whole ?? String(plain)
        bytesPerNumber = Self.bytesPerNumber(kind, elementLength)
    }

    private static let names = [
        "b1": "BOOL", "i1": "I8", "i2": "I16", "i4": "I32", "i8": "I64", "u1": "U8", "u2": "U16", "u4": "U32",
        "u8": "U64", "f2": "F16", "f4": "F32", "f8": "F64", "c8": "C64", "c16": "C128",
    ]

    private static func bytesPerNumber(_ kind: Character, _ length: UInt64) -> Int {
        switch kind {
        case "U": 4
        case "S": 1
        case "c": [8: 4, 16: 8][length] ?? 1
        // Types that NumPy doesn't know, such as bfloat16, are written as bytes of no meaning.
        default: [2, 4, 8].contains(length) ? Int(length) : 1
        }
    }
}
