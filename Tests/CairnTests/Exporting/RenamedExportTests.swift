import Foundation
import Platform
import TensorFormats
import Testing

@testable import Cairn

/// Exports with `--rename`, as files: matrices that are transposed, and the optimizer's state that goes with renamed parameters.
@Suite struct RenamedExportTests {
    typealias Stored = GatherBench.Stored

    let scene: ExportScene

    init() throws { scene = try ExportScene() }

    private func map(_ rules: String) throws -> String {
        let text = #"{"rules": ["# + rules + #"{"match": ".*", "drop": true}]}"#
        let bench = scene.bench.bench
        return try bench.write("map-" + UUID().uuidString, ["map.json": [UInt8](text.utf8)]) + "/map.json"
    }

    private func export(
        _ layout: String, _ rules: String, all: Bool = false, mesh: String? = nil, maps: String? = nil,
        of assembly: Assembly? = nil
    ) throws -> [String: [UInt8]] {
        try scene.export(
            ExportOptions(
                layout: layout, all: all, rename: try map(rules), mesh: mesh,
                maps: try maps.map {
                    try scene.bench.bench.write("cuts-" + UUID().uuidString, ["c.json": [UInt8]($0.utf8)])
                        + "/c.json"
                }), of: assembly
        ).files
    }

    /// Of each matrix, with rows and columns of elements of so many bytes.
    private func transposed(_ bytes: [UInt8], rows: Int, columns: Int, size: Int) -> [UInt8] {
        let matrices = bytes.count / rows / columns / size
        return (0..<matrices).flatMap { matrix in
            (0..<columns).flatMap { column in
                (0..<rows).flatMap { row in
                    let start = (((matrix * rows) + row) * columns + column) * size
                    return bytes[start..<start + size]
                }
            }
        }
    }

    // MARK: Transposing

    @Test func matricesAreTransposedInEveryLayout() throws {
        // The embedding is 4 matrices below each other; of the other, whose columns are in two files, one half.
        let rules = #"""
            {"match": "model.embed", "as": [4, "*"], "to": "e", "transpose": true},
            {"match": "model.up", "to": ["u", null], "split": {"axis": 1}, "transpose": true},
            """#
        let (embed, up) = (scene.whole[0].bytes, scene.whole[1].bytes)
        let half = (0..<32).flatMap { up[$0 * 384..<$0 * 384 + 192] }
        let expected = [
            Stored(
                name: "e", dtype: .bf16, shape: [4, 64, 10],
                bytes: transposed(embed, rows: 10, columns: 64, size: 2)),
            Stored(
                name: "u", dtype: .f32, shape: [48, 32],
                bytes: transposed(half, rows: 32, columns: 48, size: 4)),
        ]
        #expect(try export("hf", rules)["model.safetensors"] == scene.canonical(expected))
        // Their bytes, wherever they lie.
        for (layout, file) in [("torch", "model.pt"), ("dcp", "__0_0.distcp")] {
            let bytes = Data(try #require(try export(layout, rules)[file]))
            for tensor in expected { #expect(bytes.range(of: Data(tensor.bytes)) != nil, "\(layout)") }
        }
        // Cut along both axes that changed places, and along the one that did not.
        let cuts = #"""
            {"rules": [{"match": "e", "cuts": ["a", "b", null]}, {"match": "u", "cuts": [null, "b"]}]}
            """#
        let files = try export("mindformers", rules, mesh: "a=2,b=2", maps: cuts)
        let (e, u) = (expected[0].bytes, expected[1].bytes)
        for rank in 0..<4 {
            let (a, b) = (rank / 2, rank % 2)
            let slices = [
                Stored(
                    name: "e", dtype: .bf16, shape: [2, 32, 10],
                    bytes: (2 * a..<2 * a + 2).flatMap { e[$0 * 1280 + b * 640..<$0 * 1280 + b * 640 + 640] }),
                Stored(
                    name: "u", dtype: .f32, shape: [48, 16],
                    bytes: (0..<48).flatMap { u[$0 * 128 + b * 64..<$0 * 128 + b * 64 + 64] }),
            ]
            #expect(
                files["iteration_00000001/model-000000\(rank)-0000004.safetensors"]
                    == scene.canonical(slices, format: "ms"))
        }
    }

    @Test(arguments: [(.u8, 1), (.f16, 2), (.f32, 4), (.i64, 8)] as [(DType, Int)])
    func anyStretchOfATransposedTensorIsRight(dtype: DType, size: Int) throws {
        var random = SeededGenerator(seed: UInt64(size))
        let (rows, columns) = (37, 53)
        let bytes = random.bytes(3 * rows * columns * size)
        let shape = [3, UInt64(rows), UInt64(columns)]
        let bench = try GatherBench([
            "a.safetensors": [Stored(name: "w", dtype: dtype, shape: shape, bytes: bytes)]
        ])
        var assembler = bench.assembler
        let whole = try assembler.tensor(
            .init(whole: "w", dtype: dtype.name, shape: shape, file: "a.safetensors"))
        let tensor = try whole.transposed()
        let back = try tensor.transposed()
        #expect(tensor.shape == [3, 53, 37] && back.content == whole.content)
        let expected = transposed(bytes, rows: rows, columns: columns, size: size)
        let made = TransposedTensor(tensor, assembler.sources, bench.bench.store.chunks)
        #expect(made.length == UInt64(bytes.count))
        var ranges = [0..<bytes.count, 0..<1, bytes.count - 1..<bytes.count]
        for _ in 0..<40 {
            let start = Int.random(in: 0..<bytes.count, using: &random)
            ranges.append(start..<Int.random(in: start + 1...bytes.count, using: &random))
        }
        for range in ranges {
            var got = [UInt8](repeating: 0, count: range.count)
            try got.withUnsafeMutableBytes { try made.fill($0, from: UInt64(range.lowerBound)) }
            #expect(got[...] == expected[range], "\(range)")
        }
    }

    @Test func whatIsTheSameAndTransposedIsNotTied() throws {
        var assembly = scene.assembly
        assembly.tensors.append(assembly.tensors[0])
        assembly.tensors[4].name = "lm_head"
        let rules =
            #"{"match": "model.embed", "as": [5, 8], "to": "a"}, {"match": "lm_head", "to": "b", "transpose": true},"#
        let bytes = try #require(try export("hf", rules, of: assembly)["model.safetensors"])
        let header = try SafetensorsHeader(parsing: bytes, fileSize: UInt64(bytes.count))
        #expect(
            header.tensors.map(\.name) == ["a", "b"]
                && header.tensors.map(\.shape) == [[5, 8, 64], [64, 40]])
    }

    // MARK: The optimizer

    private let rules = #"""
        {"match": "model.up", "to": ["gate", "up"], "split": {}},
        {"match": "model\\.(embed|step)", "to": "{1}"},
        """#

    /// With counts of steps for two parameters, and something that is for none.
    private func withState() -> Assembly {
        var assembly = scene.assembly
        for (name, stored) in [
            ("step.model.up", "model.step"), ("step.model.embed", "model.step"),
            ("step.model.scale", "model.step"),
            ("count", "model.step"),
        ] {
            assembly.optimizer.append(
                .init(
                    name: name, dtype: "I64", shape: [1],
                    pieces: [.run("rank0.safetensors", stored, 0..<1)]))
        }
        return assembly
    }

    @Test func whatTheOptimizerKeepsIsRenamedAndCutWithItsParameter() throws {
        let steps = scene.whole[3].bytes
        func number(_ name: String) -> Stored { Stored(name: name, dtype: .i64, shape: [1], bytes: steps) }
        let expected = [
            Stored(
                name: "exp_avg.gate", dtype: .f32, shape: [16, 96], bytes: Array(scene.moment.bytes[..<6144])),
            Stored(
                name: "exp_avg.up", dtype: .f32, shape: [16, 96], bytes: Array(scene.moment.bytes[6144...])),
            // Each of the parts has its own, and what is for a parameter that is dropped is dropped.
            number("step.gate"), number("step.up"), number("step.embed"), number("count"),
        ]
        let files = try export("safetensors", rules, all: true, of: withState())
        #expect(files["optimizer.safetensors"] == scene.canonical(expected))
        let slices = try export("mindformers", rules, of: withState())
        #expect(
            slices["iteration_00000001/opt-0000000-0000001.safetensors"]
                == scene.canonical(expected, format: "ms"))
    }

    /// Two matrices that become one, with a number for each.
    private func joining(steps: [String]) -> Assembly {
        var assembly = Assembly()
        for name in ["q", "k"] {
            assembly.tensors.append(
                .init(
                    name: name, dtype: "F32", shape: [32, 48],
                    pieces: [
                        .box("rank\(name == "q" ? 0 : 1).safetensors", "up", at: [0, 0], [32, 48])
                    ]))
        }
        for (name, step) in zip(["q", "k"], steps) {
            assembly.optimizer.append(
                .init(
                    name: "step." + name, dtype: "F32", shape: [],
                    pieces: [.run("rank0.safetensors", step, 0..<1)]))
        }
        return assembly
    }

    private let join =
        #"{"match": "(q|k)", "to": "qk", "join": {"axis": 0, "by": "{1}", "order": ["q", "k"]}},"#

    @Test func numbersOfWhatIsJoinedMustBeTheSame() throws {
        let same = joining(steps: ["model.scale", "model.scale"])
        let files = try export("safetensors", join, all: true, of: same)
        #expect(
            files["optimizer.safetensors"]
                == scene.canonical([
                    Stored(name: "step.qk", dtype: .f32, shape: [], bytes: scene.whole[2].bytes)
                ]))
        let error = #expect(throws: CairnError.self) {
            try export("safetensors", join, all: true, of: joining(steps: ["model.scale", "m"]))
        }
        #expect(error?.code == .usage)
        #expect(error?.message.contains("different numbers in step.q and step.k") == true)
        #expect(error?.message.contains("become qk") == true)
    }

    @Test func whatTheOptimizerKeepsInAnotherShapeIsRefusedWhereItsParameterIsCut() throws {
        var assembly = scene.assembly
        assembly.optimizer = [
            .init(
                name: "row.model.up", dtype: "F32", shape: [32],
                pieces: [.run("rank0.safetensors", "m", 0..<32)]),
            .init(
                name: "row.model.embed", dtype: "F32", shape: [40],
                pieces: [.run("rank0.safetensors", "m", 0..<40)]),
        ]
        let error = #expect(throws: CairnError.self) {
            try export("torch", rules, all: true, of: assembly)
        }
        #expect(error?.code == .usage)
        #expect(
            error?.message.hasPrefix(
                "the optimizer's tensor row.model.up is [32], so it can't be cut or joined as model.up is")
                == true)
        // What is only renamed is, whatever is kept for it.
        assembly.optimizer.removeFirst()
        let files = try export("safetensors", rules, all: true, of: assembly)
        let bytes = try #require(files["optimizer.safetensors"])
        let header = try SafetensorsHeader(parsing: bytes, fileSize: UInt64(bytes.count))
        #expect(header.tensors.map(\.name) == ["row.embed"])
    }
}
