import ArgumentParser
import Cairn

struct VerifyCommand: StoreCommand {
    static let configuration = CommandConfiguration(
        commandName: "verify",
        abstract: "Check that everything can be read back.",
        discussion: """
            Without references it checks the whole store. Damage is listed by iteration, file and tensor, \
            and the exit status is 3 then.

            Examples:
              cairn verify
              cairn verify --quick
              cairn verify latest before-anneal
              cairn verify latest --resumable
            """)

    @Argument(
        help: ArgumentHelp("Only these iterations.", valueName: "ref"), completion: StoreCompletion.references
    )
    var references: [String] = []

    @Flag(help: "Only the structure, not every byte.")
    var quick = false

    @Flag(help: "Whether a training can go on from them: what is missing, by its layout, not by its bytes.")
    var resumable = false

    @OptionGroup var common: CommonOptions

    // What is found damaged is marked, so that the next save of the same bytes writes them again: where that is possible.
    var writes: Bool { false }
    // The index is looked at before it is read.
    var repairs: Bool { true }

    func validate() throws {
        if resumable, references.isEmpty { throw ValidationError("--resumable needs a REF, such as latest") }
        if resumable, quick {
            throw ValidationError("--resumable looks at no bytes, so --quick says nothing")
        }
    }

    func perform(_ session: Session) throws -> Answer {
        if resumable { return try checkResumable(session.store) }
        let report = try session.store.verify(references, quick: quick, progress: session.progress)
        let status = report.ok ? ExitStatus.done : ExitStatus.damage
        return .report(json: JSON(report), text: Self.text(report), status: status)
    }

    static func text(_ report: VerifyReport) -> String {
        let lines = report.problems.map(\.printable) + Sentences.damage(report.damaged)
        let verdict =
            report.ok
            ? "no damage"
            : "damage in \(Units.count(report.damaged.count, "iteration")); see cairn repair --help"
        let summary = Sentences.joined([
            "checked \(Units.count(report.iterations, "iteration"))",
            report.quick
                ? "structure only"
                : "\(Units.size(report.checkedBytes)) in \(Units.count(report.chunks, "chunk"))",
            Units.duration(report.seconds), verdict,
        ])
        return Sentences.lines(lines + [summary])
    }

    private func checkResumable(_ store: Store) throws -> Answer {
        let found = try references.map { try store.resumability($0) }
        let isFine = found.allSatisfy(\.lacking.isEmpty)
        return .report(
            json: .list(found) { JSON($0) },
            text: Sentences.lines(
                found.map { one in
                    let name = "\(one.run)@\(one.step) (\(one.layout))".printable
                    return one.lacking.isEmpty
                        ? "\(name): nothing is missing"
                        : "\(name) lacks: " + one.lacking.joined(separator: "; ").printable
                }), status: isFine ? ExitStatus.done : ExitStatus.failed)
    }
}
