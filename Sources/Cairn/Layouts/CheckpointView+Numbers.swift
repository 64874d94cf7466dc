internal import Platform
internal import TensorFormats

/// Numbers that frameworks keep as tensors of one element: a global step, an epoch, a score. They are the only ones whose bytes are read.
extension CheckpointView {
    /// The file, where there is nothing else.
    var onlyFile: File? { files.count == 1 && folders.isEmpty ? files[0] : nil }

    /// The only element of a tensor; nil where there is no such tensor, or where it has several.
    /// - Parameter map: of the file.
    func number(_ name: String, in file: File, _ map: TensorMap) throws -> TensorNumber? {
        guard let tensor = map.tensors.first(where: { $0.name.utf8.elementsEqual(name.utf8) }),
            map.extents.indices.contains(tensor.extent)
        else { return nil }
        let start = map.extents[tensor.extent].offset + tensor.offset
        return try number(tensor.dtype, tensor.shape, start, tensor.length, in: file)
    }

    /// - Parameters:
    ///   - start: where the tensor's bytes begin in the file.
    ///   - length: how many they are.
    func number(
        _ dtype: String, _ shape: [UInt64], _ start: UInt64, _ length: UInt64, in file: File
    ) throws -> TensorNumber? {
        guard shape.allSatisfy({ $0 == 1 }), (1...8).contains(length), length <= file.size,
            start <= file.size - length
        else { return nil }
        return TensorNumber(dtype: dtype, bytes: try read(file, start..<start + length))
    }
}

/// A number as a tensor has it.
enum TensorNumber: Sendable, Equatable {
    case integer(Int64)
    case float(Double)

    /// - Parameters:
    ///   - dtype: as `TensorMap` spells it.
    ///   - bytes: in little-endian order.
    /// - Returns: nil where the type is none of a single number, or has another length.
    init?(dtype: String, bytes: [UInt8]) {
        guard let type = DType(rawValue: dtype), type.bitsPerElement == 8 * bytes.count else { return nil }
        let bits = bytes.reversed().reduce(0 as UInt64) { $0 << 8 | UInt64($1) }
        // Shifted to the top and back, the sign fills what is above it.
        let shift = UInt64(64 - type.bitsPerElement)
        let signed = Int64(bitPattern: bits << shift) >> shift
        switch type {
        case .i8, .i16, .i32, .i64: self = .integer(signed)
        case .u8, .u16, .u32, .u64:
            guard let value = Int64(exactly: bits) else { return nil }
            self = .integer(value)
        case .f16: self = .float(Double(Float16(bitPattern: UInt16(bits))))
        case .bf16: self = .float(Double(Float(bitPattern: UInt32(bits) << 16)))
        case .f32: self = .float(Double(Float(bitPattern: UInt32(bits))))
        case .f64: self = .float(Double(bitPattern: bits))
        default: return nil
        }
    }

    /// As a step: a whole number from 0 to `Step.maximum`.
    var step: UInt64? {
        switch self {
        case .integer(let value): UInt64(exactly: value).flatMap { $0 <= Step.maximum ? $0 : nil }
        case .float(let value):
            // Not `UInt64(exactly:)`: that rounds with libm, which nothing here links.
            value >= 0 && value <= Double(Step.maximum) && Double(UInt64(value)) == value
                ? UInt64(value) : nil
        }
    }

    var double: Double {
        switch self {
        case .integer(let value): Double(value)
        case .float(let value): value
        }
    }
}
