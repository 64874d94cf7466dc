import ArgumentParser
import Cairn

struct ListCommand: StoreCommand {
    static let configuration = CommandConfiguration(
        commandName: "list",
        abstract: "List the iterations.",
        discussion: """
            LOGICAL is the size of the files, STORED what the save added to the store. METRICS begins with \
            the losses, without the timings; cairn show has all.

            Examples:
              cairn list
              cairn list --run qwen3-sft --json | jq '.[].step'
            """)

    @Option(help: ArgumentHelp("Only this run.", valueName: "name"), completion: StoreCompletion.runs)
    var run: String?

    @OptionGroup var common: CommonOptions

    var writes: Bool { false }

    func perform(_ session: Session) throws -> Answer {
        let iterations = try session.store.iterations(run: run)
        return Answer(json: .list(iterations) { JSON($0) }, text: Self.text(iterations, session.style))
    }

    /// What tells iterations apart at a glance: losses first, no runtimes and rates.
    static func metrics(_ metrics: [String: Double]) -> String {
        guard !metrics.isEmpty else { return "" }
        let shown = metrics.filter { !$0.key.hasSuffix("_runtime") && !$0.key.hasSuffix("_per_second") }
        let losses = shown.filter { $0.key.hasSuffix("loss") }
        let others = shown.filter { !$0.key.hasSuffix("loss") }
        return [losses, others].map(Sentences.metrics).filter { !$0.isEmpty }.joined(separator: ", ")
    }

    static func text(_ iterations: [IterationInfo], _ style: Style) -> String {
        guard !iterations.isEmpty else { return "no iterations yet; cairn save PATH makes the first" }
        var table = Table([
            .text("RUN", minimum: 8), .number("STEP"), .number("AGE"), .number("LOGICAL"), .number("STORED"),
            .text("METRICS", minimum: 8, .end), .text("PINS", minimum: 6, .end),
        ])
        for info in iterations {
            table.add([
                info.run, String(info.step), Units.age(of: info.createdAt, now: style.now),
                Units.size(info.logicalBytes), Units.size(info.storedBytes), Self.metrics(info.metrics),
                ((info.superseded ? ["(superseded)"] : []) + info.pins).joined(separator: ", "),
            ])
        }
        return table.text(style)
    }
}
