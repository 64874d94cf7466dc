import Cairn
import Testing

@testable import CairnCLI

struct SentenceTests {
    private let result = SaveResult(
        run: "main", step: 500, id: "ab", tensors: 230, files: 9, logicalBytes: 402_862_899,
        newBytes: 69_310_873,
        storedBytes: 69_520_588, seconds: 0.3111)

    @Test func `A save is one line`() {
        #expect(
            SaveCommand.text(result)
                == "saved main@500 · 384.2 MiB in 9 files, 230 tensors · new 66.1 MiB (17.2 %)"
                + " · stored 66.3 MiB · 0.31 s"
        )
    }

    @Test func `The same again, a dry run, and what the policy deleted`() {
        var result = result
        result.unchanged = true
        #expect(SaveCommand.text(result).hasPrefix("main@500 is there already, with the same bytes"))
        result.unchanged = false
        result.dryRun = true
        #expect(SaveCommand.text(result).hasPrefix("would save main@500"))
        #expect(!SaveCommand.text(result).contains("stored"))
        result.dryRun = false
        result.deleted = [DeletedIteration(run: "main", step: 100, id: "cd", reason: "no rule keeps it")]
        result.reclaimedBytes = 1 << 20
        #expect(SaveCommand.text(result).hasSuffix("deleted main@100: no rule keeps it\ngave back 1.0 MiB"))
    }

    @Test func `Damage names every file and tensor`() {
        let report = VerifyReport(
            iterations: 2, chunks: 3, checkedBytes: 4096,
            damaged: [
                DamagedIteration(run: "main", step: 5, id: "ab", tensors: ["w", "b"], files: ["m.pt"])
            ],
            problems: ["the index differs from the journal; run cairn repair"], seconds: 1)
        #expect(!report.ok)
        #expect(
            VerifyCommand.text(report) == """
                the index differs from the journal; run cairn repair
                damaged main@5
                  file    m.pt
                  tensor  w
                  tensor  b
                checked 2 iterations · 4.0 KiB in 3 chunks · 1.00 s · damage in 1 iteration; \
                see cairn repair --help
                """)
    }

    @Test func `Iterations that go for the same reason are one line`() {
        let reason = "no rule keeps it (last 1)"
        let iterations =
            (1...3).map { DeletedIteration(run: "a", step: $0, id: "", reason: reason) }
            + (1...10).map { DeletedIteration(run: "b", step: $0, id: "", reason: reason) }
            + [DeletedIteration(run: "b", step: 11, id: "", reason: "")]
        #expect(
            Sentences.deleted(iterations, "deleted") == [
                "deleted 3 iterations of a (1, 2, 3): \(reason)",
                "deleted 10 iterations of b (1, 2, 3, 4, 5, 6, 7, 8 and 2 more): \(reason)", "deleted b@11",
            ])
    }

    @Test func `A collection gives reasons and bytes`() {
        let result = CollectionResult(
            deletedIterations: [DeletedIteration(run: "main", step: 1, id: "", reason: "no rule keeps it")],
            skipped: [DeletedIteration(run: "main", step: 2, id: "", reason: "")], reclaimedBytes: 2048,
            liveBytes: 4096, dryRun: true, seconds: 0.5)
        #expect(
            CollectCommand.text(result) == """
                would delete main@1: no rule keeps it
                kept for now main@2: someone is reading it
                would give back 2.0 KiB · 4.0 KiB in use · 0.50 s
                """)
    }

    @Test func `A policy in words`() {
        let policy = Policy(
            keepLast: 5, keepBest: [Policy.Best(count: 3, metric: "eval_loss")],
            keepWithin: 36 * 3600 * 1_000_000_000, maxSize: 500_000_000_000, auto: true)
        #expect(
            PolicyCommand.text("sft", policy) == """
                sft keeps
                  the last 5
                  the best 3 by eval_loss (smallest)
                  those within 36h of the newest
                  the newest, and what is pinned
                  of these at most 500 GB, the oldest go first
                applied after every save
                """)
        #expect(PolicyCommand.text("sft", nil) == "sft has no policy: nothing is ever deleted")
    }

    @Test func `Progress says how far, how fast and how long`() {
        let half = Progress.Snapshot(phase: "saving", doneBytes: 1 << 30, totalBytes: 2 << 30, seconds: 2)
        #expect(TerminalProgress.line(half) == "saving  50 %  1.0 GiB of 2.0 GiB  512.0 MiB/s  2 s left")
        let unknown = Progress.Snapshot(phase: "reading", doneBytes: 0, totalBytes: 0, seconds: 2)
        #expect(TerminalProgress.line(unknown) == "reading  0 B")
        let over = Progress.Snapshot(phase: "saving", doneBytes: 3 << 30, totalBytes: 2 << 30, seconds: 2)
        #expect(TerminalProgress.line(over).hasPrefix("saving  100 %"))
    }

    @Test func `Progress reports rarely, ends once, and interrupts`() throws {
        let calls = Calls()
        let progress = Progress(isInterrupted: { calls.stop }, report: { calls.add($0) })
        progress.end()
        #expect(calls.ends == 0)
        progress.begin(phase: "saving", totalBytes: 1000)
        for _ in 0..<1000 { progress.advance(bytes: 1) }
        #expect(calls.reports <= 10)
        Clock.sleep(seconds: 0.11)
        progress.advance(bytes: 1)
        #expect(calls.last?.doneBytes == 1001)
        progress.end()
        progress.end()
        progress.advance(bytes: 1)
        #expect(calls.ends == 1)
        try progress.checkInterruption()
        calls.stop = true
        let error = #expect(throws: CairnError.self) { try progress.checkInterruption() }
        #expect(error?.code == .interrupted)
    }
}

/// What a `Progress` told. Unchecked: the test calls it from one thread.
private final class Calls: @unchecked Sendable {
    var reports = 0
    var ends = 0
    var last: Progress.Snapshot?
    var stop = false

    func add(_ snapshot: Progress.Snapshot?) {
        if let snapshot {
            reports += 1
            last = snapshot
        } else {
            ends += 1
        }
    }
}
