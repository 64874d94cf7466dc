import ArgumentParser
import Cairn

struct CollectCommand: StoreCommand {
    static let configuration = CommandConfiguration(
        commandName: "gc",
        abstract: "Apply the policies, and give space back.",
        discussion: """
            Examples:
              cairn gc --dry-run
              cairn gc
            """)

    @Flag(help: "Say what would go, and delete nothing.")
    var dryRun = false

    @OptionGroup var common: CommonOptions

    var writes: Bool { !dryRun }

    func perform(_ session: Session) throws -> Answer {
        let result = try session.store.collect(dryRun: dryRun, progress: session.progress)
        var answer = Answer.report(
            json: JSON(result), text: Self.text(result), warnings: result.warnings)
        answer.isReport = !dryRun
        return answer
    }

    static func text(_ result: CollectionResult) -> String {
        let lines =
            Sentences.deleted(result.deletedIterations, result.dryRun ? "would delete" : "deleted")
            + result.stripped.map { one in
                "\(result.dryRun ? "would keep" : "kept") only the weights of \(one.run)@\(one.step) (\(Units.size(one.droppedBytes)) less)"
                    .printable
            } + Sentences.skipped(result.skipped)
        let summary = Sentences.joined([
            "\(result.dryRun ? "would give back" : "gave back") \(Units.size(result.reclaimedBytes))",
            "\(Units.size(result.liveBytes)) in use", Units.duration(result.seconds),
        ])
        return Sentences.lines(lines + [summary])
    }
}
