internal import TensorFormats

/// How two stretches of elements of one dtype differ.
struct ElementDifference {
    var elements: UInt64 = 0
    var bytes: UInt64 = 0
    /// nil where the dtype has no numbers that can be told apart here.
    var largest: Double?

    /// Takes in that of another stretch.
    mutating func add(_ other: ElementDifference) {
        elements += other.elements
        bytes += other.bytes
        largest = [largest, other.largest].compactMap(\.self).max()
    }

    /// - Parameter width: bytes of an element; 1 where elements are smaller or unknown.
    mutating func add(_ a: [UInt8], _ b: [UInt8], dtype: DType?, width: Int) {
        precondition(a.count == b.count)
        a.withUnsafeBytes { a in
            b.withUnsafeBytes { b in
                for start in stride(from: 0, to: a.count, by: width) {
                    let end = min(start + width, a.count)
                    var changed: UInt64 = 0
                    for index in start..<end where a[index] != b[index] { changed += 1 }
                    guard changed > 0 else { continue }
                    elements += 1
                    bytes += changed
                    guard end - start == width, let dtype, let left = Self.number(a, start, dtype),
                        let right = Self.number(b, start, dtype)
                    else { continue }
                    let difference = (left - right).magnitude
                    if !difference.isNaN { largest = max(largest ?? 0, difference) }
                }
            }
        }
    }

    private static func number(_ bytes: UnsafeRawBufferPointer, _ offset: Int, _ dtype: DType) -> Double? {
        func load<T: FixedWidthInteger>(_ type: T.Type) -> T {
            T(littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: T.self))
        }
        switch dtype {
        case .f64: return Double(bitPattern: load(UInt64.self))
        case .f32: return Double(Float(bitPattern: load(UInt32.self)))
        case .bf16: return Double(Float(bitPattern: UInt32(load(UInt16.self)) << 16))
        case .f16: return half(load(UInt16.self))
        case .i64: return Double(load(Int64.self))
        case .u64: return Double(load(UInt64.self))
        case .i32: return Double(load(Int32.self))
        case .u32: return Double(load(UInt32.self))
        case .i16: return Double(load(Int16.self))
        case .u16: return Double(load(UInt16.self))
        case .i8: return Double(load(Int8.self))
        case .u8, .bool: return Double(load(UInt8.self))
        default: return nil
        }
    }

    /// IEEE 754 binary16, which x86 has no `Float16` for in Swift.
    private static func half(_ bits: UInt16) -> Double {
        let exponent = Int(bits >> 10 & 31)
        let fraction = Double(bits & 1023)
        let sign: Double = bits >> 15 == 0 ? 1 : -1
        switch exponent {
        case 0: return sign * fraction * 0x1p-24
        case 31: return fraction == 0 ? sign * .infinity : .nan
        default:
            return sign * (1 + fraction / 1024) * Double(sign: .plus, exponent: exponent - 15, significand: 1)
        }
    }
}
