import ArgumentParser
import Cairn

struct LayoutsCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "layouts",
        abstract: "List the layouts that are known, or the iterations in a folder.",
        discussion: """
            Without a folder: what can be done with the checkpoints of each framework. With one: the \
            iterations that it holds, and what those lack that are not complete. Nothing is saved.

            Examples:
              cairn layouts
              cairn layouts out
              cairn layouts out/checkpoint-500 --json
            """)

    @Argument(help: "A training's output folder, or one checkpoint.", completion: .directory)
    var path: String?

    @OptionGroup var common: CommonOptions

    func run() throws {
        let answer: Answer
        if let path {
            let found = try Checkpoints.iterations(at: path)
            answer = Answer(
                json: .list(found) { JSON($0) }, text: Self.text(found, Style.current))
        } else {
            answer = Answer(
                json: .list(Checkpoints.layouts) { JSON($0) },
                text: Self.text(Checkpoints.layouts, Style.current))
        }
        try Output.answer(answer, common)
    }

    static func text(_ layouts: [LayoutInfo], _ style: Style) -> String {
        var table = Table([
            .text("LAYOUT"), .text("SAVE"), .text("SPLIT"), .text("RESUME"), .text("EXPORT TO"),
            .text("TO HF"),
            .text("WRITTEN BY", minimum: 20, .end),
        ])
        for layout in layouts {
            let abilities = layout.abilities
            table.add([
                layout.name, "yes", cell(abilities.splits), cell(abilities.resumes),
                abilities.exportsTo ?? "-",
                cell(abilities.exportsToHuggingFace), abilities.title,
            ])
        }
        return table.text(style)
    }

    private static func cell(_ value: Bool) -> String { value ? "yes" : "-" }

    static func text(_ found: [FoundIteration], _ style: Style) -> String {
        guard !found.isEmpty else { return "no iterations" }
        var table = Table([
            .text("ITERATION", minimum: 12), .text("LAYOUT"), .number("STEP"), .number("RANKS"),
            .text("STATE", minimum: 20, .end),
        ])
        for one in found {
            table.add([
                one.name, one.layout ?? "-", one.step.map { String($0) } ?? "-",
                one.worldSize.map { String($0) } ?? "-", state(one),
            ])
        }
        return table.text(style)
    }

    private static func state(_ found: FoundIteration) -> String {
        if !found.isComplete { return "incomplete: " + found.faults.joined(separator: "; ") }
        if let unhealthy = found.unhealthy { return "unhealthy: " + unhealthy }
        return found.missing.isEmpty
            ? "complete" : "complete, without " + found.missing.joined(separator: ", ")
    }
}
