import Foundation
import TensorFormats
import Testing

@testable import Cairn

/// Exports to MindSpore Transformers: which slice is in which rank's file, and what says so.
@Suite struct MindFormersExportTests {
    typealias Stored = ExportScene.Stored

    let scene: ExportScene
    private let folder = "iteration_00000001/"
    private var bench: Workbench { scene.bench.bench }

    init() throws { scene = try ExportScene() }

    /// Rows of the embedding are cut, and columns of the other.
    private let rules = #"""
        {"about": "a test", "rules": [
            {"match": "model\\.embed", "cuts": [["dp", "tp"], null]},
            {"match": "model\\.up", "cuts": [null, "tp"]},
            {"match": "model\\.(scale|step)", "cuts": []}]}
        """#

    private func maps(_ rules: String) throws -> String {
        try bench.write("maps-" + UUID().uuidString, ["maps.json": [UInt8](rules.utf8)]) + "/maps.json"
    }

    private func options(
        _ mesh: String? = nil, layout: String = "mindformers", rules: String? = nil, prefix: String? = nil,
        withoutOptimizer: Bool = false, removesRedundancy: Bool = false, isUnified: Bool = false
    ) throws -> ExportOptions {
        ExportOptions(
            layout: layout, prefix: prefix, withoutOptimizer: withoutOptimizer,
            removesRedundancy: removesRedundancy, isUnified: isUnified, mesh: mesh, maps: try rules.map(maps))
    }

    /// Rows and columns of a tensor.
    private func cut(_ stored: Stored, _ rows: Range<Int>, _ columns: Range<Int>) -> Stored {
        let width = Int(stored.shape[1])
        let size = stored.bytes.count / width / Int(stored.shape[0])
        let bytes = rows.flatMap { row in
            stored.bytes[
                (row * width + columns.lowerBound) * size..<(row * width + columns.upperBound) * size]
        }
        return Stored(
            name: stored.name, dtype: stored.dtype, shape: [UInt64(rows.count), UInt64(columns.count)],
            bytes: bytes)
    }

    @Test func withoutAMeshItIsCompleteAsOneCardHasIt() throws {
        let (files, warnings) = try scene.export(try options())
        #expect(
            files == [
                folder + "model-0000000-0000001.safetensors": scene.canonical(scene.whole, format: "ms"),
                folder + "opt-0000000-0000001.safetensors": scene.canonical([scene.moment], format: "ms"),
                folder + "common.json": MindFormersCommon(step: 1, globalStep: 1).serialized(),
                "latest_checkpointed_iteration.txt": [UInt8]("1".utf8),
            ])
        #expect(warnings.isEmpty)
        let unified = try scene.export(try options(prefix: "qwen3", withoutOptimizer: true, isUnified: true))
            .files
        #expect(
            unified.keys.sorted() == [
                folder + "common.json", folder + "qwen3-model-0000000-0000001.safetensors",
                "latest_checkpointed_iteration.txt",
            ])
    }

    @Test func eachRankHasItsSlices() throws {
        let (files, _) = try scene.export(try options("dp=2,tp=2", rules: rules))
        for rank in 0..<4 {
            let columns = rank % 2 * 48..<rank % 2 * 48 + 48
            let model = [
                cut(scene.whole[0], 10 * rank..<10 * rank + 10, 0..<64),
                cut(scene.whole[1], 0..<32, columns), scene.whole[2], scene.whole[3],
            ]
            let number = "000000\(rank)-0000004.safetensors"
            #expect(files[folder + "model-" + number] == scene.canonical(model, format: "ms"))
            // The moment is cut as what it is kept for, by what stands behind its first dot.
            #expect(
                files[folder + "opt-" + number]
                    == scene.canonical([cut(scene.moment, 0..<32, columns)], format: "ms"))
        }
        #expect(files.count == 8 + 3)
        let metadata = try MindFormersMetadata(parsing: files[folder + "metadata.json"]!)
        let embed = try #require(metadata.tensors.first { $0.name == "model.embed" })
        #expect(embed.fragmentations == [4, 1] && embed.shape == [40, 64] && embed.dtype == "BFloat16")
        #expect(embed.layout?.axisNames == ["dp", "tp"] && embed.layout?.deviceMatrix == [2, 2])
    }

    @Test func withoutRedundancyEachSliceIsWrittenOnce() throws {
        let (files, _) = try scene.export(try options("dp=2,tp=2", rules: rules, removesRedundancy: true))
        let tensors = files.filter { $0.key.hasSuffix(".safetensors") }.values.map { $0.count }
        let all = try scene.export(try options("dp=2,tp=2", rules: rules)).files
        let complete = all.filter { $0.key.hasSuffix(".safetensors") }.values.map { $0.count }
        #expect(complete.reduce(0, +) - tensors.reduce(0, +) > 24576)
        let metadata = try MindFormersMetadata(parsing: files[folder + "metadata.json"]!)
        #expect(metadata.slices.allSatisfy { $0.places.count == 1 })
    }

    /// Saves what was exported, as an iteration of that layout.
    private func save(_ files: [String: [UInt8]], run: String) throws -> IterationInfo {
        let place = try bench.write(run, files)
        try bench.store.save(place + "/" + folder, options: SaveOptions(run: run, step: 1))
        return try bench.store.resolve(run + "@1")
    }

    @Test func tensorsAreCutAsThoseOfAnotherIteration() throws {
        let first = try scene.export(try options("dp=2,tp=2", rules: rules)).files
        _ = try save(first, run: "other")
        var like = try options()
        like.mapsOf = "other@1"
        #expect(try scene.export(like).files == first)
        // On other devices, by the same axes.
        like.mesh = "dp=1,tp=4"
        let (files, _) = try scene.export(like)
        #expect(
            try files == scene.export(try options("dp=1,tp=4", rules: rules)).files)
        // What it does not say can't be known.
        like.mapsOf = "r@1"
        let error = #expect(throws: CairnError.self) { try scene.export(like) }
        #expect(error?.code == .usage && error?.message.contains("no metadata.json") == true)
    }

    @Test func theOlderLayoutHasAFolderForEachRank() throws {
        let (files, _) = try scene.export(
            try options("dp=1,tp=2", layout: "mindformers1", rules: rules, prefix: "llama"))
        #expect(
            files.keys.sorted() == [
                "rank_0/llama_rank_0-1_1.safetensors", "rank_0/meta.json",
                "rank_1/llama_rank_1-1_1.safetensors",
                "rank_1/meta.json", "strategy/ckpt_strategy_rank_0.ckpt",
                "strategy/ckpt_strategy_rank_1.ckpt",
            ])
        let meta = try MindFormers1Meta(parsing: files["rank_1/meta.json"]!)
        #expect(meta == MindFormers1Meta(epoch: 1, step: 1, file: "llama_rank_1-1_1.safetensors"))
        let number: (UInt64, Int) -> [UInt8] = { value, count in
            (0..<count).map { UInt8(truncatingIfNeeded: value >> (8 * UInt64($0))) }
        }
        let columns = 48..<96
        let all = [
            cut(scene.whole[0], 20..<40, 0..<64), cut(scene.whole[1], 0..<32, columns), scene.whole[2],
            scene.whole[3], cut(scene.moment, 0..<32, columns),
            Stored(name: "epoch_num", dtype: .i64, shape: [], bytes: number(1, 8)),
            Stored(name: "step_num", dtype: .i64, shape: [], bytes: number(1, 8)),
            Stored(name: "global_step", dtype: .i32, shape: [1], bytes: number(1, 4)),
        ]
        #expect(
            files["rank_1/llama_rank_1-1_1.safetensors"]
                == scene.canonical(all, metadata: [("format", "ms"), ("remove_redundancy", "False")]))
        let strategy = try ParallelStrategy(parsing: files["strategy/ckpt_strategy_rank_0.ckpt"]!)
        // What has no axes, and what the training counts, is not spread.
        #expect(
            strategy.parameters.map(\.name) == [
                "model.embed", "model.up", "model.step", "exp_avg.model.up",
            ])
        let up = try #require(strategy.parameters.first { $0.name == "model.up" }).layout
        #expect(up.deviceMatrix == [1, 2] && up.tensorMap == [[-1], [0]] && up.splitShape == [32, 48])
        let unified = try scene.export(try options(layout: "mindformers1", isUnified: true)).files
        #expect(unified.keys.sorted() == ["rank_0/CKP_rank_0-1_1.safetensors", "rank_0/meta.json"])
    }

    @Test func theOlderLayoutHasEachSliceOnceWithoutRedundancy() throws {
        let (files, _) = try scene.export(
            try options("dp=2,tp=2", layout: "mindformers1", rules: rules, removesRedundancy: true))
        func names(_ rank: Int) throws -> [String] {
            let bytes = try #require(files["rank_\(rank)/CKP_rank_\(rank)-1_1.safetensors"])
            let header = try SafetensorsHeader(parsing: bytes, fileSize: UInt64(bytes.count))
            #expect(
                header.metadata?.last?.key == "remove_redundancy" && header.metadata?.last?.value == "True")
            return header.tensors.map(\.name).sorted()
        }
        // The rows of the embedding are each rank's own. Ranks 0 and 2 share columns, ranks 1 and 3 do, and all have the step.
        let everywhere = ["epoch_num", "global_step", "model.embed", "model.scale", "step_num"]
        #expect(try names(0) == (everywhere + ["exp_avg.model.up", "model.step"]).sorted())
        #expect(try names(1) == (everywhere + ["exp_avg.model.up"]).sorted())
        #expect(try names(2) == (everywhere + ["model.up"]).sorted())
        #expect(try names(3) == (everywhere + ["model.up"]).sorted())
        // Axes that cut together are one, so that MindSpore can tell replicas.
        let strategy = try ParallelStrategy(parsing: files["strategy/ckpt_strategy_rank_3.ckpt"]!)
        let embed = try #require(strategy.parameters.first { $0.name == "model.embed" }).layout
        #expect(embed.deviceMatrix == [4] && embed.tensorMap == [[0], [-1]] && embed.splitShape == [10, 64])
        let up = try #require(strategy.parameters.first { $0.name == "model.up" }).layout
        #expect(up.deviceMatrix == [2, 2] && up.tensorMap == [[-1], [0]])

        let apart =
            #"{"rules": [{"match": "model.embed", "cuts": [["tp", "dp"]]}, {"match": ".*", "cuts": []}]}"#
        let error = #expect(throws: CairnError.self) {
            try scene.export(
                try options("dp=2,tp=2", layout: "mindformers1", rules: apart, removesRedundancy: true))
        }
        #expect(error?.code == .usage && error?.message.contains("model.embed is cut by axes") == true)
        #expect(
            try scene.export(try options("dp=2,tp=2", layout: "mindformers1", rules: apart)).files.count == 12
        )
        // With one rank, there is nothing to be removed.
        let single = try scene.export(
            try options(layout: "mindformers1", removesRedundancy: true, isUnified: true)
        ).files
        #expect(try single == scene.export(try options(layout: "mindformers1", isUnified: true)).files)
    }

    @Test func whatTheOlderLayoutHoldsOnceIsPutTogether() throws {
        let (files, _) = try scene.export(
            try options("dp=2,tp=2", layout: "mindformers1", rules: rules, removesRedundancy: true))
        let place = try bench.write(
            "older",
            Dictionary(
                uniqueKeysWithValues: files.map {
                    ($0.key.hasPrefix("strategy/") ? $0.key : "checkpoint/" + $0.key, $0.value)
                }))
        try bench.store.saveAll(place, options: .init(run: "older"), progress: .silent)
        let again = bench.path("again")
        try bench.store.export("older@1", to: again, options: ExportOptions(layout: "safetensors"))
        let bytes = [UInt8](try Data(contentsOf: URL(fileURLWithPath: again + "/model.safetensors")))
        #expect(bytes == scene.canonical(scene.whole))
    }

    @Test(arguments: [("llama", "llama"), ("llama-concat", "llama"), ("qwen3", "qwen3")])
    func theCommittedRulesCutTheModelsThatTheyAreFor(model: String, rules: String) throws {
        let metadata = try cut(model, "mindspore-" + rules, mesh: "dp=2,tp=4")
        // All matrices are cut, and no vector is.
        #expect(metadata.tensors.allSatisfy { ($0.layout?.sliceCount ?? 0) == ($0.shape.count > 1 ? 4 : 1) })
    }

    @Test func theCommittedRulesCutExpertsApart() throws {
        let metadata = try cut("qwen3-moe", "mindspore-qwen3", mesh: "dp=1,tp=2,ep=4")
        for tensor in metadata.tensors {
            let count =
                tensor.name.contains("experts.weight") ? 4 : tensor.name.contains("linear_") ? 2 : nil
            #expect(count == nil || tensor.layout?.sliceCount == count, "\(tensor.name)")
        }
        #expect(metadata.tensors.filter { $0.layout?.sliceCount == 4 }.count == 4)
    }

    /// A model that MindSpore Transformers made of one of Hugging Face, cut by committed rules.
    private func cut(_ model: String, _ rules: String, mesh: String) throws -> MindFormersMetadata {
        let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().appendingPathComponent(
            "../../..")
        let fixture = [UInt8](
            try Data(
                contentsOf: root.appendingPathComponent(
                    "Tests/Fixtures/rename/mindspore-\(model).safetensors")))
        try bench.store.save(
            try bench.write("checkpoint-5", ["model.safetensors": fixture]),
            options: SaveOptions(run: "f", step: 5))
        let place = bench.path("mf-" + model)
        try bench.store.export(
            "f@5", to: place,
            options: ExportOptions(
                layout: "mindformers", only: "^(?!expected)", mesh: mesh,
                maps: root.appendingPathComponent("Docs/tensor-maps/\(rules).json").path))
        let json = [UInt8](
            try Data(contentsOf: URL(fileURLWithPath: place + "/iteration_00000005/metadata.json")))
        let metadata = try MindFormersMetadata(parsing: json)
        #expect(metadata.tensors.count > 10)
        return metadata
    }

    @Test(
        arguments: [
            ("dp=2,tp=3", "Axis 0 of the tensor \"model.embed\" has length 40"), ("tp=5", "model.up"),
            ("tp", "dp=2,tp=4"),
            ("tp=0", "tp"), ("dp=2,dp=2", "dp"), ("tp=99999999", "tp"),
        ])
    func aMeshThatDoesNotFitIsWrongUsage(mesh: String, part: String) throws {
        for layout in ["mindformers", "mindformers1"] {
            let error = #expect(throws: CairnError.self) {
                try scene.export(try options(mesh, layout: layout, rules: rules))
            }
            #expect(error?.code == .usage, "\(error?.message ?? "")")
            #expect(
                error?.message.lowercased().contains(part.lowercased()) == true, "\(error?.message ?? "")")
        }
    }

    @Test(
        arguments: [
            ("[", "not JSON"), ("[]", "an object is wanted"), ("{}", "\"rules\""),
            (#"{"rules": [1]}"#, "rule 1"),
            (#"{"rules": [], "more": 1}"#, "\"more\" is not known"),
            (#"{"rules": [{"match": "(", "cuts": []}]}"#, "not a regular expression"),
            (#"{"rules": [{"match": ".*", "cuts": "tp"}]}"#, "\"cuts\""),
            (#"{"rules": [{"match": ".*", "cuts": [1]}]}"#, "\"cuts\""),
            (#"{"rules": [{"match": ".*", "cuts": [[null]]}]}"#, "\"cuts\""),
            (#"{"rules": [{"match": ".*", "cut": []}]}"#, "\"cut\" is not known"),
            (#"{"rules": [{"match": "model", "cuts": []}]}"#, "how the tensor model.embed is cut"),
            (#"{"rules": [{"match": ".*", "cuts": ["dp", null, null]}]}"#, "model.embed"),
            (#"{"rules": [{"match": ".*", "cuts": ["dp", "dp"]}]}"#, "twice"),
        ])
    func rulesThatDoNotFitAreWrongUsage(rules: String, part: String) throws {
        let error = #expect(throws: CairnError.self) { try scene.export(try options("dp=2", rules: rules)) }
        #expect(
            error?.code == .usage && error?.message.contains(part) == true,
            "\(error?.message ?? "") for \(rules)")
    }

    @Test func optionsThatContradictEachOtherAreWrongUsage() throws {
        var both = try options("dp=2", rules: rules)
        both.mapsOf = "r@1"
        let contradictions = [
            (both, "--maps-of and --maps"), (try options("dp=2", isUnified: true), "--unified"),
            (try options(rules: rules), "--mesh"), (try options("dp=2"), "how its tensors are cut"),
            (try options(prefix: "a/b"), "--prefix"), (try options(prefix: ""), "--prefix"),
            (try options(prefix: ".."), "--prefix"),
        ]
        for (options, part) in contradictions {
            let error = #expect(throws: CairnError.self) { try scene.export(options) }
            #expect(error?.code == .usage && error?.message.contains(part) == true, "\(error?.message ?? "")")
        }
    }

    @Test func onlyWhatMindSporeHasTypesForIsWritten() throws {
        let odd = Stored(name: "the.odd", dtype: .f8E8M0, shape: [2], bytes: [1, 2])
        let bench = try GatherBench(["model.safetensors": [odd]])
        for layout in ["mindformers", "mindformers1"] {
            let error = #expect(throws: CairnError.self) {
                try bench.bench.store.export(
                    "r@1", to: bench.bench.path("e"), options: ExportOptions(layout: layout))
            }
            #expect(
                error?.code == .usage && error?.message.contains("the.odd") == true, "\(error?.message ?? "")"
            )
        }
    }

    @Test(
        arguments: [(7, "iteration_00000007"), (123_456_789_012, "iteration_123456789012")]
            as [(UInt64, String)])
    func theFolderHasEightDigitsOrMore(step: UInt64, folder: String) throws {
        try bench.store.save(
            try bench.write("model", ["model.safetensors": GatherBench.safetensors(scene.whole)]),
            options: SaveOptions(run: "s", step: step))
        let place = bench.path("mf")
        try bench.store.export("s@\(step)", to: place, options: ExportOptions(layout: "mindformers"))
        let pointer = try String(
            contentsOfFile: place + "/latest_checkpointed_iteration.txt", encoding: .utf8)
        #expect(pointer == String(step))
        let names = try FileManager.default.contentsOfDirectory(atPath: place)
        #expect(Set(names) == [folder, "latest_checkpointed_iteration.txt"])
    }

    @Test func whatIsWrittenMayBeReadAndDeleted() throws {
        let place = bench.path("mf")
        try bench.store.save(
            try bench.write("checkpoint-3", ["model.safetensors": GatherBench.safetensors(scene.whole)]),
            options: SaveOptions(run: "hf", step: 3))
        try bench.store.export("hf@3", to: place, options: ExportOptions(layout: "mindformers"))
        for (file, mode) in [("iteration_00000003", 0o755), ("iteration_00000003/common.json", 0o644)] {
            let attributes = try FileManager.default.attributesOfItem(atPath: place + "/" + file)
            #expect(attributes[.posixPermissions] as? Int == mode, "\(file)")
        }
    }
}
