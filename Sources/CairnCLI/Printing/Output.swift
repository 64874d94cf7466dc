import ArgumentParser
import Cairn

/// Standard output and standard error.
enum Output {
    /// Prints the answer in the form that was asked for.
    ///
    /// - Throws: `ExitCode` for a status other than 0; an error where standard output can't be written.
    static func answer(_ answer: Answer, _ options: CommonOptions) throws {
        if answer.isSilent { return try end(answer) }
        for warning in answer.warnings { complain("warning: \(warning)") }
        if options.json {
            try write(answer.json().line)
        } else if !(options.quiet && answer.isReport && answer.status == ExitStatus.done) {
            let text = answer.text()
            if !text.isEmpty { try write([UInt8]((text + "\n").utf8)) }
        }
        try end(answer)
    }

    private static func end(_ answer: Answer) throws {
        if answer.status != ExitStatus.done { throw ExitCode(answer.status) }
    }

    /// Writes to standard output. What nobody reads any more is dropped: the work is done, and `cairn list
    /// | head -1` is not a failure.
    static func write(_ bytes: [UInt8]) throws { _ = try Terminal.write(bytes, to: .output) }

    /// One line on standard error. Where that can't be written there is nobody left to tell.
    static func complain(_ message: String) {
        _ = try? Terminal.write([UInt8]("cairn: \(message.printable)\n".utf8), to: .error)
    }
}
