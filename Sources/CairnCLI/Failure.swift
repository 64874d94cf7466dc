import ArgumentParser
import Cairn

/// How a command ended other than well, and how to say so.
enum Failure {
    /// The command has said everything already.
    case silent(Int32)
    /// Help, the version, a completion script: what was asked for.
    case answer(String)
    case error(CairnError)

    init(_ error: any Error, arguments: [String]) {
        if let error = error as? CairnError {
            self = .error(error)
        } else if let code = error as? ExitCode {
            self = .silent(code.rawValue)
        } else if CairnCommand.exitCode(for: error).isSuccess {
            self = .answer(CairnCommand.fullMessage(for: error))
        } else if CairnCommand.exitCode(for: error) == .validationFailure {
            self = .error(Self.usageError(CairnCommand.message(for: error), arguments))
        } else {
            // An error that no layer has turned into a sentence.
            self = .error(CairnError(CairnError.Code(rawValue: "internal"), "\(error)"))
        }
    }

    /// ArgumentParser's message as one sentence that ends with where to look.
    static func usageError(_ message: String, _ arguments: [String]) -> CairnError {
        let lines = message.split(whereSeparator: \.isNewline)
        let text = lines.map { $0.trimmingSpaces }.joined(separator: " ")
        let known = CairnCommand.configuration.groupedSubcommands.flatMap(\.subcommands).compactMap {
            $0.configuration.commandName
        }
        let command = arguments.first.flatMap { known.contains($0) ? " " + $0 : nil } ?? ""
        return CairnError(.usage, "\(text.withoutFinalPoint) (see cairn\(command) --help)")
    }

    /// Writes it out. Returns the exit status.
    func report(json: Bool) -> Int32 {
        switch self {
        case .silent(let status): return status
        case .answer(let text):
            // A reader that has gone away is no failure.
            _ = try? Terminal.write([UInt8]((text.hasSuffix("\n") ? text : text + "\n").utf8), to: .output)
            return ExitStatus.done
        case .error(let error):
            if json { _ = try? Terminal.write(Self.json(error).line, to: .output) }
            Output.complain(error.message)
            return ExitStatus.of(error.code)
        }
    }

    /// The contract's `{"error": {"code", "message", "path"}}`; `path` is null where the error is about none.
    static func json(_ error: CairnError) -> JSON {
        .fields(
            (
                "error",
                .fields(
                    ("code", JSON(error.code.rawValue)), ("message", JSON(error.message)),
                    ("path", JSON(optional: error.path)))
            ))
    }
}

extension StringProtocol {
    fileprivate var trimmingSpaces: String {
        String(drop { $0.isWhitespace }.reversed().drop { $0.isWhitespace }.reversed())
    }

    fileprivate var withoutFinalPoint: String { hasSuffix(".") ? String(dropLast()) : String(self) }
}
