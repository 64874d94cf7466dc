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

            A model that is in safetensors files already is written as it was saved; every other is put \
            together from the files of its ranks, under the names that it has there or that --rename gives. \
            Tensors that share their memory are written once.

            Examples:
              cairn export latest handover --layout hf
              cairn export best:eval_loss handover --layout hf --max-shard-size 5GB
              cairn export main@500 attention --layout hf --only '\\.self_attn\\.'
              cairn export main@500 model --layout hf --rename megatron-to-qwen3.json \
                --config config.json
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
            "The most bytes in a shard (default: the files as they were saved; 50GB where tensors are put together).",
            valueName: "size"),
        transform: { try ByteSize.parse($0) })
    var maxShardSize: UInt64?

    @Option(help: ArgumentHelp("Only tensors whose name matches.", valueName: "regex"))
    var only: String?

    @Flag(
        help: """
            All tensors, not only the model's: the Trainer's files as they are, or the optimizer's state as \
            optimizer.safetensors where it is kept by the names of the parameters.
            """)
    var all = false

    @Option(
        help: ArgumentHelp(
            "Rules for other names, and for splitting and joining tensors (JSON, see Docs/rename.md).",
            valueName: "file"),
        completion: .file(extensions: ["json"]))
    var rename: String?

    @Option(
        help: ArgumentHelp(
            "The model's config.json, where the iteration has none or another.", valueName: "file"),
        completion: .file(extensions: ["json"]))
    var config: String?

    @Flag(help: "Take the place of a destination that exists.")
    var force = false

    @OptionGroup var common: CommonOptions

    var writes: Bool { false }

    func validate() throws {
        if maxShardSize == 0 { throw ValidationError("--max-shard-size 0 leaves no room for a tensor") }
    }

    func perform(_ session: Session) throws -> Answer {
        let options = ExportOptions(
            layout: layout, maxShardSize: maxShardSize, only: only, all: all, rename: rename, config: config,
            force: force)
        let result = try session.store.export(
            reference, to: destination, options: options, progress: session.progress)
        return RestoreCommand.answer(result, "exported")
    }
}
