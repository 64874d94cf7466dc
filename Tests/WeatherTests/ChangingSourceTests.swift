import Foundation
import Glibc
import Synchronization
import Testing

extension Weather {
    /// A training program that goes on writing while its checkpoint is saved.
    @Suite struct ChangingSourceTests {
        enum Change: String, Sendable, CaseIterable {
            case grows, shrinks, isRewritten, vanishes, isReplaced

            func apply(_ scene: Scene) throws {
                let path = scene.source + "/optimizer.bin"
                switch self {
                case .grows: try Self.write(path, O_WRONLY | O_APPEND)
                case .shrinks: truncate(path, 100)
                case .isRewritten: try Self.write(path, O_WRONLY)
                case .vanishes: unlink(path)
                case .isReplaced:
                    unlink(path)
                    try Self.write(path, O_WRONLY | O_CREAT)
                }
            }

            private static func write(_ path: String, _ flags: Int32) throws {
                let file = open(path, flags, 0o644)
                guard file >= 0 else { throw Trouble("cannot open \(path)") }
                defer { close(file) }
                guard Glibc.write(file, "changed", 7) == 7 else { throw Trouble("cannot write \(path)") }
            }
        }

        @Test(
            "A file that changes or vanishes at any moment of a save fails it, or was changed before it was read"
        )
        func changes() throws {
            let scene = try Scene()
            let log = scene.folder + "/calls.log"
            let counting = Faults(kind: "stop", number: 0, calls: .reading, under: [scene.source], log: log)
            try scene.cairn(scene.saveArguments, faults: counting).mustSucceed()
            let count = LoggedCall.read(log).count
            var generator = SeededGenerator(Weather.seed &+ 3)
            let numbers = Weather.sample(8, of: count, &generator)
            Weather.note("\(numbers.count) of \(count) reads, \(Change.allCases.count) changes")
            let failed = Atomic<Int>(0)
            let cases = Change.allCases.flatMap { change in numbers.map { (change, $0) } }
            Weather.forEach([Int](cases.indices)) { index in
                let (change, number) = cases[index]
                do {
                    if try check(change, number) { failed.add(1, ordering: .relaxed) }
                } catch {
                    throw Trouble("\(change) at read \(number): \(error)")
                }
            }
            #expect(failed.load(ordering: .relaxed) >= Change.allCases.count, "hardly any change was noticed")
        }

        /// Returns whether the save failed.
        private func check(_ change: Change, _ number: Int) throws -> Bool {
            let scene = try Scene()
            let packs = try scene.packFiles().count
            let faults = Faults(kind: "stop", number: number, calls: .reading, under: [scene.source])
            let child = try Child(
                [Weather.program] + scene.saveArguments + ["--store", scene.store],
                environment: faults.environment)
            guard try child.waitUntilStopped() else {
                throw Trouble("did not stop: \(try child.wait().summary)")
            }
            try change.apply(scene)
            child.send(SIGCONT)
            let ending = try child.wait()
            if ending.status == 0 {
                // It had not looked at the file yet: then it saved what is there now.
                scene.committed.withLock { $0[40] = try? Checkpoint.read(scene.source) }
            } else {
                try ending.mustFail(1, mentioning: "while it was being saved")
                try require(try scene.packFiles().count == packs, "left a pack behind")
            }
            try scene.checkIntact()
            return ending.status != 0
        }
    }
}
