import Foundation
import TensorFormats
import Testing

@testable import Cairn

/// Tensors go by the names of the model, whatever layout they lie in.
@Suite struct NameTests {
    let bench: Workbench
    init() throws { bench = try Workbench() }

    /// Trees that a library wrote of the same weights, with the step at which they have them.
    struct Same: CustomTestStringConvertible, Sendable {
        var library: String
        var trees: [String]
        var step: UInt64
        /// Whether the optimizer's state is known by the names of the parameters.
        var hasOptimizer = true

        var testDescription: String { library }
    }

    static let same = [
        Same(
            library: "torch",
            trees: ["nested-2", "nested-1", "flat-4", "replicate-fsdp"],
            step: 4),
        Same(library: "torch", trees: ["nested-2", "verl-ppo", "verl-sft"], step: 2, hasOptimizer: false),
        Same(library: "deepspeed", trees: ["zero-1", "zero-3", "universal"], step: 4),
        Same(library: "deepspeed", trees: ["zero-0", "zero-3"], step: 2, hasOptimizer: false),
        Same(library: "llamafactory", trees: ["two", "one"], step: 4, hasOptimizer: false),
        Same(
            library: "mindspore",
            trees: [
                "single/checkpoint", "dp2-tp2/checkpoint", "older-safetensors",
                "older-ckpt",
            ], step: 4),
    ]

    /// Saves what a tree has at a step, and returns the reference to it.
    private func save(_ library: String, _ tree: String, _ step: UInt64) throws -> String {
        let run = tree.split(separator: "/")[0]
        try bench.store.saveAll(
            LayoutSamples.library(library).path(tree), options: SaveAllOptions(run: String(run)))
        return "\(run)@\(step)"
    }

    @Test(arguments: same)
    func `iterations of other layouts and meshes with the same weights have the same tensors`(
        _ same: Same
    ) throws {
        let references = try same.trees.map { try save(same.library, $0, same.step) }
        for other in references.dropFirst() {
            let diff = try bench.store.diff(references[0], other)
            #expect(diff.warnings.isEmpty, "\(other)")
            let model = try #require(diff.parts.first { $0.name == "model" })
            #expect(
                (model.changed, model.added, model.removed) == (0, 0, 0) && model.unchanged > 4, "\(other)")
            guard same.hasOptimizer else { continue }
            let optimizer = try #require(diff.parts.first { $0.name == "optimizer" })
            #expect(optimizer.changed == 0 && optimizer.unchanged >= model.unchanged, "\(other)")
        }
    }

    private static let exported = LibraryTreeTests.Tree.families.filter {
        // The latter are above.
        !["orbax", "tensorflow", "gguf", "deepspeed", "mindformers", "mindformers1"].contains($0.layout)
    }

    @Test(arguments: exported)
    func `an export has the tensors of the iteration that it was made of`(
        _ tree: LibraryTreeTests.Tree
    ) throws {
        try bench.store.saveAll(tree.samples.path(tree.path), options: SaveAllOptions(run: "r"))
        let info = try #require(try bench.store.iterations(run: "r").last)
        try bench.store.export(
            "r@\(info.step)", to: bench.path("hf"), options: ExportOptions(layout: "hf"))
        try bench.store.save(bench.path("hf"), options: SaveOptions(run: "hf", step: 1))
        let diff = try bench.store.diff("r@\(info.step)", "hf@1")
        let model = try #require(diff.parts.first { $0.name == "model" })
        #expect(diff.changed.isEmpty && diff.added.isEmpty && model.unchanged > 0)
        let expected = tree.iterations.first { $0["step"]?.uint64 == info.step }
        let tied = Set(expected?["tied"]?.array?.compactMap(\.stringValue) ?? [])
        let removed = diff.removed.filter { $0.file == nil && $0.group == "model" }.map(\.name)
        #expect(tied.isSuperset(of: removed), "\(removed)")
    }

    @Test func `what ranks have parts of is listed whole, and what is left as its file has it`() throws {
        let reference = try save("torch", "verl-sft", 2)
        let shown = try bench.store.show(reference).tensors
        let expected = LibraryTreeTests.Tree.all.first { $0.path == "verl-sft" }!.iterations
        let wanted = ExpectedTensor.all(expected.first { $0["step"]?.uint64 == 2 }?["model"])
        let model = shown.filter { $0.file == nil }
        #expect(Set(model.map(\.name)) == Set(wanted.keys) && model.allSatisfy { $0.group == "model" })
        for tensor in model {
            #expect(tensor.shape == wanted[tensor.name]?.shape && tensor.dtype == wanted[tensor.name]?.dtype)
        }
        #expect(model.contains { $0.pieces > 1 })
        // Nor are the parts there once more, nor copies that other ranks have of what is not divided.
        let rest = shown.filter { $0.file != nil }
        let names = Set(rest.filter { $0.group == "model" }.map(\.name))
        #expect(names == ["embed.weight._spec.mesh._rank_map"] && rest.contains { $0.group == "optimizer" })
    }

    // MARK: What differs

    private func folder(_ name: String, _ ranks: [[Stored]]) throws -> String {
        var files: [String: [UInt8]] = [:]
        for (rank, tensors) in ranks.enumerated() {
            let number = "0000\(rank + 1)"
            // As torch's writer of Hugging Face files leaves them.
            let shards = tensors.map { tensor in
                "\"\(tensor.name)\": {\"saved_offsets\": [\(rank * 3), 0]}"
            }
            files["shard-\(number)-model-00001-of-00001.safetensors"] = Stored.safetensors(
                tensors,
                metadata: [
                    ("DCP_SHARDING_INFO", "{\(shards.joined(separator: ", "))}"), ("DCP_VERSION", "1.0"),
                ]
            )
        }
        return try bench.write(name, files)
    }

    @Test func `a change in the part of one rank is one of the whole tensor`() throws {
        let values = (0..<24).map { Int32($0) }
        let parts = [values[..<12], values[12...]].map { Stored.numbers("w", [3, 4], Array($0)) }
        try bench.store.save(try folder("step-1", parts.map { [$0] }))
        var other = values
        other[13] = 1013
        let whole = Stored.safetensors([.numbers("w", [6, 4], other), .numbers("v", [1], [5])])
        try bench.store.save(try bench.write("checkpoint-2", ["model.safetensors": whole]))
        #expect(try bench.store.show("1").tensors.map(\.pieces) == [2])
        let diff = try bench.store.diff("1", "2")
        #expect(diff.added.map(\.name) == ["v"] && diff.removed.isEmpty && diff.unchanged == 0)
        let change = try #require(diff.changed.first)
        #expect(diff.changed.count == 1 && change.name == "w" && change.aspects == [.values])
        #expect(change.elements == 24 && change.changedElements == 1 && change.maxAbsDifference == 1000)
        #expect(change.before.pieces == 2 && change.after.pieces == 1 && change.before.shape == [6, 4])
    }

    @Test func `another dtype and another shape are named`() throws {
        let one = Stored(name: "a", dtype: .i32, shape: [2], bytes: [UInt8](repeating: 0, count: 8))
        let other = Stored(name: "a", dtype: .f32, shape: [2], bytes: one.bytes)
        let reshaped = Stored(name: "a", dtype: .f32, shape: [2, 1], bytes: one.bytes)
        for (step, tensor) in [one, other, reshaped].enumerated() {
            let file = Stored.safetensors([tensor])
            try bench.store.save(try bench.write("checkpoint-\(step)", ["model.safetensors": file]))
        }
        #expect(try bench.store.diff("0", "1").changed.map(\.aspects) == [[.dtype]])
        #expect(try bench.store.diff("1", "2").changed.map(\.aspects) == [[.shape]])
        #expect(try bench.store.diff("0", "2").changed.map(\.aspects) == [[.dtype, .shape]])
    }

    @Test func `what can't be put together is compared as the files have it, and said`() throws {
        let part = Stored.numbers("w", [3, 4], (0..<12).map { Int32($0) })
        try bench.store.save(try folder("step-1", [[part], [part]]))
        let torn = try folder("step-2", [[part], [part]])
        // The second rank's says that it begins elsewhere.
        let path = torn + "/shard-00002-model-00001-of-00001.safetensors"
        let text = try String(contentsOfFile: path, encoding: .isoLatin1)
        try text.replacingOccurrences(of: "[3, 0]", with: "[4, 0]")
            .write(toFile: path, atomically: true, encoding: .isoLatin1)
        try bench.store.save(torn)
        let diff = try bench.store.diff("1", "2")
        #expect(diff.warnings.count == 1 && diff.warnings[0].hasPrefix("main@2 is compared as its files"))
        let shown = try bench.store.show("2")
        #expect(shown.tensors.allSatisfy { $0.file != nil } && shown.tensors.count == 2)
        #expect(shown.understood.contains { $0.name == "not whole" })
    }

    @Test func `tensors of one name in files of several ranks go with those of the same file`() throws {
        func state(_ value: UInt8) -> [UInt8] { Workbench.safetensors([("m", [value, value])]) }
        try bench.store.save(
            try bench.write("a", ["x.safetensors": state(1), "y.safetensors": state(2)]),
            options: SaveOptions(step: 1))
        try bench.store.save(
            try bench.write("b", ["y.safetensors": state(2), "z.safetensors": state(1)]),
            options: SaveOptions(step: 2))
        let diff = try bench.store.diff("1", "2")
        #expect(diff.unchanged == 2 && diff.changed.isEmpty && diff.added.isEmpty && diff.removed.isEmpty)
        try bench.store.save(try bench.write("c", ["y.safetensors": state(3)]), options: SaveOptions(step: 3))
        let other = try bench.store.diff("1", "3")
        #expect(other.changed.map(\.before.file) == ["y.safetensors"])
        #expect(other.removed.map(\.file) == ["x.safetensors"])
    }

    /// The oracle goes through whole tensors byte by byte; here they lie in pieces that no two sides have alike.
    @Test(arguments: 0..<8)
    func `however tensors are cut, the same elements differ`(seed: UInt64) throws {
        var random = SeededGenerator(seed: seed)
        let (rows, columns) = (Int(random.next() % 90) + 20, Int(random.next() % 60 + 10) * 4)
        let count = rows * columns
        let before = random.bytes(count * 2)
        var after = before
        for _ in 0..<Int(random.next() % 12) { after[Int(random.next() % UInt64(count * 2))] ^= 1 }
        func columnsOf(_ bytes: [UInt8], _ parts: Int) -> [GatherBench.Stored] {
            let width = columns / parts
            return (0..<parts).map { part in
                var own: [UInt8] = []
                for row in 0..<rows {
                    let start = (row * columns + part * width) * 2
                    own += bytes[start..<start + width * 2]
                }
                return .init(name: "p\(part)", dtype: .i16, shape: [UInt64(rows), UInt64(width)], bytes: own)
            }
        }
        let files = [
            "a.safetensors": columnsOf(before, 2), "b.safetensors": columnsOf(after, 4),
            "c.safetensors": [
                .init(name: "w", dtype: .i16, shape: [UInt64(rows), UInt64(columns)], bytes: after)
            ],
        ]
        let bench = try GatherBench(files)
        func gather(_ file: String, _ parts: Int) throws -> Gather {
            let width = UInt64(columns / parts)
            let tensor = Assembly.Tensor(
                name: "w", dtype: "I16", shape: [UInt64(rows), UInt64(columns)],
                pieces: (0..<parts).map {
                    .box(
                        file, parts == 1 ? "w" : "p\($0)", at: [0, UInt64($0) * width],
                        [UInt64(rows), width])
                })
            var assembler = bench.assembler
            let gathered = try assembler.tensor(tensor)
            return gathered.gather(assembler.sources)
        }
        let sides = [
            try gather("a.safetensors", 2), try gather("b.safetensors", 4), try gather("c.safetensors", 1),
        ]
        var wanted = ElementDifference()
        wanted.add(before, after, dtype: .i16, width: 2)
        let settings = Settings(jobs: 3, memory: Settings.minimumMemory)
        let pairs = [(0, 1), (0, 2), (1, 2)].map {
            TensorComparison.Pair(before: sides[$0], after: sides[$1], dtype: .i16, width: 2)
        }
        let found = try TensorComparison(bench.bench.store.chunks, pairs, settings: settings)
            .run(settings, .silent)
        for one in found[..<2] {
            #expect(one.elements == wanted.elements && one.bytes == wanted.bytes)
            #expect(one.largest == wanted.largest)
        }
        #expect(found[2].elements == 0 && found[2].largest == nil)
    }
}
