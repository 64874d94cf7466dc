internal import Platform

/// A tensor that is put together from stored ones, or seen in another way. Nothing of it is read.
struct GatheredTensor: Sendable {
    var name: String
    /// As `DType` spells it.
    var dtype: String
    /// Of an element.
    var bits: UInt64
    var shape: [UInt64]
    /// Of stored tensors, by their numbers: what stands where, counted in bytes.
    var bytes: Elements
    /// Whether in `bytes` the last two axes stand in the other order.
    private(set) var isTransposed = false

    /// What it is but for its name.
    struct Content: Hashable {
        var dtype: String
        var shape: [UInt64]
        var bytes: Elements
        var isTransposed: Bool
    }

    var content: Content { Content(dtype: dtype, shape: shape, bytes: bytes, isTransposed: isTransposed) }

    /// Elements. Where there are none, the other axes may be of any length.
    var count: UInt64 { shape.contains(0) ? 0 : shape.reduce(1, *) }

    init(name: String, dtype: String, bits: UInt64, shape: [UInt64], bytes: Elements) {
        (self.name, self.dtype, self.bits, self.shape, self.bytes) = (name, dtype, bits, shape, bytes)
    }

    /// Where its bytes are, or those of its transpose where it is transposed.
    /// - Parameter sources: of the stored tensors.
    func gather(_ sources: [Gather.Source]) -> Gather { Gather(name: name, sources: sources, bytes: bytes) }
}

// MARK: Views

extension GatheredTensor {
    /// Elements below a byte would be cut apart.
    struct WithinByte: Error {}

    /// The same elements in another shape.
    /// - Precondition: it has as many, and is not transposed.
    func reshaped(_ shape: [UInt64]) -> GatheredTensor {
        precondition(!isTransposed)
        var copy = self
        copy.shape = shape
        precondition(copy.count == count)
        return copy
    }

    /// What lies in a range along an axis.
    func sliced(axis: Int, _ range: Range<UInt64>) throws(WithinByte) -> GatheredTensor {
        let other = 2 * shape.count - 3 - axis
        if isTransposed, shape.indices.contains(other), other >= shape.count - 2 {
            return try transposed().sliced(axis: other, range).transposed()
        }
        var copy = self
        copy.shape[axis] = range.upperBound - range.lowerBound
        guard copy.count > 0 else {
            copy.bytes = .empty
            return copy
        }
        let step = shape[(axis + 1)...].reduce(bits, *)
        let (lower, upper) = (range.lowerBound * step, range.upperBound * step)
        guard lower % 8 == 0, upper % 8 == 0, step * shape[axis] % 8 == 0 else { throw WithinByte() }
        copy.bytes = bytes.sliced(rows: shape[..<axis].reduce(1, *), lower / 8..<upper / 8)
        return copy
    }

    /// With the last two axes in the other order.
    /// - Precondition: it has two.
    func transposed() throws(WithinByte) -> GatheredTensor {
        guard bits % 8 == 0 else { throw WithinByte() }
        var copy = self
        copy.shape.swapAt(shape.count - 2, shape.count - 1)
        copy.isTransposed.toggle()
        return copy
    }

    /// One behind the other along an axis.
    /// - Precondition: at least one; none transposed; of the same dtype, and along the other axes of the same shape.
    static func joined(_ tensors: [GatheredTensor], axis: Int) throws(WithinByte) -> GatheredTensor {
        var joined = tensors[0]
        for tensor in tensors {
            joined.shape[axis] = tensor.shape[axis]
            precondition(!tensor.isTransposed && tensor.dtype == joined.dtype && tensor.shape == joined.shape)
        }
        joined.shape[axis] = tensors.reduce(0) { $0 + $1.shape[axis] }
        guard joined.count > 0 else { return joined }
        for tensor in tensors where tensor.shape[axis...].reduce(tensor.bits, *) % 8 != 0 {
            throw WithinByte()
        }
        joined.bytes = .joined(rows: joined.shape[..<axis].reduce(1, *), tensors.map(\.bytes))
        return joined
    }
}
