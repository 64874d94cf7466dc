/// What each file of a checkpoint folder belongs to, by its name alone. (transformers, `trainer.py`;
/// accelerate, `checkpointing.py`)
public enum ModelFiles {
    public enum Part: String, Sendable, Hashable, CaseIterable {
        /// Weights, adapters, and what says how to build the model around them.
        case model
        case optimizer
        case scheduler
        /// The state of random number generators.
        case rng
        /// Where the training was: the trainer's state, samplers, data loaders, objects of the user's own.
        case trainerState
        case arguments
        /// Pointers to iterations, marks of completeness, scripts and temporary files that frameworks leave
        /// behind.
        case marker
        /// Tokenizers, read-me files, anything else.
        case other

        /// Whether an export of the model takes it along.
        public var isOfModel: Bool { self == .model || self == .other }
    }

    /// - Parameter path: relative to the checkpoint's folder; of a folder, its own path. Only what lies at
    ///   the top is known by its name, so that the `scheduler/` of a diffusion model is no scheduler's state.
    public static func part(of path: [UInt8]) -> Part {
        let components = path.split(separator: UInt8(ascii: "/"))
        guard let first = components.first, let last = components.last else { return .other }
        if components.contains(where: isTemporary) { return .marker }
        if components.count > 1 {
            return parts.first { $0.isFolder && $0.name.matches(first) }?.part ?? nested(last)
        }
        return parts.first { $0.name.matches(first) }?.part ?? .other
    }

    public static func part(of path: String) -> Part { part(of: [UInt8](path.utf8)) }

    /// Adapters lie in folders of their own names.
    private static func nested(_ name: ArraySlice<UInt8>) -> Part {
        let part = parts.first { !$0.isFolder && $0.part == .model && $0.name.matches(name) }?.part
        return part ?? .other
    }

    /// What savers write before they rename it: Python's `tempfile`, Rust's, and names that end in `.tmp`.
    private static func isTemporary(_ name: ArraySlice<UInt8>) -> Bool {
        if name.count > 4, name.suffix(4).elementsEqual(".tmp".utf8) { return true }
        let isRandom: (UInt8) -> Bool = { byte in
            byte == UInt8(ascii: "_") || StoreName.isDigit(byte)
                || (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(byte | 0x20)
        }
        if name.count == 11, name.starts(with: "tmp".utf8) { return name.dropFirst(3).allSatisfy(isRandom) }
        if name.count == 10, name.starts(with: ".tmp".utf8) { return name.dropFirst(4).allSatisfy(isRandom) }
        return false
    }

    private struct Known: Sendable {
        var name: NamePattern
        var isFolder = false
        var part: Part
    }

    private static let parts: [Known] = [
        folder("pytorch_model_fsdp_#", .model), folder("model", .model),
        folder("optimizer_#", .optimizer), folder("optimizer", .optimizer),
        folder("global_step#", .optimizer),
        folder("rng_state", .rng), folder("dataloader", .trainerState),
        file("model.safetensors", .model), file("model_#.safetensors", .model),
        file("model-#-of-#.safetensors", .model), file("model.safetensors.index.json", .model),
        file("shard-#-model-#-of-#.safetensors", .model),
        file("pytorch_model.bin", .model), file("pytorch_model_#.bin", .model),
        file("pytorch_model-#-of-#.bin", .model), file("pytorch_model.bin.index.json", .model),
        file("pytorch_model_fsdp.bin", .model), file("pytorch_model_fsdp_#.bin", .model),
        file("pytorch_model_fsdp_#_rank#.bin", .model), file("adapter_model.safetensors", .model),
        file("adapter_model.bin", .model), file("adapter_config.json", .model), file("config.json", .model),
        file("generation_config.json", .model),
        file("optimizer.pt", .optimizer), file("optimizer.bin", .optimizer),
        file("optimizer_#.bin", .optimizer),
        file("optimizer_#_rank#.bin", .optimizer), file("scaler.pt", .optimizer),
        file("scheduler.pt", .scheduler), file("scheduler.bin", .scheduler),
        file("scheduler_#.bin", .scheduler),
        file("rng_state.pth", .rng), file("rng_state_#.pth", .rng), file("random_states_#.pkl", .rng),
        file("trainer_state.json", .trainerState), file("sampler.bin", .trainerState),
        file("sampler_#.bin", .trainerState), file("dl_state_dict.bin", .trainerState),
        file("dl_state_dict_#.bin", .trainerState), file("custom_checkpoint_#.pkl", .trainerState),
        file("training_args.bin", .arguments), file("training_args.yaml", .arguments),
        file("latest", .marker), file("latest_universal", .marker), file("zero_to_fp32.py", .marker),
        file("latest_checkpointed_iteration.txt", .marker), file("CHECKPOINT_COMPLETE", .marker),
        file("checkpoint-is-incomplete.txt", .marker),
    ]

    private static func file(_ name: StaticString, _ part: Part) -> Known {
        Known(name: NamePattern(name), part: part)
    }

    private static func folder(_ name: StaticString, _ part: Part) -> Known {
        Known(name: NamePattern(name), isFolder: true, part: part)
    }
}
