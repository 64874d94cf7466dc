import Foundation
import Synchronization
import Testing

extension Weather {
    /// Ctrl-C, SIGTERM, and a terminal that is closed.
    @Suite struct InterruptionTests {
        @Test(
            "Ctrl-C at any call ends a save or a restore with status 130 and leaves nothing behind",
            arguments: [Operation.save, .restore])
        func interrupted(_ operation: Operation) throws {
            var generator = SeededGenerator(Weather.seed &+ 2)
            var cases: [Faults] = []
            let kinds: [(String, Faults.Calls)] = [
                ("int", .changing), ("int", .reading), ("term", .changing), ("hup", .reading),
            ]
            for (kind, calls) in kinds {
                let count = try operation.calls(kind, calls).count
                cases += Weather.sample(8, of: count, &generator).map {
                    Faults(kind: kind, number: $0, calls: calls, under: [])
                }
            }
            // The first call comes before any work, so there the signal must be heeded.
            cases.append(Faults(kind: "int", number: 1, calls: .reading, under: []))
            let all = cases
            let first = all.count - 1
            Weather.forEach([Int](all.indices)) { index in
                let scene = try operation.makeScene()
                let packs = try scene.packFiles()
                let ending = try operation.run(scene, all[index])
                let place = scene.folder + "/restored"
                do {
                    if ending.status == 0, index != first {
                        // It came after the last look: then the command is done.
                        if operation == .save { scene.committed.withLock { $0[40] = Scene.next } }
                        if operation == .restore {
                            try require(FileManager.default.fileExists(atPath: place), "nothing was restored")
                        }
                    } else {
                        try ending.mustFail(130)
                        let left = try scene.temporaryFiles()
                        try require(left.isEmpty, "left \(left)")
                        try require(try scene.packFiles().count == packs.count, "left a pack behind")
                        try require(
                            !FileManager.default.fileExists(atPath: place), "left the destination behind")
                    }
                    try scene.checkIntact()
                } catch {
                    throw Trouble("\(operation) \(all[index]): \(error); \(ending.summary)")
                }
            }
        }
    }
}
