/// Bytes of a file that are to be a blob of their own.
struct Stretch {
    var range: Range<UInt64>
    /// As `TensorMap.Extent` has it; taken as 1 where the length is no multiple of it.
    var elementSize: Int
    /// nil where it is no tensor, or none whose elements stand in the order of its shape.
    var tensor: (name: String, dtype: String, shape: [UInt64])?

    var length: UInt64 { range.upperBound - range.lowerBound }
}

extension TensorMap {
    /// From how many bytes on what is no tensor's is an extent, so that what is left to the template stays small.
    static let ownExtentLength: UInt64 = 64 << 10
    /// Bytes that may be left to the template.
    static let maximumLiteralLength: UInt64 = 16 << 20

    /// The map of a file with these stretches, each an extent.
    ///
    /// - Parameter stretches: in the order of the file. The names of their tensors differ.
    /// - Throws: `.damaged` where two overlap or one reaches beyond the file; `.tooLarge`.
    init(format: String, size: UInt64, _ stretches: [Stretch]) throws(TensorFileError) {
        self.init(format: format, extents: [], tensors: [])
        var end: UInt64 = 0
        for stretch in stretches {
            guard stretch.range.lowerBound >= end else {
                throw TensorFileError(.damaged, "The file is damaged: two of its tensors overlap.")
            }
            appendGap(end..<stretch.range.lowerBound)
            end = stretch.range.upperBound
            let isWhole = stretch.length % UInt64(stretch.elementSize) == 0
            extents.append(
                Extent(
                    offset: stretch.range.lowerBound, length: stretch.length,
                    elementSize: isWhole ? stretch.elementSize : 1))
            guard let (name, dtype, shape) = stretch.tensor else { continue }
            tensors.append(
                Tensor(
                    name: name, dtype: dtype, shape: shape, extent: extents.count - 1, offset: 0,
                    length: stretch.length))
        }
        guard end <= size else {
            throw TensorFileError(.damaged, "The file is cut off: its last tensor would end at byte \(end).")
        }
        appendGap(end..<size)
        guard literalLength(in: size) <= Self.maximumLiteralLength else {
            throw TensorFileError(
                .tooLarge, "The file has over 16 MiB around its tensors, for there are very many of them.")
        }
    }

    /// Bytes of a file of that size that are in no extent.
    func literalLength(in size: UInt64) -> UInt64 { size - extents.reduce(0) { $0 + $1.length } }

    private mutating func appendGap(_ range: Range<UInt64>) {
        let length = range.upperBound - range.lowerBound
        guard length >= Self.ownExtentLength else { return }
        extents.append(Extent(offset: range.lowerBound, length: length, elementSize: 1))
    }
}

extension [UInt64] {
    /// The product of all dimensions and `first`; nil beyond 64 bits, even where a later dimension is 0.
    func product(times first: UInt64 = 1) -> UInt64? {
        var result = first
        for dimension in self {
            let (product, overflow) = result.multipliedReportingOverflow(by: dimension)
            if overflow { return nil }
            result = product
        }
        return result
    }
}
