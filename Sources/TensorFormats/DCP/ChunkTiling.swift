/// Whether the chunks of a tensor tile it: whether each element is in exactly one.
///
/// How many chunks an element is in is a function of its place, and so is the 1 that it should be. Differentiated
/// along every axis, both are zero but for the corners of the boxes: +1 at the first corner, and the sign turns with
/// each axis along which one goes to the other side. The functions are equal if these corners cancel out, which takes
/// no comparison of chunks with each other. If they don't, the first corner that is left is the first element at
/// which the functions differ, and its value is by how much.
struct ChunkTiling {
    let problem: DCPMetadata.Problem?

    /// Corners of all chunks of a tensor.
    private static let maximumCorners = 1 << 24

    init(_ tensor: DCPMetadata.Tensor) {
        let shape = tensor.shape
        if let chunk = tensor.chunks.first(where: { !$0.isInside(shape) }) {
            problem = DCPMetadata.Problem(
                kind: .outside, name: tensor.name,
                message:
                    "The chunk at \(chunk.offsets) of \(tensor.name.quoted), of the shape \(chunk.shape), "
                    + "reaches beyond the tensor, which has the shape \(shape).")
            return
        }
        let chunks = tensor.chunks.filter { !$0.shape.contains(0) }
        if shape.contains(0) || chunks.count == 1 && chunks[0].shape == shape {
            problem = nil
            return
        }
        // Along the others nothing is cut.
        let axes = shape.indices.filter { axis in chunks.contains { $0.shape[axis] != shape[axis] } }
        guard let difference = Self.firstDifference(shape, chunks, axes) else {
            problem = DCPMetadata.Problem(
                kind: .tooComplex, name: tensor.name,
                message: "\(tensor.name.quoted) is cut into \(chunks.count) chunks along \(axes.count) axes, "
                    + "too many to tell whether they tile it.")
            return
        }
        problem = Self.problem(difference, tensor.name, chunks)
    }

    private static func problem(
        _ difference: Difference, _ name: String, _ chunks: [DCPMetadata.Chunk]
    ) -> DCPMetadata.Problem? {
        guard case .at(let element, let excess) = difference else { return nil }
        guard excess > 0 else {
            return DCPMetadata.Problem(
                kind: .hole, name: name,
                message: "No chunk of \(name.quoted) has the element at \(element).")
        }
        let both = chunks.filter { $0.holds(element) }.prefix(2).map { "\($0.offsets)" }
        return DCPMetadata.Problem(
            kind: .overlap, name: name,
            message: "The chunks at \(both.joined(separator: " and ")) of \(name.quoted) overlap: "
                + "both have the element at \(element).")
    }

    private enum Difference {
        case none
        /// The first element that is in too many chunks or too few, and in how many too many.
        case at([UInt64], Int)
    }

    /// - Returns: nil where there are too many corners.
    private static func firstDifference(
        _ shape: [UInt64], _ chunks: [DCPMetadata.Chunk], _ axes: [Int]
    ) -> Difference? {
        guard axes.count < 24, (chunks.count + 1) << axes.count <= maximumCorners else { return nil }
        guard let grid = Grid(shape, chunks, axes) else { return nil }
        var corners: [UInt64] = []
        corners.reserveCapacity((chunks.count + 1) << axes.count)
        for chunk in chunks { grid.append(chunk.offsets, chunk.shape, sign: 0, to: &corners) }
        grid.append([UInt64](repeating: 0, count: shape.count), shape, sign: 1, to: &corners)
        corners.sort()

        var start = 0
        while start < corners.count {
            let place = corners[start] >> 1
            var (end, sum) = (start, 0)
            while end < corners.count, corners[end] >> 1 == place {
                sum += corners[end] & 1 == 0 ? 1 : -1
                end += 1
            }
            if sum != 0 { return .at(grid.element(place, dimensions: shape.count), sum) }
            start = end
        }
        return Difference.none
    }

    /// The coordinates at which chunks begin and end, counted along each axis, so that a corner is one number whose
    /// order is that of the elements.
    private struct Grid {
        private let axes: [Int]
        /// By place in `axes`, in order.
        private var coordinates: [[UInt64]] = []

        /// - Returns: nil where the corners' numbers don't fit.
        init?(_ shape: [UInt64], _ chunks: [DCPMetadata.Chunk], _ axes: [Int]) {
            self.axes = axes
            var product: UInt64 = 1
            for axis in axes {
                var values = [0, shape[axis]]
                for chunk in chunks {
                    values.append(chunk.offsets[axis])
                    values.append(chunk.offsets[axis] + chunk.shape[axis])
                }
                values.sort()
                var unique: [UInt64] = []
                for value in values where value != unique.last { unique.append(value) }
                coordinates.append(unique)
                let (next, overflow) = product.multipliedReportingOverflow(by: UInt64(unique.count))
                guard !overflow, next < 1 << 62 else { return nil }
                product = next
            }
        }

        /// Appends the corners of a box: each one's number, and its sign in the lowest bit, 1 for minus.
        func append(_ offsets: [UInt64], _ shape: [UInt64], sign: UInt64, to corners: inout [UInt64]) {
            let start = corners.count
            corners.append(sign)
            for (place, axis) in axes.enumerated() {
                let values = coordinates[place]
                let low = UInt64(values.position(of: offsets[axis]))
                let high = UInt64(values.position(of: offsets[axis] + shape[axis]))
                for index in start..<corners.count {
                    let (number, sign) = (corners[index] >> 1 * UInt64(values.count), corners[index] & 1)
                    corners[index] = (number + low) << 1 | sign
                    corners.append((number + high) << 1 | (sign ^ 1))
                }
            }
        }

        /// The element that a corner's number stands for.
        func element(_ number: UInt64, dimensions: Int) -> [UInt64] {
            var (element, number) = ([UInt64](repeating: 0, count: dimensions), number)
            for (place, axis) in axes.enumerated().reversed() {
                let count = UInt64(coordinates[place].count)
                element[axis] = coordinates[place][Int(number % count)]
                number /= count
            }
            return element
        }
    }
}

extension DCPMetadata.Chunk {
    /// Both have as many axes.
    fileprivate func isInside(_ shape: [UInt64]) -> Bool {
        shape.indices.allSatisfy { axis in
            let (end, overflow) = offsets[axis].addingReportingOverflow(self.shape[axis])
            return !overflow && end <= shape[axis]
        }
    }

    fileprivate func holds(_ element: [UInt64]) -> Bool {
        element.indices.allSatisfy { axis in
            element[axis] >= offsets[axis] && element[axis] - offsets[axis] < shape[axis]
        }
    }
}

extension [UInt64] {
    /// Where a value stands in a sorted array that has it.
    fileprivate func position(of value: UInt64) -> Int {
        var (low, high) = (0, count)
        while low < high {
            let middle = (low + high) / 2
            if self[middle] < value { low = middle + 1 } else { high = middle }
        }
        return low
    }
}
