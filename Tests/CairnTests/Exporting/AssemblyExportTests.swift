import Foundation
import Platform
import TensorFormats
import Testing

@testable import Cairn

/// The Hugging Face export of a model that is put together, from a layout that is made up.
@Suite struct AssemblyExportTests {
    typealias Stored = GatherBench.Stored

    private struct MadeUp: Layout {
        var name: String { "made-up" }
        var abilities: LayoutAbilities {
            LayoutAbilities(
                title: "", splits: true, resumes: false, exportsTo: nil, exportsToHuggingFace: true)
        }
        func candidates(in output: OutputFolder) -> [Candidate] { [] }
        func recognises(_ view: CheckpointView) -> Bool { true }
        func inspect(_ view: CheckpointView) -> Inspection { Inspection() }
        func pointers(to iteration: Candidate) -> [Pointer] { [] }
    }

    let bench: GatherBench
    var assembly = Assembly()
    /// The model as it is whole.
    let whole: [Stored]

    init() throws {
        var random = SeededGenerator(seed: 1)
        whole = [
            Stored(name: "model.embed", dtype: .bf16, shape: [40, 64], bytes: random.bytes(5120)),
            Stored(name: "model.up", dtype: .f32, shape: [32, 96], bytes: random.bytes(12288)),
            Stored(name: "model.scale", dtype: .f32, shape: [], bytes: random.bytes(4)),
            Stored(name: "model.step", dtype: .i64, shape: [1], bytes: random.bytes(8)),
        ]
        let (embed, up) = (whole[0].bytes, whole[1].bytes)
        // The embedding by rows, the other by columns.
        var columns: [[UInt8]] = [[], []]
        for row in 0..<32 {
            for rank in 0..<2 { columns[rank] += up[row * 384 + rank * 192..<row * 384 + rank * 192 + 192] }
        }
        let moments = random.bytes(12288)
        bench = try GatherBench(
            [
                "rank0.safetensors": [
                    Stored(name: "embed", dtype: .bf16, shape: [20, 64], bytes: Array(embed[..<2560])),
                    Stored(name: "up", dtype: .f32, shape: [32, 48], bytes: columns[0]), whole[2], whole[3],
                    Stored(name: "m", dtype: .f32, shape: [3072], bytes: moments),
                ],
                "rank1.safetensors": [
                    Stored(name: "embed", dtype: .bf16, shape: [20, 64], bytes: Array(embed[2560...])),
                    Stored(name: "up", dtype: .f32, shape: [32, 48], bytes: columns[1]),
                ],
            ], others: ["huggingface/config.json": [UInt8]("{\"n\": 2}".utf8), "rng.pt": [1]])
        assembly.tensors = [
            .init(
                name: "model.embed", dtype: "BF16", shape: [40, 64],
                pieces: [0, 1].map { .box("rank\($0).safetensors", "embed", at: [20 * $0, 0], [20, 64]) }),
            .init(
                name: "model.up", dtype: "F32", shape: [32, 96],
                pieces: [0, 1].map { .box("rank\($0).safetensors", "up", at: [0, 48 * $0], [32, 48]) }),
            .init(whole: "model.scale", dtype: "F32", shape: [], file: "rank0.safetensors"),
            .init(whole: "model.step", dtype: "I64", shape: [1], file: "rank0.safetensors"),
        ]
        assembly.optimizer = [
            .init(
                name: "exp_avg.model.up", dtype: "F32", shape: [32, 96],
                pieces: [.run("rank0.safetensors", "m", 0..<3072)])
        ]
        assembly.files = [("huggingface/config.json", "config.json")]
    }

    /// The files of an export, by their names.
    @discardableResult
    private func export(
        _ assembly: Assembly, maxShardSize: UInt64? = nil, only: String? = nil, all: Bool = false,
        rename: String? = nil, config: String? = nil
    ) throws -> (files: [String: [UInt8]], warnings: [String]) {
        let options = ExportOptions(
            layout: "hf", maxShardSize: maxShardSize, only: only, all: all, rename: rename, config: config)
        let store = bench.bench.store
        let plan = try AssemblyExport(
            assembly, of: MadeUp(), bench.manifest, bench.info, options, store.chunks
        ).plan
        let place = bench.bench.path("e-" + UUID().uuidString)
        let result = try store.write(
            plan, bench.info, bench.manifest, Path(place), force: false, .silent)
        var files: [String: [UInt8]] = [:]
        for name in try FileManager.default.subpathsOfDirectory(atPath: place) {
            files[name] = [UInt8](try Data(contentsOf: URL(fileURLWithPath: place + "/" + name)))
        }
        #expect(result.files == files.count && result.bytes == UInt64(files.values.joined().count))
        return (files, result.warnings)
    }

    private func canonical(_ tensors: [Stored]) -> [UInt8] {
        let (header, order) = SafetensorsHeader.canonicalHeader(
            tensors: tensors.map { ($0.name, $0.dtype, $0.shape, UInt64($0.bytes.count)) },
            metadata: [("format", "pt")])
        return header + order.flatMap { tensors[$0].bytes }
    }

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
