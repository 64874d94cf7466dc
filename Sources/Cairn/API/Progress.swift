public import Platform
internal import Synchronization

/// How far long work has come, and whether it shall stop.
///
/// The library calls `begin`, `advance`, `end` and `checkInterruption`; whoever shows progress gives two
/// closures. The closure is called at most ten times a second, from whatever thread advances, never from
/// two at once.
public final class Progress: Sendable {
    /// How far one phase has come.
    public struct Snapshot: Sendable {
        /// What is being done, as a word for people: `saving`, `checking`.
        public var phase: String
        public var doneBytes: UInt64
        /// 0 where nobody knows.
        public var totalBytes: UInt64
        /// Since the phase began.
        public var seconds: Double

        public init(phase: String, doneBytes: UInt64, totalBytes: UInt64, seconds: Double) {
            self.phase = phase
            self.doneBytes = doneBytes
            self.totalBytes = totalBytes
            self.seconds = seconds
        }
    }

    private struct Phase {
        var name = ""
        var totalBytes: UInt64 = 0
        var start = 0.0
    }

    private static let microsecondsBetweenReports: UInt64 = 100_000

    private let phase = Monitor(Phase())
    private let doneBytes = Atomic<UInt64>(0)
    /// When the next report is due, in microseconds of the monotonic clock; `.max` between phases.
    private let nextReport = Atomic<UInt64>(.max)
    private let isInterrupted: @Sendable () -> Bool
    private let report: (@Sendable (Snapshot?) -> Void)?

    /// - Parameters:
    ///   - isInterrupted: whether the work shall stop; called often, so cheap.
    ///   - report: shows a snapshot; nil when a phase has ended.
    public init(
        isInterrupted: @escaping @Sendable () -> Bool = { false },
        report: (@Sendable (Snapshot?) -> Void)? = nil
    ) {
        self.isInterrupted = isInterrupted
        self.report = report
    }

    /// Shows nothing and never interrupts.
    public static let silent = Progress()

    /// A new phase, which takes the place of one that has not ended.
    ///
    /// - Parameter totalBytes: what the phase will advance to; 0 where nobody knows.
    public func begin(phase name: String, totalBytes: UInt64) {
        guard report != nil else { return }
        phase.change { $0 = Phase(name: name, totalBytes: totalBytes, start: Clock.monotonic) }
        doneBytes.store(0, ordering: .relaxed)
        nextReport.store(Self.now + Self.microsecondsBetweenReports, ordering: .relaxed)
    }

    /// Counts bytes as done. From any thread; an addition and a look at the clock, so meant for chunks, not
    /// for bytes.
    public func advance(bytes: UInt64) {
        guard let report else { return }
        doneBytes.wrappingAdd(bytes, ordering: .relaxed)
        let due = nextReport.load(ordering: .relaxed)
        let now = Self.now
        guard now >= due else { return }
        // One thread wins the right to report; the others go on with their work.
        let (won, _) = nextReport.compareExchange(
            expected: due, desired: now + Self.microsecondsBetweenReports, ordering: .relaxed)
        if !won { return }
        phase.change { phase in
            // The phase may have ended since: its line must not come back.
            if nextReport.load(ordering: .relaxed) == .max { return }
            report(
                Snapshot(
                    phase: phase.name, doneBytes: doneBytes.load(ordering: .relaxed),
                    totalBytes: phase.totalBytes,
                    seconds: Clock.monotonic - phase.start))
        }
    }

    public func advance(bytes: Int) { advance(bytes: UInt64(bytes)) }

    /// The phase is over, however it ended. Harmless without one.
    public func end() {
        guard let report else { return }
        phase.change { _ in
            if nextReport.exchange(.max, ordering: .relaxed) != .max { report(nil) }
        }
    }

    /// - Parameter consequence: what the interruption means for the user, as the second half of a sentence.
    /// - Throws: `interrupted` once someone has asked to stop.
    public func checkInterruption(
        _ consequence: @autoclosure () -> String = "the store is as it was before"
    ) throws(CairnError) {
        if isInterrupted() { throw CairnError(.interrupted, "interrupted; \(consequence())") }
    }

    private static var now: UInt64 { UInt64(Clock.monotonic * 1e6) }
}
