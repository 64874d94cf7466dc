import Foundation
import Glibc
import Testing

extension Weather {
    /// `cairn resume` as a command: what it says, and what it leaves when several run at once, or one is killed.
    @Suite struct ResumeTests {
        // MARK: What it says

        @Test("Its exit status says whether there is something to go on from, or nothing yet, or no way on")
        func statuses() throws {
            let training = try Training()
            let command = ["resume", training.out]
            /// The path and nothing else, whatever there is to say.
            func path(_ options: [String] = [], _ line: Int = #line) throws -> String {
                let ending = try training.cairn(command + options)
                try ending.mustSucceed("line \(line)")
                return ending.output
            }
            #expect(try path().isEmpty && path(["--quiet"]).isEmpty)
            let scratch = try training.cairn(command + ["--json"])
            let json = try #require(try scratch.json() as? [String: Any])
            #expect(json["step"] is NSNull && json["path"] is NSNull && json["run"] as? String == "main")
            try training.write(1)
            try training.write(2)
            try training.write(3, without: "model.safetensors")
            let newest = try training.cairn(command)
            #expect(newest.status == 0 && newest.output == training.path("checkpoint-2") + "\n")
            #expect(
                newest.error.contains("checkpoint-3 is ")
                    && newest.error.contains(
                        "/.cairn-set-aside-0/checkpoint-3 now: the model's weights are missing")
            )
            #expect(newest.error.contains("/.cairn-set-aside-0 holds what was set aside, "))
            #expect(try path(["--quiet"]) == training.path("checkpoint-2") + "\n")
            #expect(try path(["--ref", "1"]) == training.path("checkpoint-1") + "\n")
            #expect(try path() == training.path("checkpoint-1") + "\n")
            // Wrong usage.
            for options in [
                ["--run", "other"], ["--ref", "9"], ["--ref", "pointer"], ["--layout", "none"],
                ["--ranks", "7-0"], ["--ranks", "-1"], ["--ranks", "a"],
            ] {
                try training.cairn(command + options).mustFail(2)
            }
            let elsewhere = ["resume", training.folder + "/elsewhere"]
            try training.cairn(elsewhere).mustFail(2, mentioning: "pass --run")
            let first = try training.cairn(elsewhere + ["--run", "other", "--first-run"])
            #expect(first.status == 0 && first.output.isEmpty)
            // What it would miss.
            let check = ["verify", "main@1", "--resumable"]
            let checked = try training.cairn(check)
            #expect(checked.status == 1)
            #expect(checked.output.contains("main@1 (hf) lacks: the optimizer's state; "))
            try training.cairn(check + ["--quick"]).mustFail(2, mentioning: "--quick")
            // None that is valid.
            let lost = try Training()
            try lost.write(1)
            let save = ["save", lost.path("checkpoint-1"), "--run", "r"]
            try lost.remove("checkpoint-1/trainer_state.json")
            try lost.remove("checkpoint-1/model.safetensors")
            try lost.cairn(save + ["--step", "1"]).mustSucceed()
            try lost.cairn(["resume", lost.out, "--run", "r"]).mustFail(3, mentioning: "none to go on from")
            #expect(try lost.names() == ["checkpoint-1"])
        }

        @Test("Without a store it starts from scratch only where it is told so, and nothing was ever saved")
        func withoutAStore() throws {
            let training = try Training()
            try FileManager.default.removeItem(atPath: training.store)
            let command = ["resume", training.out]
            try training.cairn(command).mustFail(2, mentioning: "--first-run")
            let ending = try training.cairn(command + ["--first-run"])
            #expect(ending.status == 0 && ending.output.isEmpty && ending.error.isEmpty)
            try training.write(1)
            try training.cairn(command + ["--first-run"]).mustFail(2, mentioning: training.store)
        }

        @Test("Its JSON says what was set aside, and what that takes")
        func json() throws {
            let training = try Training()
            try training.write(1)
            try training.write(2, without: "trainer_state.json")
            let ending = try training.cairn(["resume", training.out, "--json"])
            let json = try #require(try ending.json() as? [String: Any])
            #expect(json["step"] as? Int == 1 && json["source"] as? String == "folder")
            let aside = try #require((json["setAside"] as? [[String: Any]])?.first)
            #expect(aside["path"] as? String == training.path("checkpoint-2"))
            #expect(aside["reasons"] as? [String] == ["trainer_state.json is missing, which is written last"])
            let size = Training.files(2, content: 2).dropLast().reduce(0) { $0 + $1.bytes.count }
            #expect(json["setAsideBytes"] as? Int == size)
            // Told by whoever lasts longer, too; and gone when somebody removes it.
            let watch = ["watch", training.out, "--once"]
            #expect(
                try training.cairn(watch).error.contains("/.cairn-set-aside-0 holds what was set aside, "))
            try training.remove(".cairn-set-aside-0")
            #expect(try training.cairn(watch).error.isEmpty)
        }

        // MARK: Several at once

        @Test("Started on all nodes at once, all print the same path, and the folder is whole")
        func atOnce() throws {
            let rounds = (0..<(Weather.isLong ? 8 : 1)).flatMap { round in
                Restart.all.map { (restart: $0, round: round) }
            }
            Weather.forEach([Int](rounds.indices)) { index in
                let restart = rounds[index].restart
                let training = try restart.make()
                let command = restart.command(training)
                // Half of the rounds have a store for each of two nodes, which share no lock.
                let other = training.folder + "/other"
                let hasTwo = (index + rounds[index].round).isMultiple(of: 2)
                if hasTwo { try Child.run(["cp", "-a", training.store, other]).mustSucceed() }
                let nodes = try (0..<6).map { number in
                    try training.start(
                        command, store: hasTwo && number.isMultiple(of: 2) ? other : nil)
                }
                for node in nodes {
                    let ending = try node.wait()
                    try require(ending.status == 0, "\(restart): \(ending.summary)")
                    try require(
                        ending.output == restart.printed(training), "\(restart): printed \(ending.output)")
                }
                try restart.checkWhole(training)
                try training.checkIntact()
            }
        }

        @Test("Each node may bring back its own ranks, beside one that brings back all")
        func ranksAtOnce() throws {
            Weather.forEach([Int](0..<(Weather.isLong ? 40 : 4))) { round in
                let restart = Restart(
                    framework: .mindformers1, state: round.isMultiple(of: 2) ? .lost : .behind)
                let training = try restart.make()
                let command = restart.command(training)
                var options = (0..<Restart.ranks).map { ["--ranks", "\($0)"] }
                options += [["--ranks", "0-1"], ["--ranks", "1-\(Restart.ranks)"]]
                if round.isMultiple(of: 4) { options.append([]) }
                for node in try options.shuffled().map({ try training.start(command + $0) }) {
                    let ending = try node.wait()
                    try require(ending.status == 0, ending.summary)
                    try require(ending.output == restart.printed(training), "printed \(ending.output)")
                }
                try restart.checkWhole(training)
            }
        }

        @Test("All nodes may go back at once, and mend paths", arguments: Restart.Framework.allCases)
        func backAtOnce(_ framework: Restart.Framework) throws {
            let restart = Restart(framework: framework, state: .behind)
            let training = try restart.make()
            let state = "checkpoint-1/trainer_state.json"
            if framework == .trainer {
                let text = "{\"global_step\": 1, \"best_model_checkpoint\": \"/elsewhere/checkpoint-1\"}"
                try training.write([UInt8](text.utf8), state)
                try training.cairn(["save", training.path("checkpoint-1"), "--run", "r", "--replace"])
                    .mustSucceed()
                try training.remove("checkpoint-1")
            }
            let command = restart.command(training) + ["--ref", "1", "--relocate"]
            let nodes = try (0..<5).map { _ in try training.start(command) }
            for node in nodes {
                let ending = try node.wait()
                try require(ending.status == 0, ending.summary)
                let printed = restart.printed(training).replacing("checkpoint-2", with: "checkpoint-1")
                    .replacing("iteration_00000002", with: "iteration_00000001")
                try require(ending.output == printed, "printed \(ending.output)")
            }
            #expect(try !training.names().contains { $0.hasPrefix(".cairn-") })
            #expect(try training.steps() == [1] && training.steps(superseded: true) == [2])
            for (name, bytes) in restart.files(1).merging(restart.pointers(1), uniquingKeysWith: { $1 })
            where name != state {
                let found = FileManager.default.contents(atPath: training.path(name))
                #expect(found == Data(bytes), "\(name)")
            }
            guard framework == .trainer else { return }
            let mended = try String(contentsOfFile: training.path(state), encoding: .utf8)
            #expect(mended.contains("\"\(training.path("checkpoint-1"))\""))
        }

        @Test("One that is killed among others costs them nothing")
        func oneIsKilled() throws {
            var generator = SeededGenerator(Weather.seed &+ 51)
            let cases = Restart.all.map { (restart: $0, number: Int.random(in: 1...12, using: &generator)) }
            Weather.forEach([Int](cases.indices)) { index in
                let (restart, number) = cases[index]
                let training = try restart.make()
                let command = restart.command(training)
                let victim = try training.start(
                    command, faults: Faults(kind: "kill", number: number, under: [training.out]))
                let nodes = try (0..<3).map { _ in try training.start(command) }
                let end = try victim.wait()
                try require(end.signal == SIGKILL || end.status == 0, end.summary)
                for node in nodes {
                    let ending = try node.wait()
                    try require(ending.status == 0, "\(restart), killed at \(number): \(ending.summary)")
                    try require(ending.output == restart.printed(training), "printed \(ending.output)")
                }
                // The killed one may have been the last.
                try training.cairn(command).mustSucceed("the next one")
                try restart.checkWhole(training)
            }
        }

        // MARK: Killed, or asked to end

        @Test("Killed at any moment it leaves nothing half for a framework to find, and the next one goes on")
        func killed() throws {
            try endedAnywhere("kill", each: 3) { ending in
                try require(ending.signal == SIGKILL || ending.status == 0, ending.summary)
            }
        }

        @Test("Asked to end it ends with 130, or is done, and the next one goes on")
        func interrupted() throws {
            try endedAnywhere("int", each: 1) { ending in
                try require(ending.status == 130 || ending.status == 0, ending.summary)
                if ending.status == 130 { try require(ending.output.isEmpty, "printed \(ending.output)") }
            }
        }

        private func endedAnywhere(
            _ kind: String, each: Int, _ check: @Sendable (Child.Ending) throws -> Void
        ) throws {
            var generator = SeededGenerator(Weather.seed &+ 50)
            var cases: [(restart: Restart, number: Int)] = []
            for restart in Restart.all {
                let counting = try restart.make()
                let log = counting.folder + "/calls.log"
                let faults = Faults(kind: kind, number: 0, under: [counting.out], log: log)
                try counting.cairn(restart.command(counting), faults: faults).mustSucceed("\(restart)")
                let count = LoggedCall.read(log).count
                try require(count > 0 || restart.framework == .trainer, "\(restart) changes nothing")
                cases += Weather.sample(each, of: count, &generator).map { (restart, $0) }
            }
            let all = cases
            Weather.forEach([Int](all.indices)) { index in
                let (restart, number) = all[index]
                let training = try restart.make()
                let command = restart.command(training)
                let faults = Faults(kind: kind, number: number, under: [training.out])
                do {
                    try check(try training.cairn(command, faults: faults))
                    try restart.checkVisible(training)
                    let next = try training.cairn(command)
                    try require(next.status == 0, next.summary)
                    try require(next.output == restart.printed(training), "printed \(next.output)")
                    try restart.checkWhole(training)
                    try training.checkIntact()
                } catch {
                    throw Trouble("\(restart), at call \(number): \(error)")
                }
            }
        }
    }
}
