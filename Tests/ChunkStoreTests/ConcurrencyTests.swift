import Foundation
import Platform
import Synchronization
import Testing

@testable import ChunkStore

@Suite struct ConcurrencyTests {
    /// Threads of our own: the store's pool must stay free for what the savers do.
    private func inParallel(_ count: Int, _ body: @escaping @Sendable (Int) throws -> Void) {
        let troubles = Monitor([String]())
        let running = Monitor(count)
        for index in 0..<count {
            Thread.detachNewThread {
                do { try body(index) } catch { troubles.change { $0.append("\(index): \(error)") } }
                running.change { $0 -= 1 }
            }
        }
        let _: Void = running.wait { $0 == 0 ? () : nil }
        for trouble in troubles.change({ $0 }) { Issue.record("\(trouble)") }
    }

    /// Five blobs: three of this save alone, one that all saves of a step share, one that comes back now and then.
    private static func contents(_ saver: Int, _ step: Int) -> [[UInt8]] {
        var own = SeededGenerator(seed: UInt64(saver * 1000 + step))
        var shared = SeededGenerator(seed: UInt64(step) << 32)
        var rare = SeededGenerator(seed: UInt64(step % 3) << 40)
        let bytes = { (count: Int, generator: inout SeededGenerator) in
            (0..<count).map { _ in UInt8.random(in: .min ... .max, using: &generator) }
        }
        return [
            bytes(9_000, &own), bytes(100, &own), bytes(30_000, &own), bytes(12_000, &shared),
            bytes(6_000, &rare),
        ]
    }

    @Test func saversOfManySmallPacksAndACollectorLeaveEverythingWhole() throws {
        let toy = try ToyStore()
        let steps = 12
        let kept = Monitor([UInt64: [[UInt8]]]())
        let saving = Monitor(4)
        inParallel(5) { worker in
            defer { if worker < 4 { saving.change { $0 -= 1 } } }
            let store = try toy.open()
            guard worker < 4 else {
                repeat { _ = try store.collect(dryRun: false) } while saving.change { $0 > 0 }
                return
            }
            var previous: UInt64?
            for step in 0..<steps {
                let contents = Self.contents(worker, step)
                let number = try ToyStore.save(
                    store, run: "w\(worker)", step: UInt64(step), contents, packLimit: 8_000)
                kept.change { $0[number] = contents }
                // Every second one goes again, so that the collector has something to do.
                if step.isMultiple(of: 2), let old = previous {
                    let (deleted, _) = try store.delete { _ in [.init(iteration: old, reason: "test")] }
                    if !deleted.isEmpty { kept.change { $0[old] = nil } }
                }
                previous = number
            }
        }
        let store = try toy.open()
        let expected = kept.change { $0 }
        #expect(Set(try store.read { try $0.iterationNumbers() }) == Set(expected.keys))
        for (number, contents) in expected { #expect(try ToyStore.read(store, number) == contents) }
        #expect(try store.census().packs > expected.count, "a save was to make many packs")
        #expect(try store.checkStructure().problems.isEmpty)
        _ = try store.collect(dryRun: false)
        for (number, contents) in expected { #expect(try ToyStore.read(store, number) == contents) }
        let files = try FileSystem.names(in: toy.folder.appending("packs")).count
        #expect(try files == store.census().packs)
        try FileSystem.removeFile(toy.folder.appending("index/data.mdb"))
        let again = try toy.open()
        for (number, contents) in expected { #expect(try ToyStore.read(again, number) == contents) }
    }

    /// Readers that hold the lock one over the other, without a gap, for as long as the writer tries.
    @Test func aStreamOfReadersDoesNotKeepAWriterWaiting() throws {
        let toy = try ToyStore()
        let slowest = Monitor(0.0)
        let traffic = Traffic()
        let end = Clock.monotonic + 10
        inParallel(7) { worker in
            let locks = try StoreLocks(
                toy.folder.appending("locks"), readOnly: false, onWait: { _ in })
            if worker > 0 {
                // They stop at last, so that a writer that never gets its turn fails the test instead of hanging it.
                while !traffic.isDone.load(ordering: .relaxed), Clock.monotonic < end {
                    try locks.reading { Clock.sleep(seconds: 0.003) }
                    traffic.reads.add(1, ordering: .relaxed)
                }
                return
            }
            defer { traffic.isDone.store(true, ordering: .relaxed) }
            for _ in 0..<30 {
                let before = traffic.reads.load(ordering: .relaxed)
                while traffic.reads.load(ordering: .relaxed) < before + 6, Clock.monotonic < end {
                    Clock.sleep(seconds: 0.001)
                }
                let start = Clock.monotonic
                try locks.committing {}
                slowest.change { $0 = max($0, Clock.monotonic - start) }
            }
        }
        #expect(traffic.reads.load(ordering: .relaxed) >= 180, "the readers did not get their turns")
        #expect(slowest.change { $0 } < 2)
    }
}

/// What readers and the writer of a test tell each other.
private final class Traffic: Sendable {
    let isDone = Atomic<Bool>(false)
    let reads = Atomic<Int>(0)
}
