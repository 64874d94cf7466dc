import Foundation
import Glibc
import Testing

/// How it ends, and begins again.
extension WatchTests {
    @Test("It ends with 130 when it is asked to, wherever it waits", arguments: [SIGTERM, SIGINT, SIGHUP])
    func signals(_ signal: Int32) async throws {
        try await onOwnThread {
            for isThere in [true, false] {
                if isThere { try training.write(1) } else { try training.remove("") }
                let watch = try training.watch()
                try eventually("its beginning", of: watch) {
                    isThere ? !watch.lines.isEmpty : !watch.errorSoFar.isEmpty
                }
                let asked = Date()
                let ending = try watch.stop(signal)
                try expect(Date().timeIntervalSince(asked) < 5)
                try expect(ending.error.isEmpty == isThere)
            }
        }
    }

    @Test(
        "Asked to end in the midst of a save it ends with 130 and leaves nothing behind",
        arguments: ["int", "term"])
    func interruptedSave(_ kind: String) async throws {
        try await onOwnThread {
            var hasEnded = 0
            for number in [2, 9, 16, 23, 30] {
                let training = try Training()
                for step in 1...2 { try training.write(step) }
                let ending = try training.cairn(
                    ["watch", training.out, "--once"],
                    faults: Faults(kind: kind, number: number, calls: .reading, under: [training.out]))
                if ending.status == 130 { hasEnded += 1 }
                try require(ending.status == 130 && ending.error.isEmpty, ending.summary)
                try training.checkIntact()
                try training.cairn(["watch", training.out, "--once"]).mustSucceed("the next watch")
                for step in 1...2 { try training.checkHas(step, content: step) }
            }
            try expect(hasEnded == 5)
        }
    }

    @Test("Killed at any moment it goes on where it was")
    func killed() async throws {
        try await onOwnThread {
            for number in [3, 20, 40, 60, 80, 100] {
                let training = try Training()
                for step in 1...3 { try training.write(step) }
                let faults = Faults(kind: "kill", number: number, under: [training.store])
                let ending = try training.cairn(["watch", training.out, "--once"], faults: faults)
                try require(ending.signal == SIGKILL || ending.status == 0, ending.summary)
                let before = try training.steps()
                let said: Child.Ending
                if before.count < 3 {
                    let watch = try training.watch()
                    try eventually("the rest", of: watch) { try training.steps() == [1, 2, 3] }
                    said = try watch.stop()
                } else {
                    // One that has nothing to do might be told to end before it listens.
                    said = try training.cairn(["watch", training.out, "--once"])
                }
                try expect(said.output.split(separator: "\n").count == 3 - before.count && said.error.isEmpty)
                for step in 1...3 { try training.checkHas(step, content: step) }
                try training.checkIntact()
            }
        }
    }

    @Test("Started again, it saves what is new and says nothing of the rest")
    func restarted() async throws {
        try await onOwnThread {
            for step in 1...2 { try training.write(step) }
            let first = try training.watch()
            _ = try lines(2, first)
            first.send(SIGKILL)
            _ = try first.wait()
            try training.write(3)
            let second = try training.watch()
            try expect(lines(1, second)[0].hasPrefix("saved main@3 "))
            try expect(second.stop().output.split(separator: "\n").count == 1)
        }
    }

    @Test(
        "Killed or asked to end while it deletes originals, it leaves what a framework goes on from",
        arguments: ["kill", "int"])
    func endedMoving(_ kind: String) async throws {
        try await onOwnThread {
            let cases = [Restart.Framework.trainer, .mindformers1].flatMap { framework in
                (Weather.isLong ? [Int](1...30) : [2, 7]).map { (framework: framework, number: $0) }
            }
            Weather.forEach([Int](cases.indices)) { index in
                let (framework, number) = cases[index]
                let restart = Restart(framework: framework, state: .ahead)
                let training = try Training()
                for step in 1...3 {
                    for (name, bytes) in restart.files(step).merging(
                        restart.pointers(step), uniquingKeysWith: { $1 })
                    {
                        try training.write(bytes, name)
                    }
                }
                let command = ["watch", training.out, "--once", "--move", "--run", "r"]
                let ending = try training.cairn(
                    command, faults: Faults(kind: kind, number: number, under: [training.out]))
                try require(
                    ending.signal == SIGKILL || ending.status == 130 || ending.status == 0, ending.summary)
                try restart.checkVisible(training)
                let saved = try training.steps()
                for step in 1...3 where !saved.contains(step) {
                    let isThere = restart.files(step).allSatisfy { name, bytes in
                        FileManager.default.contents(atPath: training.path(name)) == Data(bytes)
                    }
                    try require(isThere, "\(framework), at call \(number): step \(step) is lost")
                }
                try training.cairn(command).mustSucceed("the next one")
                try require(try training.steps() == [1, 2, 3], "the next one saved not all")
                let left = try training.names().filter { $0.hasPrefix(".") }
                try require(left.isEmpty, "left \(left)")
                for (name, bytes) in restart.files(3) {
                    try require(
                        FileManager.default.contents(atPath: training.path(name)) == Data(bytes),
                        "\(name) of the newest is not what it was")
                }
                try training.checkIntact()
            }
        }
    }
}
