import Platform
import TensorFormats
import Testing

@testable import Cairn

/// Tensors that are put together from stored ones: their bytes, and what is wrong with pieces that don't fit.
@Suite struct AssemblerTests {
    typealias Stored = GatherBench.Stored

    private func bytes(_ count: Int, _ seed: UInt64) -> [UInt8] {
        var random = SeededGenerator(seed: seed)
        return random.bytes(count)
    }

    /// The bytes of a region of a row-major tensor.
    private func cut(
        _ bytes: [UInt8], _ shape: [UInt64], _ region: [Range<UInt64>], size: Int
    ) -> [UInt8] {
        let inner = shape.dropFirst().reduce(size) { $0 * Int($1) }
        guard let first = region.first else { return bytes }
        return first.flatMap { row in
            cut(
                Array(bytes[Int(row) * inner..<(Int(row) + 1) * inner]), Array(shape.dropFirst()),
                Array(region.dropFirst()), size: size)
        }
    }

    /// Shards of random tensors over files, by rows, columns, or both, with rests; others whole, flat over ranks, empty, or scalars.
    private func scene(
        _ random: inout SeededGenerator
    ) -> (files: [String: [Stored]], tensors: [Assembly.Tensor], bytes: [UInt8]) {
        let dtypes: [DType] = [.u8, .bf16, .f32, .f64, .c64]
        let ranks = Int.random(in: 1...5, using: &random)
        var files: [String: [Stored]] = [:]
        var tensors: [Assembly.Tensor] = []
        var all: [UInt8] = []
        // One flat partition a rank, of all tensors of a group one behind the other.
        var group: [UInt8] = []
        for number in 0..<12 {
            let dtype = number % 3 == 2 ? .f32 : dtypes.randomElement(using: &random)!
            let size = dtype.bitsPerElement / 8
            let axes = Int.random(in: 0...3, using: &random)
            var shape = (0..<axes).map { _ in UInt64.random(in: 1...40, using: &random) }
            if number == 5 { shape = [3, 0, 2] }
            let count = shape.reduce(1, *)
            let whole = bytes(Int(count) * size, random.next())
            all += whole
            var tensor = Assembly.Tensor(name: "t\(number)", dtype: dtype.name, shape: shape, pieces: [])
            if number % 3 == 2 {
                let start = UInt64(group.count / 4)
                // For now in the elements of the group; cut by ranks below.
                tensor.pieces = [.run("", "", start..<start + count)]
                group += whole
            } else {
                let regions = grid(shape, ranks, &random).enumerated()
                for (rank, region) in regions {
                    let file = "rank\(rank % ranks).safetensors"
                    let name = "t\(number).\(rank)"
                    let lengths = region.map { $0.upperBound - $0.lowerBound }
                    files[file, default: []].append(
                        Stored(
                            name: name, dtype: dtype, shape: lengths,
                            bytes: cut(whole, shape, region, size: size)))
                    tensor.pieces.append(.box(file, name, at: region.map(\.lowerBound), lengths))
                }
            }
            tensors.append(tensor)
        }
        let share = UInt64((group.count / 4 + ranks - 1) / ranks)
        for rank in 0..<ranks {
            let part = group.dropFirst(rank * Int(share) * 4).prefix(Int(share) * 4)
            let padded = part + [UInt8](repeating: 0, count: Int(share) * 4 - part.count)
            files["rank\(rank).safetensors", default: []].append(
                Stored(name: "flat", dtype: .f32, shape: [share], bytes: Array(padded)))
        }
        for index in tensors.indices where index % 3 == 2 {
            guard case .run(let start, let count, _) = tensors[index].pieces[0].place else { continue }
            tensors[index].pieces = (0..<UInt64(ranks)).compactMap { rank in
                let lower = max(start, rank * share)
                let upper = min(start + count, (rank + 1) * share)
                guard lower < upper else { return nil }
                return .run(
                    "rank\(rank).safetensors", "flat", lower - start..<upper - start,
                    from: lower - rank * share)
            }.shuffled(using: &random)
        }
        return (files, tensors, all)
    }

    private func grid(
        _ shape: [UInt64], _ ranks: Int, _ random: inout SeededGenerator
    ) -> [[Range<UInt64>]] {
        var regions: [[Range<UInt64>]] = [[]]
        for length in shape {
            let parts = Bool.random(using: &random) ? UInt64(ranks) : 1
            let share = (length + parts - 1) / parts
            // The last ranks may have less, or nothing.
            let slabs = (0..<parts).map { min($0 * share, length)..<min(($0 + 1) * share, length) }
            regions = regions.flatMap { region in slabs.map { region + [$0] } }
        }
        return regions.shuffled(using: &random)
    }

    @Test(arguments: 0..<30 as Range<UInt64>)
    func tensorsAreWhatTheirPiecesMake(seed: UInt64) throws {
        var random = SeededGenerator(seed: seed)
        let (files, tensors, expected) = scene(&random)
        let bench = try GatherBench(files)
        #expect(try bench.bytes(tensors) == expected, "seed \(seed)")
    }

    @Test(arguments: [1, 16])
    func largeTensorsAreWrittenWithinTheMemorySetting(ranks: Int) throws {
        // Columns of 16 ranks, 6 MiB: over several segments, at any offset, in rows of a few hundred bytes.
        let (rows, columns) = (3000, 2048)
        let whole = bytes(rows * columns, 5)
        let width = columns / ranks
        var files: [String: [Stored]] = [:]
        var tensor = Assembly.Tensor(
            name: "w", dtype: "BF16", shape: [UInt64(rows), UInt64(columns / 2)], pieces: [])
        for rank in 0..<ranks {
            var part: [UInt8] = []
            for row in 0..<rows {
                let start = row * columns + rank * width
                part += whole[start..<start + width]
            }
            let shape = [UInt64(rows), UInt64(width / 2)]
            files["\(rank).safetensors"] = [Stored(name: "w", dtype: .bf16, shape: shape, bytes: part)]
            tensor.pieces.append(
                .box("\(rank).safetensors", "w", at: [0, UInt64(rank * width / 2)], shape))
        }
        let bench = try GatherBench(files)
        for settings in [Settings(jobs: 1, memory: Settings.minimumMemory), Settings(jobs: 4)] {
            #expect(try bench.bytes([tensor, tensor], settings: settings) == whole + whole)
        }
    }

    // MARK: Pieces that don't fit

    /// Two files with halves of a tensor, and copies of these in part.
    private func halves() throws -> GatherBench {
        let whole = (0..<48).map { UInt8($0) }
        return try GatherBench([
            "a.safetensors": [
                Stored(name: "top", shape: [4, 6], bytes: Array(whole[..<24])),
                Stored(name: "half", dtype: .f16, shape: [4, 3], bytes: Array(whole[..<24])),
                Stored(name: "flat", shape: [48], bytes: whole),
                Stored(name: "one", shape: [], bytes: [7]),
            ],
            "b.safetensors": [
                Stored(name: "bottom", shape: [4, 6], bytes: Array(whole[24...])),
                Stored(name: "middle", shape: [4, 6], bytes: Array(whole[12..<36])),
                Stored(name: "other", shape: [4, 6], bytes: Array(whole[12..<35]) + [99]),
            ],
            "c.safetensors": [Stored(name: "top", shape: [4, 6], bytes: Array(whole[..<24]))],
        ])
    }

    private let top = Assembly.Piece.box("a.safetensors", "top", at: [0, 0], [4, 6])
    private let bottom = Assembly.Piece.box("b.safetensors", "bottom", at: [4, 0], [4, 6])

    private func tensor(_ pieces: [Assembly.Piece], dtype: String = "U8", shape: [UInt64] = [8, 6])
        -> Assembly.Tensor
    {
        Assembly.Tensor(name: "model.w", dtype: dtype, shape: shape, pieces: pieces)
    }

    @Test func overlapsOfTheSameBytesAreFine() throws {
        let bench = try halves()
        let whole = (0..<48).map { UInt8($0) }
        let pieces: [[Assembly.Piece]] = [
            [top, bottom], [top, .box("c.safetensors", "top", at: [0, 0], [4, 6]), bottom],
            // Other chunks, of which parts are the same.
            [top, .box("b.safetensors", "middle", at: [2, 0], [4, 6]), bottom],
            [.run("a.safetensors", "flat", 0..<48), top, bottom],
            [top, .run("a.safetensors", "flat", 20..<48, from: 20)],
        ]
        for pieces in pieces { #expect(try bench.bytes([tensor(pieces)]) == whole) }
    }

    @Test func overlapsOfOtherBytesNameBothFiles() throws {
        let message = try halves().failure(
            tensor([top, .box("b.safetensors", "other", at: [2, 0], [4, 6]), bottom]))
        #expect(
            message
                == "the tensor model.w can't be put together: b.safetensors and b.safetensors have different bytes "
                + "for its elements [4:6, 0:6]")
        let other = try halves().failure(
            tensor([
                .run("a.safetensors", "flat", 0..<48), .box("c.safetensors", "top", at: [1, 0], [4, 6]),
            ]))
        #expect(
            other
                == "the tensor model.w can't be put together: a.safetensors and c.safetensors have different bytes "
                + "for its elements [6:30]")
    }

    @Test func whatDoesNotFitIsNamed() throws {
        let bench = try halves()
        let faults: [(Assembly.Tensor, String)] = [
            (tensor([top]), "no file holds its elements [4:8, 0:6]; its pieces are in a.safetensors"),
            (tensor([]), "no file holds its elements [0:8, 0:6]; it has no pieces"),
            (
                tensor([.run("a.safetensors", "flat", 3..<40)]),
                "no file holds its elements [0:3]; its pieces are in a.safetensors"
            ),
            (tensor([top, bottom], dtype: "I8"), "top in a.safetensors is U8, not I8"),
            (
                tensor([.box("a.safetensors", "top", at: [0, 0], [6, 4])]),
                "top in a.safetensors has the shape [4, 6], not [6, 4]"
            ),
            (
                tensor([.box("a.safetensors", "top", at: [5, 0], [4, 6])]),
                "top in a.safetensors is [4, 6] from [5, 0] on, which is beyond its shape [8, 6]"
            ),
            (
                tensor([.box("a.safetensors", "top", at: [.max, 0], [4, 6])]),
                "top in a.safetensors is [4, 6] from [18446744073709551615, 0] on, which is beyond its shape [8, 6]"
            ),
            (
                tensor([.box("a.safetensors", "top", at: [0], [4, 6])]),
                "top in a.safetensors would lie at [0] in it, which has the shape [8, 6]"
            ),
            (
                tensor([.run("a.safetensors", "flat", 40..<50)]),
                "flat in a.safetensors would lie beyond its end, at element 40 and the 10 from there on"
            ),
            (
                tensor([.run("a.safetensors", "flat", 0..<48, from: 1)]),
                "flat in a.safetensors has 48 elements, not the 48 from 1 on"
            ),
            (
                tensor([.run("a.safetensors", "flat", 0..<48, from: .max)]),
                "flat in a.safetensors has 48 elements, not the 48 from 18446744073709551615 on"
            ),
            (
                tensor(
                    [
                        .box("a.safetensors", "top", at: [0, 0], [4, 6]),
                        .run("a.safetensors", "flat", 0..<48),
                    ],
                    shape: [8, 12]),
                "top in a.safetensors is no run of its elements, as its other pieces are"
            ),
            (tensor([.run("d.safetensors", "flat", 0..<48)]), "d.safetensors is missing"),
            (tensor([.run("a.safetensors", "flut", 0..<48)]), "a.safetensors holds no tensor flut"),
            (
                tensor([top], shape: [1 << 40, 1 << 40]),
                "its [1099511627776, 1099511627776] of U8 can't be counted"
            ),
            (tensor([], dtype: "qint8"), "its [8, 6] of qint8 can't be counted"),
        ]
        for (tensor, why) in faults {
            #expect(bench.failure(tensor) == "the tensor model.w can't be put together: \(why)")
        }
    }

    @Test func ranksMayHaveAShareEach() throws {
        // ZeRO 3: of each tensor every rank has as many elements, the last ones fewer or none; one behind the other in one row.
        let shapes: [[UInt64]] = [[7, 11], [3], [1, 5], [2, 2, 2], [0, 3], []]
        let ranks: UInt64 = 4
        var rows = [[UInt8]](repeating: [], count: Int(ranks))
        var (tensors, expected): ([Assembly.Tensor], [UInt8]) = ([], [])
        let files = Assembly.Piece.Ranks((0..<ranks).map { ("\($0).safetensors", "flat") })
        for (number, shape) in shapes.enumerated() {
            let count = shape.reduce(1, *)
            let share = (count + ranks - 1) / ranks
            let whole = bytes(Int(count) * 4, UInt64(number))
            let place = Assembly.Piece.Place.shares(
                ranks: files, start: 0, count: count, share: max(1, share), from: UInt64(rows[0].count / 4))
            tensors.append(
                .init(
                    name: "t\(number)", dtype: "F32", shape: shape,
                    pieces: [.init(file: "0.safetensors", tensor: "flat", place: place)]))
            for rank in 0..<Int(ranks) {
                let part = whole.dropFirst(rank * Int(share) * 4).prefix(Int(share) * 4)
                rows[rank] += part + [UInt8](repeating: 0, count: Int(share) * 4 - part.count)
            }
            expected += whole
        }
        var stored = Dictionary(
            uniqueKeysWithValues: rows.enumerated().map { rank, row in
                (
                    "\(rank).safetensors",
                    [Stored(name: "flat", dtype: .f32, shape: [UInt64(row.count / 4)], bytes: row)]
                )
            })
        #expect(try GatherBench(stored).bytes(tensors) == expected)

        // One that is shorter, or one too few.
        stored["3.safetensors"]![0].shape = [20]
        stored["3.safetensors"]![0].bytes = Array(rows[3].prefix(80))
        let short = try GatherBench(stored)
        #expect(short.failure(tensors[0]) == nil)
        #expect(
            short.failure(tensors[3])
                == "the tensor t3 can't be put together: flat in 3.safetensors has 20 elements, not the 2 from 23 on"
        )
        var few = tensors[0]
        few.pieces[0].place = .shares(ranks: files, start: 0, count: 77, share: 19, from: 0)
        #expect(
            short.failure(few)
                == "the tensor t0 can't be put together: 4 ranks with 19 elements each are too few for 77")
        few.pieces[0].place = .shares(ranks: files, start: 1, count: 77, share: 20, from: 0)
        #expect(
            short.failure(few)
                == "the tensor t0 can't be put together: flat in 0.safetensors would lie beyond its end, at element 1 and the 77 from there on"
        )
    }

    @Test func axesOfOneStepMayComeAndGo() throws {
        // A layer of a stack, as it is stored without the stack's axis.
        let bench = try halves()
        let stack = tensor(
            [
                .box("b.safetensors", "bottom", at: [1, 0, 0], [1, 4, 6]),
                .box("a.safetensors", "top", at: [0, 0, 0], [1, 4, 6]),
            ], shape: [2, 4, 6])
        #expect(try bench.bytes([stack]) == (0..<48).map { UInt8($0) })
        let scalar = tensor([.box("a.safetensors", "one", at: [], [])], shape: [])
        #expect(try bench.bytes([scalar]) == [7])
        #expect(try bench.bytes([tensor([.run("a.safetensors", "one", 0..<1)], shape: [1, 1])]) == [7])
    }

    @Test func withoutElementsAxesMayBeOfAnyLength() throws {
        let bench = try halves()
        var assembler = bench.assembler
        let empty = try assembler.tensor(tensor([], shape: [1 << 40, 0, 1 << 40]))
        #expect(empty.count == 0 && empty.gather([]).length == 0)
        let row = try empty.sliced(axis: 0, 5..<6)
        #expect(row.shape == [1, 0, 1 << 40] && row.count == 0)
        let both = try GatheredTensor.joined([empty, empty], axis: 1)
        #expect(both.shape == empty.shape && both.bytes.count == 0)
        #expect(empty.reshaped([0, 1 << 40, 1 << 40]).count == 0)
        #expect(try bench.bytes([empty, both], []) == [])
    }

    @Test func whatIsTheSameMemoryIsTheSameContent() throws {
        let bench = try halves()
        var assembler = bench.assembler
        let first = try assembler.tensor(tensor([top, bottom]))
        // The same bytes in another file are no tie.
        let copy = try assembler.tensor(
            tensor([.box("c.safetensors", "top", at: [0, 0], [4, 6]), bottom]))
        #expect(try assembler.tensor(tensor([top, bottom])).content == first.content)
        #expect(copy.content != first.content)
    }
}
