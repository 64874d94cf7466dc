import Cairn
import Foundation
import Testing

/// Real checkpoints, written by the real libraries, come back with every byte, mode, time and link.
@Suite struct SampleTests {
    static let archive = GoldenStore.project + "/Tests/Fixtures/checkpoints.tar.gz"
    let bench: Workbench

    init() throws {
        bench = try Workbench(chunkSize: 262_144)
        try #require(run("mkdir s && tar -xpzf '\(Self.archive)' -C s") == 0)
    }

    /// Runs a script in the bench's folder; returns its exit status.
    private func run(_ script: String) throws -> Int32 {
        let process = Foundation.Process()
        process.executableURL = URL(fileURLWithPath: "/bin/bash")
        process.arguments = ["-c", script]
        process.currentDirectoryURL = URL(fileURLWithPath: bench.folder)
        try process.run()
        process.waitUntilExit()
        return process.terminationStatus
    }

    /// Every folder of the samples, those of whole frameworks among them.
    private func folders() throws -> [String] {
        let top = bench.path("s")
        return try FileManager.default.subpathsOfDirectory(atPath: top).filter { path in
            var isFolder: ObjCBool = false
            _ = FileManager.default.fileExists(atPath: top + "/" + path, isDirectory: &isFolder)
            return isFolder.boolValue
        }.sorted()
    }

    @Test func theSamplesAreUnpackedWithTheirModesAndTimes() throws {
        let file = "s/mindformers1/output/checkpoint/rank_0/qwen3_8b_rank_0-1_3.safetensors"
        #expect(try run("[ \"$(stat -c '%a %Y' \(file))\" = '400 1795217078' ]") == 0)
        #expect(try folders().count == 65)
    }

    @Test func everyTreeComesBackAsItWas() throws {
        let folders = try folders()
        // What the archive lacks: times below a second (another one each), links, an empty folder.
        #expect(
            try run(
                """
                cd s && mkdir -m 700 hf-trainer/basic/checkpoint-2/empty verl/empty
                ln -s global_step_2 verl/fsdp/newest && ln -s missing gguf/dangling
                ln -s step-1/__0_0.distcp dcp/w2/fsdp2_w2/first
                n=123456789
                find . -mindepth 1 | sort | while read -r path; do
                    touch -h -d "@$(stat -c %Y "$path").$((n += 7919))" "$path"
                done
                """) == 0)
        for (number, folder) in folders.enumerated() {
            let options = SaveOptions(run: "samples", step: UInt64(number))
            try bench.store.save(bench.path("s/" + folder), options: options)
            try bench.store.restore("samples@\(number)", to: bench.path("r"))
            let list = "find . -printf '%p %y %m %T@ %l\\n' | sort"
            let script =
                "diff -r --no-dereference 's/\(folder)' r && diff <(cd 's/\(folder)'; \(list)) <(cd r; \(list)) && rm -rf r"
            #expect(try run(script) == 0, "\(folder)")
        }
    }

    @Test func mindSporesTwoFormatsHoldTheSameTensors() throws {
        let first = try bench.store.save(
            bench.path("s/mindspore/plain.safetensors"), options: SaveOptions(step: 1))
        let second = try bench.store.save(bench.path("s/mindspore/plain.ckpt"), options: SaveOptions(step: 2))
        #expect(second.tensors == first.tensors && first.tensors > 3 && second.newBytes * 10 < first.newBytes)
        let diff = try bench.store.diff("1", "2")
        #expect(diff.unchanged == first.tensors && diff.changed.isEmpty && diff.added.isEmpty)
    }

    @Test func theTensorsOfAGGUFFileAreFound() throws {
        try bench.store.save(bench.path("s/gguf"), options: SaveOptions(step: 1))
        let tensors = try bench.store.show("1").tensors
        #expect(
            tensors.map(\.name) == ["token_embd.weight", "blk.0.ffn_up.weight", "blk.0.ffn_norm.weight", "q"])
        #expect(tensors.map(\.dtype) == ["F32", "F16", "F32", "Q8_0"])
        #expect(tensors.map(\.shape) == [[48, 32], [7, 32], [33], [4, 64]])
    }

    @Test func theShardedExportIsWhatSavePretrainedWrote() throws {
        let source = bench.path("s/hf-save_pretrained/sharded_100KB_tied")
        try bench.store.save(source, options: SaveOptions(step: 1))
        try bench.store.export(
            "1", to: bench.path("e"), options: ExportOptions(layout: "hf", maxShardSize: 100_000))
        let names = try FileManager.default.contentsOfDirectory(atPath: source).sorted()
        #expect(try FileManager.default.contentsOfDirectory(atPath: bench.path("e")).sorted() == names)
        for name in names {
            let written = try Data(contentsOf: URL(fileURLWithPath: bench.path("e/" + name)))
            #expect(try written == Data(contentsOf: URL(fileURLWithPath: source + "/" + name)), "\(name)")
        }
    }
}
