import Foundation
import Glibc
import Synchronization
import Testing

extension Weather {
    /// ENOSPC, EIO and short writes at every call.
    @Suite struct FaultTests {
        @Test("A disk that fails at any one call costs at most the command", arguments: Operation.allCases)
        func failingCalls(_ operation: Operation) throws {
            try check(
                operation, ["enospc", "eio"], .changing,
                atMost: operation == .restore ? 16 : operation == .restoreForce ? 8 : .max)
        }

        @Test("A disk that fails from any call on costs at most the command", arguments: Operation.allCases)
        func failingFromACallOn(_ operation: Operation) throws {
            try check(operation, ["enospc+", "eio+"], .changing, atMost: 6)
        }

        @Test(
            "A write that falls short is continued",
            arguments: Operation.allCases.filter { $0 != .restoreForce })
        func shortWrites(_ operation: Operation) throws {
            try check(operation, ["short"], .writing)
        }

        @Test(
            "Where there is no space for any one call, delete and gc give up the reserve and go on",
            arguments: [Operation.delete, .gc])
        func reserve(_ operation: Operation) throws {
            let count = try operation.calls("enospc", .changing).count
            Weather.forEach([Int](1...count)) { number in
                let scene = try operation.makeScene()
                let reserve = scene.store + "/reserve"
                try operation.run(scene, Faults(kind: "enospc", number: number, under: [])).mustSucceed(
                    "\(operation) without space at call \(number)")
                scene.committed.withLock { $0[10] = nil }
                try scene.checkIntact()
                let size = try FileManager.default.attributesOfItem(atPath: reserve)[.size] as? Int
                try require(size ?? 0 >= 8 << 20, "the next save has not restored the reserve")
            }
        }

        @Test("A disk that can't read costs at most the command", arguments: [Operation.save, .gc, .restore])
        func failingReads(_ operation: Operation) throws {
            try check(operation, ["eio", "short"], .reading, atMost: 8)
        }

        @Test(
            "A store that can't be made leaves no folder; one whose making was killed is no store, or a whole one"
        )
        func initialization() throws {
            let scene = try Scene()
            let log = scene.folder + "/calls.log"
            let place = scene.folder + "/new"
            let run = { @Sendable (place: String, faults: Faults) in
                try Child.run([Weather.program, "init", "--store", place], environment: faults.environment)
            }
            try run(place, Faults(kind: "kill", number: 0, under: [place], log: log)).mustSucceed()
            let count = LoggedCall.read(log).count
            Weather.note("init: 4 kinds at \(count) calls")
            let cases = ["enospc", "eio", "kill", "killafter"].flatMap { kind in
                (1...count).map { Faults(kind: kind, number: $0, under: []) }
            }
            Weather.forEach(cases) { faults in
                var faults = faults
                let place = scene.folder + "/new-" + UUID().uuidString
                faults.under = [place]
                let ending = try run(place, faults)
                let isWhole = try Scene.cairn(["verify", "--store", place]).status == 0
                if ending.signal != nil {
                    // What is there is not taken for a store before it is one.
                    if !isWhole {
                        try Scene.cairn(["list", "--store", place]).mustFail(1, mentioning: "store")
                    }
                } else if ending.status == 0 {
                    try require(isWhole, "said that it has made a store")
                } else {
                    try ending.mustFail(1)
                    try require(!FileManager.default.fileExists(atPath: place), "left a folder behind")
                }
            }
        }

        @Test("A commit that can neither be ended nor taken back is there and whole, or not there")
        func failingCutBack() throws {
            let count = try Operation.save.calls("eio+", .changing).filter { $0.path.hasSuffix("/journal") }
                .count
            for number in 1...count {
                let scene = try Scene()
                let faults = Faults(kind: "eio+", number: number, under: [scene.store + "/journal"])
                try scene.cairn(scene.saveArguments, faults: faults).mustFail(1)
                try scene.checkIntact(maybe: (40, Scene.next))
            }
        }

        @Test("Of two that make a store in one empty folder the slower one leaves the other's alone")
        func rivalInitialization() throws {
            let scene = try Scene()
            let place = scene.folder + "/new"
            try FileManager.default.createDirectory(atPath: place, withIntermediateDirectories: false)
            let arguments = ["init", "--store", place]
            let slow = try Child(
                [Weather.program] + arguments,
                environment: Faults(kind: "stop", number: 1, under: [place]).environment)
            try require(try slow.waitUntilStopped(), "did not stop")
            try Scene.cairn(arguments).mustSucceed()
            try Scene.cairn(["save", scene.source, "--run", "r", "--step", "40", "--store", place])
                .mustSucceed()
            slow.send(SIGCONT)
            try slow.wait().mustFail(1, mentioning: "exists")
            try Scene.cairn(["verify", "--store", place]).mustSucceed()
            try Scene.cairn(["restore", "r@40", scene.folder + "/back", "--store", place]).mustSucceed()
        }

        private func check(
            _ operation: Operation, _ kinds: [String], _ calls: Faults.Calls, atMost limit: Int = .max
        ) throws {
            var generator = SeededGenerator(Weather.seed)
            var cases: [Faults] = []
            for kind in kinds {
                let count = try operation.calls(kind, calls).count
                let numbers = Weather.sample(limit, of: count, &generator)
                Weather.note("\(operation) \(kind) \(calls.rawValue): \(numbers.count) of \(count) calls")
                cases += numbers.map { Faults(kind: kind, number: $0, calls: calls, under: []) }
            }
            Weather.forEach(cases) { try operation.check($0) }
        }
    }
}
