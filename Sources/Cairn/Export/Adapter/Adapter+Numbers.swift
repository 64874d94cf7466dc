internal import Platform
internal import TensorFormats

extension Adapter {
    /// Types of numbers that can be added to, and read.
    static let types: Set<DType> = [.f32, .f16, .bf16]

    /// The numbers of a matrix, in float32.
    /// - Throws: `.usage` for another type.
    static func floats(_ bytes: [UInt8], _ dtype: String) throws(CairnError) -> [Float] {
        func words<Word: FixedWidthInteger & UnsignedInteger>(_ type: Word.Type, _ value: (Word) -> Float)
            -> [Float]
        {
            bytes.withUnsafeBytes { bytes in
                (0..<bytes.count / MemoryLayout<Word>.size).map {
                    value(
                        Word(
                            littleEndian: bytes.loadUnaligned(
                                fromByteOffset: $0 * MemoryLayout<Word>.size, as: Word.self)))
                }
            }
        }
        switch DType(rawValue: dtype) {
        case .f32: return words(UInt32.self) { Float(bitPattern: $0) }
        case .f16: return words(UInt16.self) { Float(Float16(bitPattern: $0)) }
        case .bf16: return words(UInt16.self) { Float(bitPattern: UInt32($0) << 16) }
        default: throw CairnError(.usage, "a matrix of the adapter is \(dtype), which can't be merged here")
        }
    }

    /// Adds numbers to a weight's.
    /// - Parameter roundsFirst: whether they are rounded to the weight's type before, as those of embeddings are.
    static func add(
        _ numbers: Slice<UnsafeBufferPointer<Float>>, to weights: UnsafeMutableRawBufferPointer,
        _ dtype: DType,
        roundsFirst: Bool
    ) {
        func change<Word: FixedWidthInteger & UnsignedInteger>(_ body: (Word, Float) -> Word) {
            let size = MemoryLayout<Word>.size
            for (index, number) in numbers.enumerated() {
                let word = Word(
                    littleEndian: weights.loadUnaligned(fromByteOffset: index * size, as: Word.self))
                weights.storeBytes(
                    of: body(word, number).littleEndian, toByteOffset: index * size, as: Word.self)
            }
        }
        switch dtype {
        case .f16:
            change { (word: UInt16, number) in
                let number = roundsFirst ? Float(Float16(number)) : number
                return Float16(Float(Float16(bitPattern: word)) + number).bitPattern
            }
        case .bf16:
            change { (word: UInt16, number) in
                let number = roundsFirst ? Float(bitPattern: UInt32(bfloat16(number)) << 16) : number
                return bfloat16(Float(bitPattern: UInt32(word) << 16) + number)
            }
        default: change { (word: UInt32, number) in (Float(bitPattern: word) + number).bitPattern }
        }
    }

    /// The nearest one, of two the even one.
    static func bfloat16(_ value: Float) -> UInt16 {
        if value.isNaN { return 0x7FC0 }
        let bits = value.bitPattern
        return UInt16(truncatingIfNeeded: (bits &+ 0x7FFF &+ (bits >> 16 & 1)) >> 16)
    }
}
