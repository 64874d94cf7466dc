import Dispatch
import Foundation
import Synchronization
import Testing

extension Weather {
    /// Many processes on one store.
    @Suite struct LoadTests {
        private static let savers = 8
        private static let restorers = 3
        private static let kept = 6

        /// What the processes have done so far.
        private struct Record {
            /// The steps that were committed, by saver.
            var steps = [Int](repeating: 0, count: savers)
            var saves = 0
            var restores = 0
            var collections = 0
            var troubles: [String] = []
            /// What collections said they deleted.
            var deleted = 0
        }

        /// One record for all threads.
        private final class SharedRecord: Sendable {
            let mutex = Mutex(Record())
        }

        @Test("Eight processes save, three restore and one collects: everything committed restores")
        func load() throws {
            let scene = try Scene()
            let seconds = Weather.isLong ? 60.0 : 10.0
            for saver in 0..<Self.savers {
                try Self.save(scene, saver, 0)
                try scene.cairn(["policy", "--run", "w\(saver)", "--keep-last", "\(Self.kept)"]).mustSucceed()
            }
            let record = SharedRecord()
            let end = Date(timeIntervalSinceNow: seconds)
            let running = DispatchGroup()
            for worker in 0..<(Self.savers + Self.restorers + 1) {
                running.enter()
                // A thread each: a queue would run only as many as there are processors.
                Thread.detachNewThread {
                    do {
                        try Self.work(worker, scene, record.mutex, until: end)
                    } catch {
                        record.mutex.withLock { $0.troubles.append("worker \(worker): \(error)") }
                    }
                    running.leave()
                }
            }
            running.wait()
            let result = record.mutex.withLock { $0 }
            Weather.note(
                "load: \(result.saves) saves, \(result.restores) restores, \(result.collections) collections, "
                    + "\(result.deleted) deleted in \(seconds) s")
            for trouble in result.troubles { Issue.record("\(trouble)") }
            #expect(result.saves > Self.savers && result.restores > 0 && result.collections > 0)
            try checkAll(scene, result)
            try scene.cairn(["gc"]).mustSucceed()
            try scene.checkIntact()
        }

        private static func save(_ scene: Scene, _ saver: Int, _ step: Int) throws {
            let source = scene.folder + "/w\(saver)-\(step)"
            try Checkpoint(run: 10 + saver, step: step).write(to: source)
            defer { _ = try? Child.run(["rm", "-rf", source]) }
            try scene.cairn(["save", source, "--run", "w\(saver)", "--step", "\(step)"]).mustSucceed(
                "save \(step)")
        }

        private static func work(
            _ worker: Int, _ scene: Scene, _ record: borrowing Mutex<Record>, until end: Date
        ) throws {
            var generator = SeededGenerator(Weather.seed &+ UInt64(worker))
            var step = 0
            while Date() < end, record.withLock({ $0.troubles.isEmpty }) {
                if worker < savers {
                    step += 1
                    try save(scene, worker, step)
                    record.withLock { state in
                        state.steps[worker] = step
                        state.saves += 1
                    }
                } else if worker < savers + restorers {
                    let saver = Int.random(in: 0..<savers, using: &generator)
                    let newest = record.withLock { $0.steps[saver] }
                    let wanted = max(0, newest - Int.random(in: 0..<kept, using: &generator))
                    try restore(scene, saver, wanted, record)
                } else {
                    try collect(scene, record)
                }
            }
        }

        /// An iteration that a collection has removed meanwhile is not found; anything else must be whole.
        private static func restore(
            _ scene: Scene, _ saver: Int, _ step: Int, _ record: borrowing Mutex<Record>
        ) throws {
            let place = scene.folder + "/restored-" + UUID().uuidString
            defer { _ = try? Child.run(["rm", "-rf", place]) }
            let ending = try scene.cairn(["restore", "w\(saver)@\(step)", place])
            if ending.status == 2 {
                // The saver goes on while this runs, so what was kept at its start need not be any more.
                let newest = record.withLock { $0.steps[saver] }
                try require(
                    newest + 1 - step >= kept, "w\(saver)@\(step) of \(newest) is gone: \(ending.summary)")
                return
            }
            try ending.mustSucceed("restore w\(saver)@\(step)")
            let difference = Checkpoint(run: 10 + saver, step: step).difference(
                from: try Checkpoint.read(place))
            try require(difference == nil, "restored w\(saver)@\(step): \(difference ?? "")")
            record.withLock { $0.restores += 1 }
        }

        private static func collect(_ scene: Scene, _ record: borrowing Mutex<Record>) throws {
            let ending = try scene.cairn(["gc", "--json"])
            try ending.mustSucceed("gc")
            let deleted = (try ending.json() as? [String: Any])?["deletedIterations"] as? [Any]
            record.withLock { state in
                state.collections += 1
                state.deleted += deleted?.count ?? 0
            }
        }

        /// Everything that the policies keep is there and whole; nothing is there that nobody saved.
        private func checkAll(_ scene: Scene, _ result: Record) throws {
            var cases: [(saver: Int, step: Int)] = []
            for saver in 0..<Self.savers {
                let listed = try scene.listed(run: "w\(saver)")
                let newest = result.steps[saver]
                let kept = Set(max(0, newest - Self.kept + 1)...newest)
                try require(kept.isSubset(of: listed), "w\(saver): \(kept.subtracting(listed)) are missing")
                try require(listed.allSatisfy { $0 <= newest }, "w\(saver): \(listed) has what nobody saved")
                cases += listed.map { (saver, $0) }
            }
            let all = cases
            Weather.forEach([Int](all.indices)) { index in
                let (saver, step) = all[index]
                try scene.checkRestores("w\(saver)@\(step)", Checkpoint(run: 10 + saver, step: step))
            }
        }
    }
}
