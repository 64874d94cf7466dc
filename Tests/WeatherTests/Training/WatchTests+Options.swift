import Foundation
import Glibc
import Testing

/// What it can be told.
extension WatchTests {
    @Test("--once looks at everything that is there, and ends")
    func once() async throws {
        try await onOwnThread {
            let options = ["watch", training.out, "--once"]
            try expect(training.cairn(options).status == 0, "nothing is there")
            try training.write(1)
            try training.write(2, without: "trainer_state.json")
            let first = try training.cairn(options)
            try expect(first.status == 0 && first.error.isEmpty)
            try expect(first.output.contains("saved main@1 "))
            try expect(first.output.contains("checkpoint-2: not saved: trainer_state.json is missing"))
            try training.write(3)
            mkfifo(training.path("checkpoint-3/pipe"), 0o600)
            let second = try training.cairn(options)
            try second.mustFail(1, mentioning: "checkpoint-3: ")
            try expect(!second.output.contains("main@1"))
            try training.remove("")
            try training.cairn(options).mustFail(2, mentioning: training.out)
        }
    }

    @Test("--when-behind newest saves the newest that is complete, and leaves the others")
    func newest() async throws {
        try await onOwnThread {
            try training.write(1)
            try training.cairn(["save", training.path("checkpoint-1")]).mustSucceed()
            for step in 2...4 { try training.write(step) }
            try training.write(5, without: "model.safetensors")
            let watch = try training.watch(["--when-behind", "newest"])
            let said = try lines(3, watch)
            try expect(said[0].hasPrefix("saved main@4 "))
            try expect(
                said[1...] == [3, 2].map { "checkpoint-\($0): left, as a newer one was waiting" }[...])
            try training.write(6)
            try expect(lines(4, watch)[3].hasPrefix("saved main@6 "))
            try expect(watch.stop().error.isEmpty)
            try expect(training.steps() == [1, 4, 6])
        }
    }

    @Test("--json is a document a line, each at once")
    func json() async throws {
        try await onOwnThread {
            try training.write(1)
            try training.write(2)
            mkfifo(training.path("checkpoint-2/pipe"), 0o600)
            let watch = try training.watch(["--json", "--move"])
            _ = try lines(2, watch)
            try training.write(3)
            let said = try lines(4, watch).map { line in
                try #require(try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any])
            }
            try expect(said.map { $0["outcome"] as? String } == ["saved", "failed", "known", "saved"])
            try expect(
                said.map { $0["name"] as? String } == [
                    "checkpoint-1", "checkpoint-2", "checkpoint-1", "checkpoint-3",
                ])
            try expect(said.map { $0["moved"] as? Bool } == [false, false, true, false])
            try expect(
                said[0]["run"] as? String == "main" && said[0]["layout"] as? String == "hf"
                    && said[0]["id"] is String)
            try expect((said[1]["reasons"] as? [String])?.first?.contains("pipe") == true)
            try expect(watch.stop().error.isEmpty)
        }
    }

    @Test("--move deletes originals that the training needs no longer, as others become newest and best")
    func move() async throws {
        try await onOwnThread {
            for step in 1...3 { try training.write(step, best: min(step, 2)) }
            let watch = try training.watch(["--move"])
            try eventually("the first move", of: watch) {
                try training.names() == ["checkpoint-2", "checkpoint-3"]
            }
            try training.write(4, best: 2)
            try eventually("the second move", of: watch) {
                try training.names() == ["checkpoint-2", "checkpoint-4"]
            }
            try training.write(5, best: 5)
            try eventually("the third move", of: watch) { try training.names() == ["checkpoint-5"] }
            let ending = try watch.stop()
            try expect(ending.error.isEmpty)
            try expect(
                ending.output.split(separator: "\n").count {
                    $0.hasSuffix(": the store has it; the original is deleted")
                } == 4)
            for step in 1...5 {
                try training.checkHas(step, content: step, best: step < 2 ? 1 : step < 5 ? 2 : 5)
            }
        }
    }

    @Test("What can't ever work is said at once")
    func usage() async throws {
        try await onOwnThread {
            try training.write(1)
            try training.cairn(["watch", training.path("checkpoint-1/config.json")]).mustFail(
                2, mentioning: "is a file")
            try training.cairn(["watch", training.path("checkpoint-1")]).mustFail(
                2, mentioning: "is an iteration")
            try training.cairn(["watch", training.store]).mustFail(2, mentioning: "in the store")
            try training.cairn(["watch", training.out, "--run", "no name"]).mustFail(2, mentioning: "no name")
            try training.cairn(["watch", training.out, "--when-behind", "some"]).mustFail(
                2, mentioning: "newest")
            try training.cairn(["save", training.path("checkpoint-1"), "--run", "r"]).mustSucceed()
            let other = training.folder + "/other"
            try training.cairn(["watch", other]).mustFail(2, mentioning: "pass --run")
        }
    }

    @Test("Idle over 1,000 iterations it hardly uses the processor", arguments: [false, true])
    func idle(isRemote: Bool) async throws {
        try await onOwnThread {
            for step in 1...1000 { try training.write(step) }
            // All but the newest are left, and then nothing is to do.
            let watch = try training.watch(
                ["--when-behind", "newest", "--quiet"], faults: isRemote ? remote : nil)
            try eventually("the newest", of: watch) { try training.steps() == [1000] }
            try eventually("the end of it", of: watch) {
                let before = watch.processorTime!
                usleep(200_000)
                return watch.processorTime! - before < 0.05
            }
            let seconds = Weather.isLong ? 120.0 : 6
            let before = try #require(watch.processorTime)
            Thread.sleep(forTimeInterval: seconds)
            let used = try #require(watch.processorTime) - before
            // A program that is built for debugging takes ten times as long.
            try expect(used / seconds < 0.1, "\(used) s of \(seconds)")
            _ = try watch.stop()
        }
    }
}
