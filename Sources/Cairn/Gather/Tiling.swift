/// What boxes that lie in a tensor make of it: which of them holds which elements, and where several hold the same.
///
/// Axis by axis, the boxes' bounds cut the tensor into slabs, down to cells that are each within all boxes that touch them. Of a grid
/// of shards the cells are the shards.
struct Tiling {
    /// A box of the tensor, and where its elements are, in their order.
    struct Box {
        var elements: Elements
        /// Along each axis; none is empty.
        var bounds: [Range<UInt64>]
    }

    /// Elements that two boxes hold.
    struct Overlap {
        /// By the boxes' places.
        var first: Int
        var second: Int
        var region: [Range<UInt64>]
        /// What they have there.
        var elements: (Elements, Elements)
    }

    enum Failure: Error {
        /// Nothing holds these elements.
        case hole([Range<UInt64>])
        /// The boxes cut each other into far more cells than there are boxes.
        case tooManyCells
    }

    private(set) var elements = Elements.empty
    private(set) var overlaps: [Overlap] = []

    private let shape: [UInt64]
    private let boxes: [Box]
    /// How many more times a box may be looked at.
    private var budget: Int

    /// - Parameters:
    ///   - shape: of at least one axis, without zeros, and of no more elements than 64 bits count.
    ///   - boxes: within it.
    init(shape: [UInt64], boxes: [Box]) throws(Failure) {
        var (shape, boxes) = (shape, boxes)
        let merged = Self.mergeAxes(&shape, &boxes)
        self.shape = shape
        self.boxes = boxes
        budget = 64 * boxes.count + 1_000_000
        do {
            elements = try build([], Array(boxes.indices))
        } catch {
            guard case .hole(let region) = error else { throw error }
            throw .hole(Self.split(region, merged))
        }
        for index in overlaps.indices {
            overlaps[index].region = Self.split(overlaps[index].region, merged)
        }
    }

    // MARK: Axes

    /// Takes axes together that no box cuts apart: each that all boxes reach across goes with the one before it.
    /// - Returns: the shapes that were taken together.
    private static func mergeAxes(_ shape: inout [UInt64], _ boxes: inout [Box]) -> [[UInt64]] {
        var groups: [[Int]] = []
        for axis in shape.indices {
            let isWhole = boxes.allSatisfy { $0.bounds[axis] == 0..<shape[axis] }
            if groups.isEmpty || !isWhole { groups.append([]) }
            groups[groups.count - 1].append(axis)
        }
        let inner = groups.map { $0.dropFirst().reduce(1) { $0 * shape[$1] } }
        for index in boxes.indices {
            boxes[index].bounds = zip(groups, inner).map { group, inner in
                let bounds = boxes[index].bounds[group[0]]
                return bounds.lowerBound * inner..<bounds.upperBound * inner
            }
        }
        let merged = groups.map { $0.map { [shape] in shape[$0] } }
        shape = merged.map { $0.reduce(1, *) }
        return merged
    }

    /// A region of merged axes, by all axes.
    private static func split(_ region: [Range<UInt64>], _ merged: [[UInt64]]) -> [Range<UInt64>] {
        zip(region, merged).flatMap { bounds, shape in
            let inner = shape.dropFirst().reduce(1, *)
            return [bounds.lowerBound / inner..<bounds.upperBound / inner] + shape.dropFirst().map { 0..<$0 }
        }
    }

    // MARK: Cells

    /// The elements of a slab.
    /// - Parameters:
    ///   - bounds: along the first axes; along the others it is as long as the tensor.
    ///   - inside: the boxes that reach across `bounds`.
    private mutating func build(
        _ bounds: [Range<UInt64>], _ inside: [Int]
    ) throws(Failure) -> Elements {
        let axis = bounds.count
        guard axis < shape.count else { return cell(bounds, inside) }
        let starts = inside.sorted { boxes[$0].bounds[axis].lowerBound < boxes[$1].bounds[axis].lowerBound }
        let cuts = Set(
            inside.flatMap { [boxes[$0].bounds[axis].lowerBound, boxes[$0].bounds[axis].upperBound] } + [0]
        ).sorted()
        var slabs: [Elements] = []
        var (next, active) = (0, [Int]())
        for (lower, upper) in zip(cuts, cuts.dropFirst() + [shape[axis]]) where lower < upper {
            active.removeAll { boxes[$0].bounds[axis].upperBound <= lower }
            while next < starts.count, boxes[starts[next]].bounds[axis].lowerBound <= lower {
                active.append(starts[next])
                next += 1
            }
            let slab = bounds + [lower..<upper]
            guard !active.isEmpty else { throw .hole(slab + shape[(axis + 1)...].map { 0..<$0 }) }
            budget -= active.count
            guard budget > 0 else { throw .tooManyCells }
            slabs.append(try build(slab, active.sorted()))
        }
        return .joined(rows: bounds.reduce(1) { $0 * ($1.upperBound - $1.lowerBound) }, slabs)
    }

    /// The elements of a cell: the first box has them, and the others have to have the same.
    private mutating func cell(_ bounds: [Range<UInt64>], _ inside: [Int]) -> Elements {
        let elements = elements(of: inside[0], in: bounds)
        for other in inside.dropFirst() {
            overlaps.append(
                Overlap(
                    first: inside[0], second: other, region: bounds,
                    elements: (elements, self.elements(of: other, in: bounds))))
        }
        return elements
    }

    /// What a box has of a region within it.
    private func elements(of index: Int, in region: [Range<UInt64>]) -> Elements {
        let box = boxes[index]
        var lengths = box.bounds.map { $0.upperBound - $0.lowerBound }
        var elements = box.elements
        for axis in region.indices {
            let start = box.bounds[axis].lowerBound
            let inner = lengths[(axis + 1)...].reduce(1, *)
            elements = elements.sliced(
                rows: lengths[..<axis].reduce(1, *),
                (region[axis].lowerBound - start) * inner..<(region[axis].upperBound - start) * inner)
            lengths[axis] = region[axis].upperBound - region[axis].lowerBound
        }
        return elements
    }
}
