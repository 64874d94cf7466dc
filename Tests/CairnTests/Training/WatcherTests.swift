import Foundation
import Platform
import Testing

@testable import Cairn

/// What the watcher of an output folder notices, with events and without them.
@Suite struct WatcherTests {
    let bench: Workbench
    var out: String { bench.path("out") }

    init() throws { bench = try Workbench() }

    private func watcher(_ mayUseEvents: Bool) -> Watcher {
        Watcher(Path(out), mayUseEvents: mayUseEvents)
    }

    private func candidate(_ step: UInt64) -> Candidate {
        Candidate(name: "checkpoint-\(step)", path: "checkpoint-\(step)", step: step)
    }

    /// Looks until something holds, as who watches does.
    private func eventually(
        _ watcher: Watcher, _ condition: (Watcher) -> Bool
    ) async throws -> Bool {
        // By tries, not by time: other tests may keep this one from running for long.
        for _ in 0..<500 {
            _ = try watcher.look()
            if condition(watcher) { return true }
            watcher.wait(atMost: 0) { false }
            try await Task.sleep(for: .milliseconds(20))
        }
        return false
    }

    /// Everything that is there has been dealt with, and time has passed since it was listed.
    private func settled(_ mayUseEvents: Bool) async throws -> Watcher {
        let watcher = watcher(mayUseEvents)
        _ = try watcher.look()
        for candidate in watcher.candidates { watcher.finish(candidate, isSaved: true) }
        #expect(watcher.isIdle)
        try await Task.sleep(for: .milliseconds(30))
        return watcher
    }

    @Test(arguments: [true, false])
    func aNewIterationIsSeenAndDueOnceItIsQuiet(mayUseEvents: Bool) async throws {
        try bench.checkpoint(1)
        let watcher = try await settled(mayUseEvents)
        try bench.checkpoint(2)
        let written = Clock.monotonic
        #expect(try await eventually(watcher) { $0.candidates.count == 2 })
        #expect(
            !watcher.isIdle && watcher.settling.isOpen(candidate(2)) && !watcher.settling.isOpen(candidate(1))
        )
        while try watcher.look().isEmpty {
            watcher.wait { false }
        }
        #expect(try watcher.look() == [candidate(2)])
        #expect(Clock.monotonic - written >= 2)
        #expect(watcher.isStill(candidate(2)))
        let changed = Clock.monotonic
        try bench.write("out/checkpoint-2", ["config.json": [1, 2, 3]])
        #expect(!watcher.isStill(candidate(2)))
        // Unless other tests kept this one from running for so long that it is quiet again.
        #expect(try watcher.look().isEmpty || Clock.monotonic - changed >= 2)
    }

    @Test(arguments: [true, false])
    func aChangeOfOneThatWasDealtWithIsSeen(mayUseEvents: Bool) async throws {
        for step in 1...8 { try bench.checkpoint(step) }
        let watcher = try await settled(mayUseEvents)
        // One of the newest, written over in place.
        let file = try FileHandle(forUpdating: URL(fileURLWithPath: out + "/checkpoint-7/config.json"))
        try file.write(contentsOf: Data([1, 2, 3, 4]))
        try file.close()
        #expect(try await eventually(watcher) { $0.settling.isOpen(candidate(7)) })
        // An old one to which a file is added, in a folder of its own.
        try FileManager.default.createDirectory(
            atPath: out + "/checkpoint-1/more", withIntermediateDirectories: true)
        #expect(try await eventually(watcher) { $0.settling.isOpen(candidate(1)) })
        watcher.finish(candidate(1), isSaved: true)
        try bench.write("out/checkpoint-1", ["more/file": [1]])
        if mayUseEvents {
            #expect(try await eventually(watcher) { $0.settling.isOpen(candidate(1)) })
        }
        #expect(!watcher.settling.isOpen(candidate(3)))
    }

    @Test(arguments: [true, false])
    func oneThatIsReplacedIsSeenAsNewAndWatchedOn(mayUseEvents: Bool) async throws {
        try bench.checkpoint(1)
        let watcher = try await settled(mayUseEvents)
        for content in 2...3 {
            try bench.checkpoint(1, content: content, name: "tmp-checkpoint-1")
            try FileManager.default.removeItem(atPath: out + "/checkpoint-1")
            try FileManager.default.moveItem(atPath: out + "/tmp-checkpoint-1", toPath: out + "/checkpoint-1")
            #expect(try await eventually(watcher) { $0.settling.isOpen(candidate(1)) }, "\(content)")
            watcher.finish(candidate(1), isSaved: true)
            // Also what happens in it afterwards.
            try bench.write("out/checkpoint-1", ["more-\(content)": [1]])
            #expect(try await eventually(watcher) { $0.settling.isOpen(candidate(1)) }, "\(content)")
            watcher.finish(candidate(1), isSaved: true)
        }
    }

    @Test(arguments: [true, false])
    func theFolderMayComeVanishAndComeBack(mayUseEvents: Bool) async throws {
        let watcher = watcher(mayUseEvents)
        #expect(try watcher.look().isEmpty && watcher.output == nil && watcher.isIdle)
        for content in 1...2 {
            try bench.checkpoint(1, content: content)
            #expect(
                try await eventually(watcher) { $0.settling.isOpen(candidate(1)) && $0.candidates.count == 1 }
            )
            watcher.finish(candidate(1), isSaved: true)
            try FileManager.default.removeItem(atPath: out)
            #expect(try await eventually(watcher) { $0.output == nil && $0.candidates.isEmpty })
        }
    }

    @Test func ofFilesAmongOthersOnlyThoseThatChangeAreSeen() async throws {
        try bench.write("out", ["ckpt_1.pth": [1], "ckpt_2.pth": [2], "log.txt": [3]])
        let watcher = try await settled(true)
        #expect(watcher.candidates.map(\.name) == ["ckpt_1.pth", "ckpt_2.pth"])
        try bench.write("out", ["log.txt": [3, 4]])
        try bench.write("out", ["ckpt_2.pth": [2, 3]])
        #expect(try await eventually(watcher) { $0.settling.isOpen($0.candidates[1]) })
        #expect(!watcher.settling.isOpen(watcher.candidates[0]))
    }

    @Test(arguments: [true, false])
    func aStepOfEveryRankLeavesTheOnesBeforeAlone(mayUseEvents: Bool) async throws {
        func write(_ step: Int) throws {
            for rank in 0..<2 {
                try bench.write(
                    "out/checkpoint/rank_\(rank)",
                    [
                        "qwen3_rank_\(rank)-1_\(step).safetensors": [1],
                        "meta.json": Array("{\"last_step\": \(step)}".utf8),
                    ])
            }
        }
        for step in 1...3 { try write(step) }
        let watcher = try await settled(mayUseEvents)
        #expect(watcher.candidates.map(\.step) == [1, 2, 3])
        try write(4)
        #expect(
            try await eventually(watcher) { $0.candidates.count == 4 && $0.settling.isOpen($0.candidates[3]) }
        )
        let opened = watcher.candidates.prefix(3).filter { watcher.settling.isOpen($0) }
        #expect(opened.isEmpty)
    }

    @Test func whatVanishesIsNoCandidateAnyMore() async throws {
        for step in 1...3 { try bench.checkpoint(step) }
        let watcher = try await settled(true)
        try FileManager.default.removeItem(atPath: out + "/checkpoint-2")
        #expect(try await eventually(watcher) { $0.candidates.map(\.step) == [1, 3] })
        #expect(watcher.isIdle)
    }

    @Test func aFolderThatIsNoneIsAnError() throws {
        try bench.write("", ["out": [1]])
        #expect(throws: CairnError.self) { try watcher(true).look() }
    }

    @Test(arguments: [true, false])
    func waitingEndsWhenItIsToldTo(mayUseEvents: Bool) throws {
        try bench.checkpoint(1)
        let watcher = watcher(mayUseEvents)
        _ = try watcher.look()
        watcher.finish(candidate(1), isSaved: true)
        let start = Clock.monotonic
        watcher.wait { Clock.monotonic > start + 0.3 }
        #expect(Clock.monotonic - start < 2)
    }
}
