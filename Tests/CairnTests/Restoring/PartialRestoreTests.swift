import Cairn
import Foundation
import Testing

/// Some of the files, or one of them.
@Suite struct PartialRestoreTests {
    let bench: Workbench
    let model = Workbench.safetensors([("a", [UInt8](repeating: 1, count: 9000)), ("b", [2, 3])])

    init() throws {
        bench = try Workbench()
        let folder = try bench.write(
            "checkpoint-1",
            [
                "model.safetensors": model, "config.json": [1], "sub/deep/x.bin": [4], "sub/y.bin": [5],
                "sub/empty.bin": [], "subtle.txt": [6],
            ])
        try FileManager.default.createDirectory(
            atPath: folder + "/hollow/inner", withIntermediateDirectories: true)
        try FileManager.default.createSymbolicLink(atPath: folder + "/last", withDestinationPath: "sub/y.bin")
        try bench.store.save(folder)
    }

    private func restored(_ pattern: String) throws -> [String] {
        let place = bench.path("to-" + UUID().uuidString)
        let result = try bench.store.restore("1", to: place, options: RestoreOptions(path: pattern))
        let all = try FileManager.default.subpathsOfDirectory(atPath: place).sorted()
        let files = all.filter { path in
            let type = try? FileManager.default.attributesOfItem(atPath: place + "/" + path)[.type]
            return type as? FileAttributeType == .typeRegular
        }
        #expect(result.files == files.count)
        for file in files {
            #expect(
                try Data(contentsOf: URL(fileURLWithPath: place + "/" + file))
                    == Data(contentsOf: URL(fileURLWithPath: bench.path("checkpoint-1/" + file))))
        }
        return all
    }

    @Test(
        arguments: [
            ("*.json", ["config.json"]), ("model.*", ["model.safetensors"]),
            ("sub", ["sub", "sub/deep", "sub/deep/x.bin", "sub/empty.bin", "sub/y.bin"]),
            ("sub/*.bin", ["sub", "sub/empty.bin", "sub/y.bin"]),
            ("**/x.bin", ["sub", "sub/deep", "sub/deep/x.bin"]),
            ("**.bin", ["sub", "sub/deep", "sub/deep/x.bin", "sub/empty.bin", "sub/y.bin"]),
            ("hollow", ["hollow", "hollow/inner"]), ("last", ["last"]), ("?onfig.json", ["config.json"]),
            ("*/deep", ["sub", "sub/deep", "sub/deep/x.bin"]),
        ] as [(String, [String])])
    func aPatternChoosesFilesAndTheFoldersAboveThem(pattern: String, expected: [String]) throws {
        #expect(try restored(pattern) == expected)
    }

    @Test(arguments: ["nothing", "*.bin", "", "/config.json", "su", "[c]onfig.json", "sub/"])
    func aPatternThatMatchesNothingIsWrongUsage(pattern: String) {
        #expect(bench.code { _ = try restored(pattern) } == .usage)
    }

    @Test func oneFileComesOutInOrder() throws {
        for (file, bytes) in [("model.safetensors", model), ("sub/deep/x.bin", [4]), ("sub/empty.bin", [])] {
            var found: [UInt8] = []
            try bench.store.cat("1", file: file) { found += $0 }
            #expect(found == bytes)
        }
    }

    @Test(arguments: ["nothing", "sub", "last", "", "../config.json"])
    func whatIsNoSavedFileIsNotFound(file: String) {
        #expect(bench.code { try bench.store.cat("1", file: file) { _ in } } == .notFound)
    }

    @Test func anErrorOfTheReceiverIsPassedOn() {
        struct Full: Error {}
        #expect(throws: Full.self) { try bench.store.cat("1", file: "config.json") { _ in throw Full() } }
    }
}
