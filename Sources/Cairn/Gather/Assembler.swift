internal import ChunkStore
internal import Platform
internal import TensorFormats

/// Puts tensors together from the pieces that a layout names, and checks that these fit.
struct Assembler {
    private var stored: SourceTensors
    private let comparison: ByteComparison

    init(_ chunks: ChunkStore, _ manifest: Manifest) {
        stored = SourceTensors(manifest)
        comparison = ByteComparison(chunks)
    }

    /// Where the bytes of the stored tensors are, of which so far tensors were put together.
    var sources: [Gather.Source] { stored.sources }

    /// A tensor from its pieces. Of its bytes only those are read that two pieces hold in different chunks.
    /// - Throws: `.inconsistent`, naming the tensor, the file and the region, where pieces don't fit or don't tile it.
    mutating func tensor(_ wanted: Assembly.Tensor) throws -> GatheredTensor {
        if let problem = wanted.problem { throw Self.error(wanted, problem) }
        let numbers = try wanted.pieces.map { try number(of: $0, wanted) }
        guard let bits = Self.bits(wanted.dtype, numbers.first.map { stored.tensors[$0] }),
            let count = Self.count(wanted.shape, bits)
        else {
            throw Self.error(wanted, "its \(wanted.shape.text) of \(wanted.dtype) can't be counted")
        }
        var result = GatheredTensor(
            name: wanted.name, dtype: wanted.dtype, bits: bits, shape: wanted.shape, elements: .empty)
        let isFlat = wanted.pieces.contains { $0.isRun }
        var boxes: [Tiling.Box] = []
        for (piece, number) in zip(wanted.pieces, numbers) {
            let box = try box(piece, number, wanted, bits)
            if box.bounds.contains(where: \.isEmpty) { continue }
            boxes.append(isFlat ? try Self.flat(box, piece, wanted) : box)
        }
        guard count > 0 else { return result }
        let shape = isFlat || wanted.shape.isEmpty ? [count] : wanted.shape
        do {
            let tiling = try Tiling(shape: shape, boxes: boxes)
            result.elements = tiling.elements
            for overlap in tiling.overlaps { try check(overlap, boxes, result) }
        } catch let failure as Tiling.Failure {
            throw Self.error(wanted, failure, isFlat: isFlat)
        }
        return result
    }
}

// MARK: Pieces

extension Assembler {
    /// The number of a piece's stored tensor, which has the wanted dtype.
    private mutating func number(of piece: Assembly.Piece, _ wanted: Assembly.Tensor) throws -> Int {
        let number: Int
        do {
            number = try stored.number(of: piece.tensor, in: piece.file)
        } catch {
            let why =
                switch error {
                case .file: "\(piece.file) is missing"
                case .split: "\(piece.file) is kept as it is, without its tensors being known"
                case .tensor: "\(piece.file) holds no tensor \(piece.tensor)"
                }
            throw Self.error(wanted, why, piece.file)
        }
        let tensor = stored.tensors[number]
        guard tensor.dtype == wanted.dtype else {
            throw Self.error(
                wanted, "\(piece.tensor) in \(piece.file) is \(tensor.dtype), not \(wanted.dtype)", piece.file
            )
        }
        return number
    }

    /// Where a piece lies in the tensor, in bounds.
    private func box(
        _ piece: Assembly.Piece, _ number: Int, _ wanted: Assembly.Tensor, _ bits: UInt64
    ) throws -> Tiling.Box {
        let tensor = stored.tensors[number]
        func error(_ why: String) -> CairnError {
            Self.error(wanted, "\(piece.tensor) in \(piece.file) \(why)", piece.file)
        }
        switch piece.place {
        case .run(let start, let count, let from):
            guard let whole = Self.count(wanted.shape, bits), let end = Self.end(start, count), end <= whole
            else {
                throw error("would lie beyond its end, at element \(start) and the \(count) from there on")
            }
            // By its length: of a tensor that a file holds in several, each has the shape of all.
            let held = Self.elements(tensor.length, bits)
            guard let last = Self.end(from, count), last <= held else {
                throw error("has \(held) elements, not the \(count) from \(from) on")
            }
            return Tiling.Box(source: number, base: from, bounds: [start..<end])
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
            return Tiling.Box(source: number, base: 0, bounds: bounds.isEmpty ? [0..<1] : bounds)
        }
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
            throw error(
                wanted, "\(piece.tensor) in \(piece.file) is no run of its elements, as its other pieces are",
                piece.file)
        }
        let start = zip(wanted.shape, box.bounds).reduce(0) { $0 * $1.0 + $1.1.lowerBound }
        var flat = box
        flat.bounds = [start..<start + lengths.reduce(1, *)]
        return flat
    }

    /// Bits of an element; of a dtype that only the stored tensors' format has, what these say.
    private static func bits(_ dtype: String, _ stored: SourceTensor?) -> UInt64? {
        if let known = DType(rawValue: dtype) { return UInt64(known.bitsPerElement) }
        guard let stored, let count = count(stored.shape, 8) else { return nil }
        // Without elements there is nothing to be told apart.
        return count == 0 ? 8 : Self.elements(stored.length / count, 1)
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

// MARK: Faults

extension Assembler {
    /// That the elements that two boxes hold are the same.
    private func check(_ overlap: Tiling.Overlap, _ boxes: [Tiling.Box], _ tensor: GatheredTensor) throws {
        let sides = [overlap.elements.0, overlap.elements.1].map { elements in
            var side = tensor
            side.elements = elements
            return side
        }
        let sources = stored.sources
        guard try !comparison.areEqual(sides[0].gather(sources), sides[1].gather(sources)) else { return }
        let files = [overlap.first, overlap.second].map { stored.tensors[boxes[$0].source].file }
        throw CairnError(
            .inconsistent,
            "the tensor \(tensor.name) can't be put together: \(files[0]) and \(files[1]) have different bytes for its "
                + "elements \(overlap.region.text)", path: files[1])
    }

    private static func error(_ wanted: Assembly.Tensor, _ failure: Tiling.Failure, isFlat: Bool)
        -> CairnError
    {
        let files = Set(wanted.pieces.map(\.file)).sorted()
        let pieces = files.isEmpty ? "it has no pieces" : "its pieces are in \(listed(files))"
        switch failure {
        case .hole(let region):
            return error(wanted, "no file holds its elements \(region.text); \(pieces)", files.first)
        case .tooManyCells:
            return error(wanted, "its pieces overlap each other in too many ways; \(pieces)", files.first)
        }
    }

    private static func error(
        _ wanted: Assembly.Tensor, _ why: String, _ file: String? = nil
    ) -> CairnError {
        CairnError(.inconsistent, "the tensor \(wanted.name) can't be put together: \(why)", path: file)
    }
}

extension Assembly.Piece {
    fileprivate var isRun: Bool {
        if case .run = place { true } else { false }
    }
}

extension [UInt64] {
    /// A shape, for people.
    var text: String { "[\(map(String.init).joined(separator: ", "))]" }
}

extension [Range<UInt64>] {
    /// As Python writes a slice.
    fileprivate var text: String {
        "[\(map { "\($0.lowerBound):\($0.upperBound)" }.joined(separator: ", "))]"
    }
}
