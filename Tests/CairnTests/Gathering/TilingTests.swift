import Testing

@testable import Cairn

/// Boxes in a tensor: which one has which elements, what two of them have, and what none has.
@Suite struct TilingTests {
    typealias Place = ElementsTests.Place

    private func region(_ shape: [UInt64], _ random: inout SeededGenerator) -> [Range<UInt64>] {
        shape.map { length in
            let lower = UInt64.random(in: 0..<length, using: &random)
            return lower..<UInt64.random(in: lower + 1...length, using: &random)
        }
    }

    /// Shards as frameworks make them: each axis cut into slabs.
    private func grid(_ shape: [UInt64], _ random: inout SeededGenerator) -> [[Range<UInt64>]] {
        var regions: [[Range<UInt64>]] = [[]]
        for length in shape {
            let cuts = Set((0..<3).map { _ in UInt64.random(in: 0..<length, using: &random) } + [0]).sorted()
            let slabs = zip(cuts, cuts.dropFirst() + [length]).map { $0..<$1 }
            regions = regions.flatMap { region in slabs.map { region + [$0] } }
        }
        return regions.shuffled(using: &random)
    }

    private func coordinates(_ index: UInt64, _ shape: [UInt64]) -> [UInt64] {
        var (rest, coordinates) = (index, [UInt64]())
        for length in shape.reversed() {
            coordinates.append(rest % length)
            rest /= length
        }
        return coordinates.reversed()
    }

    /// Which element of its source a box has there.
    private func place(_ coordinates: [UInt64], _ box: Tiling.Box) -> Place? {
        var index: UInt64 = 0
        for (coordinate, bounds) in zip(coordinates, box.bounds) {
            guard bounds.contains(coordinate) else { return nil }
            index = index * (bounds.upperBound - bounds.lowerBound) + coordinate - bounds.lowerBound
        }
        return ElementsTests.places(box.elements, index..<index + 1)[0]
    }

    @Test(arguments: 0..<400 as Range<UInt64>)
    func boxesMakeTheTensorThatCopyingThemWould(seed: UInt64) throws {
        var random = SeededGenerator(seed: seed)
        let shape = (0..<Int.random(in: 1...4, using: &random)).map { _ in
            UInt64.random(in: 1...6, using: &random)
        }
        // A grid, or what leaves holes mostly; some boxes more, that overlap others.
        var regions = seed % 2 == 0 ? grid(shape, &random) : []
        for _ in 0..<Int.random(in: 0...(seed % 2 == 0 ? 2 : 9), using: &random) {
            regions.append(region(shape, &random))
        }
        let boxes = regions.enumerated().map {
            Tiling.Box(
                elements: .source($0, start: seed, count: $1.reduce(1) { $0 * UInt64($1.count) }), bounds: $1)
        }
        let count = shape.reduce(1, *)
        let holders = (0..<count).map { index in
            boxes.indices.filter { place(coordinates(index, shape), boxes[$0]) != nil }
        }
        do {
            let tiling = try Tiling(shape: shape, boxes: boxes)
            let expected = holders.enumerated().map { index, holders in
                holders.first.flatMap { place(coordinates(UInt64(index), shape), boxes[$0]) }
            }
            #expect(ElementsTests.places(tiling.elements, 0..<count).map { $0 } == expected)
            try checkOverlaps(tiling, boxes, holders, shape)
        } catch let failure as Tiling.Failure {
            guard case .hole(let region) = failure else { throw failure }
            let holes = (0..<count).filter { index in
                zip(region, coordinates(index, shape)).allSatisfy { $0.contains($1) }
            }
            #expect(!holes.isEmpty && holes.allSatisfy { holders[Int($0)].isEmpty }, "\(region)")
        }
    }

    /// That each element that several boxes hold is compared with the first of them, once for each other.
    private func checkOverlaps(
        _ tiling: Tiling, _ boxes: [Tiling.Box], _ holders: [[Int]], _ shape: [UInt64]
    ) throws {
        var left = holders
        for overlap in tiling.overlaps {
            let count = overlap.elements.0.count
            let first = ElementsTests.places(overlap.elements.0, 0..<count)
            let second = ElementsTests.places(overlap.elements.1, 0..<count)
            let inside = holders.indices.filter { index in
                zip(overlap.region, coordinates(UInt64(index), shape)).allSatisfy { $0.contains($1) }
            }
            #expect(inside.count == Int(count))
            for (position, index) in inside.enumerated() {
                let there = coordinates(UInt64(index), shape)
                #expect(first[position] == place(there, boxes[overlap.first]))
                #expect(second[position] == place(there, boxes[overlap.second]))
                #expect(overlap.first == holders[index].first)
                left[index].remove(at: try #require(left[index].firstIndex(of: overlap.second)))
            }
        }
        #expect(left.allSatisfy { $0.count == 1 })
    }

    @Test func aHoleIsToldByTheAxesOfTheTensor() {
        let boxes = [Tiling.Box(elements: .source(0, start: 0, count: 60), bounds: [0..<4, 0..<3, 0..<5])]
        #expect {
            try Tiling(shape: [6, 3, 5], boxes: boxes)
        } throws: {
            guard case .hole([4..<6, 0..<3, 0..<5]) = $0 as? Tiling.Failure else { return false }
            return true
        }
    }

    @Test func manyPiecesTakeTimeInProportion() throws {
        // Partitions of 100,000 ranks, and a grid of 300 x 300 shards.
        let runs = (0..<100_000).map {
            Tiling.Box(
                elements: .source($0, start: 7, count: 3), bounds: [UInt64($0) * 3..<UInt64($0) * 3 + 3])
        }
        #expect(try Tiling(shape: [300_000], boxes: runs.shuffled()).elements.count == 300_000)
        let shards = (0..<90_000).map { number in
            let (row, column) = (UInt64(number / 300), UInt64(number % 300))
            return Tiling.Box(
                elements: .source(number, start: 0, count: 8),
                bounds: [row * 2..<row * 2 + 2, column * 4..<column * 4 + 4])
        }
        let tiling = try Tiling(shape: [600, 1200], boxes: shards.shuffled())
        #expect(tiling.elements.count == 720_000 && tiling.overlaps.isEmpty && tiling.elements.streams == 300)
    }

    @Test func boxesThatCutEachOtherEverywhereAreRefused() {
        // 3,000 rows and 3,000 columns of a tensor: 9 million cells.
        let rows = (0..<3000 as Range<UInt64>).map {
            Tiling.Box(elements: .source(0, start: 0, count: 3000), bounds: [$0..<$0 + 1, 0..<3000])
        }
        let columns = (0..<3000 as Range<UInt64>).map {
            Tiling.Box(elements: .source(0, start: 0, count: 3000), bounds: [0..<3000, $0..<$0 + 1])
        }
        #expect {
            try Tiling(shape: [3000, 3000], boxes: rows + columns)
        } throws: {
            guard case .tooManyCells = $0 as? Tiling.Failure else { return false }
            return true
        }
    }
}
