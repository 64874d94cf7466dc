internal import Platform

/// A row of elements that stand in sources: what pieces, slices and joins of tensors come down to, without any of them being moved.
///
/// A tensor is the row of its elements in the order of its shape, so a reshape changes nothing here. The unit is whatever the sources
/// are counted in: elements, or after `scaled` bytes.
enum Elements: Sendable, Hashable {
    /// Of a source, `count` elements from `start` on.
    case source(Int, start: UInt64, count: UInt64)
    /// Of each source in turn, `share` elements from `start` on, until there are `count`.
    indirect case shares([Int], start: UInt64, share: UInt64, count: UInt64)
    /// Of a source, those that a view of it has.
    case view(Int, StridedView)
    /// Of each of `rows` rows, which are `width` elements long, `length` from `start` on: a slice along an axis.
    indirect case slice(Elements, rows: UInt64, width: UInt64, start: UInt64, length: UInt64)
    /// `rows` times by turns the next elements of each part: a concatenation along an axis. At least one part.
    case join([Part], rows: UInt64)

    struct Part: Sendable, Hashable {
        var elements: Elements
        /// How many of each row are this part's; above 0.
        var width: UInt64
        /// How many are those of the parts before it.
        var start: UInt64
    }

    static let empty = Elements.source(0, start: 0, count: 0)

    var count: UInt64 {
        switch self {
        case .source(_, _, let count): count
        case .shares(_, _, _, let count): count
        case .view(_, let view): view.count
        case .slice(_, let rows, _, _, let length): rows * length
        case .join(let parts, let rows): rows * (parts.last!.start + parts.last!.width)
        }
    }
}

// MARK: Making

extension Elements {
    /// Of each of `rows` rows the elements of this range.
    /// - Precondition: the rows are as long as each other, and reach to its end.
    func sliced(rows: UInt64, _ range: Range<UInt64>) -> Elements {
        guard rows > 0, !range.isEmpty else { return .empty }
        let width = count / rows
        precondition(count == rows * width && range.upperBound <= width)
        let length = range.upperBound - range.lowerBound
        if length == width { return self }
        // As few steps as can be: from a stack of layers, one is a stretch of its pieces.
        switch self {
        case .source(let source, let start, _) where rows == 1:
            return .source(source, start: start + range.lowerBound, count: length)
        case .slice(let inner, 1, _, let start, _) where rows == 1:
            return inner.sliced(rows: 1, start + range.lowerBound..<start + range.upperBound)
        case .join(let parts, let outer) where rows == outer:
            return .joined(
                rows: rows,
                Self.touched(parts, range).map { part in
                    let lower = max(range.lowerBound, part.start) - part.start
                    let upper = min(range.upperBound, part.start + part.width) - part.start
                    return part.elements.sliced(rows: rows, lower..<upper)
                })
        default: return .slice(self, rows: rows, width: width, start: range.lowerBound, length: length)
        }
    }

    /// By turns a row of each part, `rows` times.
    /// - Precondition: each part has a multiple of `rows` elements.
    static func joined(rows: UInt64, _ parts: some Sequence<Elements>) -> Elements {
        guard rows > 0 else { return .empty }
        var joined: [Part] = []
        func append(_ elements: Elements, _ width: UInt64) {
            if rows == 1, case .source(let source, let start, let count) = elements,
                let last = joined.last, case .source(source, let before, let length) = last.elements,
                before + length == start
            {
                joined[joined.count - 1].elements = .source(source, start: before, count: length + count)
                joined[joined.count - 1].width += width
                return
            }
            let start = joined.last.map { $0.start + $0.width } ?? 0
            joined.append(Part(elements: elements, width: width, start: start))
        }
        for part in parts where part.count > 0 {
            precondition(part.count.isMultiple(of: rows))
            if case .join(let inner, rows) = part {
                for part in inner { append(part.elements, part.width) }
            } else {
                append(part, part.count / rows)
            }
        }
        if joined.isEmpty { return .empty }
        return joined.count == 1 ? joined[0].elements : .join(joined, rows: rows)
    }

    /// The parts that a range of a row touches.
    private static func touched(_ parts: [Part], _ range: Range<UInt64>) -> ArraySlice<Part> {
        let first = parts.indices.partitioningIndex { parts[$0].start > range.lowerBound } - 1
        return parts[first...].prefix { $0.start < range.upperBound }
    }

    /// The same counted in bytes, where an element has so many bits; nil where a run would begin or end within a byte.
    func scaled(bits: UInt64) -> Elements? {
        func bytes(_ elements: UInt64) -> UInt64? {
            let (bits, overflow) = elements.multipliedReportingOverflow(by: bits)
            return overflow || bits % 8 != 0 ? nil : bits / 8
        }
        if bits == 8 { return self }
        switch self {
        case .source(let source, let start, let count):
            guard let start = bytes(start), let count = bytes(count) else { return nil }
            return .source(source, start: start, count: count)
        case .shares(let sources, let start, let share, let count):
            guard let start = bytes(start), let share = bytes(share), let count = bytes(count) else {
                return nil
            }
            return .shares(sources, start: start, share: share, count: count)
        case .view(let source, let view):
            return view.scaled(bits: bits).map { .view(source, $0) }
        case .slice(let inner, let rows, let width, let start, let length):
            guard let inner = inner.scaled(bits: bits), let width = bytes(width), let start = bytes(start),
                let length = bytes(length)
            else { return nil }
            return .slice(inner, rows: rows, width: width, start: start, length: length)
        case .join(let parts, let rows):
            var scaled: [Part] = []
            for part in parts {
                guard let inner = part.elements.scaled(bits: bits), let width = bytes(part.width),
                    let start = bytes(part.start)
                else { return nil }
                scaled.append(Part(elements: inner, width: width, start: start))
            }
            return .join(scaled, rows: rows)
        }
    }
}

// MARK: Going through

extension Elements {
    /// Gives where the elements of a range stand, as runs of a source, in their order. Never empty ones; neighbours may be one run.
    func forEachRun(
        in range: Range<UInt64>, _ body: (_ source: Int, _ start: UInt64, _ count: UInt64) throws -> Void
    ) rethrows {
        guard !range.isEmpty else { return }
        switch self {
        case .source(let source, let start, _):
            try body(source, start + range.lowerBound, range.upperBound - range.lowerBound)
        case .shares(let sources, let start, let share, _):
            try Self.forEachRow(of: share, in: range) { place, part in
                try body(sources[Int(place)], start + part.lowerBound, part.upperBound - part.lowerBound)
            }
        case .view(let source, let view):
            try view.forEachRun(in: range) { try body(source, $0, $1) }
        case .slice(let inner, _, let width, let start, let length):
            try Self.forEachRow(of: length, in: range) { row, part in
                let base = row * width + start
                try inner.forEachRun(in: base + part.lowerBound..<base + part.upperBound, body)
            }
        case .join(let parts, _):
            try Self.forEachRow(of: parts.last!.start + parts.last!.width, in: range) { row, wanted in
                for part in Self.touched(parts, wanted) {
                    let lower = max(wanted.lowerBound, part.start) - part.start
                    let upper = min(wanted.upperBound - part.start, part.width)
                    let base = row * part.width
                    try part.elements.forEachRun(in: base + lower..<base + upper, body)
                }
            }
        }
    }

    private static func forEachRow(
        of width: UInt64, in range: Range<UInt64>, _ body: (UInt64, Range<UInt64>) throws -> Void
    ) rethrows {
        var row = range.lowerBound / width
        var start = range.lowerBound - row * width
        var left = range.upperBound - range.lowerBound
        while left > 0 {
            let end = min(width, start + left)
            try body(row, start..<end)
            left -= end - start
            row += 1
            start = 0
        }
    }

    /// How many stretches of sources are gone through by turns, at most: 1 where one follows the other.
    var streams: Int {
        switch self {
        case .source, .shares: 1
        case .view(_, let view): view.streams
        case .slice(let inner, _, _, _, _): inner.streams
        case .join(let parts, 1): parts.reduce(1) { max($0, $1.elements.streams) }
        case .join(let parts, _): parts.reduce(0) { $0 + $1.elements.streams }
        }
    }
}
