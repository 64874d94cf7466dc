internal import ChunkStore
internal import Platform
internal import TensorFormats

/// A tensor in another type: as a trained copy of one of the base's is loaded, which has the base's type.
struct CastTensor: ComputedBytes {
    let length: UInt64
    private let source: ModelTensor
    private let size: UInt64
    private let dtype: DType
    private let chunks: ChunkStore

    /// - Throws: `.usage`, naming the tensor, where one of the types is none that is rounded to.
    init(_ source: ModelTensor, _ dtype: DType, _ chunks: ChunkStore) throws(CairnError) {
        guard let own = DType(rawValue: source.dtype), own != .f64,
            Adapter.types.isSuperset(of: [own, dtype])
        else {
            throw CairnError(
                .usage,
                "the adapter's tensor \(source.name) is \(source.dtype), and that of the base \(dtype.name), so it can't "
                    + "take its place")
        }
        (self.source, self.dtype, self.chunks) = (source, dtype, chunks)
        size = UInt64(own.bitsPerElement / 8)
        length = source.length / size * UInt64(dtype.bitsPerElement / 8)
    }

    func fill(_ target: UnsafeMutableRawBufferPointer, from offset: UInt64) throws {
        let width = UInt64(dtype.bitsPerElement / 8)
        let end = offset + UInt64(target.count)
        let elements = offset / width..<(end + width - 1) / width
        let bytes = try source.read(elements.lowerBound * size..<elements.upperBound * size, chunks)
        let numbers = try Adapter.floats(bytes, source.dtype)
        var cast = [UInt8](repeating: 0, count: Int(elements.upperBound - elements.lowerBound) * Int(width))
        cast.withUnsafeMutableBytes { cast in
            numbers.withUnsafeBufferPointer { Adapter.store($0, in: cast, dtype) }
        }
        let start = Int(offset - elements.lowerBound * width)
        target.copyBytes(from: cast[start..<start + target.count])
    }
}

extension Adapter {
    /// Puts numbers down in a type.
    fileprivate static func store(
        _ numbers: UnsafeBufferPointer<Float>, in target: UnsafeMutableRawBufferPointer, _ dtype: DType
    ) {
        for (index, number) in numbers.enumerated() {
            switch dtype {
            case .f16:
                target.storeBytes(
                    of: Float16(number).bitPattern.littleEndian, toByteOffset: 2 * index, as: UInt16.self)
            case .bf16:
                target.storeBytes(of: bfloat16(number).littleEndian, toByteOffset: 2 * index, as: UInt16.self)
            default:
                target.storeBytes(
                    of: number.bitPattern.littleEndian, toByteOffset: 4 * index, as: UInt32.self)
            }
        }
    }
}
