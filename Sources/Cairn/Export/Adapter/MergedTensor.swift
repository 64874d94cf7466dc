internal import ChunkStore
internal import Platform
internal import TensorFormats

/// A weight with LoRA's product added to it, as peft's `merge_and_unload` computes it from what `from_pretrained` loads: the matrices in
/// float32, sums with one rounding a term, and the weight in its own type. (peft, `tuners/lora/layer.py`, `get_delta_weight`)
final class MergedTensor: ComputedBytes {
    private struct Matrices {
        /// For each column of the weight its `rank` numbers stand a row apart: `rank` rows.
        var rows: [Float]
        /// For each row of the weight `rank` numbers, one behind the other.
        var columns: [Float]
    }

    let length: UInt64
    private let base: ModelTensor
    private let dtype: DType
    private let update: Adapter.Update
    private let chunks: ChunkStore
    private let state = Monitor<(matrices: Matrices?, left: UInt64)>((nil, 0))

    init(_ base: ModelTensor, _ dtype: DType, _ update: Adapter.Update, _ chunks: ChunkStore) {
        (self.base, self.dtype, self.update, self.chunks) = (base, dtype, update, chunks)
        length = base.length
        state.change { $0.left = base.length }
    }

    func fill(_ target: UnsafeMutableRawBufferPointer, from offset: UInt64) throws {
        let size = UInt64(dtype.bitsPerElement / 8)
        let end = offset + UInt64(target.count)
        // A stretch may begin or end within an element.
        let elements = offset / size..<(end + size - 1) / size
        var bytes = try base.read(elements.lowerBound * size..<elements.upperBound * size, chunks)
        let matrices = try matrices()
        add(matrices, elements, &bytes)
        target.copyBytes(
            from: bytes[Int(offset - elements.lowerBound * size)..<Int(end - elements.lowerBound * size)])
        // Once all is written, the memory is given back.
        state.change { state in
            state.left -= min(state.left, UInt64(target.count))
            if state.left == 0 { state.matrices = nil }
        }
    }

    private func matrices() throws -> Matrices {
        if let known = state.change({ $0.matrices }) { return known }
        func floats(_ tensor: ModelTensor) throws -> [Float] {
            try Adapter.floats(try tensor.read(0..<tensor.length, chunks), tensor.dtype)
        }
        let (a, b) = (try floats(update.a), try floats(update.b))
        // B A, or its transpose: the same products, summed up in the same order.
        let matrices =
            update.isTransposed
            ? Matrices(
                rows: Self.transposed(b, rows: Int(update.b.shape[0])),
                columns: Self.transposed(a, rows: Int(update.rank)))
            : Matrices(rows: a, columns: b)
        state.change { $0.matrices = matrices }
        return matrices
    }

    private static func transposed(_ values: [Float], rows: Int) -> [Float] {
        let columns = values.count / rows
        return [Float](unsafeUninitializedCapacity: values.count) { buffer, count in
            for row in 0..<rows {
                for column in 0..<columns { buffer[column * rows + row] = values[row * columns + column] }
            }
            count = values.count
        }
    }

    /// Adds what belongs to a stretch of elements, row by row.
    private func add(_ matrices: Matrices, _ elements: Range<UInt64>, _ bytes: inout [UInt8]) {
        let width = Int(base.shape[1])
        var sums = [Float](repeating: 0, count: width)
        var (element, place) = (Int(elements.lowerBound), 0)
        let size = dtype.bitsPerElement / 8
        while element < Int(elements.upperBound) {
            let (row, first) = (element / width, element % width)
            let count = min(width - first, Int(elements.upperBound) - element)
            product(matrices, row, first..<first + count, &sums)
            bytes.withUnsafeMutableBytes { all in
                let weights = UnsafeMutableRawBufferPointer(rebasing: all[place..<place + count * size])
                sums.withUnsafeBufferPointer {
                    Adapter.add($0[..<count], to: weights, dtype, roundsFirst: update.isEmbedding)
                }
            }
            element += count
            place += count * size
        }
    }

    /// A part of a row of the product, scaled.
    private func product(_ matrices: Matrices, _ row: Int, _ columns: Range<Int>, _ sums: inout [Float]) {
        let (width, rank, scaling) = (Int(base.shape[1]), Int(update.rank), update.scaling)
        matrices.rows.withUnsafeBufferPointer { rows in
            sums.withUnsafeMutableBufferPointer { sums in
                for index in 0..<columns.count { sums[index] = 0 }
                for term in 0..<rank {
                    let factor = Double(matrices.columns[row * rank + term])
                    let start = term * width + columns.lowerBound
                    // The product is exact in double precision, so that this rounds once, as a fused operation does.
                    for index in 0..<columns.count {
                        sums[index] = Float(Double(sums[index]) + factor * Double(rows[start + index]))
                    }
                }
                for index in 0..<columns.count { sums[index] *= scaling }
            }
        }
    }
}
