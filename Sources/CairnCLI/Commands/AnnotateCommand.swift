import ArgumentParser
import Cairn

struct AnnotateCommand: StoreCommand {
    static let configuration = CommandConfiguration(
        commandName: "annotate",
        abstract: "Add metrics or a note to an iteration, such as an evaluation's.",
        discussion: """
            Of a metric that is there already the latest value holds.

            Examples:
              cairn annotate main@500 --metric mmlu=0.61
              cairn annotate latest --note "diverged after this one"
            """)

    @Argument(help: .reference, completion: StoreCompletion.references)
    var reference: String

    @Option(
        name: .customLong("metric"),
        help: ArgumentHelp("A metric; nan is a value. Repeatable.", valueName: "name=value"),
        transform: Arguments.metric)
    var metrics: [(name: String, value: Double)] = []

    @Option(parsing: .unconditional, help: ArgumentHelp("A note.", valueName: "text"))
    var note: String?

    @OptionGroup var common: CommonOptions

    var writes: Bool { true }

    func validate() throws {
        if metrics.isEmpty, note?.isEmpty != false {
            throw ValidationError("nothing to add: give --metric NAME=VALUE or --note TEXT")
        }
    }

    func perform(_ session: Session) throws -> Answer {
        let values = Arguments.dictionary(metrics.map { ($0.name, $0.value) })
        let info = try session.store.annotate(reference, metrics: values, note: note)
        let facts = [Sentences.metrics(values), note ?? ""].filter { !$0.isEmpty }.joined(separator: "; ")
        return .report(json: JSON(info), text: "annotated \(info.run)@\(info.step): \(facts)".printable)
    }
}
