import Testing

@testable import Cairn

/// The algebra on ranges of elements, beside a naive one that moves every element.
@Suite struct ElementsTests {
    /// An element of a source.
    struct Place: Hashable {
        var source: Int
        var index: UInt64
    }

    /// A tensor, and all its elements.
    struct Sample {
        var tensor: GatheredTensor
        var places: [Place]

        init(source: Int, shape: [UInt64]) {
            let count = shape.reduce(1, *)
            tensor = GatheredTensor(
                name: "", dtype: "U8", bits: 8, shape: shape,
                bytes: count == 0 ? .empty : .source(source, start: 0, count: count))
            places = (0..<count).map { Place(source: source, index: $0) }
        }

        mutating func slice(axis: Int, _ range: Range<UInt64>) throws {
            let shape = tensor.shape
            let inner = shape[(axis + 1)...].reduce(1, *)
            places = places.enumerated().filter { position, _ in
                range.contains(UInt64(position) / inner % shape[axis])
            }.map(\.element)
            tensor = try tensor.sliced(axis: axis, range)
        }

        mutating func reshape(_ shape: [UInt64]) { tensor = tensor.reshaped(shape) }

        static func join(_ samples: [Sample], axis: Int) throws -> Sample {
            var joined = samples[0]
            joined.tensor = try .joined(samples.map(\.tensor), axis: axis)
            let rows = joined.tensor.shape[..<axis].reduce(1, *)
            joined.places = (0..<Int(rows)).flatMap { row in
                samples.flatMap { sample in
                    let width = sample.places.count / Int(rows)
                    return sample.places[row * width..<(row + 1) * width]
                }
            }
            return joined
        }
    }

    static func places(_ elements: Elements, _ range: Range<UInt64>) -> [Place] {
        var places: [Place] = []
        elements.forEachRun(in: range) { source, start, count in
            #expect(count > 0)
            places += (start..<start + count).map { Place(source: source, index: $0) }
        }
        return places
    }

    private func check(_ sample: Sample, _ random: inout SeededGenerator, _ seed: UInt64) {
        let elements = sample.tensor.bytes
        let count = UInt64(sample.places.count)
        #expect(elements.count == count && sample.tensor.shape.reduce(1, *) == count, "seed \(seed)")
        #expect(Self.places(elements, 0..<count) == sample.places, "seed \(seed)")
        for _ in 0..<4 {
            let lower = UInt64.random(in: 0...count, using: &random)
            let upper = UInt64.random(in: lower...count, using: &random)
            #expect(
                Self.places(elements, lower..<upper) == Array(sample.places[Int(lower)..<Int(upper)]),
                "seed \(seed)")
        }
    }

    private func shape(_ random: inout SeededGenerator) -> [UInt64] {
        (0..<Int.random(in: 1...4, using: &random)).map { _ in UInt64.random(in: 1...5, using: &random) }
    }

    /// A shape of as many elements, of axes that are taken together and cut apart at random.
    private func otherShape(_ shape: [UInt64], _ random: inout SeededGenerator) -> [UInt64] {
        var rest = shape.reduce(1, *)
        var other: [UInt64] = []
        while rest > 1 {
            let divisors = (1...rest).filter { rest.isMultiple(of: $0) }
            other.append(divisors.randomElement(using: &random)!)
            rest /= other.last!
        }
        return other.isEmpty ? [1] : other
    }

    @Test(arguments: 0..<400 as Range<UInt64>)
    func viewsOfViewsGiveTheElementsThatMovingThemWould(seed: UInt64) throws {
        var random = SeededGenerator(seed: seed)
        var sample = Sample(source: 0, shape: shape(&random))
        var sources = 1
        for _ in 0..<8 {
            let shape = sample.tensor.shape
            let axis = Int.random(in: 0..<shape.count, using: &random)
            switch Int.random(in: 0..<3, using: &random) {
            case 0:
                let lower = UInt64.random(in: 0...shape[axis], using: &random)
                let upper = UInt64.random(in: lower...shape[axis], using: &random)
                // Mostly something is left, so that more is to be seen.
                if lower < upper || Int.random(in: 0..<20, using: &random) == 0 {
                    try sample.slice(axis: axis, lower..<upper)
                }
            case 1:
                var parts = [sample]
                for _ in 0..<Int.random(in: 1...3, using: &random) where sample.places.count < 500 {
                    var other = shape
                    other[axis] = UInt64.random(in: 0...4, using: &random)
                    parts.append(Sample(source: sources, shape: other))
                    sources += 1
                }
                parts.shuffle(using: &random)
                sample = try .join(parts, axis: axis)
            default:
                if !sample.places.isEmpty { sample.reshape(otherShape(shape, &random)) }
            }
            check(sample, &random, seed)
        }
    }

    @Test func aSliceOfAStackIsAStretchOfItsPieces() {
        // Layers that are stacked from four ranks each: a layer's view has no more steps than the layer has pieces.
        let rank = { (number: Int) in Elements.source(number, start: 0, count: 1000) }
        let stack = Elements.joined(rows: 1, (0..<40).map(rank))
        let layer = stack.sliced(rows: 1, 4000..<8000)
        #expect(layer == .joined(rows: 1, (4..<8).map(rank)))
        #expect(stack.sliced(rows: 1, 0..<40_000) == stack)
        #expect(stack.sliced(rows: 1, 4100..<4200) == .source(4, start: 100, count: 100))
    }

    @Test func neighboursInOneSourceAreOneRun() {
        let halves = [Elements.source(7, start: 0, count: 10), .source(7, start: 10, count: 6)]
        #expect(Elements.joined(rows: 1, halves) == .source(7, start: 0, count: 16))
        #expect(Elements.joined(rows: 1, [halves[1], halves[0]]) != .source(7, start: 0, count: 16))
    }

    @Test func columnsOfManyRanksAreGoneThroughWithoutBeingKept() {
        // 8192 x 28672 over 8 ranks: 65,536 runs, of which a segment needs a few.
        let ranks = (0..<8).map { Elements.source($0, start: 0, count: 8192 * 3584) }
        let whole = Elements.joined(rows: 8192, ranks)
        #expect(whole.count == 8192 * 28672 && whole.streams == 8)
        var (runs, next) = (0, 0)
        whole.forEachRun(in: 0..<whole.count) { source, start, count in
            if source != next % 8 || start != UInt64(next / 8) * 3584 || count != 3584 { runs -= 1_000_000 }
            (runs, next) = (runs + 1, next + 1)
        }
        #expect(runs == 65536)
        runs = 0
        whole.forEachRun(in: 100_000_000..<100_000_010) { source, start, count in
            #expect(start == 100_000_000 / 28672 * 3584 + 100_000_000 % 28672 % 3584 && count == 10)
            #expect(source == 100_000_000 % 28672 / 3584)
            runs += 1
        }
        #expect(runs == 1)
    }

    @Test func sharesFollowEachOther() {
        let shares = Elements.shares([4, 2, 9], start: 100, share: 5, count: 12)
        let expected =
            (0..<5).map { Place(source: 4, index: 100 + $0) }
            + (0..<5).map { Place(source: 2, index: 100 + $0) }
            + (0..<2).map { Place(source: 9, index: 100 + $0) }
        #expect(shares.count == 12 && shares.streams == 1 && Self.places(shares, 0..<12) == expected)
        for lower in 0...12 as ClosedRange<UInt64> {
            for upper in lower...12 {
                #expect(Self.places(shares, lower..<upper) == Array(expected[Int(lower)..<Int(upper)]))
            }
        }
        #expect(
            Self.places(shares.sliced(rows: 3, 1..<3), 0..<6) == [1, 2, 5, 6, 9, 10].map { expected[$0] })
        #expect(shares.scaled(bits: 16) == .shares([4, 2, 9], start: 200, share: 10, count: 24))
        #expect(shares.scaled(bits: 4) == nil)
    }

    @Test func elementsBelowAByteAreNotCutApart() {
        let halves = Elements.source(0, start: 0, count: 8)
        #expect(halves.scaled(bits: 4) == .source(0, start: 0, count: 4))
        #expect(halves.sliced(rows: 1, 2..<6).scaled(bits: 4) == .source(0, start: 1, count: 2))
        #expect(halves.sliced(rows: 1, 1..<6).scaled(bits: 4) == nil)
        #expect(halves.sliced(rows: 2, 0..<3).scaled(bits: 4) == nil)
        #expect(Elements.source(0, start: 4, count: 8).scaled(bits: 6) == .source(0, start: 3, count: 6))
        #expect(Elements.source(0, start: 0, count: .max).scaled(bits: 16) == nil)
    }
}
