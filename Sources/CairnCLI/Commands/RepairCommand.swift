import ArgumentParser
import Cairn

struct RepairCommand: StoreCommand {
    static let configuration = CommandConfiguration(
        commandName: "repair",
        abstract: "Rebuild the index, and fill in damaged chunks.",
        discussion: """
            Sources are folders, files or other stores that may still hold the same bytes: the training's \
            output, a copy of the store, an export. They are only read. The exit status is 3 where damage \
            remains; cairn delete --damaged gives up what can't be healed.

            Examples:
              cairn repair
              cairn repair --from /backup/store out/checkpoint-500
            """)

    @Option(
        name: .customLong("from"), parsing: .upToNextOption,
        help: ArgumentHelp("Where the same bytes may be found.", valueName: "path"), completion: .file())
    var sources: [String] = []

    @OptionGroup var common: CommonOptions

    var writes: Bool { true }
    var repairs: Bool { true }

    func perform(_ session: Session) throws -> Answer {
        let report = try session.store.repair(from: sources, progress: session.progress)
        let status = report.ok ? ExitStatus.done : ExitStatus.damage
        return .report(json: JSON(report), text: Self.text(report), status: status)
    }

    static func text(_ report: RepairReport) -> String {
        let lines = report.problems.map(\.printable) + Sentences.damage(report.damaged)
        let repaired =
            "filled in \(Units.count(report.repairedChunks, "chunk")), \(Units.size(report.repairedBytes))"
        let verdict =
            report.ok
            ? "no damage left"
            : "damage left in \(Units.count(report.damaged.count, "iteration")); give more sources with --from, "
                + "or give them up with cairn delete --damaged"
        let summary = Sentences.joined([
            "rebuilt the index of \(Units.count(report.indexedChunks, "chunk"))",
            report.repairedChunks > 0 ? repaired : nil,
            report.searchedBytes > 0 ? "searched \(Units.size(report.searchedBytes))" : nil,
            Units.duration(report.seconds), verdict,
        ])
        return Sentences.lines(lines + [summary])
    }
}
