import ArgumentParser
import Cairn

/// The entry point: arguments in, an exit status out.
@main
enum Program {
    static func main() {
        Terminal.openMissingStreams()
        Interruption.watch()
        // Exits without a word: every message is out by now.
        CairnCommand.exit(withError: ExitCode(run(Array(CommandLine.arguments.dropFirst()))))
    }

    private static func run(_ arguments: [String]) -> Int32 {
        do {
            var command = try CairnCommand.parseAsRoot(arguments)
            try command.run()
            return ExitStatus.done
        } catch {
            return Failure(error, arguments: arguments).report(json: asksForJSON(arguments))
        }
    }

    /// Whether errors go out as JSON: also those of arguments that can't be parsed, so this reads them by
    /// hand.
    static func asksForJSON(_ arguments: [String]) -> Bool {
        arguments.prefix { $0 != "--" }.contains("--json")
    }
}
