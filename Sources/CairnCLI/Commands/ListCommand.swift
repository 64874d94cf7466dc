import ArgumentParser
import Cairn

struct ListCommand: StoreCommand {
    static let configuration = CommandConfiguration(
        commandName: "list",
        abstract: "List the iterations.",
        discussion: """
            LOGICAL is the size of the files, STORED what the save added to the store.

            Examples:
              cairn list
              cairn list --run qwen3-sft --json | jq '.[].step'
            """)

    @OptionGroup var common: CommonOptions

    @Option(help: ArgumentHelp("Only this run.", valueName: "name"))
    var run: String?

    var writes: Bool { false }

    func perform(_ session: Session) throws -> Answer {
        let iterations = try session.store.iterations(run: run)
        return Answer(json: .list(iterations) { JSON($0) }, text: Self.text(iterations, session.style))
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
                Units.size(info.logicalBytes), Units.size(info.storedBytes), Sentences.metrics(info.metrics),
                (info.pins + (info.superseded ? ["(superseded)"] : [])).joined(separator: ", "),
            ])
        }
        return table.text(style)
    }
}
