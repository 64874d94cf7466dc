import ArgumentParser
import Cairn

struct ExportCommand: StoreCommand {
    static let configuration = CommandConfiguration(
        commandName: "export",
        abstract: "Write an iteration's tensors in another layout.",
        discussion: """
            Layouts:
              hf            Hugging Face: model.safetensors, or shards with an index;
                            the configuration files beside them
              safetensors   the tensors alone, each under its name; one file where
                            DEST ends in .safetensors
              torch         what torch.load(weights_only=True) reads; a file where DEST
                            ends in .pt, .pth or .bin, else model.pt in it
              dcp           torch.distributed.checkpoint: .distcp files and .metadata
              mindformers   MindSpore Transformers 2.0: iteration_00000500/ and
                            latest_checkpointed_iteration.txt
              mindformers1  MindSpore Transformers 1.0: rank_0/, rank_1/, ...

            A model that is in safetensors files already is written for hf as it was saved; every other \
            is put together from the files of its ranks, under the names that it has there or that \
            --rename gives. For hf, tensors that share their memory are written once.

            For MindSpore, tensors are cut for the ranks of --mesh, by the axes that --maps, --maps-of or \
            the iteration itself says; without any of these they are written as complete tensors.

            Examples:
              cairn export latest handover --layout hf
              cairn export best:eval_loss handover --layout hf --max-shard-size 5GB
              cairn export main@500 attention --layout hf --only '\\.self_attn\\.'
              cairn export main@500 m --layout hf --rename map.json --config config.json
              cairn export lora@latest merged --layout hf --merge-adapter --base ./Qwen3-8B
              cairn export latest model.safetensors --layout safetensors
              cairn export latest model.pt --layout torch
              cairn export latest resume --layout dcp --all
              cairn export latest next --layout mindformers --mesh tp=4 --maps maps.json
              cairn export latest next --layout mindformers --mesh dp=2,tp=2 --prefix qwen3
            """)

    @Argument(help: .reference, completion: StoreCompletion.references)
    var reference: String

    @Argument(
        help: ArgumentHelp("Where to; it must not exist without --force.", valueName: "dest"),
        completion: .file())
    var destination: String

    @Option(
        help: ArgumentHelp("The layout.", valueName: "name"),
        completion: .list(["hf", "safetensors", "torch", "dcp", "mindformers", "mindformers1"]))
    var layout: String

    @Option(
        help: ArgumentHelp(
            "The most bytes in a file (hf, safetensors, dcp; default: one, for hf as it was saved or 50GB).",
            valueName: "size"),
        transform: { try ByteSize.parse($0) })
    var maxShardSize: UInt64?

    @Option(help: ArgumentHelp("Only tensors whose name matches.", valueName: "regex"))
    var only: String?

    @Flag(
        help: """
            All tensors, not only the model's (hf, safetensors, torch, dcp): for hf the Trainer's files as they \
            are; else the optimizer's state, where it is kept by the names of the parameters. With it comes what \
            was recorded of the training (training_metadata.json).
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

    @Flag(help: "Merge a LoRA adapter into its base, as peft's merge_and_unload (hf).")
    var mergeAdapter = false

    @Option(
        help: ArgumentHelp(
            "The adapter's base: a folder or an iteration (default: what lies with it, else the folder that its configuration names).",
            valueName: "ref|folder"), completion: .file())
    var base: String?

    @Flag(help: "The adapter without the model that lies with it (hf).")
    var adapterOnly = false

    @Option(
        help: ArgumentHelp(
            "What the names of files begin with (mindformers; mindformers1, there CKP by default).",
            valueName: "word"))
    var prefix: String?

    @Flag(help: "Leave the optimizer's state out (mindformers, mindformers1).")
    var noOptimizer = false

    @Flag(help: "Write each slice once, not for each rank that holds it (mindformers, mindformers1).")
    var removeRedundancy = false

    @Flag(help: "Write complete tensors, as one rank has them (mindformers, mindformers1).")
    var unified = false

    @Option(
        help: ArgumentHelp(
            "The devices to cut tensors for, such as dp=2,tp=4, the last axis running fastest (mindformers, mindformers1).",
            valueName: "axes"))
    var mesh: String?

    @Option(
        help: ArgumentHelp(
            "Cut tensors as those of this iteration of MindSpore Transformers 2.0.", valueName: "ref"),
        completion: StoreCompletion.references)
    var mapsOf: String?

    @Option(
        help: ArgumentHelp(
            "Rules for which axes of the mesh cut a tensor (JSON, see Docs/tensor-maps.md).",
            valueName: "file"),
        completion: .file(extensions: ["json"]))
    var maps: String?

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
            prefix: prefix, withoutOptimizer: noOptimizer, removesRedundancy: removeRedundancy,
            isUnified: unified, mesh: mesh, mapsOf: mapsOf, maps: maps,
            mergesAdapter: mergeAdapter, base: base, adapterOnly: adapterOnly, force: force)
        let result = try session.store.export(
            reference, to: destination, options: options, progress: session.progress)
        return RestoreCommand.answer(result, "exported")
    }
}
