/// What stands in front of the elements of an array: `\x93NUMPY`, a version, a length, and a dictionary of Python.
struct NumPyHeader {
    let dtype: NumPyDType
    /// Elements along each axis; empty for a scalar.
    let shape: [UInt64]
    /// Whether the first index runs fastest.
    let isFortran: Bool
    /// Bytes in front of the elements.
    let length: UInt64
    /// Bytes of all elements.
    let dataLength: UInt64

    /// Bytes that a header may have; NumPy itself takes 10,000 where it is not told otherwise.
    private static let maximumLength: UInt64 = 1 << 20
    /// Axes of an array: NumPy's own limit.
    private static let maximumRank = 64

    /// Whether a file begins as an array does.
    static func begins(_ bytes: [UInt8]) -> Bool { bytes.starts(with: [0x93] + Array("NUMPY".utf8)) }

    /// - Parameters:
    ///   - range: where the array with its header stands in the file.
    ///   - read: gives the bytes of a range inside the file.
    /// - Throws: `TensorFileError`; what `read` throws.
    init(in range: Range<UInt64>, _ read: (Range<UInt64>) throws -> [UInt8]) throws {
        let size = range.upperBound - range.lowerBound
        // What NumPy writes is 128 bytes long as a rule.
        var bytes = try readExactly(range.lowerBound..<range.lowerBound + min(size, 128), read)
        guard Self.begins(bytes) else {
            throw TensorFileError(.otherFormat, "The file does not begin as NumPy begins one.")
        }
        let start = try Self.start(bytes)
        length = UInt64(start.offset) + start.length
        guard length <= size else {
            throw TensorFileError(.damaged, "The file is cut off within the header of an array.")
        }
        guard start.length <= Self.maximumLength else {
            throw TensorFileError(.tooLarge, "The header of an array has over 1 MiB.")
        }
        if length > UInt64(bytes.count) {
            bytes = try readExactly(range.lowerBound..<range.lowerBound + length, read)
        }
        let literal = try PythonLiteral(parsing: bytes[start.offset..<Int(length)])
        guard let descr = literal["descr"], case .bool(let isFortran)? = literal["fortran_order"],
            case .tuple(let items)? = literal["shape"], items.count <= Self.maximumRank
        else { throw TensorFileError(.damaged, "The header of the array is damaged.") }
        self.isFortran = isFortran
        shape = try items.map { item in
            guard case .integer(let count) = item else {
                throw TensorFileError(.damaged, "The header of the array is damaged.")
            }
            return count
        }
        dtype = try NumPyDType(descr)
        guard let elements = shape.product(), let bytes = shape.product(times: dtype.elementLength),
            elements <= UInt64(Int64.max)
        else { throw TensorFileError(.damaged, "The shape of the array is beyond 64 bits.") }
        dataLength = bytes
        guard dataLength == size - length else {
            throw TensorFileError(
                .damaged,
                "The array should have \(dataLength) bytes, and \(size - length) follow its header.")
        }
    }

    /// Where the dictionary begins, and how long it is.
    private static func start(_ bytes: [UInt8]) throws(TensorFileError) -> (offset: Int, length: UInt64) {
        guard bytes.count >= 12 else {
            throw TensorFileError(.damaged, "The file is cut off within the header of an array.")
        }
        switch bytes[6] {
        case 1: return (10, UInt64(bytes.number(UInt16.self, at: 8)))
        case 2, 3: return (12, UInt64(bytes.number(UInt32.self, at: 8)))
        default:
            throw TensorFileError(
                .unsupported, "The array is of version \(bytes[6]), which is not known here.")
        }
    }

    /// Whether the elements stand in the order of the shape.
    var isPlain: Bool { !isFortran || shape.contains(0) || shape.count { $0 != 1 } <= 1 }

    /// The elements.
    /// - Parameters:
    ///   - offset: where the header begins.
    ///   - name: of the array.
    func stretch(at offset: UInt64, name: String) -> Stretch {
        Stretch(
            range: offset + length..<offset + length + dataLength, elementSize: dtype.bytesPerNumber,
            tensor: isPlain ? (name, dtype.name, shape) : nil)
    }
}
