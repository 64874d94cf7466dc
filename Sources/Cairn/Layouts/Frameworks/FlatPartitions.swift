internal import TensorFormats

/// Tensors that a rank has in one row, of which each other rank has a further stretch. (deepspeed, `utils/zero_to_fp32.py`)
struct FlatPartitions {
    /// A row of elements in a file.
    struct Row {
        var file: String
        var tensor: String
        var count: UInt64
    }

    /// For each group of parameters, the rows of the ranks, by rank.
    var groups: [[Row]]
    var dtype: String

    /// - Parameter rows: for each rank its file, and for each group the row that it has there.
    /// - Throws: `.inconsistent` where a row is not in one piece, or they are not alike.
    init(_ ranks: [(file: String, rows: [TorchTree.Tensor])]) throws {
        guard let first = ranks.first?.rows.first?.dtype else {
            throw Assembly.refused("no rank has any of the weights in full precision")
        }
        dtype = first
        groups = [[Row]](repeating: [], count: ranks[0].rows.count)
        for (file, rows) in ranks {
            guard rows.count == groups.count else {
                throw Assembly.refused(
                    "\(file) has \(rows.count) groups of parameters, where \(ranks[0].file) has \(groups.count)",
                    file)
            }
            for (group, row) in rows.enumerated() {
                let (name, dtype) = try row.stored(in: file)
                guard dtype == first else {
                    throw Assembly.refused(
                        "\(name) in \(file) is of \(dtype), where others are of \(first)", file)
                }
                groups[group].append(Row(file: file, tensor: name, count: row.count))
            }
        }
    }

    // MARK: A stretch of all parameters a rank

    /// ZeRO 1 and 2: the parameters of a group stand one behind the other in a row that all ranks make up, with padding at its end.
    /// - Parameters:
    ///   - shapes: of each group the parameters, in their order.
    ///   - gaps: behind each of them, elements that are none's; empty where there are none anywhere.
    func inRows(_ shapes: [[DeepSpeedState.Shape]], gaps: [[UInt64]]) throws -> [Assembly.Tensor] {
        guard shapes.count == groups.count, gaps.isEmpty || gaps.map(\.count) == shapes.map(\.count) else {
            throw Assembly.refused(
                "the parameters are in \(shapes.count) groups, where the ranks have \(groups.count)")
        }
        var tensors: [Assembly.Tensor] = []
        for (group, shapes) in shapes.enumerated() {
            var cutter = Cutter(rows: groups[group])
            for (index, (name, shape)) in shapes.enumerated() {
                let pieces = try cutter.next(name, try count(of: shape, name))
                tensors.append(.init(name: name, dtype: dtype, shape: shape, pieces: pieces))
                if !gaps.isEmpty { try cutter.skip(gaps[group][index]) }
            }
            // Two paddings that can't be foretold: what is left is less than one alignment.
            let alignment = 2 * UInt64(groups[group].count)
            let aligned = { (count: UInt64) in (count / alignment) + (count % alignment == 0 ? 0 : 1) }
            guard aligned(cutter.position) == aligned(cutter.total) else {
                throw Assembly.refused(
                    "the parameters of group \(group) have \(cutter.position) elements, and the ranks \(cutter.total)"
                )
            }
        }
        return tensors
    }

    private struct Cutter {
        let rows: [Row]
        let total: UInt64
        private(set) var position: UInt64 = 0
        /// The row at the position, and where it begins.
        private var (row, start): (Int, UInt64) = (0, 0)

        init(rows: [Row]) {
            self.rows = rows
            total = rows.reduce(0) { $0 &+ $1.count }
        }

        mutating func next(_ name: String, _ count: UInt64) throws -> [Assembly.Piece] {
            var pieces: [Assembly.Piece] = []
            var done: UInt64 = 0
            while done < count {
                guard row < rows.count else {
                    throw Assembly.refused("the ranks have too few elements for \(name)")
                }
                let from = position - start
                let length = min(rows[row].count - from, count - done)
                if length > 0 {
                    pieces.append(.init(rows[row], start: done, count: length, from: from))
                }
                (done, position) = (done + length, position + length)
                if position - start == rows[row].count { (row, start) = (row + 1, position) }
            }
            return pieces
        }

        /// What is padding may reach beyond what is there.
        mutating func skip(_ count: UInt64) throws {
            _ = try next("padding", min(count, total - position))
        }
    }

    // MARK: A share of each parameter a rank

    /// ZeRO 3: of each parameter every rank has a share of equal length, the last with padding. The groups of a rank are one row.
    func inShares(_ shapes: [DeepSpeedState.Shape]) throws -> [Assembly.Tensor] {
        guard groups.allSatisfy({ Set($0.map(\.count)).count == 1 }) else {
            throw Assembly.refused(
                "the ranks have rows of different lengths: some may have been put elsewhere")
        }
        var walk = ShareWalk(groups)
        let tensors = try shapes.map { name, shape in
            let pieces = try walk.next(name, try count(of: shape, name))
            return Assembly.Tensor(name: name, dtype: dtype, shape: shape, pieces: pieces)
        }
        guard walk.position == walk.end else {
            throw Assembly.refused(
                "the parameters take \(walk.position) elements of each rank, which has \(walk.end)")
        }
        return tensors
    }

    /// Goes through the rows of all ranks at once.
    private struct ShareWalk {
        private let groups: [[Row]]
        /// The rows of a group, in all files.
        private let ranks: [Assembly.Piece.Ranks]
        /// Where each group ends in the row that a rank's groups are together.
        private let ends: [UInt64]
        private(set) var position: UInt64 = 0
        private var group = 0

        init(_ groups: [[Row]]) {
            self.groups = groups
            ranks = groups.map { rows in Assembly.Piece.Ranks(rows.map { ($0.file, $0.tensor) }) }
            var ends: [UInt64] = []
            for group in groups { ends.append((ends.last ?? 0) &+ group[0].count) }
            self.ends = ends
        }

        var end: UInt64 { ends.last ?? 0 }

        mutating func next(_ name: String, _ count: UInt64) throws -> [Assembly.Piece] {
            guard count > 0 else { return [] }
            let rankCount = UInt64(groups[0].count)
            let share = count / rankCount + (count % rankCount == 0 ? 0 : 1)
            guard share <= end - position else {
                throw Assembly.refused("the ranks have too few elements for \(name)")
            }
            while ends[group] <= position { group += 1 }
            defer { position += share }
            guard position + share > ends[group] else {
                let first = groups[group][0]
                let place = Assembly.Piece.Place.shares(
                    ranks: ranks[group], start: 0, count: count, share: share,
                    from: position - (ends[group] - first.count))
                return [.init(file: first.file, tensor: first.tensor, place: place)]
            }
            return (0..<Int(rankCount)).flatMap { rank in
                pieces(rank, share: share, start: UInt64(rank) * share, limit: count)
            }
        }

        /// What one rank has of a parameter whose shares reach from one group into others.
        private func pieces(_ rank: Int, share: UInt64, start: UInt64, limit: UInt64) -> [Assembly.Piece] {
            var pieces: [Assembly.Piece] = []
            var (position, start, group) = (position, start, group)
            let end = position + share
            while position < end, start < limit {
                let row = groups[group][rank]
                let length = min(ends[group], end) - position
                let count = min(length, limit - start)
                if count > 0 {
                    let from = position - (ends[group] - row.count)
                    pieces.append(.init(row, start: start, count: count, from: from))
                }
                (position, start, group) = (position + length, start + length, group + 1)
            }
            return pieces
        }
    }

    private func count(of shape: [UInt64], _ name: String) throws -> UInt64 {
        guard let count = shape.product else { throw Assembly.refused("\(name) has an impossible shape") }
        return count
    }
}

extension Assembly.Piece {
    fileprivate init(_ row: FlatPartitions.Row, start: UInt64, count: UInt64, from: UInt64) {
        self.init(file: row.file, tensor: row.tensor, place: .run(start: start, count: count, from: from))
    }
}
