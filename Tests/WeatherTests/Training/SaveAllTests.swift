import Foundation
import Glibc
import Testing

extension Weather {
    /// `cairn save --all` as a command, with and without `--move`.
    @Suite struct SaveAllTests {
        @Test("Its exit status says whether a complete iteration could not be saved")
        func statuses() throws {
            let training = try Training()
            let command = ["save", training.out, "--all"]
            let empty = try training.cairn(command)
            #expect(empty.status == 0 && empty.output == "\(training.out) holds no iterations\n")
            try training.write(1)
            try training.write(2, without: "model.safetensors")
            let first = try training.cairn(command)
            #expect(first.status == 0 && first.error.isEmpty)
            let lines = first.output.split(separator: "\n")
            #expect(lines.count == 2 && lines[0].hasPrefix("saved main@1 "))
            #expect(lines[1] == "checkpoint-2: not saved: the model's weights are missing")
            try training.write(3)
            mkfifo(training.path("checkpoint-3/pipe"), 0o600)
            try training.write(4)
            let second = try training.cairn(command)
            try second.mustFail(1, mentioning: "checkpoint-3: ")
            #expect(
                second.output.contains("saved main@4 ")
                    && second.output.contains("checkpoint-1: the store has it\n"))
            #expect(try training.cairn(command + ["--quiet"]).output.isEmpty)
            try training.cairn(["save", training.out + "/nowhere", "--all"]).mustFail(
                2, mentioning: "nowhere")
            try training.cairn(["save", training.path("checkpoint-1"), "--all"]).mustFail(
                2, mentioning: "is an iteration")
            try training.cairn(["save", training.out, "--move"]).mustFail(2, mentioning: "--all")
            try training.cairn(command + ["--step", "1"]).mustFail(2, mentioning: "--all")
        }

        @Test("Its JSON has an object for each iteration")
        func json() throws {
            let training = try Training()
            for step in 1...2 { try training.write(step) }
            try training.write(3, without: "trainer_state.json")
            let command = ["save", training.out, "--all", "--json"]
            func rows(_ options: [String]) throws -> [[String: Any]] {
                let ending = try training.cairn(command + options)
                try ending.mustSucceed()
                return try #require(try ending.json() as? [[String: Any]])
            }
            let dry = try rows(["--dry-run", "--move"])
            #expect(dry.map { $0["outcome"] as? String } == ["saved", "saved", "refused"])
            #expect(
                dry[0]["dryRun"] as? Bool == true && dry[0]["id"] is NSNull
                    && dry[0]["moved"] as? Bool == false)
            #expect(try training.listed().isEmpty)
            let first = try rows(["--move"])
            #expect(first.map { $0["name"] as? String } == ["checkpoint-1", "checkpoint-2", "checkpoint-3"])
            #expect(first.map { $0["moved"] as? Bool } == [true, false, false])
            #expect(first.map { $0["kept"] as? String } == [nil, "the newest", nil])
            #expect(
                first[0]["step"] as? Int == 1 && first[0]["files"] as? Int == 3 && first[0]["newBytes"] is Int
            )
            #expect(
                first[2]["reasons"] as? [String] == ["trainer_state.json is missing, which is written last"])
            let second = try rows([])
            #expect(second.map { $0["outcome"] as? String } == ["known", "refused"])
        }

        @Test(
            "An iteration that the training deletes or writes over in the midst of its save keeps no other from it"
        )
        func changes() throws {
            let cases = [2, 5, 8].flatMap { [(read: $0, deletes: true), (read: $0, deletes: false)] }
            Weather.forEach([Int](cases.indices)) { index in
                let (read, deletes) = cases[index]
                let training = try Training()
                for step in 1...2 { try training.write(step) }
                let child = try training.start(
                    ["save", training.out, "--all"],
                    faults: Faults(
                        kind: "stop", number: read, calls: .reading, under: [training.path("checkpoint-1")]))
                try require(try child.waitUntilStopped(), "did not stop at read \(read)")
                if deletes { try training.remove("checkpoint-1") } else { try training.write(1, content: 11) }
                child.send(SIGCONT)
                let ending = try child.wait()
                try require(
                    ending.status == 0
                        || !deletes && ending.status == 1
                            && ending.error.contains("while it was being saved"),
                    "read \(read), deletes \(deletes): \(ending.summary)")
                try require(ending.output.contains("saved main@2 "), ending.output)
                try training.checkHas(2, content: 2)
                if !deletes {
                    try training.cairn(["save", training.out, "--all"]).mustSucceed("the next one")
                    try training.checkHas(1, content: 11)
                }
                try training.checkIntact()
            }
        }

        @Test("Killed at any moment, --move leaves each original as it was, or the store has it")
        func killedMoving() throws {
            let command = { @Sendable (training: Training) in ["save", training.out, "--all", "--move"] }
            let counting = try Training()
            for step in 1...3 { try counting.write(step) }
            let log = counting.folder + "/calls.log"
            let faults = Faults(kind: "kill", number: 0, under: [counting.folder], log: log)
            try counting.cairn(command(counting), faults: faults).mustSucceed()
            let calls = LoggedCall.read(log)
            try require(calls.contains { $0.path.contains("/.cairn-moved-") }, "nothing was moved")
            var generator = SeededGenerator(Weather.seed &+ 40)
            // All that delete, and some of the others.
            let moving = calls.indices.filter { calls[$0].path.contains("/out/") }.map { $0 + 1 }
            let numbers = Set(
                Weather.sample(12, of: calls.count, &generator)
                    + (Weather.isLong ? moving : moving.shuffled(using: &generator).prefix(10) + []))
            Weather.note("\(numbers.count) of \(calls.count) calls, \(moving.count) of them on originals")
            Weather.forEach(numbers.sorted()) { number in
                let training = try Training()
                for step in 1...3 { try training.write(step) }
                let ending = try training.cairn(
                    command(training), faults: Faults(kind: "kill", number: number, under: [training.folder]))
                try require(ending.signal == SIGKILL || ending.status == 0, ending.summary)
                let saved = try training.steps()
                for step in 1...3 {
                    let isThere = FileManager.default.fileExists(atPath: training.path("checkpoint-\(step)"))
                    try require(isThere || saved.contains(step), "step \(step) is lost at call \(number)")
                    guard isThere else { continue }
                    for file in Training.files(step, content: step) {
                        let bytes = FileManager.default.contents(
                            atPath: training.path("checkpoint-\(step)/\(file.name)"))
                        try require(
                            bytes == Data(file.bytes), "half of step \(step) is left at call \(number)")
                    }
                }
                try training.cairn(command(training)).mustSucceed("the next one")
                let left = try training.names()
                try require(left == ["checkpoint-3"], "left \(left) at call \(number)")
                for step in 1...3 { try training.checkHas(step, content: step) }
                try training.checkIntact()
            }
        }
    }
}
