import Cairn
import Testing

/// The rules again, each as the sentence that defines it, with no thought for speed.
private struct NaiveRetention {
    var all: [Retention.Candidate]
    var policy: Policy

    private var placed: [Retention.Candidate] { all.filter { $0.complete && !$0.superseded } }

    private var newest: Retention.Candidate? {
        placed.max { $0.step < $1.step } ?? all.filter(\.complete).max { $0.step < $1.step }
    }

    private func isProtected(_ it: Retention.Candidate) -> Bool {
        !it.pins.isEmpty || policy.milestones.contains(it.step) || it.number == newest?.number
    }

    /// What the rules would say if this iteration were complete and competed with the complete ones.
    private func opinions(_ it: Retention.Candidate) -> [Bool] {
        let others = placed.filter { $0.number != it.number }
        var opinions: [Bool] = []
        if let count = policy.keepLast {
            let last = (others + [it]).map(\.step).sorted().suffix(count)
            opinions.append(!it.superseded && last.contains(it.step))
        }
        if let every = policy.keepEvery {
            let multiples = (0...(it.step / every)).map { $0 * every }
            let firsts = multiples.map { multiple in
                (others + [it]).map(\.step).filter { $0 >= multiple }.min()
            }
            opinions.append(!it.superseded && firsts.contains(it.step))
        }
        if policy.keepFirst {
            opinions.append(!it.superseded && (others + [it]).map(\.step).min() == it.step)
        }
        if let within = policy.keepWithin, let newest {
            opinions.append(it.createdAt >= newest.createdAt - within)
        }
        for rule in policy.keepBest {
            guard let value = it.metrics[rule.metric] else { continue }
            let better = all.filter { other in
                guard other.complete, other.number != it.number, let theirs = other.metrics[rule.metric]
                else {
                    return false
                }
                if theirs.isNaN { return false }
                if theirs == value { return other.step < it.step }
                return rule.effectiveDirection == .min ? theirs < value : theirs > value
            }
            opinions.append(!value.isNaN && better.count < rule.count)
        }
        return opinions
    }

    func kept() -> Set<UInt64> {
        if policy.isEmpty { return Set(all.map(\.number)) }
        var kept = all.filter { it in
            let opinions = opinions(it)
            return isProtected(it) || opinions.isEmpty || opinions.contains(true)
        }
        if let limit = policy.maxSize {
            while kept.map(\.storedBytes).reduce(0, +) > limit {
                let free = kept.filter { !isProtected($0) }
                let first =
                    free.filter(\.superseded).min { $0.step < $1.step } ?? free.min { $0.step < $1.step }
                guard let first else { break }
                kept.removeAll { $0.number == first.number }
            }
        }
        return Set(kept.map(\.number))
    }
}

struct RetentionOracleTests {
    @Test(
        "agrees with a naive implementation on random runs and policies", arguments: 0..<40 as Range<UInt64>)
    func oracle(seed: UInt64) {
        var random = SeededGenerator(seed: seed)
        for round in 0..<100 {
            let candidates = Self.candidates(&random)
            let policy = Self.policy(&random)
            let decisions = Retention.decide(candidates.shuffled(using: &random), policy: policy)
            let kept = Set(decisions.filter(\.isKept).map(\.number))
            let expected = NaiveRetention(all: candidates, policy: policy).kept()
            #expect(kept == expected, "seed \(seed), round \(round): \(policy.json)\n\(candidates)")
            #expect(decisions.map(\.step) == candidates.map(\.step).sorted())
            for decision in decisions {
                switch decision.verdict {
                case .keep(let reasons): #expect(!reasons.isEmpty && reasons.allSatisfy { !$0.isEmpty })
                case .delete(let reason): #expect(!reason.isEmpty && !reason.hasSuffix("."))
                }
            }
        }
    }

    private static func candidates(_ random: inout SeededGenerator) -> [Retention.Candidate] {
        let steps = Set(
            (0..<Int.random(in: 0...14, using: &random)).map { _ in UInt64.random(in: 0...30, using: &random)
            })
        let values: [Double] = [0, 1, 2, -1, .nan, .infinity, -.infinity]
        return steps.sorted().map { step in
            var metrics: [String: Double] = [:]
            for name in ["loss", "acc"] where Bool.random(using: &random) {
                metrics[name] = values.randomElement(using: &random)
            }
            return Retention.Candidate(
                number: step * 7 % 31, step: step,
                createdAt: Int64.random(in: 0...20, using: &random) * 1_000_000_000,
                storedBytes: UInt64.random(in: 0...5, using: &random), metrics: metrics,
                pins: Int.random(in: 0..<8, using: &random) == 0 ? ["p"] : [],
                superseded: Int.random(in: 0..<5, using: &random) == 0,
                complete: Int.random(in: 0..<5, using: &random) != 0)
        }
    }

    private static func policy(_ random: inout SeededGenerator) -> Policy {
        var policy = Policy()
        func chance() -> Bool { Int.random(in: 0..<3, using: &random) == 0 }
        if chance() { policy.keepLast = .random(in: 1...5, using: &random) }
        if chance() { policy.keepEvery = .random(in: 1...12, using: &random) }
        while chance() {
            let direction = ([.min, .max, nil] as [Direction?]).randomElement(using: &random)!
            let metric = ["loss", "acc", "none"].randomElement(using: &random)!
            policy.keepBest.append(
                .init(count: .random(in: 1...4, using: &random), metric: metric, direction: direction))
        }
        if chance() { policy.keepWithin = .random(in: 1...10, using: &random) * 1_000_000_000 }
        if chance() { policy.keepFirst = true }
        if chance() { policy.milestones = [3, 17] }
        if chance() { policy.maxSize = .random(in: 1...30, using: &random) }
        return policy
    }
}
