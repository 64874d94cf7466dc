import ArgumentParser
import Cairn

/// What a command works with.
struct Session {
    var store: Store
    var progress: Progress
    var style: Style
}

/// What a command has to say: for programs, or for people.
struct Answer {
    var json: () -> JSON
    var text: () -> String
    /// Sentences for standard error, whatever else is printed.
    var warnings: [String] = []
    var status = ExitStatus.done
    /// The text reports what was done, so `--quiet` leaves it out; otherwise it is what was asked for.
    var isReport = false
    private(set) var isSilent = false

    init(json: @autoclosure @escaping () -> JSON, text: @autoclosure @escaping () -> String) {
        self.json = json
        self.text = text
    }

    /// Everything has been said already.
    static var nothing: Answer { Answer(isSilent: true) }

    private init(isSilent: Bool) {
        (json, text) = ({ .null }, { "" })
        self.isSilent = isSilent
    }

    /// An answer that `--quiet` leaves out.
    static func report(
        json: @autoclosure @escaping () -> JSON, text: @autoclosure @escaping () -> String,
        warnings: [String] = [],
        status: Int32 = ExitStatus.done
    ) -> Answer {
        var answer = Answer(json: json(), text: text())
        answer.warnings = warnings
        answer.status = status
        answer.isReport = true
        return answer
    }
}

/// A command that opens a store and answers.
protocol StoreCommand: ParsableCommand {
    var common: CommonOptions { get }
    /// Whether it changes the store.
    var writes: Bool { get }
    /// Whether it works on a store whose index is lost or damaged.
    var repairs: Bool { get }
    func perform(_ session: Session) throws -> Answer
}

extension StoreCommand {
    var repairs: Bool { false }

    func run() throws {
        let store = try common.openStore(changing: writes, repairing: repairs)
        let progress = TerminalProgress.make(quiet: common.quiet)
        // Clears the line also after an error.
        defer { progress.end() }
        let answer = try perform(Session(store: store, progress: progress, style: .current))
        progress.end()
        try Output.answer(answer, common)
    }
}
