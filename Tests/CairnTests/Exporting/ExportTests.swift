import Cairn
import Foundation
import Testing

/// The Hugging Face export: which files come along, which tensors, and what can't be exported.
@Suite struct ExportTests {
    let bench: Workbench
    let tensors: [(name: String, bytes: [UInt8])] = [
        ("model.embed", [UInt8](repeating: 1, count: 300)),
        ("model.layers.0.attn", [UInt8](repeating: 2, count: 200)),
        ("model.layers.1.attn", [UInt8](repeating: 3, count: 200)),
        ("lm_head", [UInt8](repeating: 4, count: 300)),
    ]

    init() throws { bench = try Workbench() }

    private func save(_ files: [String: [UInt8]]) throws {
        try bench.store.save(try bench.write("checkpoint-1", files))
    }

    private func saveModel() throws {
        try save([
            "model.safetensors": Workbench.safetensors(tensors), "config.json": [1], "tokenizer.json": [2],
            "README.md": [3], "modeling_custom.py": [4], "optimizer.pt": [5], "scheduler.pt": [6],
            "rng_state.pth": [7], "trainer_state.json": [UInt8]("{\"global_step\": 1}".utf8),
            "training_args.bin": [8], "latest": [9],
        ])
    }

    private func export(_ options: ExportOptions) throws -> [String] {
        let place = bench.path("e-" + UUID().uuidString)
        let result = try bench.store.export("1", to: place, options: options)
        let names = try FileManager.default.contentsOfDirectory(atPath: place).sorted()
        #expect(result.files == names.count && result.path == place)
        return names
    }

    private let model = [
        "README.md", "config.json", "model.safetensors", "modeling_custom.py", "tokenizer.json",
    ]

    @Test func theModelAndWhatIsNobodysComesAlong() throws {
        try saveModel()
        #expect(try export(ExportOptions(layout: "hf")) == model)
        let source = try Data(contentsOf: URL(fileURLWithPath: bench.path("checkpoint-1/model.safetensors")))
        try bench.store.export("1", to: bench.path("e"), options: ExportOptions(layout: "hf"))
        #expect(try Data(contentsOf: URL(fileURLWithPath: bench.path("e/model.safetensors"))) == source)
    }

    @Test func allTakesTheStatesAlongButNoMarks() throws {
        try saveModel()
        let states = [
            "optimizer.pt", "rng_state.pth", "scheduler.pt", "trainer_state.json", "training_args.bin",
        ]
        #expect(try export(ExportOptions(layout: "hf", all: true)) == (model + states).sorted())
    }

    @Test func allSaysWhatWasRecordedOfTheTraining() throws {
        var options = SaveOptions()
        options.metadata = ["data": "{\"seen\": [1, 2]}"]
        options.metrics = ["loss": 2.5]
        let path = try bench.write("checkpoint-7", ["model.safetensors": Workbench.safetensors(tensors)])
        let saved = try bench.store.save(path, options: options)
        for (layout, all, isThere) in [("hf", true, true), ("safetensors", true, true), ("hf", false, false)]
        {
            let place = bench.path("e-" + UUID().uuidString)
            try bench.store.export("7", to: place, options: ExportOptions(layout: layout, all: all))
            let bytes = FileManager.default.contents(atPath: place + "/training_metadata.json")
            #expect((bytes != nil) == isThere)
            guard let bytes else { continue }
            let recorded = try #require(JSONSerialization.jsonObject(with: bytes) as? NSDictionary)
            #expect(recorded["id"] as? String == saved.id && recorded["step"] as? Int == 7)
            #expect(recorded["metrics"] as? NSDictionary == ["loss": 2.5])
            #expect(recorded["metadata"] as? NSDictionary == ["data": ["seen": [1, 2]]])
        }
    }

    @Test func aFileOfTheSameNameThatWasSavedComesAlongAsItIs() throws {
        var options = SaveOptions()
        options.metadata = ["data": "1"]
        let path = try bench.write(
            "checkpoint-7",
            ["model.safetensors": Workbench.safetensors(tensors), "training_metadata.json": [1, 2, 3]])
        try bench.store.save(path, options: options)
        try bench.store.export("7", to: bench.path("e"), options: ExportOptions(layout: "hf", all: true))
        #expect(
            FileManager.default.contents(atPath: bench.path("e/training_metadata.json")) == Data([1, 2, 3]))
    }

    @Test(
        arguments: [
            ("attn", ["model.layers.0.attn", "model.layers.1.attn"]), ("^lm_head$", ["lm_head"]),
            ("layers\\.[1-9]\\.", ["model.layers.1.attn"]),
        ] as [(String, [String])])
    func onlyPicksTensors(pattern: String, names: [String]) throws {
        try saveModel()
        try bench.store.export("1", to: bench.path("e"), options: ExportOptions(layout: "hf", only: pattern))
        try bench.store.save(bench.path("e"), options: SaveOptions(run: "exported", step: 1))
        let found = try bench.store.show("exported@1").tensors
        #expect(found.map(\.name) == names)
        // The same bytes are the same chunks: nothing of a tensor is new.
        #expect(found.allSatisfy { $0.bytes == 200 || $0.bytes == 300 })
    }

    @Test func shardsHaveAnIndex() throws {
        try saveModel()
        let names = try export(ExportOptions(layout: "hf", maxShardSize: 500))
        #expect(names.filter { $0.hasSuffix(".safetensors") }.count == 2)
        #expect(names.contains("model.safetensors.index.json"))
        // One shard needs no index.
        #expect(try export(ExportOptions(layout: "hf", maxShardSize: 5000)) == model)
    }

    @Test func smallShardsAreMergedAndLargeOnesCut() throws {
        let halves = [
            Workbench.safetensors(Array(tensors[..<2])), Workbench.safetensors(Array(tensors[2...])),
        ]
        let name = { (number: Int) in "model-0000\(number)-of-00002.safetensors" }
        try save([
            name(1): halves[0], name(2): halves[1],
            "model.safetensors.index.json": [UInt8]("{\"weight_map\": {}}".utf8),
        ])
        // As they are, where they are what this size would have made, down to the index.
        let place = bench.path("e")
        try bench.store.export("1", to: place, options: ExportOptions(layout: "hf", maxShardSize: 500))
        for file in [name(1), name(2), "model.safetensors.index.json"] {
            #expect(
                FileManager.default.contentsEqual(
                    atPath: place + "/" + file, andPath: bench.path("checkpoint-1/" + file)))
        }
        #expect(try export(ExportOptions(layout: "hf", maxShardSize: 5000)) == ["model.safetensors"])
        #expect(try export(ExportOptions(layout: "hf", maxShardSize: 499)).count == 4)
    }

    @Test(arguments: ["nothing", "^attn", "["])
    func aPatternThatPicksNothingIsWrongUsage(pattern: String) throws {
        try saveModel()
        let options = ExportOptions(layout: "hf", only: pattern)
        #expect(
            bench.code { _ = try bench.store.export("1", to: bench.path("e"), options: options) } == .usage)
        #expect(!FileManager.default.fileExists(atPath: bench.path("e")))
    }

    @Test(arguments: ["", "HF", "megatron"])
    func anUnknownLayoutIsWrongUsage(layout: String) throws {
        try saveModel()
        let options = ExportOptions(layout: layout)
        #expect(
            bench.code { _ = try bench.store.export("1", to: bench.path("e"), options: options) } == .usage)
    }

    @Test(
        arguments: [
            (["pytorch_model.bin": [1], "config.json": [2]], "pytorch_model.bin"),
            (["config.json": [2]], "no model"), (["sub/weights.safetensors": [1]], "no model"),
        ] as [([String: [UInt8]], String)])
    func whatIsNoSafetensorsModelIsSaidSo(files: [String: [UInt8]], part: String) throws {
        try save(files)
        let error = #expect(throws: CairnError.self) {
            try bench.store.export("1", to: bench.path("e"), options: ExportOptions(layout: "hf"))
        }
        #expect(error?.code == .usage && error?.message.contains(part) == true)
        #expect(!FileManager.default.fileExists(atPath: bench.path("e")))
    }

    @Test func aModelThatCouldNotBeSplitIsExportedWholeOrNotAtAll() throws {
        try save(["model.safetensors": [UInt8](repeating: 9, count: 100)])
        #expect(try export(ExportOptions(layout: "hf")) == ["model.safetensors"])
        for options in [
            ExportOptions(layout: "hf", only: "a"), ExportOptions(layout: "hf", maxShardSize: 10),
        ] {
            #expect(
                bench.code { _ = try bench.store.export("1", to: bench.path("f"), options: options) }
                    == .usage)
        }
    }

    @Test func aDestinationThatExistsIsReplacedOnRequestOnly() throws {
        try saveModel()
        let place = try bench.write("e", ["mine": [1]])
        #expect(
            bench.code { _ = try bench.store.export("1", to: place, options: ExportOptions(layout: "hf")) }
                == .exists)
        try bench.store.export("1", to: place, options: ExportOptions(layout: "hf", force: true))
        #expect(try FileManager.default.contentsOfDirectory(atPath: place).sorted() == model)
    }
}
