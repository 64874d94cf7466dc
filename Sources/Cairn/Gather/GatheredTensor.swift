internal import Platform

/// A tensor that is put together from stored ones, or seen in another way. Nothing of it is read.
struct GatheredTensor: Sendable {
    var name: String
    /// As `DType` spells it.
    var dtype: String
    /// Of an element.
    var bits: UInt64
    var shape: [UInt64]
    /// Of stored tensors, by their numbers.
    var elements: Elements

    /// Bytes.
    var length: UInt64 { elements.count * bits / 8 }

    /// What it is but for its name.
    struct Content: Hashable {
        var dtype: String
        var shape: [UInt64]
        var elements: Elements
    }

    var content: Content { Content(dtype: dtype, shape: shape, elements: elements) }

    /// Where its bytes are.
    /// - Parameter sources: of the stored tensors.
    /// - Throws: `.inconsistent` where elements below a byte are cut apart.
    func gather(_ sources: [Gather.Source]) throws -> Gather {
        guard let bytes = elements.scaled(bits: bits) else {
            throw CairnError(
                .inconsistent,
                "the tensor \(name) can't be put together: its elements have \(bits) bits, and one of its pieces begins "
                    + "or ends within a byte")
        }
        return Gather(name: name, sources: sources, bytes: bytes)
    }
}

// MARK: Views

extension GatheredTensor {
    /// The same elements in another shape.
    /// - Precondition: it has as many.
    func reshaped(_ shape: [UInt64]) -> GatheredTensor {
        precondition(shape.reduce(1, *) == elements.count)
        var copy = self
        copy.shape = shape
        return copy
    }

    /// What lies in a range along an axis.
    func sliced(axis: Int, _ range: Range<UInt64>) -> GatheredTensor {
        var copy = self
        let inner = shape[(axis + 1)...].reduce(1, *)
        copy.shape[axis] = range.upperBound - range.lowerBound
        copy.elements = elements.sliced(
            rows: shape[..<axis].reduce(1, *), range.lowerBound * inner..<range.upperBound * inner)
        return copy
    }

    /// One behind the other along an axis.
    /// - Precondition: at least one; of the same dtype, and along the other axes of the same shape.
    static func joined(_ tensors: [GatheredTensor], axis: Int) -> GatheredTensor {
        var joined = tensors[0]
        joined.shape[axis] = 0
        for tensor in tensors {
            joined.shape[axis] = tensor.shape[axis]
            precondition(tensor.dtype == joined.dtype && tensor.shape == joined.shape)
        }
        joined.shape[axis] = tensors.reduce(0) { $0 + $1.shape[axis] }
        joined.elements = .joined(rows: joined.shape[..<axis].reduce(1, *), tensors.map(\.elements))
        return joined
    }
}
