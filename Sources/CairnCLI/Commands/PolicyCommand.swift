import ArgumentParser
import Cairn

struct PolicyCommand: StoreCommand {
    static let configuration = CommandConfiguration(
        commandName: "policy",
        abstract: "Show or set what a run keeps.",
        discussion: """
            Without rules it shows them. With rules it adds them to those that the run has, in the place \
            of one of the same kind; --clear drops all others. An iteration stays where any rule keeps it; \
            the newest one and pinned ones always stay. Nothing is deleted before cairn gc, or with --auto \
            the next save.

            Examples:
              cairn policy --keep-last 5 --keep-every 1000
              cairn policy --run sft --keep-best 3:eval_loss:min --auto
              cairn policy --keep-within 36h --milestones 1000,5000
              cairn policy --max-size 500GB
              cairn policy --keep-every 1000 --keep-optimizer-last 2
              cairn policy --clear
            """)

    @Option(
        help: ArgumentHelp("The run (default: the store's only one, or main).", valueName: "name"),
        completion: StoreCompletion.runs)
    var run: String?

    @Option(help: ArgumentHelp("The last N iterations.", valueName: "n"))
    var keepLast: Int?

    @Option(help: ArgumentHelp("The first iteration at or after each multiple of K.", valueName: "k"))
    var keepEvery: UInt64?

    @Option(
        help: ArgumentHelp("The best N by a metric. Repeatable.", valueName: "n:metric[:min|max]"),
        transform: { try Policy.Best(parsing: $0) })
    var keepBest: [Policy.Best] = []

    @Option(
        help: ArgumentHelp(
            "Those within a time before the run's newest, such as 36h or 7d.", valueName: "time"),
        transform: { try DurationText.parse($0) })
    var keepWithin: Int64?

    @Flag(help: "The first iteration.")
    var keepFirst = false

    @Option(
        help: ArgumentHelp("Steps to pin as milestone-STEP when they are saved.", valueName: "n,n"),
        transform: Arguments.steps)
    var milestones: [UInt64]?

    @Option(
        help: ArgumentHelp("The most the run may take; the oldest go first.", valueName: "size"),
        transform: { try ByteSize.parse($0) })
    var maxSize: UInt64?

    @Option(
        help: ArgumentHelp(
            "Of all but the last N that are kept, keep the weights alone: no training goes on from them.",
            valueName: "n"))
    var keepOptimizerLast: Int?

    @Flag(inversion: .prefixedNo, help: "Apply it after every save.")
    var auto: Bool?

    @Flag(help: "Drop the rules that the run has.")
    var clear = false

    @OptionGroup var common: CommonOptions

    private var setsRules: Bool {
        keepLast != nil || keepEvery != nil || !keepBest.isEmpty || keepWithin != nil || keepFirst
            || milestones != nil || maxSize != nil || keepOptimizerLast != nil || auto != nil
    }

    var writes: Bool { setsRules || clear }

    func validate() throws {
        do throws(CairnError) {
            try changed(nil).check()
        } catch {
            throw ValidationError(error.message)
        }
    }

    func perform(_ session: Session) throws -> Answer {
        guard writes else { return try show(session.store) }
        let run = try run ?? session.store.defaultRun()
        // A run may have rules before its first save, but there is nothing to take away then.
        if !setsRules { _ = try session.store.iterations(run: run) }
        let policy = setsRules ? changed(clear ? nil : try session.store.policy(run: run)) : nil
        try session.store.setPolicy(policy, run: run)
        return .report(json: JSON(run: run, policy: policy), text: Self.text(run, policy))
    }

    /// One run's policy as an object; without `--run` all of them as an array.
    private func show(_ store: Store) throws -> Answer {
        if let run {
            _ = try store.iterations(run: run)
            let policy = try store.policy(run: run)
            return Answer(json: JSON(run: run, policy: policy), text: Self.text(run, policy))
        }
        let policies = try store.policies()
        return Answer(
            json: .list(policies) { JSON(run: $0.run, policy: $0.policy) },
            text: policies.isEmpty
                ? "no policies: nothing is ever deleted"
                : policies.map { Self.text($0.run, $0.policy) }.joined(separator: "\n\n"))
    }

    /// The rules that are given, over those that are there.
    private func changed(_ policy: Policy?) -> Policy {
        var policy = policy ?? Policy()
        if let keepLast { policy.keepLast = keepLast }
        if let keepEvery { policy.keepEvery = keepEvery }
        if !keepBest.isEmpty { policy.keepBest = keepBest }
        if let keepWithin { policy.keepWithin = keepWithin }
        if keepFirst { policy.keepFirst = true }
        if let milestones { policy.milestones = Set(milestones).sorted() }
        if let maxSize { policy.maxSize = maxSize }
        if let keepOptimizerLast { policy.keepOptimizerLast = keepOptimizerLast }
        if let auto { policy.auto = auto }
        return policy
    }

    static func text(_ run: String, _ policy: Policy?) -> String {
        guard let policy, !policy.isEmpty else {
            return "\(run) has no policy: nothing is ever deleted".printable
        }
        var lines = ["\(run) keeps".printable]
        if let count = policy.keepLast { lines.append("  the last \(count)") }
        if let steps = policy.keepEvery { lines.append("  the first at or after each multiple of \(steps)") }
        for best in policy.keepBest {
            let direction = best.effectiveDirection == .min ? "smallest" : "greatest"
            lines.append("  the best \(best.count) by \(best.metric) (\(direction))".printable)
        }
        if let time = policy.keepWithin {
            lines.append("  those within \(DurationText.text(time)) of the newest")
        }
        if policy.keepFirst { lines.append("  the first") }
        if !policy.milestones.isEmpty {
            lines.append("  the milestones \(policy.milestones.map { "\($0)" }.joined(separator: ", "))")
        }
        lines.append("  the newest, and what is pinned")
        if let size = policy.maxSize {
            lines.append("  of these at most \(Units.exactSize(size)), the oldest go first")
        }
        if let count = policy.keepOptimizerLast {
            lines.append("  of all but the last \(count) the weights alone, unless a pin holds the whole")
        }
        lines.append(policy.auto ? "applied after every save" : "applied by cairn gc")
        return Sentences.lines(lines)
    }
}
