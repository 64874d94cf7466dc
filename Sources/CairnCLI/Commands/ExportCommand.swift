import ArgumentParser
import Cairn

struct ExportCommand: StoreCommand {
    static let configuration = CommandConfiguration(
        commandName: "export",
        abstract: "Write an iteration's tensors in another layout.",
        discussion: """
            Layouts:
              hf   Hugging Face: model.safetensors, or shards with an index;
                   the configuration files beside them

            Examples:
              cairn export latest handover --layout hf
              cairn export best:eval_loss handover --layout hf --max-shard-size 5GB
              cairn export main@500 attention --layout hf --only '\\.self_attn\\.'
            """)

    @Argument(help: .reference, completion: StoreCompletion.references)
    var reference: String

    @Argument(
        help: ArgumentHelp("Where to; it must not exist without --force.", valueName: "dest"),
        completion: .file())
    var destination: String

    @Option(help: ArgumentHelp("The layout.", valueName: "name"), completion: .list(["hf"]))
    var layout: String

    @Option(
        help: ArgumentHelp(
            "The most bytes in a shard (default: the files as they were saved).", valueName: "size"),
        transform: { try ByteSize.parse($0) })
    var maxShardSize: UInt64?

    @Option(help: ArgumentHelp("Only tensors whose name matches.", valueName: "regex"))
    var only: String?

    @Flag(help: "All tensors, not only the model's.")
    var all = false

    @Flag(help: "Take the place of a destination that exists.")
    var force = false

    @OptionGroup var common: CommonOptions

    var writes: Bool { false }

    func validate() throws {
        if maxShardSize == 0 { throw ValidationError("--max-shard-size 0 leaves no room for a tensor") }
    }

    func perform(_ session: Session) throws -> Answer {
        let options = ExportOptions(
            layout: layout, maxShardSize: maxShardSize, only: only, all: all, force: force)
        let result = try session.store.export(
            reference, to: destination, options: options, progress: session.progress)
        return RestoreCommand.answer(result, "exported")
    }
}
