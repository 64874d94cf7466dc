import ChunkStore
import Foundation
import Platform
import Testing

@testable import Cairn

/// What lies in the folder afterwards.
extension ResumeTests {
    // MARK: A part of it

    @Test func whatIsMissingInAFolderIsAddedToIt() throws {
        let path = try checkpoint(5)
        try setTime("checkpoint-5", 1_000_000_000)
        try bench.store.save(path)
        let kept = try FileManager.default.attributesOfItem(atPath: path + "/model.safetensors")
        for name in ["config.json", "trainer_state.json"] {
            try FileManager.default.removeItem(atPath: path + "/" + name)
        }
        let result = try resume()
        #expect(result.step == 5 && result.source == .store && result.setAside.isEmpty)
        #expect(try names() == ["checkpoint-5"] && time("checkpoint-5") == 1_000_000_000)
        let files = try FileManager.default.contentsOfDirectory(atPath: path).sorted()
        #expect(files == ["config.json", "model.safetensors", "trainer_state.json"])
        let now = try FileManager.default.attributesOfItem(atPath: path + "/model.safetensors")
        #expect(now[.systemFileNumber] as? Int == kept[.systemFileNumber] as? Int)
    }

    @Test func aCopyWithOtherTimesIsWhatWasSaved() throws {
        let path = try checkpoint(5)
        try bench.store.save(path)
        try setTime("checkpoint-5/model.safetensors", 1_234_567_890)
        let result = try resume(ResumeOptions(reference: "5"))
        #expect(result.step == 5 && result.setAside.isEmpty)
        #expect(try time("checkpoint-5/model.safetensors") == 1_234_567_890)
        // The same size and other bytes are something else.
        try bench.flip(path + "/model.safetensors", 5000)
        #expect(try resume(ResumeOptions(reference: "5")).setAside.count == 1)
        #expect(try time("checkpoint-5/model.safetensors") != 1_234_567_890)
    }

    @Test func aFileThatDoesNotBelongThereIsNotKeptInIt() throws {
        let path = try checkpoint(5, without: "trainer_state.json")
        try bench.write("out/checkpoint-5", ["trainer_state.json": Array("{\"global_step\": 5}".utf8)])
        try bench.store.save(path)
        try bench.write("out/checkpoint-5", ["checkpoint-is-incomplete.txt": []])
        let result = try resume()
        #expect(result.setAside.map(\.path) == [path] && result.source == .store)
        #expect(!FileManager.default.fileExists(atPath: path + "/checkpoint-is-incomplete.txt"))
    }

    @Test func aFolderThatMayNotBeWrittenComesBackAsItWas() throws {
        let path = try checkpoint(5)
        try FileManager.default.setAttributes([.posixPermissions: 0o555], ofItemAtPath: path)
        try bench.store.save(path)
        try FileManager.default.setAttributes([.posixPermissions: 0o755], ofItemAtPath: path)
        try FileManager.default.removeItem(atPath: path)
        #expect(try resume().path == path)
        let mode = try FileManager.default.attributesOfItem(atPath: path)[.posixPermissions] as? Int
        #expect(mode == 0o555)
        _ = try resume(ResumeOptions(reference: "5"))
        // Out of the way it goes as well.
        try FileManager.default.setAttributes([.posixPermissions: 0o755], ofItemAtPath: path)
        try FileManager.default.removeItem(atPath: path + "/model.safetensors")
        try Data([1]).write(to: URL(fileURLWithPath: path + "/model.safetensors"))
        try FileManager.default.setAttributes([.posixPermissions: 0o555], ofItemAtPath: path)
        #expect(try resume().setAside.count == 1)
        let moved = try FileManager.default.attributesOfItem(atPath: "\(out)/\(aside)/checkpoint-5")
        #expect(moved[.posixPermissions] as? Int == 0o555)
        for folder in [path, "\(out)/\(aside)/checkpoint-5"] {
            try FileManager.default.setAttributes([.posixPermissions: 0o755], ofItemAtPath: folder)
        }
    }

    @Test func anotherOneIsWaitedForUntilSomebodyAsksToEnd() throws {
        try checkpoint(5)
        let lock = try bench.store.chunks.resuming(FileSystem.expected(Path(out))) {}
        let stopped = Progress(isInterrupted: { true })
        #expect(bench.code { _ = try bench.store.resume(out, progress: stopped) } == .interrupted)
        #expect(try bench.store.iterations().isEmpty)
        // Another folder is nobody's business.
        #expect(try bench.store.resume(bench.path("other")).path == nil)
        withExtendedLifetime(lock) {}
    }

    @Test func whatAKilledOneLeftIsRemoved() throws {
        try bench.store.save(try checkpoint(5))
        try bench.write("out/.cairn-resume-0-0011", ["lock": [], "iteration/model.safetensors": [1]])
        try FileManager.default.createDirectory(
            atPath: out + "/.cairn-resume-0-0022", withIntermediateDirectories: true)
        try bench.write("out/.cairn-resume-0-0033", ["lock": [], "pointer": [1]])
        let held = try File(Path(out + "/.cairn-resume-0-0033/lock"), .write)
        #expect(try held.tryLock(.exclusive, at: 0))
        #expect(try resume().step == 5)
        #expect(try names() == [".cairn-resume-0-0033", "checkpoint-5"])
    }

    // MARK: What frameworks read from the folder

    @Test func whatTheFolderHasIsNewestByTimeAsWell() throws {
        for step in [8, 2] { try checkpoint(step) }
        try setTime("checkpoint-8", 1_000_000_000)
        let future = Double(Int(Date().timeIntervalSince1970) + 5000)
        try setTime("checkpoint-2", future)
        #expect(try resume().step == 8)
        #expect(try time("checkpoint-8") >= future)
        let once = try time("checkpoint-8")
        #expect(try resume().step == 8 && time("checkpoint-8") == once)
    }

    @Test func whatComesBackIsNewestByTimeAsWell() throws {
        let path = try checkpoint(8)
        try setTime("checkpoint-8", 1_000_000_000)
        try bench.store.save(path)
        try FileManager.default.removeItem(atPath: path)
        try checkpoint(2)
        #expect(try resume().step == 8)
        #expect(try time("checkpoint-8") > time("checkpoint-2"))
        // Alone, it keeps its time.
        try FileManager.default.removeItem(atPath: out)
        #expect(try resume().step == 8)
        #expect(try time("checkpoint-8") == 1_000_000_000)
    }

    @Test func stalePathsAreSaidAndMendedOnRequest() throws {
        let path = try checkpoint(2, best: "/elsewhere/out/checkpoint-1")
        #expect(try resume().notes.contains { $0.contains("/elsewhere/out/checkpoint-1") })
        let stale = try String(contentsOfFile: path + "/trainer_state.json", encoding: .utf8)
        #expect(stale.contains("/elsewhere/"))
        _ = try resume(ResumeOptions(relocate: true))
        let mended = try String(contentsOfFile: path + "/trainer_state.json", encoding: .utf8)
        #expect(mended == stale.replacing("/elsewhere/out/", with: out + "/"))
        #expect(try resume(ResumeOptions(relocate: true)).notes.allSatisfy { !$0.contains("elsewhere") })
    }

    @Test func aPathOfAnotherFormThatLeadsToTheSameIsNotStale() throws {
        let link = bench.path("link")
        try FileManager.default.createDirectory(atPath: out, withIntermediateDirectories: true)
        try FileManager.default.createSymbolicLink(atPath: link, withDestinationPath: out)
        let name = (bench.folder as NSString).lastPathComponent
        for best in [
            out + "/checkpoint-1", link + "/checkpoint-1", "\(name)/out/checkpoint-1", "checkpoint-1",
        ] {
            try checkpoint(2, best: best)
            let notes = said(try resume(ResumeOptions(run: "r")))
            #expect(notes.isEmpty, "\(best): \(notes)")
        }
        for best in ["/out/checkpoint-1", "elsewhere/checkpoint-1", "/a\\u0000b/checkpoint-1", "/"] {
            try checkpoint(2, best: best)
            #expect(try said(resume(ResumeOptions(run: "r"))).count == 1, "\(best)")
        }
    }

    @Test func onlyTheValueThatIsMeantIsWrittenAnew() throws {
        let path = try checkpoint(2)
        let stale = "/data/\u{e9}t\u{e9}/checkpoint-1"
        let before = """
            {"log_history": [{"step": 1, "note": "best_model_checkpoint", "best_model_checkpoint": 5}],
             "best_model_checkpoint" :\n\t"/data/\\u00e9t\\u00e9/checkpoint-1", "best_metric": NaN, "global_step": 2}
            """
        try bench.write("out/checkpoint-2", ["trainer_state.json": Array(before.utf8)])
        try setTime("checkpoint-2/trainer_state.json", 1_111_111_111)
        try setTime("checkpoint-2", 1_222_222_222)
        let result = try resume(ResumeOptions(relocate: true))
        #expect(
            said(result) == [
                "trainer_state.json names \(out)/checkpoint-1 as the best checkpoint now, instead of \(stale)"
            ])
        let after = try String(contentsOfFile: path + "/trainer_state.json", encoding: .utf8)
        #expect(
            after
                == before.replacing("\"/data/\\u00e9t\\u00e9/checkpoint-1\"", with: "\"\(out)/checkpoint-1\"")
        )
        #expect(try time("checkpoint-2/trainer_state.json") == 1_111_111_111)
        #expect(try time("checkpoint-2") == 1_222_222_222)
    }

    @Test func whatIsBroughtBackWithAnotherPathIsStillWhatWasSaved() throws {
        let path = try checkpoint(2, best: "/elsewhere/out/checkpoint-1")
        try bench.store.save(path)
        let model = FileManager.default.contents(atPath: path + "/model.safetensors")
        try FileManager.default.removeItem(atPath: path)
        let options = ResumeOptions(reference: "2", relocate: true)
        #expect(try said(resume(options)).count == 1)
        let state = try String(contentsOfFile: path + "/trainer_state.json", encoding: .utf8)
        #expect(state.contains("\"\(out)/checkpoint-1\""))
        // Another node, with and without the option.
        for options in [options, ResumeOptions(reference: "2")] {
            let again = try resume(options)
            #expect(again.setAside.isEmpty && said(again).isEmpty)
        }
        #expect(try String(contentsOfFile: path + "/trainer_state.json", encoding: .utf8) == state)
        #expect(FileManager.default.contents(atPath: path + "/model.safetensors") == model)
    }

    @Test func theOptimizerCanStayInTheStore() throws {
        let path = try checkpoint(2)
        for name in ["optimizer.pt", "scheduler.pt", "rng_state.pth"] {
            try Data(contentsOf: URL(fileURLWithPath: Self.torchFile)).write(
                to: URL(fileURLWithPath: path + "/" + name))
        }
        #expect(try bench.store.save(path).warnings.isEmpty)
        try FileManager.default.removeItem(atPath: path)
        _ = try resume(ResumeOptions(withoutOptimizer: true))
        let files = try FileManager.default.contentsOfDirectory(atPath: path).sorted()
        #expect(
            files == [
                "config.json", "model.safetensors", "rng_state.pth", "scheduler.pt", "trainer_state.json",
            ])
        let again = try resume(ResumeOptions(withoutOptimizer: true))
        #expect(again.setAside.isEmpty && again.step == 2)
        // Wanted after all, it is added.
        #expect(try resume().setAside.isEmpty)
        #expect(FileManager.default.fileExists(atPath: path + "/optimizer.pt"))
        let there = try resume(ResumeOptions(withoutOptimizer: true))
        #expect(there.notes.contains { $0.contains("tell the training not to load it") })
    }

    private static let torchFile =
        GoldenStore.project + "/Tests/TensorFormatsTests/Fixtures/pytorch/alone.pt"
}
