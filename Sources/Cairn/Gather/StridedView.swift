/// Elements of a source that stand at equal distances along each axis: what a transposed tensor has of its storage.
struct StridedView: Sendable, Hashable {
    /// Of the source, before its first element.
    var start: UInt64
    /// Along each axis.
    var shape: [UInt64]
    /// Of the source, from one to the next along each axis.
    var stride: [UInt64]
    /// How many follow each other in the source, at each place.
    var run: UInt64 = 1

    var count: UInt64 { shape.reduce(run, *) }

    /// The same counted in bytes; nil where an element would begin or end within one.
    func scaled(bits: UInt64) -> StridedView? {
        let factor = bits / 8
        guard bits % 8 == 0, factor > 0 else { return nil }
        var copy = self
        copy.start *= factor
        copy.run *= factor
        copy.stride = stride.map { $0 * factor }
        return copy
    }

    /// Behind the last element of the source that it has, in bits; nil where it has none, or that is beyond 64 bits.
    static func end(start: UInt64, shape: [UInt64], stride: [UInt64], bits: UInt64) -> UInt64? {
        guard shape.count == stride.count, !shape.contains(0) else { return nil }
        var last = start
        for (length, step) in zip(shape, stride) {
            let (distance, overflow) = (length - 1).multipliedReportingOverflow(by: step)
            let (sum, beyond) = last.addingReportingOverflow(distance)
            // So that none of the distances overflows, whatever is counted.
            guard !overflow, !beyond, step <= 1 << 60 / bits else { return nil }
            last = sum
        }
        guard last < 1 << 60 / bits else { return nil }
        return (last + 1) * bits
    }

    /// Gives where the elements of a range stand, as runs of the source.
    func forEachRun(
        in range: Range<UInt64>, _ body: (_ start: UInt64, _ count: UInt64) throws -> Void
    ) rethrows {
        var place = range.lowerBound / run
        var from = range.lowerBound - place * run
        var position = [UInt64](repeating: 0, count: shape.count)
        var element = start
        for axis in shape.indices.reversed() {
            position[axis] = place % shape[axis]
            place /= shape[axis]
            element += position[axis] * stride[axis]
        }
        var left = range.upperBound - range.lowerBound
        while left > 0 {
            let count = min(left, run - from)
            try body(element + from, count)
            left -= count
            from = 0
            var axis = shape.count - 1
            while axis >= 0 {
                position[axis] += 1
                element &+= stride[axis]
                if position[axis] < shape[axis] { break }
                element &-= shape[axis] &* stride[axis]
                position[axis] = 0
                axis -= 1
            }
        }
    }

    /// How many stretches of the source are gone through by turns: 1 where it is gone through once, from its start to its end.
    var streams: Int {
        var streams: UInt64 = 1
        for axis in shape.indices
        where shape[..<axis].indices.contains(where: { shape[$0] > 1 && stride[$0] < stride[axis] }) {
            let (product, overflow) = streams.multipliedReportingOverflow(by: shape[axis])
            streams = overflow ? .max : product
        }
        return Int(clamping: streams)
    }
}
