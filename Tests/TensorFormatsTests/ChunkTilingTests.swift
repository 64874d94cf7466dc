import Testing

@testable import TensorFormats

/// Whether chunks tile their tensor.
struct ChunkTilingTests {
    private func tiling(
        _ shape: [UInt64], _ chunks: [([UInt64], [UInt64])]
    ) -> DCPMetadata.Problem? {
        let chunks = chunks.map { DCPMetadata.Chunk(offsets: $0, shape: $1) }
        return ChunkTiling(DCPMetadata.Tensor(name: "w", dtype: "F32", shape: shape, chunks: chunks)).problem
    }

    @Test func `chunks that tile have no problem`() {
        #expect(tiling([], [([], [])]) == nil)
        #expect(tiling([5], [([0], [2]), ([2], [3])]) == nil)
        #expect(tiling([4, 6], [([2, 0], [2, 6]), ([0, 0], [2, 2]), ([0, 2], [2, 4])]) == nil)
        // No guillotine cut goes through.
        let wheel: [([UInt64], [UInt64])] = [
            ([0, 0], [1, 2]), ([0, 2], [2, 1]), ([2, 1], [1, 2]), ([1, 0], [2, 1]), ([1, 1], [1, 1]),
        ]
        #expect(tiling([3, 3], wheel) == nil)
        // Ranks without elements have chunks as well.
        #expect(tiling([3], [([0], [3]), ([3], [0]), ([3], [0])]) == nil)
        #expect(tiling([0, 4], [([0, 0], [0, 4])]) == nil && tiling([0], []) == nil)
    }

    @Test func `holes, overlaps and what reaches outside are named`() {
        let hole = tiling([4, 6], [([0, 0], [2, 6]), ([2, 0], [2, 5])])
        #expect(hole?.kind == .hole && hole?.message == "No chunk of \"w\" has the element at [2, 5].")
        let overlap = tiling([4, 6], [([0, 0], [4, 4]), ([0, 4], [4, 2]), ([3, 3], [1, 1])])
        #expect(overlap?.kind == .overlap)
        #expect(
            overlap?.message
                == "The chunks at [0, 0] and [3, 3] of \"w\" overlap: both have the element at [3, 3].")
        // One hole and one overlap of the same size.
        #expect(tiling([4], [([0], [2]), ([1], [2])])?.kind == .overlap)
        #expect(tiling([4], [([1], [2]), ([1], [2])])?.kind == .hole)
        #expect(tiling([4], [([0], [4]), ([0], [4])])?.kind == .overlap)
        #expect(tiling([], [([], []), ([], [])])?.kind == .overlap)
        #expect(tiling([4], [])?.kind == .hole && tiling([], [])?.kind == .hole)
        for chunk in [([0], [5]), ([4], [1]), ([.max], [1]), ([1], [.max])] as [([UInt64], [UInt64])] {
            #expect(tiling([4], [chunk])?.kind == .outside)
        }
        #expect(
            tiling([4], [([2], [3])])?.message
                == "The chunk at [2] of \"w\", of the shape [3], reaches beyond the tensor, "
                + "which has the shape [4].")
    }

    @Test func `axes along which nothing is cut cost nothing, and too many that are cut are refused`() {
        let many = [UInt64](repeating: 2, count: 40)
        #expect(
            tiling(
                many + [2],
                [(many.map { _ in 0 } + [0], many + [1]), (many.map { _ in 0 } + [1], many + [1])]) == nil)
        #expect(tiling(many, [(many.map { _ in 0 }, many.map { _ in 1 })])?.kind == .tooComplex)
    }

    @Test func `it agrees with counting each element`() {
        let seed = UInt64.random(in: 0..<1_000_000)
        var random = SeededGenerator(seed: seed)
        var tiled = 0
        for _ in 0..<4000 {
            let shape = (0..<Int.random(in: 1...3, using: &random)).map { _ in
                UInt64.random(in: 1...5, using: &random)
            }
            var boxes = [(shape.map { _ in 0 as UInt64 }, shape)]
            for _ in 0..<Int.random(in: 0...6, using: &random) { cut(&boxes, &random) }
            if Bool.random(using: &random) { spoil(&boxes, shape, &random) }
            boxes.shuffle(using: &random)

            let counts = counts(shape, boxes)
            let first = counts.firstIndex { $0 != 1 }
            let problem = tiling(shape, boxes)
            #expect((problem == nil) == (first == nil), "seed \(seed)")
            if let first {
                #expect(problem?.kind == (counts[first] == 0 ? .hole : .overlap), "seed \(seed)")
                let element = element(first, shape)
                #expect(problem?.message.hasSuffix("the element at \(element).") == true, "seed \(seed)")
            } else {
                tiled += 1
            }
        }
        #expect((1000..<3000).contains(tiled), "seed \(seed)")
    }

    private func cut(_ boxes: inout [([UInt64], [UInt64])], _ random: inout SeededGenerator) {
        let index = Int.random(in: boxes.indices, using: &random)
        let axis = Int.random(in: boxes[index].0.indices, using: &random)
        guard boxes[index].1[axis] > 1 else { return }
        let length = UInt64.random(in: 1..<boxes[index].1[axis], using: &random)
        var rest = boxes[index]
        rest.0[axis] += length
        rest.1[axis] -= length
        boxes[index].1[axis] = length
        boxes.append(rest)
    }

    private func spoil(
        _ boxes: inout [([UInt64], [UInt64])], _ shape: [UInt64], _ random: inout SeededGenerator
    ) {
        let index = Int.random(in: boxes.indices, using: &random)
        let axis = Int.random(in: shape.indices, using: &random)
        switch Int.random(in: 0..<3, using: &random) {
        case 0: boxes.remove(at: index)
        case 1: boxes.append(boxes[index])
        default:
            let start = UInt64.random(in: 0..<shape[axis], using: &random)
            boxes[index].0[axis] = start
            boxes[index].1[axis] = UInt64.random(in: 0...shape[axis] - start, using: &random)
        }
    }

    /// In how many boxes each element is.
    private func counts(_ shape: [UInt64], _ boxes: [([UInt64], [UInt64])]) -> [Int] {
        (0..<Int(shape.reduce(1, *))).map { number in
            let element = element(number, shape)
            return boxes.count { box in
                element.indices.allSatisfy {
                    element[$0] >= box.0[$0] && element[$0] < box.0[$0] + box.1[$0]
                }
            }
        }
    }

    private func element(_ number: Int, _ shape: [UInt64]) -> [UInt64] {
        var (element, number) = ([UInt64](repeating: 0, count: shape.count), UInt64(number))
        for axis in shape.indices.reversed() {
            element[axis] = number % shape[axis]
            number /= shape[axis]
        }
        return element
    }
}
