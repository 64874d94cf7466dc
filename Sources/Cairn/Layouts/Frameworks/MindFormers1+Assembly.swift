internal import Platform
internal import TensorFormats

extension MindFormers1 {
    /// How a parameter lies on the devices of one pipeline stage, as seen from one of its ranks.
    private struct Slice {
        /// Of this rank, along each axis: which part, of how many.
        var parts: [(index: UInt64, count: UInt64)]

        /// - Returns: nil where the layout is none of a tensor of this shape.
        init?(_ layout: ParallelStrategy.Layout, rank: Int, stored: [UInt64]) {
            let matrix = layout.deviceMatrix.map { UInt64($0) }
            guard layout.tensorMap.count == stored.count, let devices = matrix.product(atMost: 1 << 20),
                devices > 0
            else {
                return nil
            }
            var coordinates: [UInt64] = []
            var rest = UInt64(rank) % devices
            for size in matrix.reversed() {
                coordinates.append(rest % size)
                rest /= size
            }
            parts = []
            var taken: Set<Int> = []
            for axes in layout.tensorMap {
                var part: (index: UInt64, count: UInt64) = (0, 1)
                for axis in axes where axis >= 0 {
                    let axis = Int(axis)
                    guard axis < matrix.count, taken.insert(axis).inserted else { return nil }
                    let size = matrix[matrix.count - 1 - axis]
                    part = (part.index * size + coordinates[axis], part.count * size)
                }
                parts.append(part)
            }
            shardOptimizer(layout, matrix, coordinates, taken, devices)
        }

        /// The optimizer cuts a slice once more along its first axis, among ranks that have the same one.
        private mutating func shardOptimizer(
            _ layout: ParallelStrategy.Layout, _ matrix: [UInt64], _ coordinates: [UInt64], _ taken: Set<Int>,
            _ devices: UInt64
        ) {
            let slices = parts.reduce(1) { $0 * $1.count }
            let size =
                layout.optimizerShardSize == -1 ? devices / slices : UInt64(max(0, layout.optimizerShardSize))
            guard layout.optimizerShardStep != 0, size > 1, !parts.isEmpty else { return }
            // The ranks with the same slice, the last axis running fastest.
            var replica: UInt64 = 0
            for axis in matrix.indices.reversed() where !taken.contains(axis) {
                replica = replica * matrix[matrix.count - 1 - axis] + coordinates[axis]
            }
            parts[0] = (parts[0].index * size + replica % size, parts[0].count * size)
        }
    }

    func assembly(of view: CheckpointView) throws -> Assembly? {
        guard let (_, _, files) = iteration(in: view) else { return nil }
        let strategies = try strategies(view)
        // Without them, nothing tells slices from copies.
        guard files.count == 1 || !strategies.isEmpty else { return nil }
        var collector = Collector()
        for (rank, file) in files.sorted(by: { $0.key < $1.key }) {
            guard let map = try view.tensors(in: file.path) else { return nil }
            for stored in StoredTensor.all(in: map) {
                let layout = strategies.layout(of: stored.name, rank: rank)
                collector.add(stored, file.path, layout.map { Slice($0, rank: rank, stored: stored.shape) })
            }
        }
        let groups = TensorGroups(collector.tensors.map(\.name))
        return Assembly(
            tensors: collector.tensors.filter { groups.part(of: $0.name) == .model },
            optimizer: collector.tensors.filter { groups.part(of: $0.name) == .optimizer })
    }

    /// The tensors of all ranks as they come together.
    private struct Collector {
        var tensors: [Assembly.Tensor] = []
        private var places: [String: Int] = [:]

        /// - Parameter slice: nil where the strategy says nothing of it; nil inside where that is not of its shape.
        mutating func add(_ stored: StoredTensor, _ file: String, _ slice: Slice??) {
            let box = Self.place(of: stored, slice)
            let place = places[stored.name] ?? tensors.count
            if place == tensors.count {
                places[stored.name] = place
                tensors.append(
                    .init(
                        name: stored.name, dtype: stored.dtype, shape: box?.shape ?? stored.shape, pieces: [])
                )
            }
            guard let box else {
                tensors[place].problem = .init(
                    why: "its strategy is none for what \(file) has of it")
                return
            }
            guard tensors[place].shape == box.shape, tensors[place].dtype == stored.dtype else {
                tensors[place].problem = .init(
                    why: "what \(file) has of it contradicts the files of other ranks")
                return
            }
            let pieces = stored.pieces(file, box.offset, box.shape)
            if pieces.isEmpty {
                tensors[place].problem = .init(
                    why: "\(file) has it in several pieces and in slices that are no rows")
            }
            tensors[place].pieces += pieces
        }

        /// Where what is stored lies in the whole, and the shape of that; nil where the strategy is none of it.
        private static func place(of stored: StoredTensor, _ slice: Slice??) -> (
            offset: [UInt64], shape: [UInt64]
        )? {
            var (offset, shape) = ([UInt64](repeating: 0, count: stored.shape.count), stored.shape)
            guard case .some(let known) = slice else { return (offset, shape) }
            guard let known else { return nil }
            for (axis, part) in known.parts.enumerated() {
                let (length, overflow) = stored.shape[axis].multipliedReportingOverflow(by: part.count)
                guard !overflow else { return nil }
                (offset[axis], shape[axis]) = (part.index * stored.shape[axis], length)
            }
            return (offset, shape)
        }
    }
}

/// How the parameters are spread, by the rank whose file says it.
private struct Strategies {
    private var layouts: [Int: [String: ParallelStrategy.Layout]] = [:]

    var isEmpty: Bool { layouts.isEmpty }

    mutating func add(_ strategy: ParallelStrategy, rank: Int) {
        layouts[rank] = Dictionary(
            strategy.parameters.map { (Self.plain($0.name), $0.layout) },
            uniquingKeysWith: { first, _ in first })
    }

    /// Merged files have the pipeline stage in front, as in `0-embed.weight`.
    private static func plain(_ name: String) -> String {
        let rest = name.utf8.drop(while: StoreName.isDigit)
        guard rest.count < name.utf8.count, rest.first == UInt8(ascii: "-") else { return name }
        return String(decoding: Array(rest.dropFirst()), as: UTF8.self)
    }

    /// Of a tensor; nil where it is not cut, as MindSpore takes it too. What a rank's own file says goes before what others do.
    func layout(of name: String, rank: Int) -> ParallelStrategy.Layout? {
        guard let own = layouts[rank] else { return layouts.min { $0.key < $1.key }?.value[name] }
        return own[name]
    }
}

extension MindFormers1 {
    private func strategies(_ view: CheckpointView) throws -> Strategies {
        var strategies = Strategies()
        for (file, numbers) in view.files(Self.strategy, in: Self.strategyFolder) {
            guard let strategy = try? ParallelStrategy(parsing: try view.read(file.path) ?? []) else {
                continue
            }
            strategies.add(strategy, rank: Int(numbers[0]))
        }
        return strategies
    }

    /// What the ranks are arranged in, for people; nil where nothing says it.
    func mesh(_ view: CheckpointView) throws -> String? {
        for (file, _) in view.files(Self.strategy, in: Self.strategyFolder) {
            guard let strategy = try? ParallelStrategy(parsing: try view.read(file.path) ?? []),
                let widest = strategy.parameters.map(\.layout.deviceMatrix).max(by: { $0.count < $1.count })
            else { continue }
            return widest.map { String($0) }.joined(separator: " x ") + " devices"
        }
        return nil
    }
}

/// A tensor of a file, which may be cut into several: MindSpore cuts what is too large for one message.
private struct StoredTensor {
    let name: String
    let dtype: String
    /// Of all of it.
    let shape: [UInt64]
    /// The names that its pieces have in the file, and their bytes.
    private(set) var parts: [(name: String, length: UInt64)]

    static func all(in map: TensorMap) -> [StoredTensor] {
        var found: [StoredTensor] = []
        for tensor in map.tensors {
            if map.format == "mindspore", let last = found.last,
                tensor.name == "\(last.name)#\(last.parts.count + 1)",
                tensor.shape == last.shape
            {
                found[found.count - 1].parts.append((tensor.name, tensor.length))
            } else {
                found.append(
                    .init(
                        name: tensor.name, dtype: tensor.dtype, shape: tensor.shape,
                        parts: [(tensor.name, tensor.length)]))
            }
        }
        return found
    }

    /// Where they lie in a tensor of this shape.
    func pieces(_ file: String, _ offset: [UInt64], _ whole: [UInt64]) -> [Assembly.Piece] {
        guard parts.count > 1 else {
            return [.init(file: file, tensor: name, place: .box(offset: offset, shape: shape))]
        }
        // Of elements that follow each other, pieces are runs. Where rows are cut as well, they are not told apart.
        guard zip(shape, whole).dropFirst().allSatisfy({ $0 == $1 }),
            let row = shape.dropFirst().product(atMost: .max),
            let count = shape.product(atMost: .max), count > 0
        else { return [] }
        let elementLength = parts.reduce(0) { $0 + $1.length } / count
        guard elementLength > 0 else { return [] }
        var start = (offset.first ?? 0) * row
        return parts.map { part in
            let count = part.length / elementLength
            defer { start += count }
            return .init(file: file, tensor: part.name, place: .run(start: start, count: count, from: 0))
        }
    }
}

extension Sequence<UInt64> {
    /// nil where it is more.
    fileprivate func product(atMost limit: UInt64) -> UInt64? {
        var product: UInt64 = 1
        for factor in self {
            let (next, overflow) = product.multipliedReportingOverflow(by: factor)
            guard !overflow, next <= limit else { return nil }
            product = next
        }
        return product
    }
}
