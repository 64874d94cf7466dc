import Cairn
import Testing

struct RetentionTests {
    private static let hour: Int64 = 3_600_000_000_000

    /// Iterations at these steps, saved an hour apart, of 10 bytes each, numbered like their steps.
    private static func run(_ steps: [UInt64]) -> [Retention.Candidate] {
        steps.enumerated().map { index, step in
            Retention.Candidate(number: step, step: step, createdAt: Int64(index) * hour, storedBytes: 10)
        }
    }

    private static func kept(_ candidates: [Retention.Candidate], _ policy: Policy?) -> [UInt64] {
        Retention.decide(candidates, policy: policy).filter(\.isKept).map(\.step)
    }

    @Test("without a policy, and with one that says nothing, keeps everything")
    func none() {
        let steps: [UInt64] = [1, 2, 3]
        #expect(Self.kept(Self.run(steps), nil) == steps)
        #expect(Self.kept(Self.run(steps), Policy()) == steps)
        #expect(Self.kept(Self.run(steps), Policy(auto: true)) == steps)
        #expect(Retention.decide([], policy: Policy(keepLast: 1)).isEmpty)
    }

    @Test(
        "keeps the union of what the rules keep",
        arguments: [
            (Policy(keepLast: 2), [400, 500]), (Policy(keepLast: 9), [100, 200, 300, 400, 500]),
            (Policy(keepEvery: 200), [100, 200, 400, 500]),
            (Policy(keepEvery: 1), [100, 200, 300, 400, 500]),
            (Policy(keepEvery: 250), [100, 300, 500]), (Policy(keepEvery: 10_000), [100, 500]),
            (Policy(keepFirst: true), [100, 500]), (Policy(keepLast: 1, keepFirst: true), [100, 500]),
            (Policy(keepWithin: 2 * hour), [300, 400, 500]), (Policy(keepWithin: hour - 1), [500]),
            (Policy(keepLast: 1, milestones: [200, 250]), [200, 500]),
            (Policy(milestones: [200]), [100, 200, 300, 400, 500]),
            (Policy(maxSize: 20), [400, 500]), (Policy(maxSize: 1), [500]),
            (Policy(maxSize: 50), [100, 200, 300, 400, 500]),
            (Policy(keepFirst: true, maxSize: 15), [500]),
            (Policy(milestones: [100], maxSize: 25), [100, 500]),
        ] as [(Policy, [UInt64])])
    func rules(policy: Policy, kept: [UInt64]) {
        #expect(Self.kept(Self.run([300, 100, 500, 200, 400].sorted()), policy) == kept)
        #expect(Self.kept(Self.run([100, 200, 300, 400, 500]).reversed(), policy) == kept)
    }

    @Test("every K keeps the first iteration at or after each multiple, 0 included")
    func every() {
        let steps: [UInt64] = [0, 7, 999, 1001, 1500, 2000, 2001, 5100, 5200]
        #expect(Self.kept(Self.run(steps), Policy(keepEvery: 1000)) == [0, 1001, 2000, 5100, 5200])
    }

    @Test("the newest complete iteration and every pin beat every rule")
    func protection() {
        var run = Self.run([1, 2, 3, 4, 5])
        run[1].pins = ["b", "a"]
        run[4].complete = false
        #expect(Self.kept(run, Policy(keepLast: 1, maxSize: 1)) == [2, 4])
        run[3].superseded = true
        run[4] = Self.run([5])[0]
        run[4].superseded = true
        #expect(Self.kept(run, Policy(keepLast: 1, maxSize: 1)) == [2, 3])
        let decision = Retention.decide(run, policy: Policy(keepLast: 1))[1]
        #expect(decision.verdict == .keep(reasons: ["pinned as a, b"]))
        // Where all are superseded, the last of them is the newest.
        for index in run.indices { run[index].superseded = true }
        #expect(Self.kept(run, Policy(keepLast: 1, maxSize: 1)) == [2, 5])
    }

    @Test("superseded iterations take no place in a count and go first under the size limit")
    func superseded() {
        var run = Self.run([1, 2, 3, 4, 5, 6])
        run[4].superseded = true
        run[5].superseded = true
        #expect(Self.kept(run, Policy(keepLast: 2)) == [3, 4])
        #expect(Self.kept(run, Policy(keepFirst: true)) == [1, 4])
        #expect(Self.kept(run, Policy(maxSize: 40)) == [1, 2, 3, 4])
        #expect(Self.kept(run, Policy(maxSize: 50)) == [1, 2, 3, 4, 6])
        #expect(Self.kept(run, Policy(maxSize: 20)) == [3, 4])
        run[5].pins = ["p"]
        #expect(Self.kept(run, Policy(maxSize: 20)) == [4, 6])
    }

    @Test("a damaged iteration takes no place from a complete one")
    func damaged() {
        var run = Self.run([1, 2, 3, 4, 5])
        run[3].complete = false
        #expect(Self.kept(run, Policy(keepLast: 2)) == [3, 4, 5])
        run[0].complete = false
        #expect(Self.kept(run, Policy(keepFirst: true)) == [1, 2, 5])
        for index in run.indices { run[index].complete = false }
        #expect(Self.kept(run, Policy(keepLast: 1)) == [1, 2, 3, 4, 5])
        #expect(Self.kept(run, Policy(keepLast: 1, maxSize: 20)) == [4, 5])
    }

    @Test("best keeps the best, of equals the earliest, and has no say about what has no value")
    func best() {
        var run = Self.run([1, 2, 3, 4, 5, 6])
        for (index, loss) in [3.0, 1, 1, nil, .nan, 9].enumerated() { run[index].metrics["loss"] = loss }
        let best = Policy.Best(count: 1, metric: "loss")
        #expect(Self.kept(run, Policy(keepBest: [best])) == [2, 4, 6])
        #expect(Self.kept(run, Policy(keepBest: [.init(count: 2, metric: "loss")])) == [2, 3, 4, 6])
        #expect(
            Self.kept(run, Policy(keepBest: [.init(count: 1, metric: "loss", direction: .max)])) == [4, 6])
        #expect(Self.kept(run, Policy(keepBest: [.init(count: 9, metric: "loss")])) == [1, 2, 3, 4, 6])
        #expect(Self.kept(run, Policy(keepLast: 1, keepBest: [best])) == [2, 6])
        #expect(Self.kept(run, Policy(keepLast: 3, keepBest: [best])) == [2, 4, 5, 6])
        #expect(Self.kept(run, Policy(keepBest: [best, .init(count: 1, metric: "f1")])) == [2, 4, 6])
    }

    @Test("within counts back from the newest iteration, whatever the clocks said")
    func within() {
        var run = Self.run([1, 2, 3])
        run[0].createdAt = .max
        run[2].createdAt = .min
        #expect(Self.kept(run, Policy(keepWithin: 1_000_000_000)) == [1, 2, 3])
        run[2].createdAt = .max
        run[1].createdAt = .min
        #expect(Self.kept(run, Policy(keepWithin: 1_000_000_000)) == [1, 3])
    }

    @Test("gives every reason in words")
    func reasons() {
        var run = Self.run([100, 200, 300])
        run[0].metrics["loss"] = 1
        let policy = Policy(
            keepLast: 1, keepEvery: 300, keepBest: [.init(count: 1, metric: "loss")],
            keepWithin: Self.hour / 2,
            keepFirst: true, milestones: [300])
        let verdicts = Retention.decide(run, policy: policy).map(\.verdict)
        let first = ["the first at or after step 0", "the first", "among the best 1 by loss (min)"]
        #expect(verdicts[0] == .keep(reasons: first))
        let rules = "last 1, every 300, best 1 by loss (min), within 30m, first"
        #expect(verdicts[1] == .delete(reason: "no rule keeps it (\(rules))"))
        let last = [
            "the newest complete iteration", "a milestone", "among the last 1",
            "the first at or after step 300",
            "within 30m of the newest",
        ]
        #expect(verdicts[2] == .keep(reasons: last))
        #expect(
            Retention.decide(run, policy: Policy(maxSize: 25))[0].verdict
                == .delete(
                    reason:
                        "the run's 30 bytes are over the limit of 25, and this is the oldest unpinned "
                        + "iteration"
                ))
    }

    @Test("adds up sizes that no store can have without trapping")
    func absurdSizes() {
        var run = Self.run([1, 2, 3])
        for index in run.indices { run[index].storedBytes = .max }
        #expect(Self.kept(run, Policy(maxSize: 5)) == [3])
    }
}
