import Cairn
import Foundation
import Testing

/// Stores of every version of the format stay readable: by this program, and by the reader that was written from the page alone.
@Suite struct GoldenStoreTests {
    static let project = URL(fileURLWithPath: #filePath)
        .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent().path
    let folder: String
    let references = ["golden@2", "golden@3", "other@9"]

    init() throws {
        folder = NSTemporaryDirectory() + "cairn-golden-" + UUID().uuidString
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        #expect(try run("tar", "-xpzf", Self.project + "/Tests/Fixtures/golden-store-1.tar.gz") == 0)
    }

    /// Runs a program in the folder; returns its exit status.
    private func run(_ arguments: String...) throws -> Int32 {
        let process = Foundation.Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments = arguments
        process.currentDirectoryURL = URL(fileURLWithPath: folder)
        process.standardOutput = FileHandle.nullDevice
        try process.run()
        process.waitUntilExit()
        return process.terminationStatus
    }

    private func remove() { _ = try? FileManager.default.removeItem(atPath: folder) }

    @Test func thisProgramReadsIt() throws {
        defer { remove() }
        let store = try Store.open(at: folder + "/golden-1")
        let infos = try store.iterations()
        #expect(infos.map { "\($0.run)@\($0.step)" } == references)
        #expect(infos.map(\.pins) == [["gold"], [], ["kept"]])
        #expect(infos[1].metrics["eval_loss"] == 0.25 && infos[1].superseded && infos[1].notes == ["later"])
        #expect(try store.policy(run: "golden") == Policy(keepLast: 2))
        #expect(try store.show("golden@2").info.metadata["note"] == "\"step2\"")
        #expect(try store.verify().ok)
        for reference in references { try store.restore(reference, to: folder + "/" + reference) }
        #expect(
            try run("sha256sum", "--quiet", "-c", Self.project + "/Tests/Fixtures/golden-store-1.sums") == 0)
        #expect(
            try FileManager.default.destinationOfSymbolicLink(atPath: folder + "/golden@3/link")
                == "sub/a.txt")
        var isFolder: ObjCBool = false
        #expect(FileManager.default.fileExists(atPath: folder + "/golden@3/empty", isDirectory: &isFolder))
        #expect(isFolder.boolValue)
    }

    @Test func theReaderInPythonReadsItWithoutTheIndex() throws {
        defer { remove() }
        let reader = Self.project + "/tools/reader.py"
        #expect(!FileManager.default.fileExists(atPath: folder + "/golden-1/index/data.mdb"))
        #expect(try run("python3", reader, "golden-1", "check") == 0)
        for reference in references {
            #expect(try run("python3", reader, "golden-1", "restore", reference, reference) == 0)
        }
        #expect(
            try run("sha256sum", "--quiet", "-c", Self.project + "/Tests/Fixtures/golden-store-1.sums") == 0)
    }

    @Test func bothRestoreTheSameModesAndTimes() throws {
        defer { remove() }
        let store = try Store.open(at: folder + "/golden-1")
        for reference in references {
            try store.restore(reference, to: folder + "/a")
            #expect(
                try run("python3", Self.project + "/tools/reader.py", "golden-1", "restore", reference, "b")
                    == 0)
            let list = "find . -printf '%p %y %m %T@ %l\\n' | sort"
            #expect(
                try run(
                    "bash", "-c", "diff -r --no-dereference a b && diff <(cd a; \(list)) <(cd b; \(list))")
                    == 0)
            #expect(try run("rm", "-rf", "a", "b") == 0)
        }
    }
}
