internal import Platform
internal import TensorFormats

/// Finds the stored tensors of pieces, and where the pieces lie in the tensors that they make.
struct PieceFinder {
    /// The tensors of ranks that have shares, which many pieces lie in.
    private struct Shares {
        var numbers: [Int]
        /// Elements that each has, and the fewest.
        var held: [UInt64]
        var least: UInt64
    }

    private struct Key: Hashable {
        var ranks: Assembly.Piece.Ranks
        var dtype: String
    }

    private(set) var stored: SourceTensors
    private var shares: [Key: Shares] = [:]

    init(_ stored: SourceTensors) { self.stored = stored }

    /// The number of a stored tensor, whatever its dtype.
    mutating func number(of tensor: Assembly.Stored) throws(SourceTensors.Missing) -> Int {
        try stored.number(of: tensor.tensor, in: tensor.file)
    }

    /// The boxes that a tensor's pieces are, in the order of the pieces, without empty ones; where one of them is a run, all are.
    mutating func boxes(of wanted: Assembly.Tensor) throws -> (bits: UInt64, boxes: [Tiling.Box]) {
        let numbers = try wanted.pieces.map { try number(of: $0, wanted) }
        guard let bits = Self.bits(wanted.dtype, numbers.first.map { stored.tensors[$0] }),
            let count = Self.count(wanted.shape, bits)
        else { throw wanted.error("its \(wanted.shape.text) of \(wanted.dtype) can't be counted") }
        let isFlat = wanted.pieces.contains { $0.isRun }
        var boxes: [Tiling.Box] = []
        for (piece, number) in zip(wanted.pieces, numbers) {
            let box = try box(piece, number, wanted, count, bits)
            if box.bounds.contains(where: \.isEmpty) { continue }
            boxes.append(isFlat ? try Self.flat(box, piece, wanted) : box)
        }
        return (bits, boxes)
    }

    private mutating func number(of piece: Assembly.Piece, _ wanted: Assembly.Tensor) throws -> Int {
        guard case .view(let storage, _, _) = piece.place else {
            return try number(piece.tensor, in: piece.file, wanted)
        }
        guard let bits = Self.bits(wanted.dtype, nil) else {
            throw wanted.error("its elements are \(wanted.dtype), of an unknown length", piece.file)
        }
        do {
            return try stored.number(ofStorage: storage, wanted.dtype, bits: bits, in: piece.file)
        } catch {
            throw Self.error(error, wanted, "blob that is the storage of \(piece.tensor)", piece.file)
        }
    }

    private static func error(
        _ missing: SourceTensors.Missing, _ wanted: Assembly.Tensor, _ what: String, _ file: String
    ) -> CairnError {
        switch missing {
        case .file: wanted.error("\(file) is missing", file)
        case .split: wanted.error("\(file) is kept as it is, without its tensors being known", file)
        case .tensor: wanted.error("\(file) holds no \(what)", file)
        }
    }

    /// The number of a stored tensor, which has the wanted dtype.
    private mutating func number(
        _ name: String, in file: String, _ wanted: Assembly.Tensor
    ) throws -> Int {
        let number: Int
        do {
            number = try stored.number(of: name, in: file)
        } catch {
            throw Self.error(error, wanted, "tensor \(name)", file)
        }
        let tensor = stored.tensors[number]
        guard tensor.dtype == wanted.dtype else {
            throw wanted.error("\(name) in \(file) is \(tensor.dtype), not \(wanted.dtype)", file)
        }
        return number
    }

    // MARK: Places

    private mutating func box(
        _ piece: Assembly.Piece, _ number: Int, _ wanted: Assembly.Tensor, _ whole: UInt64, _ bits: UInt64
    ) throws -> Tiling.Box {
        let tensor = stored.tensors[number]
        func error(_ why: String) -> CairnError {
            wanted.error("\(piece.tensor) in \(piece.file) \(why)", piece.file)
        }
        switch piece.place {
        case .run(let start, let count, let from):
            guard let end = Self.end(start, count), end <= whole else {
                throw error("would lie beyond its end, at element \(start) and the \(count) from there on")
            }
            // By its length: of a tensor that a file holds in several, each has the shape of all.
            let held = Self.elements(tensor.length, bits)
            guard let last = Self.end(from, count), last <= held else {
                throw error("has \(held) elements, not the \(count) from \(from) on")
            }
            return Tiling.Box(
                elements: .source(number, start: from, count: count), bounds: [start..<end])
        case .shares(let ranks, let start, let count, let share, let from):
            guard let end = Self.end(start, count), end <= whole else {
                throw error("would lie beyond its end, at element \(start) and the \(count) from there on")
            }
            let numbers = try numbers(ranks, wanted, bits, count: count, share: share, from: from)
            return Tiling.Box(
                elements: .shares(numbers, start: from, share: share, count: count), bounds: [start..<end])
        case .view(_, let start, let stride):
            let shape = wanted.shape
            guard let end = StridedView.end(start: start, shape: shape, stride: stride, bits: bits),
                end <= tensor.length * 8
            else { throw error("would have elements beyond its storage") }
            return Tiling.Box(
                elements: .view(number, StridedView(start: start, shape: shape, stride: stride)),
                bounds: shape.isEmpty ? [0..<1] : shape.map { 0..<$0 })
        case .box(let offset, let shape):
            guard Self.count(tensor.shape, bits).map({ $0 * bits / 8 }) == tensor.length else {
                throw error("has another length than its shape says")
            }
            guard Self.isSame(shape, tensor.shape) else {
                throw error("has the shape \(tensor.shape.text), not \(shape.text)")
            }
            guard offset.count == wanted.shape.count, shape.count == offset.count else {
                throw error("would lie at \(offset.text) in it, which has the shape \(wanted.shape.text)")
            }
            var bounds: [Range<UInt64>] = []
            for axis in offset.indices {
                guard let end = Self.end(offset[axis], shape[axis]), end <= wanted.shape[axis] else {
                    throw error(
                        "is \(shape.text) from \(offset.text) on, which is beyond its shape \(wanted.shape.text)"
                    )
                }
                bounds.append(offset[axis]..<end)
            }
            return Tiling.Box(
                elements: .source(number, start: 0, count: shape.reduce(1, *)),
                bounds: bounds.isEmpty ? [0..<1] : bounds)
        }
    }

    /// The numbers of the tensors that ranks have a share in, each of which has its share.
    private mutating func numbers(
        _ ranks: Assembly.Piece.Ranks, _ wanted: Assembly.Tensor, _ bits: UInt64, count: UInt64,
        share: UInt64, from: UInt64
    ) throws -> [Int] {
        let key = Key(ranks: ranks, dtype: wanted.dtype)
        let found: Shares
        if let known = shares[key] {
            found = known
        } else {
            let numbers = try ranks.tensors.map { try number($0.tensor, in: $0.file, wanted) }
            let held = numbers.map { Self.elements(stored.tensors[$0].length, bits) }
            found = Shares(numbers: numbers, held: held, least: held.min() ?? 0)
            shares[key] = found
        }
        guard share > 0, count == 0 || (count - 1) / share < UInt64(found.numbers.count) else {
            throw wanted.error(
                "\(found.numbers.count) ranks with \(share) elements each are too few for \(count)")
        }
        if let end = Self.end(from, share), end <= found.least { return found.numbers }
        for (rank, held) in found.held.enumerated() where UInt64(rank) * share < count {
            let own = min(share, count - UInt64(rank) * share)
            guard let end = Self.end(from, own), end <= held else {
                let (file, tensor) = ranks.tensors[rank]
                throw wanted.error(
                    "\(tensor) in \(file) has \(held) elements, not the \(own) from \(from) on", file)
            }
        }
        return found.numbers
    }

    /// A box as a run of the tensor's elements.
    private static func flat(
        _ box: Tiling.Box, _ piece: Assembly.Piece, _ wanted: Assembly.Tensor
    ) throws -> Tiling.Box {
        guard !piece.isRun, !wanted.shape.isEmpty else { return box }
        let lengths = box.bounds.map { $0.upperBound - $0.lowerBound }
        // In front of the axis that it cuts there is one step of each, and behind it there are all.
        let cut = lengths.firstIndex { $0 > 1 } ?? lengths.count - 1
        guard lengths[(cut + 1)...] == wanted.shape[(cut + 1)...] else {
            throw wanted.error(
                "\(piece.tensor) in \(piece.file) is no run of its elements, as its other pieces are",
                piece.file)
        }
        let start = zip(wanted.shape, box.bounds).reduce(0) { $0 * $1.0 + $1.1.lowerBound }
        var flat = box
        flat.bounds = [start..<start + lengths.reduce(1, *)]
        return flat
    }
}

// MARK: Counting

extension PieceFinder {
    /// Bits of an element; of a dtype that only the stored tensors' format has, what these say.
    private static func bits(_ dtype: String, _ stored: SourceTensor?) -> UInt64? {
        if let known = DType(rawValue: dtype) { return UInt64(known.bitsPerElement) }
        guard let stored, let count = count(stored.shape, 8) else { return nil }
        // Without elements there is nothing to be told apart.
        return count == 0 ? 8 : elements(stored.length / count, 1)
    }

    /// How many elements so many bytes are. No file has more than 2^60.
    private static func elements(_ bytes: UInt64, _ bits: UInt64) -> UInt64 { min(bytes, 1 << 60) * 8 / bits }

    /// Elements of a shape; nil where their bits are beyond 64 bits.
    private static func count(_ shape: [UInt64], _ bits: UInt64) -> UInt64? {
        if shape.contains(0) { return 0 }
        var count = bits
        for length in shape {
            let (product, overflow) = count.multipliedReportingOverflow(by: length)
            if overflow { return nil }
            count = product
        }
        return bits == 0 ? nil : count / bits
    }

    private static func end(_ start: UInt64, _ count: UInt64) -> UInt64? {
        let (end, overflow) = start.addingReportingOverflow(count)
        return overflow ? nil : end
    }

    /// Whether shapes are the same but for axes of one step.
    private static func isSame(_ a: [UInt64], _ b: [UInt64]) -> Bool {
        a == b || a.filter { $0 != 1 } == b.filter { $0 != 1 }
    }
}
