import Cairn
import Foundation
import Testing

/// Stores of every version of the format stay readable: by this program, and by the reader that was written from the page alone.
@Suite struct GoldenStoreTests {
    let golden: GoldenStore
    let references = ["golden@2", "golden@3", "other@9"]

    init() throws { golden = try GoldenStore("golden-store-1") }

    private var folder: String { golden.folder }

    @Test func thisProgramReadsIt() throws {
        let store = try Store.open(at: folder + "/golden-1")
        let infos = try store.iterations()
        #expect(infos.map { "\($0.run)@\($0.step)" } == references)
        #expect(infos.map(\.pins) == [["gold"], [], ["kept"]])
        #expect(infos[1].metrics["eval_loss"] == 0.25 && infos[1].superseded && infos[1].notes == ["later"])
        #expect(try store.policy(run: "golden") == Policy(keepLast: 2))
        #expect(try store.show("golden@2").info.metadata["note"] == "\"step2\"")
        #expect(try store.verify().ok)
        for reference in references { try store.restore(reference, to: folder + "/" + reference) }
        #expect(try golden.hasRestored())
        #expect(
            try FileManager.default.destinationOfSymbolicLink(atPath: folder + "/golden@3/link")
                == "sub/a.txt")
        var isFolder: ObjCBool = false
        #expect(FileManager.default.fileExists(atPath: folder + "/golden@3/empty", isDirectory: &isFolder))
        #expect(isFolder.boolValue)
    }

    @Test func theReaderInPythonReadsItWithoutTheIndex() throws {
        #expect(!FileManager.default.fileExists(atPath: folder + "/golden-1/index/data.mdb"))
        #expect(try golden.read("golden-1", "check") == 0)
        for reference in references {
            #expect(try golden.read("golden-1", "restore", reference, reference) == 0)
        }
        #expect(try golden.hasRestored())
    }

    @Test func bothRestoreTheSameModesAndTimes() throws {
        let store = try Store.open(at: folder + "/golden-1")
        for reference in references {
            try store.restore(reference, to: folder + "/a")
            #expect(try golden.read("golden-1", "restore", reference, "b") == 0)
            #expect(try golden.areSame("a", "b"))
            #expect(try golden.run("rm", "-rf", "a", "b") == 0)
        }
    }
}
