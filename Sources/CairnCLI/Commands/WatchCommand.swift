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
        var hasFailed = false
        // A watch lasts for days, so that it is the one to say it to.
        if let aside = try? Checkpoints.setAside(at: path) {
            Output.complain(ResumeCommand.sentence(aside))
        }
        do {
            try session.store.watch(
                path, options: options, progress: session.progress,
                report: { one in
                    hasFailed = hasFailed || one.isFailed
                    SaveCommand.say(one, common)
                }, note: { Output.complain($0) })
        } catch let error as CairnError where error.code == .interrupted {
            // Being stopped is how it ends.
            throw ExitCode(ExitStatus.interrupted)
        }
        var answer = Answer.nothing
        answer.status = hasFailed ? ExitStatus.failed : ExitStatus.done
        return answer
    }
}
