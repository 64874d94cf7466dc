import ArgumentParser
import Cairn

struct ResumeCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "resume",
        abstract: "Bring back what a training goes on from, and print its path.",
        discussion: """
            The newest valid iteration of folder and store together, saved first where only the folder has \
            it, is put where the training looks for it; what is not complete and newer is moved to \
            .cairn-set-aside-0 in the same folder. Nothing is deleted. Prints the path to give to the trainer, or nothing where it starts from \
            scratch: the store has no iteration yet. Run it before every start, on each node.

            Examples:
              cairn resume out
              python train.py --resume_from_checkpoint "$(cairn resume out --run sft)"
              cairn resume out --ref 400
              cairn resume out --ref pointer --json
            """)

    @Argument(help: "The folder that the training writes to.", completion: .directory)
    var path: String

    @Option(
        name: .customLong("run"),
        help: ArgumentHelp(
            "The run (default: the folder's run, the store's only one, or main).", valueName: "name"),
        completion: StoreCompletion.runs)
    var runName: String?

    @Option(
        name: .customLong("ref"),
        help: ArgumentHelp(
            "Go back to this iteration; pointer: to the one that the framework's own pointer names.",
            valueName: "ref"), completion: StoreCompletion.references)
    var reference: String?

    @Option(help: ArgumentHelp("Only iterations of this layout.", valueName: "name"))
    var layout: String?

    @Option(
        help: ArgumentHelp(
            "Only these ranks' files, and those that all read, such as 0-7.", valueName: "ranks"),
        transform: { try Self.ranks($0) })
    var ranks: ClosedRange<Int>?

    @Flag(name: .customLong("no-optimizer"), help: "Leave the optimizer's state in the store.")
    var withoutOptimizer = false

    @Flag(help: "Mend paths in state files that point to where the training was before.")
    var relocate = false

    @Flag(help: "A missing store, or a run that it does not know, means to start from scratch.")
    var firstRun = false

    @Flag(help: "Take files of the size and time that were saved for what was saved, without reading them.")
    var quick = false

    @OptionGroup var common: CommonOptions

    static func ranks(_ text: String) throws -> ClosedRange<Int> {
        let parts = text.split(separator: "-", omittingEmptySubsequences: false).map { Int($0) }
        guard parts.count <= 2, let first = parts.first ?? nil, let last = parts.last ?? nil, first >= 0,
            first <= last
        else { throw ValidationError("give one rank, or the first and the last, such as 0-7") }
        return first...last
    }

    func run() throws {
        let options = ResumeOptions(
            run: runName, reference: reference, layout: layout, ranks: ranks,
            withoutOptimizer: withoutOptimizer,
            relocate: relocate, firstRun: firstRun, quick: quick)
        let store: Store
        do {
            store = try common.openStore()
        } catch let error as CairnError where error.code == .notAStore {
            guard firstRun, try !Checkpoints.hasIterations(at: path) else {
                throw CairnError(
                    .usage, error.message + ", or pass --first-run where no training has saved anything yet",
                    path: error.path)
            }
            return try Output.answer(Self.answer(ResumeResult()), common)
        }
        let progress = TerminalProgress.make(quiet: common.quiet)
        defer { progress.end() }
        let result = try store.resume(path, options: options, progress: progress)
        progress.end()
        try Output.answer(Self.answer(result, aside: try Checkpoints.setAside(at: path)), common)
    }

    static func answer(_ result: ResumeResult, aside: (path: String, bytes: UInt64)? = nil) -> Answer {
        var answer = Answer(json: JSON(result, aside: aside?.bytes ?? 0), text: result.path ?? "")
        answer.warnings =
            result.setAside.map {
                "\($0.path) is \($0.newPath) now: \($0.reasons.joined(separator: "; "))"
            } + result.notes
        if let aside { answer.warnings.append(sentence(aside)) }
        return answer
    }

    /// What takes space and is nobody's business but the user's.
    static func sentence(_ aside: (path: String, bytes: UInt64)) -> String {
        "\(aside.path) holds what was set aside, \(Units.size(aside.bytes)); remove it when nobody needs it any more"
    }
}
