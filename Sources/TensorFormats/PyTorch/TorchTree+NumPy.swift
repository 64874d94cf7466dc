/// A number as NumPy pickles it: a dtype and the bytes.
enum NumPyScalar {
    case bool(Bool)
    /// nil where it is beyond 63 bits and a sign.
    case integer(Int?)
    case float(Double)

    var kind: TorchTree.Kind {
        switch self {
        case .bool: .bool
        case .integer: .integer
        case .float: .float
        }
    }

    /// - Parameters:
    ///   - dtype: such as `f8`.
    ///   - bytes: in little-endian order.
    /// - Returns: nil where the dtype is not known or has another length.
    init?(dtype: String, bytes: [UInt8]) {
        guard bytes.count <= 8, let length = dtype.utf8.last, Int(length) == bytes.count + 0x30 else {
            return nil
        }
        let bits = bytes.reversed().reduce(0 as UInt64) { $0 << 8 | UInt64($1) }
        switch dtype {
        case "b1": self = .bool(bits != 0)
        case "i1", "i2", "i4", "i8":
            // Shifted to the top and back, the sign fills what is above it.
            let shift = 64 - 8 * UInt64(bytes.count)
            self = .integer(Int(Int64(bitPattern: bits << shift) >> shift))
        case "u1", "u2", "u4", "u8":
            self = .integer(Int(exactly: bits))
        case "f4": self = .float(Double(Float(bitPattern: UInt32(bits))))
        case "f8": self = .float(Double(bitPattern: bits))
        default: return nil
        }
    }
}

extension TorchTree.Value {
    /// The number that NumPy's `scalar` is called to make; nil for anything else.
    var numpyScalar: NumPyScalar? {
        guard case .numpyScalar = knownClass else { return nil }
        let arguments = self.arguments
        guard arguments.count == 2, arguments[0].className == "numpy.dtype",
            let dtype = arguments[0].arguments.first?.string, dtype.utf8.count == 2,
            let bytes = arguments[1].bytes,
            let order = arguments[0].state?.elements?.dropFirst().first?.string
        else { return nil }
        switch order {
        case "<", "|", "=": return NumPyScalar(dtype: dtype, bytes: bytes)
        case ">": return NumPyScalar(dtype: dtype, bytes: bytes.reversed())
        default: return nil
        }
    }
}
