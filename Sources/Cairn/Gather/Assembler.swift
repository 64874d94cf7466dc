internal import ChunkStore
internal import Platform
internal import TensorFormats

/// Puts tensors together from the pieces that a layout names, and checks that these fit.
struct Assembler {
    private var pieces: PieceFinder
    private let comparison: ByteComparison

    init(_ chunks: ChunkStore, _ manifest: Manifest) {
        pieces = PieceFinder(SourceTensors(manifest))
        comparison = ByteComparison(chunks)
    }

    /// Where the bytes of the stored tensors are, of which so far tensors were put together.
    var sources: [Gather.Source] { pieces.stored.sources }

    /// Whether two that were put together have the same bytes.
    func areEqual(_ a: GatheredTensor, _ b: GatheredTensor) throws -> Bool {
        try a.dtype == b.dtype && a.shape == b.shape
            && comparison.areEqual(a.gather(sources), b.gather(sources))
    }

    /// A tensor from its pieces. Of its bytes only those are read that two pieces hold in different chunks.
    /// - Throws: `.inconsistent`, naming the tensor, the file and the region, where pieces don't fit or don't tile it.
    mutating func tensor(_ wanted: Assembly.Tensor) throws -> GatheredTensor {
        let (bits, elements) = try elements(of: wanted)
        let bytes = try Self.bytes(elements, wanted, bits)
        return GatheredTensor(
            name: wanted.name, dtype: wanted.dtype, bits: bits, shape: wanted.shape, bytes: bytes)
    }

    private mutating func elements(of wanted: Assembly.Tensor) throws -> (bits: UInt64, Elements) {
        if let problem = wanted.problem { throw wanted.error(problem) }
        var (bits, boxes) = try pieces.boxes(of: wanted)
        var wanted = wanted
        if let shape = wanted.partShape {
            guard shape.product == wanted.shape.product else {
                throw wanted.error("\(shape.text) has other elements than \(wanted.shape.text)")
            }
            wanted.shape = shape
        }
        for part in wanted.parts {
            let (own, elements) = try self.elements(of: part.tensor)
            guard part.tensor.dtype == wanted.dtype else {
                throw wanted.error("what ranks have of it is of \(part.tensor.dtype) and \(wanted.dtype)")
            }
            bits = own
            boxes += try part.boxes.compactMap { try Self.box($0, of: part.tensor, elements, in: wanted) }
        }
        if wanted.shape.contains(0) { return (bits, .empty) }
        // Among runs, all are runs.
        let isFlat = wanted.pieces.contains { $0.isRun } || wanted.shape.isEmpty
        do {
            let shape = isFlat ? [wanted.shape.reduce(1, *)] : wanted.shape
            let tiling = try Tiling(shape: shape, boxes: boxes)
            for overlap in tiling.overlaps { try check(overlap, wanted, bits) }
            return (bits, tiling.elements)
        } catch let failure as Tiling.Failure {
            throw Self.error(wanted, failure)
        }
    }

    /// A box of what a rank has; nil where it is empty.
    private static func box(
        _ box: Assembly.Part.Box, of part: Assembly.Tensor, _ elements: Elements, in wanted: Assembly.Tensor
    ) throws -> Tiling.Box? {
        let (axes, file) = (wanted.shape.count, part.files.min())
        guard part.shape.count == axes, box.region.count == axes, box.offset.count == axes else {
            throw wanted.error(
                "a rank's \(part.shape.text) has another number of axes than \(wanted.shape.text)", file)
        }
        var (elements, lengths, bounds) = (elements, part.shape, [Range<UInt64>]())
        for (axis, region) in box.region.enumerated() {
            let length = region.upperBound - region.lowerBound
            let (end, overflow) = box.offset[axis].addingReportingOverflow(length)
            guard region.upperBound <= part.shape[axis], !overflow, end <= wanted.shape[axis] else {
                throw wanted.error(
                    "a rank's \(part.shape.text) from \(box.offset.text) on is beyond \(wanted.shape.text)",
                    file)
            }
            if length == 0 { return nil }
            let inner = lengths[(axis + 1)...].reduce(1, *)
            elements = elements.sliced(
                rows: lengths[..<axis].reduce(1, *), region.lowerBound * inner..<region.upperBound * inner)
            lengths[axis] = length
            bounds.append(box.offset[axis]..<end)
        }
        return Tiling.Box(elements: elements, bounds: bounds.isEmpty ? [0..<1] : bounds)
    }

    private static func bytes(
        _ elements: Elements, _ wanted: Assembly.Tensor, _ bits: UInt64
    ) throws -> Elements {
        guard let bytes = elements.scaled(bits: bits) else {
            throw wanted.error(
                "its elements have \(bits) bits, and one of its pieces begins or ends within a byte")
        }
        return bytes
    }

    /// That the elements that two boxes hold are the same.
    private func check(_ overlap: Tiling.Overlap, _ wanted: Assembly.Tensor, _ bits: UInt64) throws {
        let sides = try [overlap.elements.0, overlap.elements.1].map { elements in
            Gather(name: wanted.name, sources: sources, bytes: try Self.bytes(elements, wanted, bits))
        }
        guard try !comparison.areEqual(sides[0], sides[1]) else { return }
        let files = [overlap.elements.0, overlap.elements.1].map { elements in
            var file = ""
            elements.forEachRun(in: 0..<1) { source, _, _ in file = pieces.stored.tensors[source].file }
            return file
        }
        throw wanted.error(
            "\(files[0]) and \(files[1]) have different bytes for its elements \(overlap.region.text)",
            files[1])
    }

    private static func error(_ wanted: Assembly.Tensor, _ failure: Tiling.Failure) -> CairnError {
        let files = wanted.files.sorted()
        let pieces = files.isEmpty ? "it has no pieces" : "its pieces are in \(listed(files))"
        switch failure {
        case .hole(let region):
            return wanted.error("no file holds its elements \(region.text); \(pieces)", files.first)
        case .tooManyCells:
            return wanted.error("its pieces overlap each other in too many ways; \(pieces)", files.first)
        }
    }
}

extension Assembly.Tensor {
    /// Why it can't be put together.
    func error(_ why: String, _ file: String? = nil) -> CairnError {
        CairnError(.inconsistent, "the tensor \(name) can't be put together: \(why)", path: file)
    }
}

extension Assembly.Piece {
    /// Of the tensor's elements as one row.
    var isRun: Bool {
        if case .box = place { false } else { true }
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
