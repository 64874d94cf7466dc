internal import Platform

/// A policy made ready for the iterations of one run: every question about one of them is then a look-up.
struct RetentionRules {
    private let policy: Policy
    private let milestones: Set<UInt64>
    /// The newest complete iteration, where any is complete.
    private let newest: Retention.Candidate?
    /// The steps of the iterations that have a place: complete and not superseded; ascending.
    private let steps: [UInt64]
    /// For each best rule what ranks above the first that it does not keep: the numbers of those that it
    /// keeps.
    private let best: [(rule: Policy.Best, cut: Rank?)]
    /// What the rules are called where none of them keeps an iteration.
    private let names: String

    /// A place among the best: the value, and of equals the earliest.
    private struct Rank {
        var value: Double
        var step: UInt64
        var number: UInt64
    }

    /// - Parameter ordered: the iterations by step.
    init(_ policy: Policy, _ ordered: [Retention.Candidate]) {
        self.policy = policy
        milestones = Set(policy.milestones)
        let placed = ordered.filter { $0.complete && !$0.superseded }
        newest = placed.last ?? ordered.last(where: \.complete)
        steps = placed.map(\.step)
        best = policy.keepBest.map { rule in (rule, Self.cut(rule, ordered)) }
        names = Self.names(of: policy)
    }

    /// Why nothing may delete it: empty where rules may.
    func protections(_ candidate: Retention.Candidate) -> [String] {
        var reasons: [String] = []
        if candidate.number == newest?.number { reasons.append("the newest complete iteration") }
        if !candidate.pins.isEmpty { reasons.append("pinned as \(listed(candidate.pins.sorted()))") }
        if milestones.contains(candidate.step) { reasons.append("a milestone") }
        return reasons
    }

    func verdict(_ candidate: Retention.Candidate, protections: [String]) -> Retention.Verdict {
        var reasons = protections
        var isJudged = false
        /// A rule that has a say about it, and whether it keeps it.
        func judge(_ isKept: Bool, _ reason: @autoclosure () -> String) {
            isJudged = true
            if isKept { reasons.append(reason()) }
        }
        let hasPlace = !candidate.superseded
        // Of those that have a place, how many have a smaller step.
        let below = steps.indices.partitioningIndex { steps[$0] >= candidate.step }
        if let count = policy.keepLast {
            let above = steps.count - steps.indices.partitioningIndex { steps[$0] > candidate.step }
            judge(hasPlace && above < count, "among the last \(count)")
        }
        if let every = policy.keepEvery {
            let multiple = candidate.step / every * every
            let isFirst = below == 0 || steps[below - 1] < multiple
            judge(hasPlace && isFirst, "the first at or after step \(multiple)")
        }
        if policy.keepFirst { judge(hasPlace && below == 0, "the first") }
        if let within = policy.keepWithin, let newest {
            let (oldest, overflow) = newest.createdAt.subtractingReportingOverflow(within)
            judge(
                overflow || candidate.createdAt >= oldest, "within \(DurationText.text(within)) of the newest"
            )
        }
        for (rule, cut) in best {
            guard let value = candidate.metrics[rule.metric] else { continue }
            let isKept = !value.isNaN && cut.map { !Self.precedes($0, candidate, value, rule) } ?? true
            judge(
                isKept, "among the best \(rule.count) by \(rule.metric) (\(rule.effectiveDirection.rawValue))"
            )
        }
        if reasons.isEmpty, isJudged { return .delete(reason: "no rule keeps it (\(names))") }
        if reasons.isEmpty { reasons = ["no rule judges it"] }
        return .keep(reasons: reasons)
    }

    /// The worst of the N best complete iterations; nil where there are not even N.
    private static func cut(_ rule: Policy.Best, _ ordered: [Retention.Candidate]) -> Rank? {
        let direction = rule.effectiveDirection
        var ranks: [Rank] = []
        for candidate in ordered where candidate.complete {
            guard let value = candidate.metrics[rule.metric], !value.isNaN else { continue }
            ranks.append(Rank(value: value, step: candidate.step, number: candidate.number))
        }
        guard ranks.count >= rule.count else { return nil }
        ranks.sort { a, b in
            if a.value != b.value { return direction.prefers(a.value, to: b.value) }
            return (a.step, a.number) < (b.step, b.number)
        }
        return ranks[rule.count - 1]
    }

    /// Whether the cut ranks strictly above the iteration, which is then not among the best.
    private static func precedes(
        _ cut: Rank, _ candidate: Retention.Candidate, _ value: Double, _ rule: Policy.Best
    ) -> Bool {
        if cut.value != value { return rule.effectiveDirection.prefers(cut.value, to: value) }
        return (cut.step, cut.number) < (candidate.step, candidate.number)
    }

    private static func names(of policy: Policy) -> String {
        var names: [String] = []
        if let count = policy.keepLast { names.append("last \(count)") }
        if let every = policy.keepEvery { names.append("every \(every)") }
        for rule in policy.keepBest {
            names.append("best \(rule.count) by \(rule.metric) (\(rule.effectiveDirection.rawValue))")
        }
        if let within = policy.keepWithin { names.append("within \(DurationText.text(within))") }
        if policy.keepFirst { names.append("first") }
        return names.joined(separator: ", ")
    }
}
