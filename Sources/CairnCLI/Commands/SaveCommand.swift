import ArgumentParser
import Cairn

struct SaveCommand: StoreCommand {
    /// What `--only` can name.
    enum Part: String, ExpressibleByArgument, CaseIterable {
        case model
    }

    static let configuration = CommandConfiguration(
        commandName: "save",
        abstract: "Save a checkpoint folder or file.",
        discussion: """
            Step and metrics are read from the checkpoint where it has them.

            Examples:
              cairn save out/checkpoint-500
              cairn save out/checkpoint-500 --metric eval_loss=1.83 --pin before-anneal
              cairn save model.safetensors --run sft --step 1000 --meta dataset=c4
              cairn save sft/checkpoint-100 --run sft --base base-model@latest
              cairn save out/checkpoint-500 --dry-run
              cairn save out --all --move
            """)

    @Argument(help: "The checkpoint.", completion: .file())
    var path: String

    @Option(
        help: ArgumentHelp(
            "The run (default: the folder's run, the store's only one, or main).", valueName: "name"),
        completion: StoreCompletion.runs)
    var run: String?

    @Option(
        parsing: .unconditional, help: ArgumentHelp("The step.", valueName: "n"),
        transform: { try Step.parse($0) })
    var step: UInt64?

    @Option(
        name: .customLong("metric"),
        help: ArgumentHelp("A metric; nan is a value. Repeatable.", valueName: "name=value"),
        transform: Arguments.metric)
    var metrics: [(name: String, value: Double)] = []

    @Option(
        name: .customLong("meta"),
        help: ArgumentHelp("Anything worth knowing, as text. Repeatable.", valueName: "name=value"),
        transform: Arguments.metadata)
    var metadata: [(name: String, json: String)] = []

    @Option(
        name: .customLong("meta-file"),
        help: ArgumentHelp("A JSON object with more of that.", valueName: "path"),
        completion: .file(extensions: ["json"]))
    var metadataFile: String?

    @Option(help: ArgumentHelp("A name that protects the iteration from every deletion.", valueName: "name"))
    var pin: String?

    @Flag(help: "Take the place of another iteration at the same step.")
    var replace = false

    @Flag(help: "Save what symbolic links point to, not the links.")
    var followLinks = false

    @Option(help: ArgumentHelp("Leave the rest out, such as the optimizer's state.", valueName: "part"))
    var only: Part?

    @Option(
        help: ArgumentHelp(
            "An iteration, also of another run, that is most alike (default: the run's one before).",
            valueName: "ref"), completion: StoreCompletion.references)
    var base: String?

    @Flag(help: "Every complete iteration of a training's output folder that the store does not have.")
    var all = false

    @Flag(
        help: "With --all: delete each original that was read back, but for those that a training needs.")
    var move = false

    @Flag(help: "Hash everything, instead of telling by fingerprints what has not changed.")
    var rehash = false

    @Flag(help: "Read and compare everything, and write nothing.")
    var dryRun = false

    @OptionGroup var common: CommonOptions

    var writes: Bool { !dryRun }

    func validate() throws {
        if move, !all { throw ValidationError("--move needs --all") }
        let isOfOne =
            step != nil || !metrics.isEmpty || !metadata.isEmpty || metadataFile != nil || pin != nil
            || replace
            || followLinks || only != nil || base != nil || rehash
        if all, isOfOne { throw ValidationError("--all takes --run, --move and --dry-run alone") }
    }

    func perform(_ session: Session) throws -> Answer {
        if all { return try saveAll(session) }
        var options = SaveOptions(
            run: run, step: step, metrics: Arguments.dictionary(metrics.map { ($0.name, $0.value) }),
            pin: pin,
            replace: replace, followLinks: followLinks, dryRun: dryRun, modelOnly: only == .model,
            base: base, rehash: rehash)
        if let metadataFile { try options.addMetadata(fromFile: metadataFile) }
        for (name, json) in metadata { options.metadata[name] = json }
        let result = try session.store.save(path, options: options, progress: session.progress)
        return .report(json: JSON(result), text: Self.text(result), warnings: result.warnings)
    }

    static func text(_ result: SaveResult) -> String {
        let name = "\(result.run)@\(result.step)".printable
        let contents = Sentences.contents(
            bytes: result.logicalBytes, files: result.files, tensors: result.tensors)
        let time = Units.duration(result.seconds)
        if result.unchanged {
            return Sentences.joined(["\(name) is there already, with the same bytes", contents, time])
        }
        let new =
            "new \(Units.size(result.newBytes)) (\(Units.percent(result.newBytes, of: result.logicalBytes)))"
        let stored = result.dryRun ? nil : "stored \(Units.size(result.storedBytes))"
        let verb = result.dryRun ? "would save" : "saved"
        var lines = [Sentences.joined(["\(verb) \(name)", contents, new, stored, time])]
        if let replaced = result.replaced {
            lines.append("it took the place of #\(replaced.prefix(12)), which the store has no longer")
        }
        if !result.superseded.isEmpty {
            lines.append(
                "the training went back: \(Units.count(result.superseded.count, "later iteration")) superseded"
            )
        }
        lines += Sentences.deleted(result.deleted, "deleted")
        if !result.deleted.isEmpty { lines.append("gave back \(Units.size(result.reclaimedBytes))") }
        return Sentences.lines(lines)
    }
}
