/// Which iterations of one run a policy keeps. Pure: it decides, and others delete. (design.md 4.6)
public enum Retention {
    /// What the rules look at.
    public struct Candidate: Sendable {
        public var number: UInt64
        public var step: UInt64
        /// Nanoseconds since 1970 UTC.
        public var createdAt: Int64
        public var storedBytes: UInt64
        public var metrics: [String: Double]
        public var pins: [String]
        public var superseded: Bool
        /// False where something of it is known to be damaged.
        public var complete: Bool

        public init(
            number: UInt64, step: UInt64, createdAt: Int64, storedBytes: UInt64,
            metrics: [String: Double] = [:],
            pins: [String] = [], superseded: Bool = false, complete: Bool = true
        ) {
            self.number = number
            self.step = step
            self.createdAt = createdAt
            self.storedBytes = storedBytes
            self.metrics = metrics
            self.pins = pins
            self.superseded = superseded
            self.complete = complete
        }

        public init(_ info: IterationInfo, complete: Bool) {
            self.init(
                number: info.number, step: info.step, createdAt: info.createdAt,
                storedBytes: info.storedBytes,
                metrics: info.metrics, pins: info.pins, superseded: info.superseded, complete: complete)
        }
    }

    public enum Verdict: Sendable, Equatable {
        /// Why, one phrase a reason, such as `among the last 3`; never empty.
        case keep(reasons: [String])
        /// Why, as a sentence.
        case delete(reason: String)
    }

    public struct Decision: Sendable, Equatable {
        public var number: UInt64
        public var step: UInt64
        public var verdict: Verdict

        public var isKept: Bool {
            if case .keep = verdict { true } else { false }
        }
    }

    /// Decides for each iteration of one run, in the order of their steps.
    ///
    /// Without a policy everything is kept. Otherwise, whatever the rules and the size limit say, these stay:
    /// every pinned iteration, the step of every milestone, and the newest complete iteration (the greatest
    /// step that is complete and not superseded; if there is none, the greatest that is complete).
    ///
    /// The rules are a union: an iteration goes only if no rule keeps it and at least one rule judged it.
    /// - *last N*, *every K* and *first* go by the place among the steps. Superseded iterations have no place
    ///   there, so these rules never keep them. A damaged iteration takes no place from a complete one: it is
    ///   kept where it would be if it were complete, but N complete ones are kept beside it.
    /// - *every K*: an iteration is the first at or after a multiple of K if no other lies between the last
    ///   multiple and itself. 0 is a multiple, so the run's first iteration is always kept by it.
    /// - *within*: saved no longer before the newest complete iteration than that.
    /// - *best N* judges only iterations that have the metric. One without it is neither kept nor let go by
    ///   this rule: under best rules alone it stays (its evaluation may be still to come), but beside *last
    ///   3*, say, it goes once it is not among the last 3. NaN is a value, the worst: it takes no place among
    ///   the best and can go.
    /// - Milestones only protect: a policy of milestones alone lets nothing go.
    ///
    /// The size limit comes last: while the `storedBytes` of what is kept exceed it, superseded iterations go
    /// first, then the others, the smallest step first. It is an estimate: bytes that an iteration shares
    /// with others stay in the store when it goes, and what it added is not exactly what comes back. O(n log
    /// n) for n iterations and a fixed policy.
    public static func decide(_ candidates: [Candidate], policy: Policy?) -> [Decision] {
        let ordered = candidates.sorted { ($0.step, $0.number) < ($1.step, $1.number) }
        guard let policy, !policy.isEmpty else {
            return ordered.map { Decision($0, .keep(reasons: ["the run has no policy"])) }
        }
        let rules = RetentionRules(policy, ordered)
        let protections = ordered.map(rules.protections)
        var verdicts: [Verdict] = []
        for (index, candidate) in ordered.enumerated() {
            verdicts.append(rules.verdict(candidate, protections: protections[index]))
        }
        if let limit = policy.maxSize {
            let free = ordered.indices.filter { protections[$0].isEmpty }
            let oldestFirst = free.filter { ordered[$0].superseded } + free.filter { !ordered[$0].superseded }
            applyLimit(limit, to: &verdicts, of: ordered, in: oldestFirst)
        }
        return zip(ordered, verdicts).map { Decision($0, $1) }
    }

    private static func applyLimit(
        _ limit: UInt64, to verdicts: inout [Verdict], of candidates: [Candidate], in order: [Int]
    ) {
        // A damaged store may claim anything, so the sum saturates instead of trapping.
        func sum() -> UInt64 {
            var total: UInt64 = 0
            for (candidate, verdict) in zip(candidates, verdicts) {
                guard case .keep = verdict else { continue }
                let (next, overflow) = total.addingReportingOverflow(candidate.storedBytes)
                if overflow { return .max }
                total = next
            }
            return total
        }
        var total = sum()
        for index in order {
            guard total > limit else { return }
            guard case .keep = verdicts[index] else { continue }
            let what = candidates[index].superseded ? "a superseded" : "the oldest unpinned"
            verdicts[index] = .delete(
                reason:
                    "the run's \(total) bytes are over the limit of \(limit), and this is \(what) iteration")
            total = total == .max ? sum() : total - candidates[index].storedBytes
        }
    }
}

extension Retention.Decision {
    init(_ candidate: Retention.Candidate, _ verdict: Retention.Verdict) {
        self.init(number: candidate.number, step: candidate.step, verdict: verdict)
    }
}
