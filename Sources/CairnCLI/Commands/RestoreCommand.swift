import ArgumentParser
import Cairn

struct RestoreCommand: StoreCommand {
    static let configuration = CommandConfiguration(
        commandName: "restore",
        abstract: "Write an iteration's files, byte for byte.",
        discussion: """
            Every byte is checked. The destination appears at once, when all of it is written.

            Examples:
              cairn restore latest out/checkpoint-500
              cairn restore main@500 weights --path '*.safetensors'
              cairn restore main@500 rescued --skip-damaged
            """)

    @Argument(help: .reference, completion: StoreCompletion.references)
    var reference: String

    @Argument(
        help: ArgumentHelp("Where to; it must not exist without --force.", valueName: "dest"),
        completion: .file())
    var destination: String

    @Option(name: .customLong("path"), help: ArgumentHelp("Only the files that match.", valueName: "glob"))
    var glob: String?

    @Flag(help: "Take the place of a destination that exists.")
    var force = false

    @Flag(help: "Leave out damaged files instead of failing; exit status 3 where there are any.")
    var skipDamaged = false

    @OptionGroup var common: CommonOptions

    var writes: Bool { false }

    func perform(_ session: Session) throws -> Answer {
        let options = RestoreOptions(path: glob, force: force, skipDamaged: skipDamaged)
        let result = try session.store.restore(
            reference, to: destination, options: options, progress: session.progress)
        return Self.answer(result, "restored")
    }

    static func answer(_ result: RestoreResult, _ verb: String) -> Answer {
        let status = result.damagedFiles.isEmpty ? ExitStatus.done : ExitStatus.damage
        return .report(
            json: JSON(result), text: text(result, verb), warnings: result.warnings, status: status)
    }

    static func text(_ result: RestoreResult, _ verb: String) -> String {
        let summary = Sentences.joined([
            "\(verb) \(result.run)@\(result.step) to \(result.path)".printable,
            Sentences.contents(bytes: result.bytes, files: result.files), Units.duration(result.seconds),
            Units.rate(result.bytes, seconds: result.seconds),
        ])
        return Sentences.lines([summary] + result.damagedFiles.map { "damaged, left out: \($0.printable)" })
    }
}
