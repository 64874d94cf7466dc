import Foundation
import Synchronization
import Testing

extension Weather {
    /// `kill -9` at every call, at random times, and of a process that has forked.
    @Suite struct KillTests {
        @Test(
            "A process killed before or after any call leaves everything whole", arguments: Operation.allCases
        )
        func killedAtACall(_ operation: Operation) throws {
            var generator = SeededGenerator(Weather.seed &+ 1)
            let count = try operation.calls("kill", .changing).count
            var cases: [Faults] = []
            for kind in ["kill", "killafter"] {
                let numbers = Weather.sample(
                    operation == .save || operation == .gc ? 10 : 5, of: count, &generator)
                cases += numbers.map { Faults(kind: kind, number: $0, under: []) }
            }
            Weather.note("\(operation): \(cases.count) kills at \(count) calls")
            Weather.forEach(cases) { try operation.check($0) }
        }

        @Test("A commit record that a killed process did not sync is synced by whoever finds it")
        func unsyncedRecord() throws {
            let scene = try Scene()
            let journal = scene.store + "/journal"
            let faults = Faults(kind: "killafter", number: 1, calls: .writing, under: [journal])
            try require(try scene.cairn(scene.saveArguments, faults: faults).signal == SIGKILL, "not killed")
            let log = scene.folder + "/calls.log"
            let counting = Faults(kind: "eio", number: 0, under: [journal], log: log)
            try scene.cairn(["list"], faults: counting).mustSucceed()
            try require(LoggedCall.read(log).map(\.name) == ["fdatasync"], "\(LoggedCall.read(log))")
            try require(try scene.listed().contains(40), "the record was not there")
        }

        @Test("Processes killed at random times never lose what was committed")
        func killedAtRandomTimes() throws {
            let lanes = 4
            let kills = (Weather.isLong ? 200 : 20) / lanes
            Weather.forEach([Int](1...lanes)) { lane in
                var generator = SeededGenerator(Weather.seed &+ UInt64(lane) << 16)
                let scene = try Scene(deleted: true)
                var killed = 0
                // From the start of the process to a little after its usual end.
                let start = Date()
                try scene.cairn(scene.saveArguments).mustSucceed()
                scene.committed.withLock { $0[40] = Scene.next }
                let span = UInt32(Date().timeIntervalSince(start) * 1.1e6)
                for index in 1...kills {
                    let step = 100 + index
                    let checkpoint = Checkpoint(run: 1, step: step)
                    let source = scene.folder + "/random"
                    _ = try Child.run(["rm", "-rf", source])
                    try checkpoint.write(to: source)
                    let isSave = index % 4 != 0
                    let arguments =
                        isSave
                        ? ["save", source, "--run", "r", "--step", "\(step)", "--store", scene.store]
                        : ["gc", "--store", scene.store]
                    let child = try Child([Weather.program] + arguments)
                    usleep(UInt32.random(in: 0...span, using: &generator))
                    child.send(SIGKILL)
                    let ending = try child.wait()
                    killed += ending.signal == nil ? 0 : 1
                    let isThere = try scene.listed().contains(step)
                    if isSave, ending.signal == nil {
                        try require(
                            isThere, "kill \(index): the committed \(step) is missing: \(ending.summary)")
                    }
                    if isThere { scene.committed.withLock { $0[step] = checkpoint } }
                    if !isThere { try require(ending.signal != nil || !isSave, "kill \(index): not there") }
                }
                Weather.note("lane \(lane): \(killed) of \(kills) were killed in time")
                try scene.checkIntact()
            }
        }

        @Test("A committer that is killed leaves its lock free, though its forked children live on")
        func killedWithChildren() throws {
            let calls = try Operation.save.calls("forkkill", .changing)
            // From the taking of the commit lock on: the holder's note is the first call under it.
            guard let first = calls.lastIndex(where: { $0.path.hasSuffix("/locks/commit") }) else {
                throw Trouble("no call under the commit lock")
            }
            Weather.forEach([Int](first + 1...calls.count)) { number in
                let scene = try Scene()
                let log = scene.folder + "/calls.log"
                let ending = try Operation.save.run(
                    scene, Faults(kind: "forkkill", number: number, under: [], log: log))
                try require(ending.signal == SIGKILL, "was not killed: \(ending.summary)")
                let text = String(
                    decoding: FileManager.default.contents(atPath: log) ?? Data(), as: UTF8.self)
                let child = text.split(separator: "\n").compactMap { line in
                    line.hasPrefix("child ") ? Int32(line.dropFirst(6)) : nil
                }.first
                guard let child, kill(child, 0) == 0 else {
                    throw Trouble("call \(number): no child lives on")
                }
                defer { kill(child, SIGKILL) }
                let other = Checkpoint(run: 1, step: 50)
                try other.write(to: scene.folder + "/other")
                try scene.cairn(
                    ["save", scene.folder + "/other", "--run", "r", "--step", "50"], seconds: 8
                ).mustSucceed("a save beside the orphaned child, killed at call \(number),")
                scene.committed.withLock { $0[50] = other }
                try scene.checkIntact(maybe: (40, Scene.next))
            }
        }
    }
}
