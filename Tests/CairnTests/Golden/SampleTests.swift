import Cairn
import Foundation
import Testing

/// Real checkpoints, written by the real libraries, come back with every byte, mode, time and link.
@Suite struct SampleTests {
    static let archive = GoldenStoreTests.project + "/Tests/Fixtures/checkpoints.tar.gz"

    @Test func everyTreeComesBackAsItWas() throws {
        let bench = try Workbench(chunkSize: 262_144)
        func run(_ script: String) throws -> Int32 {
            let process = Foundation.Process()
            process.executableURL = URL(fileURLWithPath: "/bin/bash")
            process.arguments = ["-c", script]
            process.currentDirectoryURL = URL(fileURLWithPath: bench.folder)
            try process.run()
            process.waitUntilExit()
            return process.terminationStatus
        }
        #expect(try run("mkdir s && tar -xpzf '\(Self.archive)' -C s") == 0)
        let top = bench.path("s")
        let folders = try FileManager.default.subpathsOfDirectory(atPath: top).filter { path in
            var isFolder: ObjCBool = false
            _ = FileManager.default.fileExists(atPath: top + "/" + path, isDirectory: &isFolder)
            return isFolder.boolValue
        }.sorted()
        #expect(folders.count > 5)
        for (number, folder) in folders.enumerated() {
            let options = SaveOptions(run: "samples", step: UInt64(number))
            try bench.store.save(top + "/" + folder, options: options)
            try bench.store.restore("samples@\(number)", to: bench.path("r"))
            let list = "find . -printf '%p %y %m %T@ %l\\n' | sort"
            let script =
                "diff -r --no-dereference 's/\(folder)' r && diff <(cd 's/\(folder)'; \(list)) <(cd r; \(list)) && rm -rf r"
            #expect(try run(script) == 0, "\(folder)")
        }
    }

    @Test func theShardedExportIsWhatSavePretrainedWrote() throws {
        let bench = try Workbench(chunkSize: 262_144)
        let process = Foundation.Process()
        process.executableURL = URL(fileURLWithPath: "/bin/tar")
        process.arguments = ["-xpzf", Self.archive, "-C", bench.folder]
        try process.run()
        process.waitUntilExit()
        let source = bench.path("hf-save_pretrained/sharded_100KB_tied")
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
