import Foundation
import Platform
import TensorFormats
import Testing

@testable import Cairn

/// The table of `cairn layouts`, and which layout wins where several could be meant.
@Suite struct LayoutTableTests {
    /// As issue and documentation have it: split, resume, export to, out to Hugging Face.
    private static let rows: [String: (Bool, Bool, String?, Bool)] = [
        "cairn": (true, false, nil, true),
        "mindformers": (true, true, "mindformers", true), "mindformers1": (true, true, "mindformers1", true),
        "llamafactory": (true, true, "hf", true), "lightning": (true, true, "torch", true),
        "dcp": (true, true, "dcp", true),
        "accelerate": (true, true, "torch", true), "hf": (true, true, "hf", true),
        "torch": (true, true, "torch", true),
        "gguf": (true, false, nil, false), "npz": (true, false, nil, false),
        "tensorflow": (false, true, nil, false),
        "orbax": (false, true, nil, false), "megatron": (true, true, nil, true),
        "deepspeed": (true, true, nil, true), "verl": (true, true, nil, true),
    ]

    @Test func `the table is what it should be`() {
        for layout in Checkpoints.layouts {
            guard let row = Self.rows[layout.name] else { continue }
            let abilities = layout.abilities
            #expect(abilities.splits == row.0 && abilities.resumes == row.1, "\(layout.name)")
            #expect(abilities.exportsTo == row.2 && abilities.exportsToHuggingFace == row.3, "\(layout.name)")
        }
        #expect(Set(Self.rows.keys).isSubset(of: Checkpoints.layouts.map(\.name)))
    }

    /// Trees that a training goes on from.
    private static let resumable = LibraryTreeTests.Tree.families.filter {
        $0.layout != "gguf" && $0.path != "place"
    }

    @Test(arguments: resumable)
    func `what is saved is restored byte for byte, and a training goes on from it elsewhere`(
        _ tree: LibraryTreeTests.Tree
    ) throws {
        let bench = try Workbench(chunkSize: 4096)
        let output = try tree.samples.output(tree.path)
        let whole = try output.iterations().filter { $0.inspection.isComplete && $0.step != nil }
        let newest = try #require(whole.last)
        let results = try bench.store.saveAll(tree.samples.path(tree.path), options: SaveAllOptions(run: "r"))
        for result in results {
            if case .failed(let error) = result.outcome { Issue.record(error) }
        }
        let again = try bench.store.saveAll(tree.samples.path(tree.path), options: SaveAllOptions(run: "r"))
        #expect(again.allSatisfy { if case .saved = $0.outcome { false } else { true } })
        let result = try bench.store.resume(bench.path("fresh"), options: ResumeOptions(run: "r"))
        #expect(result.step == newest.step)
        let fresh = try OutputFolder(Path(bench.path("fresh")))
        let found = try #require(try fresh.iterations().last)
        #expect(found.inspection.isComplete && found.step == newest.step && found.layout?.name == tree.layout)
        #expect(found.candidate.path == newest.candidate.path)
        let (old, new) = (try output.view(of: newest.candidate), try fresh.view(of: found.candidate))
        let files =
            newest.candidate.files.map { paths in old.files.filter { paths.contains($0.path) } } ?? old.files
        for file in files {
            let copy = try #require(new[file.path], "\(file.path)")
            #expect(try old.read(file, 0..<file.size) == new.read(copy, 0..<copy.size), "\(file.path)")
        }
    }

    @Test func `tensors of files that no training goes on from are known by name as well`() throws {
        let bench = try Workbench(chunkSize: 4096)
        let arrays = GoldenStore.project + "/Tests/TensorFormatsTests/Fixtures/numpy/same.npz"
        for (step, path) in [LayoutSamples.library("gguf").path("single"), arrays].enumerated() {
            try bench.store.save(path, options: SaveOptions(run: "r\(step)", step: 1))
            let info = try #require(try bench.store.iteration(run: "r\(step)", step: 1))
            let view = try bench.store.view(of: info)
            #expect(try view.tensors(in: view.files[0].path)?.tensors.isEmpty == false)
        }
    }

    /// The committed samples, and the layout that each folder or file is of.
    @Test(arguments: [
        ("hf-save_pretrained/sharded_100KB_tied", "hf"), ("hf-trainer/basic/checkpoint-2", "hf"),
        ("hf-trainer/lora/checkpoint-1", "hf"),
        ("dcp/w2/fsdp2_w2/step-1", "dcp"), ("dcp/w2/fsdp2_w2_threads2", "dcp"),
        ("dcp/w2/fsdp2_w2_filepertensor", "dcp"),
        ("dcp/w2/hf_sharded_w2", "dcp"), ("dcp/w2/hf_sharded_w2_map", "dcp"),
        ("dcp/w2/hf_consolidated_w2", "dcp"),
        ("mindformers2/single/checkpoint/iteration_00000003", "mindformers"),
        ("mindformers2/dp2tp2/checkpoint/iteration_00000002", "mindformers"), ("pytorch/ckpt_3.pth", "torch"),
        ("pytorch/legacy_model.pt", "torch"), ("lightning/run/checkpoints/last.ckpt", "lightning"),
        ("gguf/tiny.gguf", "gguf"), ("deepspeed/zero1_fp32/global_step1", "deepspeed"),
        ("megatron/legacy_torch_tp2/iter_0000020", "megatron"),
        ("megatron/torch_dist/iter_0000010", "megatron"),
        ("verl/fsdp/global_step_2", "verl"),
    ])
    func `samples are of the layout that wrote them`(_ path: String, _ layout: String) throws {
        let view = try LayoutSamples.checkpoints.view(path)
        let found = try #require(try Layouts.layout(of: view))
        #expect(found.name == layout)
        #expect(try found.inspect(view).isComplete)
    }

    @Test func `an output folder full of other things has no iterations`() throws {
        let bench = try Workbench()
        let folder = try bench.write(
            "out",
            [
                "README.md": [1], "train.log": [1], "runs/events.out.tfevents.1": [1],
                "wandb/run-5/files/config.yaml": [1],
                "config.json": Array("{}".utf8), "trainer_log.jsonl": [1], "vocab.txt": [1],
                "tokenizer.json": Array("{}".utf8),
                "data_0001.bin": [1, 2], "version_3/hparams.yaml": [1], "rank_0/log.txt": [1],
                "rank_1/log.txt": [1],
                "strategy/notes.txt": [1], "5/notes.txt": [1], "checkpoint_9/notes.txt": [1],
                "step_7/notes.txt": [1],
                "checkpoints/notes.txt": [1], "checkpoint": Array("text".utf8), "x.index": Array("text".utf8),
                "model.bin": [0],
                "best.ckpt": Array("text".utf8), "step_3.npz": Array("text".utf8),
                "step_4.gguf": Array("text".utf8),
            ])
        #expect(try OutputFolder(Path(folder)).iterations().map(\.candidate.name) == [])
        for layout in Layouts.all {
            #expect(try layout.pointed(in: OutputFolder(Path(folder))) == nil, "\(layout.name)")
        }
    }

    /// Whatever stands in the small files of any layout, nothing crashes.
    @Test(arguments: LibraryTreeTests.Tree.families)
    func `damaged files crash nothing`(_ tree: LibraryTreeTests.Tree) throws {
        let seed = UInt64.random(in: 0..<1_000_000)
        var generator = SeededGenerator(seed: seed)
        let one = try #require(try tree.found().first { $0.found.inspection.isComplete })
        let layout = try #require(one.found.layout)
        let end = ContinuousClock.now + .milliseconds(150)
        var tried = 0
        while ContinuousClock.now < end {
            let file = one.view.files.randomElement(using: &generator)!
            var bytes = try one.view.read(file, 0..<file.size)
            for _ in 0..<Int.random(in: 1...4, using: &generator) where !bytes.isEmpty {
                let place = Int.random(in: 0..<min(bytes.count, 4000), using: &generator)
                switch Int.random(in: 0..<4, using: &generator) {
                case 0: bytes[place] = UInt8.random(in: 0...255, using: &generator)
                case 1: bytes[place...] = []
                case 2: bytes.insert(contentsOf: Array("99999999999999999999".utf8), at: place)
                default: bytes[place] = UInt8(ascii: "9")
                }
            }
            let view = one.view.changed([file.path: bytes])
            _ = try? Layouts.layout(of: view)
            _ = try? layout.inspect(view)
            _ = try? layout.assembly(of: view)
            tried += 1
        }
        print("damaged: seed \(seed), \(tried) of \(tree.testDescription)")
    }
}
