import ArgumentParser
import Cairn

struct DeleteCommand: StoreCommand {
    static let configuration = CommandConfiguration(
        commandName: "delete",
        abstract: "Forget iterations, or a whole run.",
        discussion: """
            A pinned iteration and the newest one of a run are refused. The space comes back with cairn gc.

            Examples:
              cairn delete main@100 main@200
              cairn delete --run old-experiment
              cairn delete --damaged
            """)

    @Argument(
        help: ArgumentHelp("The iterations: [RUN@]SELECTOR, such as main@500.", valueName: "ref"),
        completion: StoreCompletion.references)
    var references: [String] = []

    @Option(
        help: ArgumentHelp("All iterations of this run.", valueName: "name"), completion: StoreCompletion.runs
    )
    var run: String?

    @Flag(help: "All iterations that can't be read whole.")
    var damaged = false

    @OptionGroup var common: CommonOptions

    var writes: Bool { true }

    func validate() throws {
        let ways = [!references.isEmpty, run != nil, damaged].filter { $0 }.count
        if ways == 0 { throw ValidationError("what to delete? give iterations, or --run NAME, or --damaged") }
        if ways > 1 {
            throw ValidationError(
                "give iterations, or --run NAME, or --damaged, but only one of these (RUN@STEP names a run)")
        }
    }

    func perform(_ session: Session) throws -> Answer {
        let result =
            if let run {
                try session.store.deleteRun(run)
            } else if damaged {
                try session.store.deleteDamaged()
            } else {
                try session.store.delete(references)
            }
        return .report(json: JSON(result), text: Self.text(result))
    }

    static func text(_ result: DeleteResult) -> String {
        var lines = Sentences.deleted(result.deleted, "deleted", withReasons: false)
        lines += Sentences.skipped(result.skipped)
        if lines.isEmpty { return "nothing to delete" }
        if !result.deleted.isEmpty { lines.append("cairn gc gives their space back") }
        return Sentences.lines(lines)
    }
}
