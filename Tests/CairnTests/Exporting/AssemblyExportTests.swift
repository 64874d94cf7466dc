import Foundation
import Platform
import TensorFormats
import Testing

@testable import Cairn

/// The Hugging Face export of a model that is put together.
@Suite struct AssemblyExportTests {
    typealias Stored = GatherBench.Stored

    let scene: ExportScene
    private var bench: GatherBench { scene.bench }
    private var assembly: Assembly { scene.assembly }
    private var whole: [Stored] { scene.whole }

    init() throws { scene = try ExportScene() }

    @discardableResult
    private func export(
        _ assembly: Assembly, maxShardSize: UInt64? = nil, only: String? = nil, all: Bool = false,
        rename: String? = nil, config: String? = nil
    ) throws -> (files: [String: [UInt8]], warnings: [String]) {
        try scene.export(
            ExportOptions(
                layout: "hf", maxShardSize: maxShardSize, only: only, all: all, rename: rename, config: config
            ),
            of: assembly)
    }

    private func canonical(_ tensors: [Stored]) -> [UInt8] { scene.canonical(tensors) }

    @Test func theModelIsOneFileWithWhatDescribesItBeside() throws {
        let (files, warnings) = try export(assembly)
        #expect(files == ["model.safetensors": canonical(whole), "config.json": [UInt8]("{\"n\": 2}".utf8)])
        #expect(warnings.isEmpty)
    }

    @Test func shardsAreCutInTheOrderOfTheLayout() throws {
        let (files, _) = try export(assembly, maxShardSize: 13_000)
        #expect(
            files.keys.sorted() == [
                "config.json", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors",
                "model.safetensors.index.json",
            ])
        #expect(files["model-00001-of-00002.safetensors"] == canonical([whole[0]]))
        #expect(files["model-00002-of-00002.safetensors"] == canonical(Array(whole[1...])))
        let index = try JSON(parsing: files["model.safetensors.index.json"]!)
        #expect(index["weight_map"]?["model.step"]?.stringValue == "model-00002-of-00002.safetensors")
        #expect(index["metadata"]?["total_size"]?.int == 5120 + 12288 + 12)
        #expect(index["metadata"]?["total_parameters"]?.int == 2560 + 3072 + 2)
    }

    @Test func theOptimizerHasAFileOfItsOwn() throws {
        let (files, warnings) = try export(assembly, all: true)
        let map = try SafetensorsHeader(
            parsing: files["optimizer.safetensors"]!, fileSize: UInt64(files["optimizer.safetensors"]!.count))
        #expect(map.tensors.map(\.name) == ["exp_avg.model.up"] && map.tensors[0].shape == [32, 96])
        #expect(files["model.safetensors"] == canonical(whole) && warnings.isEmpty)
        // Files that are nobody's to load stay behind, and it is said where there is nothing to be put together.
        #expect(files.keys.sorted() == ["config.json", "model.safetensors", "optimizer.safetensors"])
        var without = assembly
        without.optimizer = []
        let (fewer, said) = try export(without, all: true)
        #expect(fewer.keys.sorted() == ["config.json", "model.safetensors"])
        #expect(
            said == [
                "the optimizer's state is left out: made-up does not keep it by the names of the parameters"
            ])
    }

    @Test func onlyPicksTensors() throws {
        let (files, _) = try export(assembly, only: "up|scale")
        #expect(files["model.safetensors"] == canonical([whole[1], whole[2]]))
        for pattern in ["nothing", "("] {
            #expect(bench.bench.code { try export(assembly, only: pattern) } == .usage)
        }
    }

    @Test func namesAreChangedAndTheConfigurationIsRead() throws {
        let map = try bench.bench.write(
            "maps",
            [
                "map.json": [UInt8](
                    #"""
                    {"parameters": {"n": {"config": "n"}}, "rules": [
                        {"match": "model.up", "split": {"sizes": ["n", "*"]}, "to": ["first", "rest"]},
                        {"match": "model.embed", "to": "embed"}, {"match": ".*", "drop": true}]}
                    """#.utf8),
                "other.json": [UInt8]("{\"n\": 30, \"x\": NaN}".utf8), "text.json": [UInt8]("n: 2".utf8),
            ])
        let up = whole[1].bytes
        func expected(_ n: Int) -> [UInt8] {
            canonical([
                Stored(name: "embed", dtype: .bf16, shape: [40, 64], bytes: whole[0].bytes),
                Stored(name: "first", dtype: .f32, shape: [UInt64(n), 96], bytes: Array(up[..<(n * 384)])),
                Stored(
                    name: "rest", dtype: .f32, shape: [UInt64(32 - n), 96], bytes: Array(up[(n * 384)...])),
            ])
        }
        let (files, _) = try export(assembly, rename: map + "/map.json")
        #expect(files["model.safetensors"] == expected(2))
        // One that is given is read, and goes along.
        let (others, _) = try export(assembly, rename: map + "/map.json", config: map + "/other.json")
        #expect(others["model.safetensors"] == expected(30))
        #expect(others["config.json"] == [UInt8]("{\"n\": 30, \"x\": NaN}".utf8))
        #expect(bench.bench.code { try export(assembly, config: map + "/text.json") } == .usage)
        #expect(bench.bench.code { try export(assembly, rename: map + "/none.json") } == .notFound)
        var without = assembly
        without.files = []
        #expect(bench.bench.code { try export(without, rename: map + "/map.json") } == .usage)
    }

    @Test func anAdapterIsNeverCut() throws {
        var adapter = assembly
        adapter.fileName = "adapter_model"
        let (files, _) = try export(adapter, maxShardSize: 10)
        #expect(files.keys.sorted() == ["adapter_model.safetensors", "config.json"])
    }

    @Test func whatIsTiedIsWrittenOnce() throws {
        var tied = assembly
        tied.tensors.append(assembly.tensors[0])
        tied.tensors[4].name = "lm_head"
        let (files, warnings) = try export(tied)
        #expect(files["model.safetensors"] == canonical(whole))
        #expect(warnings == ["lm_head is left out: it is tied to model.embed"])
    }

    @Test func whatContradictsItselfIsNotExported() throws {
        var twice = assembly
        twice.tensors[2].name = "model.step"
        var lost = assembly
        lost.files.append(("huggingface/tokenizer.json", "tokenizer.json"))
        var hole = assembly
        hole.tensors[1].pieces.removeLast()
        var moments = assembly
        moments.optimizer[0].shape = [33, 96]
        for (assembly, part) in [
            (twice, "called model.step"), (lost, "huggingface/tokenizer.json is missing"),
            (hole, "model.up can't be put together: no file holds its elements [0:32, 48:96]"),
            (moments, "exp_avg.model.up can't be put together"),
        ] {
            #expect {
                try export(assembly, all: true)
            } throws: { error in
                (error as? CairnError)?.code == .inconsistent && "\(error)".contains(part)
            }
        }
        var none = assembly
        none.tensors = []
        #expect(bench.bench.code { try export(none) } == .usage)
    }

    @Test func damageIsToldByTheTensorsThatAreMadeOfIt() throws {
        // Somewhere in the first rank's half of the columns.
        let needle = Array(whole[1].bytes[..<40])
        let packs = bench.bench.path("store/packs")
        for name in try FileManager.default.contentsOfDirectory(atPath: packs) {
            let bytes = [UInt8](try Data(contentsOf: URL(fileURLWithPath: packs + "/" + name)))
            guard let place = bytes.firstRange(of: needle) else { continue }
            try bench.bench.flip(packs + "/" + name, place.lowerBound + 3)
        }
        let error = #expect(throws: CairnError.self) { try export(assembly) }
        #expect(error?.code == .damage)
        #expect(
            error?.message.hasPrefix("r@1 is damaged: tensors model.up in rank0.safetensors (") == true,
            "\(error?.message ?? "")")
        let left = try FileManager.default.contentsOfDirectory(atPath: bench.bench.folder)
        #expect(left.sorted() == ["checkpoint-1", "store"])
        #expect(throws: Never.self) { try export(assembly, only: "embed") }
    }
}
