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
        let known = CairnCommand.configuration.groupedSubcommands.flatMap(\.subcommands).compactMap {
            $0.configuration.commandName
        }
        let first = arguments.first ?? ""
        guard known.contains(first) || first.hasPrefix("--generate-completion-script") else {
            return CairnError(.usage, "\(noCommand(first, known)) (see cairn --help)")
        }
        let lines = message.split(whereSeparator: \.isNewline)
        let text = plain(lines.map { $0.trimmingSpaces }.joined(separator: " "))
        let command = known.contains(first) ? " " + first : ""
        return CairnError(.usage, "\(text.withoutFinalPoint) (see cairn\(command) --help)")
    }

    private static func noCommand(_ word: String, _ known: [String]) -> String {
        if word.hasPrefix("-") { return "'\(word)' is no command: the command comes first, then its options" }
        let near = known.filter { $0.first == word.first && word.isNear($0) }
        let hint = near.isEmpty ? "" : "; did you mean \(near.joined(separator: " or "))?"
        return "there is no command '\(word)'\(hint)"
    }

    /// Where one of our own sentences says what is wrong with a value, only that, behind the option's name.
    private static func plain(_ text: String) -> String {
        let parts = text.split(separator: "' is invalid for '", maxSplits: 1)
        if parts.count == 2, let end = parts[1].firstRange(of: "': ") {
            return "\(parts[1].prefix { $0 != " " && $0 != "'" }): \(parts[1][end.upperBound...])"
        }
        return text.prefix(1).lowercased() + text.dropFirst()
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
            if json { _ = try? Terminal.write(JSON(error).line, to: .output) }
            Output.complain(error.message)
            return ExitStatus.of(error.code)
        }
    }
}

extension StringProtocol {
    fileprivate var trimmingSpaces: String {
        String(drop { $0.isWhitespace }.reversed().drop { $0.isWhitespace }.reversed())
    }

    /// Whether at most two letters have to be put, dropped or changed to make the other word of it, and not all of them.
    fileprivate func isNear(_ other: some StringProtocol) -> Bool {
        var distances = Array(0...other.count)
        for (row, letter) in enumerated() {
            var diagonal = distances[0]
            distances[0] = row + 1
            for (column, wanted) in other.enumerated() {
                let change = diagonal + (letter == wanted ? 0 : 1)
                diagonal = distances[column + 1]
                distances[column + 1] = Swift.min(change, diagonal + 1, distances[column] + 1)
            }
        }
        return distances[other.count] <= 2 && distances[other.count] * 2 <= other.count
    }

    fileprivate var withoutFinalPoint: String { hasSuffix(".") ? String(dropLast()) : String(self) }
}
