import ArgumentParser
import Cairn

struct DiffCommand: StoreCommand {
    static let configuration = CommandConfiguration(
        commandName: "diff",
        abstract: "Compare the tensors of two iterations.",
        discussion: """
            Tensors are compared by the names that they have in the model, whole, whatever files and \
            ranks they lie in: iterations of different layouts that hold the same weights have the same \
            tensors. Whatever no layout puts together is compared as the files hold it.

            Examples:
              cairn diff main@500 main@1000
              cairn diff zero3@500 handover@500
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
        var answer = Answer(json: JSON(diff), text: Self.text(diff, session.style))
        answer.warnings = diff.warnings
        return answer
    }

    static func text(_ diff: IterationDiff, _ style: Style) -> String {
        let counts = [
            "\(Units.count(diff.changed.count, "tensor")) changed",
            "\(Units.grouped(diff.added.count)) added",
            "\(Units.grouped(diff.removed.count)) removed", "\(Units.grouped(diff.unchanged)) unchanged",
        ]
        var parts = [counts.joined(separator: ", ")]
        if diff.parts.count > 1 { parts.append(table(diff.parts, style)) }
        if !diff.changed.isEmpty { parts.append(table(diff.changed, style)) }
        let lines =
            diff.added.map { "+ \(named($0))" } + diff.removed.map { "- \(named($0))" }
            + diff.addedFiles.map { "+ file \($0)" } + diff.removedFiles.map { "- file \($0)" }
            + diff.changedFiles.map { "~ file \($0)" }
        if !lines.isEmpty { parts.append(Sentences.lines(lines.map(\.printable))) }
        return parts.joined(separator: "\n\n")
    }

    private static func named(_ tensor: TensorInfo) -> String {
        "tensor \(tensor.name)" + (tensor.file.map { " in \($0)" } ?? "")
    }

    private static func table(_ parts: [IterationDiff.Part], _ style: Style) -> String {
        var table = Table([
            .text("PART"), .number("CHANGED"), .number("ADDED"), .number("REMOVED"), .number("UNCHANGED"),
        ])
        for part in parts {
            let counts = [part.changed, part.added, part.removed, part.unchanged]
            table.add([part.name] + counts.map { Units.grouped($0) })
        }
        return table.text(style)
    }

    private static func table(_ changes: [IterationDiff.Change], _ style: Style) -> String {
        var table = Table([
            .text("TENSOR", minimum: 20), .number("ELEMENTS"), .number("CHANGED"), .number("BYTES"),
            .number("LARGEST"), .text("FORM", minimum: 10, .end), .text("FILE", minimum: 8),
        ])
        for change in changes {
            table.add([
                change.name, Units.grouped(change.elements),
                Units.percent(change.changedElements, of: change.elements), Units.size(change.changedBytes),
                change.maxAbsDifference.map(Units.value) ?? "", form(change), change.after.file ?? "",
            ])
        }
        return table.text(style)
    }

    /// How dtype and shape have changed; empty where they have not.
    private static func form(_ change: IterationDiff.Change) -> String {
        let forms = [change.before, change.after].map { tensor in
            let parts = change.aspects.compactMap { aspect -> String? in
                switch aspect {
                case .dtype: tensor.dtype
                case .shape: ShowCommand.text(tensor.shape)
                case .values: nil
                }
            }
            return parts.joined(separator: " ")
        }
        return forms[0].isEmpty ? "" : forms.joined(separator: " -> ")
    }
}
