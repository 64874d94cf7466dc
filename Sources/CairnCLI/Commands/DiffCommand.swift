import ArgumentParser
import Cairn

struct DiffCommand: StoreCommand {
    static let configuration = CommandConfiguration(
        commandName: "diff",
        abstract: "Compare the tensors of two iterations.",
        discussion: """
            Examples:
              cairn diff main@500 main@1000
              cairn diff sft@latest base@latest --json
            """)

    @Argument(help: .reference, completion: StoreCompletion.references)
    var first: String

    @Argument(
        help: ArgumentHelp("The iteration to compare it with.", valueName: "ref"),
        completion: StoreCompletion.references)
    var second: String

    @OptionGroup var common: CommonOptions

    var writes: Bool { false }

    func perform(_ session: Session) throws -> Answer {
        let diff = try session.store.diff(first, second, progress: session.progress)
        return Answer(json: Self.json(diff), text: Self.text(diff, session.style))
    }

    static func json(_ diff: IterationDiff) -> JSON {
        .fields(
            ("added", .list(diff.added) { JSON($0) }), ("removed", .list(diff.removed) { JSON($0) }),
            ("changed", .list(diff.changed) { json($0) }), ("unchanged", JSON(diff.unchanged)),
            ("addedFiles", .list(diff.addedFiles)), ("removedFiles", .list(diff.removedFiles)),
            ("changedFiles", .list(diff.changedFiles)))
    }

    private static func json(_ change: IterationDiff.Change) -> JSON {
        .fields(
            ("name", JSON(change.name)), ("elements", JSON(change.elements)),
            ("changedElements", JSON(change.changedElements)), ("changedBytes", JSON(change.changedBytes)),
            ("maxAbsDifference", change.maxAbsDifference.map { .number($0) } ?? .null),
            ("before", JSON(change.before)), ("after", JSON(change.after)))
    }

    static func text(_ diff: IterationDiff, _ style: Style) -> String {
        let counts = [
            "\(Units.count(diff.changed.count, "tensor")) changed",
            "\(Units.grouped(diff.added.count)) added",
            "\(Units.grouped(diff.removed.count)) removed", "\(Units.grouped(diff.unchanged)) unchanged",
        ]
        var parts = [counts.joined(separator: ", ")]
        if !diff.changed.isEmpty { parts.append(table(diff.changed, style)) }
        let lines =
            diff.added.map { "+ tensor \($0.name)" } + diff.removed.map { "- tensor \($0.name)" }
            + diff.addedFiles.map { "+ file \($0)" } + diff.removedFiles.map { "- file \($0)" }
            + diff.changedFiles.map { "~ file \($0)" }
        if !lines.isEmpty { parts.append(Sentences.lines(lines.map(\.printable))) }
        return parts.joined(separator: "\n\n")
    }

    private static func table(_ changes: [IterationDiff.Change], _ style: Style) -> String {
        var table = Table([
            .text("TENSOR", minimum: 20), .number("ELEMENTS"), .number("CHANGED"), .number("BYTES"),
            .number("LARGEST"),
        ])
        for change in changes {
            table.add([
                change.name, Units.grouped(change.elements),
                Units.percent(change.changedElements, of: change.elements), Units.size(change.changedBytes),
                change.maxAbsDifference.map(Units.value) ?? "",
            ])
        }
        return table.text(style)
    }
}
