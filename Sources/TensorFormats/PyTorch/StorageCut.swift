/// The extents of one storage, and where its tensors lie in them.
struct StorageCut {
    struct Place {
        /// Its place among the storage's tensors.
        var tensor: Int
        /// Its place in `extents`.
        var extent: Int
        /// Bytes from the extent's first one.
        var offset: UInt64
        var length: UInt64
    }

    /// From how many bytes on a gap between tensors is an extent; shorter ones are left to the template.
    static let gapLength: UInt64 = 4096

    /// In order, by their offset in the storage.
    private(set) var extents: [TensorMap.Extent] = []
    /// Of the tensors whose bytes stand as they are: at most one for each.
    private(set) var places: [Place] = []

    /// Bytes of the storage.
    private let length: UInt64
    /// Bytes of the numbers that it holds.
    private let elementSize: Int

    /// - Parameters:
    ///   - tensors: all that lie in the storage.
    ///   - length: bytes of the storage in the file.
    init(_ storage: TorchStorage, tensors: [TorchTensor], length: UInt64) throws(TensorFileError) {
        self.length = length
        switch storage.elements {
        case .typed(let dtype): elementSize = dtype.bytesPerNumber
        case .untyped, .unknown:
            let sizes = Set(tensors.map { $0.dtype?.bytesPerNumber ?? 1 })
            elementSize = sizes.count == 1 ? sizes.first ?? 1 : 1
        }

        var (ranges, isWhole): ([(range: Range<UInt64>, tensor: Int)], Bool) = ([], false)
        for (index, tensor) in tensors.enumerated() {
            guard tensor.isPlain, tensor.dtype != nil, tensor.unpackedShape != nil else {
                isWhole = true
                continue
            }
            // A tensor without elements may lie anywhere.
            if tensor.shape.contains(0) {
                ranges.append((0..<0, index))
                continue
            }
            guard let range = tensor.range, range.upperBound <= length else {
                throw TensorFileError(
                    .invalidStorage, "The tensor \(tensor.name.quoted) reaches beyond its storage.")
            }
            ranges.append((range, index))
        }
        ranges.sort {
            ($0.range.lowerBound, $0.range.upperBound, $0.tensor) < (
                $1.range.lowerBound, $1.range.upperBound, $1.tensor
            )
        }

        let empty = ranges.prefix { $0.range.isEmpty }
        if let first = empty.first {
            append(0..<0, elementSize: tensors[first.tensor].dtype?.bytesPerNumber)
            places += empty.map { Place(tensor: $0.tensor, extent: 0, offset: 0, length: 0) }
        }
        let filled = ranges.dropFirst(empty.count)
        if isWhole || filled.isEmpty || Self.overlap(filled.map(\.range)) {
            cutNothing(filled)
        } else {
            cut(filled, tensors)
        }
    }

    /// Whether two ranges that differ have bytes in common. They come in order.
    private static func overlap(_ ranges: [Range<UInt64>]) -> Bool {
        zip(ranges, ranges.dropFirst()).contains { $0 != $1 && $1.lowerBound < $0.upperBound }
    }

    private mutating func cutNothing(_ ranges: ArraySlice<(range: Range<UInt64>, tensor: Int)>) {
        guard length > 0 else { return }
        append(0..<length)
        for (range, tensor) in ranges {
            places.append(
                Place(
                    tensor: tensor, extent: extents.count - 1, offset: range.lowerBound,
                    length: range.upperBound - range.lowerBound))
        }
    }

    private mutating func cut(
        _ ranges: ArraySlice<(range: Range<UInt64>, tensor: Int)>, _ tensors: [TorchTensor]
    ) {
        var end: UInt64 = 0
        var last: Range<UInt64>?
        for (range, tensor) in ranges {
            let size = tensors[tensor].dtype?.bytesPerNumber ?? 1
            if range != last {
                appendGap(end..<range.lowerBound)
                append(range, elementSize: size)
            } else if extents[extents.count - 1].elementSize != size {
                extents[extents.count - 1].elementSize = 1
            }
            (last, end) = (range, range.upperBound)
            places.append(
                Place(
                    tensor: tensor, extent: extents.count - 1, offset: 0,
                    length: range.upperBound - range.lowerBound))
        }
        appendGap(end..<length)
    }

    private mutating func appendGap(_ range: Range<UInt64>) {
        if range.upperBound - range.lowerBound >= Self.gapLength { append(range) }
    }

    private mutating func append(_ range: Range<UInt64>, elementSize: Int? = nil) {
        let size = elementSize ?? self.elementSize
        let length = range.upperBound - range.lowerBound
        extents.append(
            TensorMap.Extent(
                offset: range.lowerBound, length: length,
                elementSize: length % UInt64(size) == 0 ? size : 1))
    }
}
