import Foundation
import Platform
import Testing

@testable import Cairn

/// The pointer that the framework itself goes by, of made-up tags of DeepSpeed.
@Suite struct ResumePointerTests {
    let bench: Workbench
    var out: String { bench.path("out") }

    init() throws { bench = try Workbench() }

    private func tag(_ step: Int) throws {
        try bench.write(
            "out/global_step\(step)",
            [
                "mp_rank_00_model_states.pt": try LoopTests.torch(
                    [("global_steps", .integer(Int64(step))), ("dp_world_size", .integer(1))],
                    model: "module")
            ])
    }

    private func set(_ text: String) throws { try bench.write("out", ["latest": Array(text.utf8)]) }

    private func pointer() throws -> String { try String(contentsOfFile: out + "/latest", encoding: .utf8) }

    private func resume(_ reference: String? = nil) throws -> ResumeResult {
        try bench.store.resume(out, options: ResumeOptions(reference: reference))
    }

    private func mentions(_ result: ResumeResult) -> [String] {
        result.notes.filter { $0.hasPrefix("latest ") }
    }

    @Test func oneThatNamesTheNewestIsNotMentioned() throws {
        for step in 1...3 { try tag(step) }
        try set("global_step3")
        let result = try resume()
        #expect(result.step == 3 && result.path == out && mentions(result).isEmpty)
    }

    @Test func oneThatSomebodySetBackIsMentioned() throws {
        for step in 1...3 { try tag(step) }
        try set("global_step1\n")
        let result = try resume()
        #expect(
            mentions(result) == [
                "latest said global_step1, which is older than global_step3, the newest valid iteration that it names now; "
                    + "to go back, pass --ref 1, or set it again and pass --ref pointer"
            ])
        #expect(try result.step == 3 && pointer() == "global_step3")
        #expect(try mentions(resume()).isEmpty)
    }

    @Test func oneThatSomebodySetBackIsMentionedWhereTheStoreHasTheNewestToo() throws {
        for step in 1...3 { try tag(step) }
        try bench.store.saveAll(out)
        for step in 2...3 { try FileManager.default.removeItem(atPath: "\(out)/global_step\(step)") }
        try set("global_step1")
        let result = try resume()
        #expect(try result.source == .store && result.step == 3 && pointer() == "global_step3")
        #expect(mentions(result).count == 1 && mentions(result)[0].contains("pass --ref 1,"))
    }

    @Test func itIsObeyedWhereThatIsAskedFor() throws {
        for step in 1...3 { try tag(step) }
        try set("global_step2")
        let result = try resume("pointer")
        #expect(result.step == 2 && result.path == out && mentions(result).isEmpty)
        #expect(result.setAside.map(\.path) == [out + "/global_step3"])
        #expect(try bench.store.resolve("latest").step == 2)
        #expect(try pointer() == "global_step2" && resume().step == 2)
    }

    @Test func whatItNamesComesBackWhereItIsDamaged() throws {
        for step in 1...3 { try tag(step) }
        let path = Path(try bench.write("out/global_step2", ["notes.txt": [1, 2, 3]]) + "/notes.txt")
        try bench.store.saveAll(out)
        try set("global_step2")
        let before = FileManager.default.contents(atPath: path.text)
        let status = try #require(try FileSystem.status(path))
        try bench.flip(path.text, 1)
        try FileSystem.setTime(path, seconds: status.seconds, nanoseconds: status.nanoseconds)
        let result = try resume("pointer")
        #expect(try result.step == 2 && result.source == .store && pointer() == "global_step2")
        #expect(FileManager.default.contents(atPath: path.text) == before)
        #expect(result.setAside.map(\.path) == [out + "/global_step3", out + "/global_step2"])
    }

    @Test func whatItNamesMayBeInTheStoreAlone() throws {
        for step in 1...3 { try tag(step) }
        try bench.store.saveAll(out)
        for step in 1...2 { try FileManager.default.removeItem(atPath: "\(out)/global_step\(step)") }
        try bench.write("out/global_step1", ["half": [1]])
        try set("global_step1")
        // Its name is no number, so that the folder has to have it.
        #expect(bench.code { _ = try resume("pointer") } == .notFound)
        #expect(try pointer() == "global_step1" && resume().step == 3)
    }

    @Test(arguments: ["global_step9", "", "  \n", "../../etc", "\u{0}"])
    func oneThatNamesNothingIsWrittenAnew(_ text: String) throws {
        for step in 1...2 { try tag(step) }
        try set(text)
        #expect(bench.code { _ = try resume("pointer") } == .notFound)
        #expect(try pointer() == text)
        let result = try resume()
        #expect(try result.step == 2 && pointer() == "global_step2")
        #expect(mentions(result).count == (text.contains(/[a-z\0]/) ? 1 : 0), "\(result.notes)")
    }

    @Test func oneThatNamesWhatIsNotCompleteIsMentionedAndWrittenAnew() throws {
        try tag(1)
        try bench.write("out/global_step2", ["mp_rank_00_model_states.pt": [1, 2, 3]])
        try set("global_step2")
        let result = try resume()
        #expect(try result.step == 1 && pointer() == "global_step1")
        #expect(result.setAside.map(\.path) == [out + "/global_step2"])
        #expect(
            mentions(result) == [
                "latest said global_step2, which is not there whole: it names global_step1 now"
            ])
    }

    @Test func aRestartedOneOfAnotherLayoutIsNotObeyed() throws {
        try tag(1)
        try set("global_step1")
        let options = ResumeOptions(reference: "pointer", layout: "megatron")
        #expect(bench.code { _ = try bench.store.resume(out, options: options) } == .notFound)
    }

    // MARK: MindSpore Transformers 2.0

    private func iteration(_ step: Int, status: String) throws {
        let state =
            "{\"epoch_num\": 1, \"step_num\": \(step), \"global_step\": \(step), \"loss_scale\": null, "
            + "\"global_batch_size\": 1, \"ckpt_status\": \(status)}"
        try bench.write(
            "out/iteration_0000000\(step)",
            [
                "model-0000000-0000001.safetensors": Stored.safetensors([.numbers("w", [1], [Int32(step)])]),
                "common.json": Array(state.utf8),
            ])
    }

    private func iterationPointer() throws -> String {
        try String(contentsOfFile: out + "/latest_checkpointed_iteration.txt", encoding: .utf8)
    }

    @Test func whatIsNotHealthyIsShownAndSkippedAndNoPointerNamesIt() throws {
        try iteration(1, status: "0")
        try iteration(2, status: "null")
        try iteration(3, status: "1")
        try bench.write("out", ["latest_checkpointed_iteration.txt": Array("3".utf8)])
        let result = try resume()
        #expect(result.step == 2 && result.path == out + "/iteration_00000002")
        #expect(result.notes.contains { $0.hasPrefix("iteration_00000003 is not healthy: ") })
        #expect(result.setAside.map(\.path) == [out + "/iteration_00000003"])
        #expect(try iterationPointer() == "2")
    }

    @Test func whatTheStoreHasAndIsNotHealthyIsSkippedToo() throws {
        try iteration(1, status: "0")
        try iteration(2, status: "1")
        try bench.store.saveAll(out)
        try FileManager.default.removeItem(atPath: out)
        let result = try resume()
        #expect(result.step == 1 && result.notes.contains { $0.hasPrefix("main@2 is skipped: ") })
        #expect(try iterationPointer() == "1")
    }
}
