internal import Platform

/// What DeepSpeed writes: a folder for each tag, in which every rank keeps its part of the state as ZeRO divides it, or a file for each layer
/// of a pipeline; and the universal checkpoints made of those. (deepspeed, `runtime/engine.py:save_checkpoint`,
/// `checkpoint/ds_to_universal.py`)
struct DeepSpeed: Layout {
    var name: String { "deepspeed" }
    var abilities: LayoutAbilities {
        LayoutAbilities(
            title: "DeepSpeed (ZeRO 0 to 3, pipelines, universal)", splits: true, resumes: true,
            exportsTo: nil, exportsToHuggingFace: true)
    }

    var takesOutputFolder: Bool { true }
    // It deletes nothing, and opens nothing but what it is told to.
    var allowsMoving: Bool { true }

    /// A tag may be any text, so that a folder is known by what lies in it; or by its name, where nothing was written yet.
    func candidates(in output: OutputFolder) throws -> [Candidate] {
        // Inside of a Hugging Face checkpoint, it is a part of that.
        guard !output.hasFile("trainer_state.json") else { return [] }
        let named = output.folders("global_step#") + output.folders("global_step#_universal")
        let known = Set(named.map(\.name))
        let pointed = try pointed(in: output)?.says
        let others = try output.names.filter { name in
            guard output.hasFolder(name), !known.contains(name) else { return false }
            return try output.isIteration(named: pointed == name) {
                try output.entries(in: name).keys.contains(where: DeepSpeedFiles.isOne)
            }
        }
        return named + others.map { Candidate(name: $0, path: $0, step: nil) }
    }

    func recognises(_ view: CheckpointView) -> Bool {
        view.files.contains { file in
            DeepSpeedFiles.isOne(file.path) || file.path.hasPrefix("zero/") && file.path.hasSuffix("/fp32.pt")
        }
    }

    func part(of path: String, tensor: String?) -> ModelFiles.Part {
        if path.hasPrefix("zero/") {
            return path.hasSuffix("/fp32.pt") ? .model : .optimizer
        }
        if path.hasPrefix("offloaded_tensors/") { return .optimizer }
        guard DeepSpeedFiles.isOne(path) else { return ModelFiles.part(of: path) }
        guard DeepSpeedFiles.isOptimizer(path) else { return Self.part(ofState: tensor) }
        if NamePattern("expp_rank_#_mp_rank_#_optim_states.pt").matches(path) { return .optimizer }
        // They have the weights in full precision, and with ZeRO 3 the only ones.
        guard let tensor else { return .model }
        let isWeight = Self.masters.contains { tensor.hasPrefix("optimizer_state_dict.\($0).") }
        return isWeight ? .model : .optimizer
    }

    /// What the weights in full precision are called in an optimizer's state: with ZeRO 1 and 2, and 3.
    static let masters = ["single_partition_of_fp32_groups", "fp32_flat_groups"]

    private static func part(ofState tensor: String?) -> ModelFiles.Part {
        switch tensor?.prefix(while: { $0 != "." }) {
        case "optimizer": .optimizer
        case "lr_scheduler": .scheduler
        case "data_sampler", "random_ltd": .trainerState
        default: .model
        }
    }

    // MARK: Pointers

    private static let (latest, latestUniversal) = ("latest", "latest_universal")

    func pointers(to iteration: Candidate) -> [Pointer] {
        let isUniversal = iteration.name.hasSuffix("_universal")
        return [Pointer(path: isUniversal ? Self.latestUniversal : Self.latest, text: iteration.name)]
    }

    func pointed(in output: OutputFolder) throws -> Pointer? {
        for file in [Self.latest, Self.latestUniversal] {
            guard let text = try output.text(file), !text.trimmed.isEmpty else { continue }
            return Pointer(path: file, text: text, says: text.trimmed)
        }
        return nil
    }
}

/// The files of a tag, by the ranks that wrote them.
struct DeepSpeedFiles {
    struct Rank: Hashable, Comparable {
        /// Along which the data is divided, and with ZeRO the state.
        var data: UInt64
        /// Along which the model is.
        var model: UInt64

        static func < (a: Rank, b: Rank) -> Bool { (a.model, a.data) < (b.model, b.data) }
    }

    /// A model's state, of which with ZeRO 3 each rank has a part, else the first.
    var states: [Rank: String] = [:]
    var statesAreDivided: Bool
    var optimizers: [Rank: String] = [:]
    /// Of a pipeline: each layer's, for each rank along which it is divided.
    var layers: [(layer: UInt64, path: String)] = []
    var experts: [(layer: UInt64, expert: UInt64, model: UInt64, path: String)] = []
    /// Of a universal checkpoint: the parameters, each with the names of the files in its folder.
    var parameters: [String: [String]] = [:]

    init(_ view: CheckpointView) {
        for (file, numbers) in view.files("mp_rank_#_model_states.pt") {
            states[Rank(data: 0, model: numbers[0])] = file.path
        }
        let divided = view.files("zero_pp_rank_#_mp_rank_#_model_states.pt")
        statesAreDivided = !divided.isEmpty
        for (file, numbers) in divided { states[Rank(data: numbers[0], model: numbers[1])] = file.path }
        for pattern in Self.optimizerPatterns {
            for (file, numbers) in view.files(pattern) {
                optimizers[Rank(data: numbers[0], model: numbers[1])] = file.path
            }
        }
        layers = view.files("layer_#-*model_states.pt").map { ($0.numbers[0], $0.file.path) }
        experts = view.files("layer_#_expert_#_mp_rank_#_model_states.pt").map { file, numbers in
            (numbers[0], numbers[1], numbers[2], file.path)
        }
        for file in view.files where file.path.hasPrefix("zero/") {
            let steps = file.path.split(separator: "/")
            if steps.count == 3 { parameters[String(steps[1]), default: []].append(String(steps[2])) }
        }
    }

    private static let optimizerPatterns: [NamePattern] = [
        "zero_pp_rank_#_mp_rank_#_optim_states.pt", "bf16_zero_pp_rank_#_mp_rank_#_optim_states.pt",
        "fp16_zero_pp_rank_#_mp_rank_#_optim_states.pt",
    ]
    private static let statePatterns: [NamePattern] = [
        "mp_rank_#_model_states.pt", "zero_pp_rank_#_mp_rank_#_model_states.pt", "layer_#-*model_states.pt",
        "layer_#_expert_#_mp_rank_#_model_states.pt", "expert_#_mp_rank_#_model_states.pt",
    ]

    static func isOptimizer(_ name: String) -> Bool {
        name.hasSuffix("_optim_states.pt")
            && (optimizerPatterns + ["expp_rank_#_mp_rank_#_optim_states.pt"]).contains { $0.matches(name) }
    }

    /// Whether only DeepSpeed gives a file such a name.
    static func isOne(_ name: String) -> Bool {
        isOptimizer(name) || name.hasSuffix("model_states.pt") && statePatterns.contains { $0.matches(name) }
    }

    var isUniversal: Bool { !parameters.isEmpty }

    /// Only those of one part of the model, as if that were all of it.
    func ofModelRank(_ model: UInt64) -> DeepSpeedFiles {
        func own(_ files: [Rank: String]) -> [Rank: String] {
            var own: [Rank: String] = [:]
            for (rank, path) in files where rank.model == model {
                own[Rank(data: rank.data, model: 0)] = path
            }
            return own
        }
        var files = self
        (files.states, files.optimizers) = (own(states), own(optimizers))
        return files
    }

    func stateName(_ rank: Rank) -> String {
        let name = "mp_rank_\(rank.model.padded(2))_model_states.pt"
        return statesAreDivided ? "zero_pp_rank_\(rank.data)_\(name)" : name
    }

    func optimizerName(_ rank: Rank) -> String {
        // The prefix is that of those that are there.
        let known = optimizers.values.first ?? "zero_pp_rank_0"
        let prefix = known.hasPrefix("zero_pp") ? "" : String(known.prefix(5))
        return "\(prefix)zero_pp_rank_\(rank.data)_mp_rank_\(rank.model.padded(2))_optim_states.pt"
    }
}
