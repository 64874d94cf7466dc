import ArgumentParser
import Cairn

struct WatchCommand: StoreCommand {
    /// As `WatchOptions.WhenBehind` has them.
    enum WhenBehind: String, ExpressibleByArgument, CaseIterable {
        case newest, all
    }

    static let configuration = CommandConfiguration(
        commandName: "watch",
        abstract: "Save iterations as a training writes them.",
        discussion: """
            An iteration is saved once it is complete and nothing in it has changed for two seconds. The \
            folder may come later, and the training deletes what it likes. Ends with Ctrl-C; started \
            again, it goes on with what the store does not have. Docs/watch.md has a systemd unit.

            Examples:
              cairn watch out
              cairn watch out --run sft --move
              cairn watch out --once --json
            """)

    @Argument(help: "The folder that the training writes to.", completion: .directory)
    var path: String

    @Option(
        help: ArgumentHelp(
            "The run (default: the folder's run, the store's only one, or main).", valueName: "name"),
        completion: StoreCompletion.runs)
    var run: String?

    @Flag(help: "End once everything that is there has been looked at.")
    var once = false

    @Flag(
        help: "Delete each original that was read back, but for those that the training needs.")
    var move = false

    @Option(
        help: ArgumentHelp(
            "What to save where iterations come faster than they are saved: newest, or all.",
            valueName: "which"))
    var whenBehind = WhenBehind.all

    @OptionGroup var common: CommonOptions

    var writes: Bool { true }

    func perform(_ session: Session) throws -> Answer {
        let options = WatchOptions(
            run: run, move: move, once: once, whenBehind: whenBehind == .all ? .all : .newest)
        do {
            try session.store.watch(path, options: options, progress: session.progress) { one in
                session.progress.end()
                say(one)
            }
        } catch let error as CairnError where error.code == .interrupted {
            // Being stopped is how it ends.
            throw ExitCode(ExitStatus.interrupted)
        }
        return .nothing
    }

    /// A line for each iteration, at once.
    private func say(_ one: SavedIteration) {
        let line = common.json ? SaveCommand.json(one).line : [UInt8]((SaveCommand.text(one) + "\n").utf8)
        if case .failed(let error) = one.outcome, !common.json {
            return Output.complain("\(one.name): \(error.message)")
        }
        if common.quiet, !common.json { return }
        // Nobody reads it any more: what it says is done nevertheless.
        try? Output.write(line)
    }
}
