import Foundation
import TensorFormats
import Testing

@testable import Cairn

/// Transposed tensors, and others whose elements do not follow each other in their storage.
@Suite struct StridedViewTests {
    /// The places of its elements, in the order of its shape.
    private func places(_ view: StridedView) -> [UInt64] {
        (0..<view.count / view.run).flatMap { index -> [UInt64] in
            var (rest, place) = (index, view.start)
            for axis in view.shape.indices.reversed() {
                place += rest % view.shape[axis] * view.stride[axis]
                rest /= view.shape[axis]
            }
            return (0..<view.run).map { place + $0 }
        }
    }

    private func runs(_ view: StridedView, _ range: Range<UInt64>) -> [UInt64] {
        var found: [UInt64] = []
        view.forEachRun(in: range) { start, count in found += start..<start + count }
        return found
    }

    @Test(arguments: 0..<30)
    func `any range of a view has its elements in their order`(seed: UInt64) {
        var random = SeededGenerator(seed: seed)
        let shape = (0..<Int(random.next() % 4 + 1)).map { _ in random.next() % 5 + 1 }
        let view = StridedView(
            start: random.next() % 7, shape: shape, stride: shape.map { _ in random.next() % 9 },
            run: random.next() % 3 + 1)
        let all = places(view)
        for _ in 0..<20 {
            let lower = random.next() % view.count
            let upper = lower + random.next() % (view.count - lower) + 1
            #expect(runs(view, lower..<upper) == Array(all[Int(lower)..<Int(upper)]))
        }
        let scaled = view.scaled(bits: 16)!
        #expect(places(scaled) == all.flatMap { [2 * $0, 2 * $0 + 1] })
        #expect(view.scaled(bits: 4) == nil)
        let end = StridedView.end(start: view.start, shape: shape, stride: view.stride, bits: 16)
        #expect(end == (all.max()! + 2 - view.run) * 16)
    }

    @Test func `what is absurd has no end`() {
        let largest = UInt64.max
        for (start, shape, stride) in [
            (largest, [2], [1]), (0, [largest, largest], [1, 1]), (0, [2], [largest]), (0, [0], [1]),
            (0, [1], [1 << 60]), (0, [2, 2], [1]),
        ] as [(UInt64, [UInt64], [UInt64])] {
            #expect(StridedView.end(start: start, shape: shape, stride: stride, bits: 32) == nil)
        }
    }

    @Test func `rows that are gone through by turns are counted`() {
        #expect(StridedView(start: 0, shape: [3, 5], stride: [1, 3]).streams == 5)
        #expect(StridedView(start: 0, shape: [3, 5], stride: [8, 1]).streams == 1)
        #expect(StridedView(start: 0, shape: [1, 5], stride: [1, 3]).streams == 1)
    }

    @Test(arguments: [(300, 500), (2, 40_000), (40_000, 2)] as [(UInt64, UInt64)])
    func `a transposed tensor is written in the order of its shape`(rows: UInt64, columns: UInt64) throws {
        var random = SeededGenerator(seed: 7)
        let bytes = random.bytes(Int(rows * columns))
        let stored = GatherBench.Stored(name: "w", shape: [rows, columns], bytes: bytes)
        let start = UInt64(GatherBench.safetensors([stored]).count - bytes.count)
        let bench = try GatherBench(["a.safetensors": [stored]])
        func view(_ storage: Range<UInt64>, from first: UInt64 = 0) -> Assembly.Tensor {
            .init(
                name: "t", dtype: "U8", shape: [columns, rows],
                pieces: [
                    .init(
                        file: "a.safetensors", tensor: "t",
                        place: .view(storage: storage, start: first, stride: [1, columns]))
                ])
        }
        let whole = start..<start + rows * columns
        let wanted = (0..<Int(columns)).flatMap { column in
            (0..<Int(rows)).map { bytes[$0 * Int(columns) + column] }
        }
        let small = Settings(jobs: 2, memory: Settings.minimumMemory)
        #expect(try bench.bytes([view(whole)], settings: small) == wanted)
        #expect(
            bench.failure(view(whole, from: 1))
                == "the tensor t can't be put together: t in a.safetensors would have elements beyond its storage"
        )
        #expect(bench.failure(view(start + 1..<whole.upperBound))?.contains("holds no blob") == true)
    }

    @Test func `views of a file that is kept as it is, for it has no other tensors, lie in that`() throws {
        let bench = try GatherBench([:], others: ["b.bin": [9, 9] + (0..<6)])
        func view(_ storage: Range<UInt64>) -> Assembly.Tensor {
            let place = Assembly.Piece.Place.view(storage: storage, start: 0, stride: [1, 3])
            return .init(
                name: "t", dtype: "U8", shape: [3, 2],
                pieces: [.init(file: "b.bin", tensor: "t", place: place)])
        }
        #expect(try bench.bytes([view(2..<8)]) == [0, 3, 1, 4, 2, 5])
        #expect(bench.failure(view(3..<9))?.contains("holds no blob") == true)
    }

    /// The digests are of what torch loads, `tensor.contiguous()`.
    @Test func `views of a file of torch's are exported, and what is not stored is named`() throws {
        let bench = try Workbench()
        let path = LayoutSamples.checkpoints.path("pytorch/exotic.pt")
        try bench.store.save(path, options: SaveOptions(step: 1))
        let digests = [
            "transposed": "e5e35d1dcd7324774da8bf15bd0a6f093da797a841dbd29e0e012b03b55eadc5",
            "stepped": "ce7a715aa5b48692db544a2e01539a5381dd5fe6cd80bc8aaf743e9a5f534d43",
            "channels_last": "a76856b91e01678b9114b3be538b4ae0246f6f81ee52ace25ff97207173b0bef",
        ]
        for (name, digest) in digests {
            let place = bench.path("\(name).safetensors")
            let options = ExportOptions(layout: "safetensors", only: "^\(name)$")
            try bench.store.export("1", to: place, options: options)
            let data = [UInt8](try Data(contentsOf: URL(fileURLWithPath: place)))
            let header = try SafetensorsHeader(
                parsing: Array(
                    data[
                        ..<SafetensorsHeader.headerLength(
                            prefix: Array(data[..<8]), fileSize: UInt64(data.count))]),
                fileSize: UInt64(data.count))
            let bytes = Array(data[header.headerLength...])
            #expect(Stored(name: name, dtype: .f32, shape: [], bytes: bytes).sha256 == digest, "\(name)")
        }
        for (name, why) in [("conj", "its values are to be conjugated or negated"), ("neg", "its values")] {
            let options = ExportOptions(layout: "safetensors", only: "^\(name)$")
            let refusal = #expect(throws: CairnError.self) {
                try bench.store.export("1", to: bench.path("no.safetensors"), options: options)
            }
            #expect(
                refusal?.message.hasPrefix(
                    "the tensor \(name) can't be put together: in exotic.pt \(why)") == true,
                "\(refusal?.message ?? "")")
        }
    }
}
