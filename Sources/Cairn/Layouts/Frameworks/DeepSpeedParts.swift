import TensorFormats

/// What ranks of tensor parallelism have of one tensor, and the whole that it makes. (deepspeed, `checkpoint/ds_to_universal.py`)
struct DeepSpeedParts {
    private let name: String
    private let parts: [Assembly.Tensor]

    /// - Parameter parts: by rank; at least one.
    init(_ name: String, _ parts: [Assembly.Tensor]) { (self.name, self.parts) = (name, parts) }

    /// - Parameter rowCount: what is behind so many rows is padding.
    /// - Throws: `.inconsistent` where the parts do not fit to what is said of them.
    func whole(_ cut: DeepSpeedCuts.Cut, rowCount: UInt64?) throws -> Assembly.Tensor {
        for part in parts where part.dtype != parts[0].dtype {
            throw unlike(part, "it is of \(part.dtype), and that of the first rank of \(parts[0].dtype)")
        }
        var whole =
            switch cut {
            case .replicated: try replicated()
            case .axis(let axis): try joined(.init(axis: axis, count: 1))
            case .joined(let joined): try self.joined(joined)
            case .map(let map): try mapped(map)
            case .refused(let why): throw Assembly.refused("of \(name), \(why)", parts[0].files.min())
            }
        if let rowCount, let rows = whole.shape.first, rows > rowCount { whole.cut(rows: rowCount) }
        return whole
    }

    private func replicated() throws -> Assembly.Tensor {
        for part in parts where part.shape != parts[0].shape {
            throw unlike(part, "it has \(part.shape), and that of the first rank \(parts[0].shape)")
        }
        return tensor(
            parts[0].shape,
            parts.map { [.init(all: $0, offset: [UInt64](repeating: 0, count: $0.shape.count))] })
    }

    // MARK: Along an axis

    /// Each of what is joined is divided by itself, along the same axis.
    private func joined(_ joined: DeepSpeedCuts.Joined) throws -> Assembly.Tensor {
        let (axis, first) = (joined.axis, parts[0].shape)
        for part in parts {
            var expected = first
            guard first.indices.contains(axis), part.shape.count == first.count,
                joined.axisCount ?? first.count == first.count
            else { throw unlike(part, "its \(part.shape) can't be divided so") }
            expected[axis] = part.shape[axis]
            guard part.shape == expected else {
                throw unlike(part, "it has \(part.shape), and that of the first rank \(first)")
            }
        }
        let shares = try shares(joined)
        var (boxes, start) = ([[Assembly.Part.Box]](repeating: [], count: parts.count), UInt64(0))
        var taken = [UInt64](repeating: 0, count: parts.count)
        for shares in shares {
            for (rank, share) in shares.enumerated() {
                var box = Assembly.Part.Box(
                    all: parts[rank], offset: [UInt64](repeating: 0, count: first.count))
                box.region[axis] = taken[rank]..<taken[rank] + share
                box.offset[axis] = start
                boxes[rank].append(box)
                (taken[rank], start) = (taken[rank] + share, start + share)
            }
        }
        var shape = first
        shape[axis] = start
        return tensor(shape, boxes)
    }

    /// For each of what is joined, what each rank has of it. No sum of them is beyond 64 bits.
    private func shares(_ joined: DeepSpeedCuts.Joined) throws -> [[UInt64]] {
        let lengths = parts.map { $0.shape[joined.axis] }
        guard lengths.allSatisfy({ $0 < 1 << 48 }), parts.count < 1 << 14 else {
            throw unlike(parts[0], "its \(parts[0].shape) can't be divided so")
        }
        var shares: [[UInt64]]
        if let known = joined.lengths {
            let ranks = UInt64(parts.count)
            shares = joined.shares ?? known.map { [UInt64](repeating: $0 / ranks, count: parts.count) }
            guard shares.count == known.count,
                zip(shares, known).allSatisfy({ $0.count == parts.count && $0.reduce(0, &+) == $1 })
            else {
                throw unlike(
                    parts[0], "it is said to have \(known) of several, of which ranks have \(shares)")
            }
        } else {
            // A rank has as much of each.
            let isAlike = lengths.allSatisfy { $0 == lengths[0] && $0 % joined.count == 0 }
            guard joined.count == 1 || isAlike && joined.count < 1 << 12 else {
                throw unlike(parts[0], "its \(parts[0].shape) is not \(joined.count) of the same length")
            }
            shares = [[UInt64]](repeating: lengths.map { $0 / joined.count }, count: Int(joined.count))
        }
        for (rank, part) in parts.enumerated() {
            let sum = shares.reduce(UInt64(0)) { $0 &+ $1[rank] }
            guard sum == lengths[rank] else {
                throw unlike(
                    part, "it has \(part.shape), where it is said to have \(sum) along axis \(joined.axis)")
            }
        }
        return shares
    }

    // MARK: By a map

    /// Each rank's boxes are named, by their places in the whole and in the part, in elements. (deepspeed, `checkpoint/affine.py`)
    private func mapped(_ map: TorchTree.Value) throws -> Assembly.Tensor {
        guard let shape = Self.numbers(map["logical_shape"]), shape.product != nil, let ranks = map["ranks"],
            ranks.items?.count == parts.count
        else {
            throw unlike(parts[0], "its map is not one of \(parts.count) ranks")
        }
        return tensor(
            shape,
            try parts.enumerated().map { rank, part in
                guard let own = ranks[rank], Self.numbers(own["shard_shape"]) == part.shape else {
                    throw unlike(part, "it has \(part.shape), and not the shape that its map says")
                }
                return try (own["pieces"]?.elements ?? []).compactMap { piece in
                    guard piece["scale"]?.double ?? 1 == 1 else {
                        throw unlike(part, "it is stored divided by a number, which is not computed here")
                    }
                    guard let lengths = Self.numbers(piece["shape"]),
                        let source = Self.place(piece["source"], lengths, in: shape),
                        let own = Self.place(piece["dest"], lengths, in: part.shape)
                    else { throw unlike(part, "its map has a piece that is no box of it") }
                    if lengths.contains(0) { return nil }
                    return .init(region: zip(own, lengths).map { $0..<$0 + $1 }, offset: source)
                }
            })
    }

    /// Where the first element of a box is along each axis; nil where it is no box, or not within the shape.
    private static func place(_ value: TorchTree.Value?, _ lengths: [UInt64], in shape: [UInt64]) -> [UInt64]?
    {
        guard let pair = value?.elements, pair.count == 2, let offset = pair[0].int, offset >= 0,
            let steps = numbers(pair[1]), steps.count == shape.count, lengths.count == shape.count
        else { return nil }
        if lengths.contains(0) { return [UInt64](repeating: 0, count: shape.count) }
        var (rest, place) = (UInt64(offset), [UInt64]())
        for axis in shape.indices {
            guard let step = shape[(axis + 1)...].map({ $0 }).product, step > 0,
                lengths[axis] == 1 || steps[axis] == step, rest / step <= shape[axis],
                lengths[axis] <= shape[axis] - rest / step
            else { return nil }
            place.append(rest / step)
            rest %= step
        }
        return rest == 0 ? place : nil
    }

    private static func numbers(_ value: TorchTree.Value?) -> [UInt64]? {
        guard let elements = value?.elements else { return nil }
        let numbers = elements.compactMap { $0.int.flatMap { UInt64(exactly: $0) } }
        return numbers.count == elements.count ? numbers : nil
    }

    // MARK: Making

    private func tensor(_ shape: [UInt64], _ boxes: [[Assembly.Part.Box]]) -> Assembly.Tensor {
        var whole = Assembly.Tensor(name: name, dtype: parts[0].dtype, shape: shape, pieces: [])
        whole.parts = zip(parts, boxes).map { .init(tensor: $0, boxes: $1) }
        return whole
    }

    private func unlike(_ part: Assembly.Tensor, _ why: String) -> any Error {
        let file = part.files.min()
        return Assembly.refused("of \(name), the part in \(file ?? "no file") does not fit: \(why)", file)
    }
}

extension Assembly.Part.Box {
    /// All of a part.
    fileprivate init(all part: Assembly.Tensor, offset: [UInt64]) {
        self.init(region: part.shape.map { 0..<$0 }, offset: offset)
    }
}

extension Assembly.Tensor {
    /// Leaves what is behind so many rows.
    fileprivate mutating func cut(rows: UInt64) {
        shape[0] = rows
        for index in parts.indices {
            parts[index].boxes = parts[index].boxes.compactMap { box in
                guard box.offset[0] < rows else { return nil }
                var box = box
                let length = box.region[0].upperBound - box.region[0].lowerBound
                box.region[0] =
                    box.region[0].lowerBound..<box.region[0].lowerBound + min(length, rows - box.offset[0])
                return box
            }
        }
    }
}
