internal import Platform
internal import TensorFormats

/// What transformers writes: the `Trainer`'s `checkpoint-500/`, a model of `save_pretrained`, an adapter of PEFT; also
/// LLaMA-Factory before v1, which is a `Trainer`. (transformers, `trainer.py:_save_checkpoint`)
struct HuggingFace: Layout {
    var name: String { "hf" }
    var abilities: LayoutAbilities {
        LayoutAbilities(
            title: "Hugging Face Trainer, save_pretrained, PEFT, LLaMA-Factory v0", splits: true,
            resumes: true,
            exportsTo: "hf", exportsToHuggingFace: true)
    }

    func candidates(in output: OutputFolder) throws -> [Candidate] { output.folders("checkpoint-#") }

    func pointers(to iteration: Candidate) -> [Pointer] { [] }

    // It lists the folder whenever it deletes or resumes.
    var allowsMoving: Bool { true }

    func recognises(_ view: CheckpointView) -> Bool {
        let isModel = view.names().contains { name in
            ModelFiles.part(of: name) == .model && !Self.onlyDescribes.contains(name)
        }
        if isModel || view.has(Self.state) { return true }
        // Weights only, of which ZeRO 3 has none in the Trainer's own files.
        let hasDeepSpeed = deepSpeed(in: view).map { DeepSpeed().recognises(view.view(of: $0)) } ?? false
        let isNamed = NamePattern("checkpoint-#").matches(view.name)
        if hasDeepSpeed, isNamed || Self.onlyDescribes.contains(where: view.has) { return true }
        return isNamed && Self.files.contains(where: view.has)
    }

    private static let state = "trainer_state.json"
    private static let arguments = "training_args.bin"
    /// Files that stand beside many a model of other layouts.
    private static let onlyDescribes: Set = ["config.json", "generation_config.json", "model"]
    /// What a Trainer writes before anything else that would tell.
    private static let files = ["config.json", "adapter_config.json", "training_args.bin", "optimizer.pt"]

    /// What only a Trainer writes.
    private static let ofTrainer = [
        state, "training_args.bin", "optimizer.pt", "scheduler.pt", "rng_state.pth",
    ]

    func inspect(_ view: CheckpointView) throws -> Inspection {
        var result = Inspection()
        if view.has("checkpoint-is-incomplete.txt") {
            result.faults.append("checkpoint-is-incomplete.txt is there, so its writing was cut off")
        }
        let isTrainer =
            Self.ofTrainer.contains(where: view.has)
            || view.mayBeUnfinished && NamePattern("checkpoint-#").matches(view.name)
        if isTrainer { try readState(view, &result) }
        result.faults += try weights(view) + view.faults(inConfigurationsOf: "")
        if isTrainer { try checkState(view, &result) }
        try checkDeepSpeed(view, &result)
        return result
    }

    /// What `trainer_state.json` says, which is written last.
    private func readState(_ view: CheckpointView, _ result: inout Inspection) throws {
        guard let bytes = try view.read(Self.state) else {
            return result.faults.append("\(Self.state) is missing, which is written last")
        }
        do throws(CairnError) {
            let state = try TrainerState(bytes)
            result.step = state.globalStep
            result.stepFile = Self.state
            result.epoch = state.metrics["epoch"]
            result.metrics = state.metrics
            result.bestMetricName = state.bestMetricName
            result.bestStep = state.bestGlobalStep
        } catch {
            result.faults.append(error.message)
        }
    }

    /// What is wrong with the model's files. (transformers, `modeling_utils.py:save_pretrained`)
    private func weights(_ view: CheckpointView) throws -> [String] {
        for index in ["model.safetensors.index.json", "pytorch_model.bin.index.json"] where view.has(index) {
            return try view.faults(inIndex: index)
        }
        let shards: [NamePattern] = ["model-#-of-#.safetensors", "pytorch_model-#-of-#.bin"]
        for pattern in shards {
            let files = view.files(pattern)
            guard let count = files.first?.numbers[1] else { continue }
            // Without its index, which names all shards, nothing loads them.
            return ["the index of the \(count) shards is missing"]
        }
        let single = view.names().filter { name in
            view.has(name) && ModelFiles.part(of: name) == .model && !name.hasSuffix(".json")
        }
        let whole = try single.compactMap { try view.fault(inTensors: $0) }
        if single.contains(where: { $0.hasPrefix("adapter_model.") }) {
            return whole + [try view.fault(inJSON: "adapter_config.json")].compactMap(\.self)
        }
        if !single.isEmpty { return whole }
        if let folder = DCP.modelFolder(view) { return try DCP().faults(in: folder, of: view) }
        if view.folders.contains(where: NamePattern("global_step#").matches) { return [] }
        return ["the model's weights are missing"]
    }

    /// The optimizer's state and what goes with it: all of it, or nothing, as `save_only_model` leaves it.
    private func checkState(_ view: CheckpointView, _ result: inout Inspection) throws {
        let ranks = view.files("rng_state_#.pth").map(\.numbers[0])
        if let last = ranks.last {
            // One process alone leaves the number away.
            result.worldSize = max(Int(last) + 1, 2)
        } else if view.has("rng_state.pth") {
            result.worldSize = 1
        }
        let optimizer = DCP.optimizerFolder(view)
        let isDeepSpeed = view.folders.contains(where: NamePattern("global_step#").matches)
        let parts = [
            (
                "the optimizer's state", "optimizer.pt",
                optimizer != nil || isDeepSpeed || view.has("optimizer.pt") || view.has("optimizer.bin")
            ),
            ("the scheduler's state", "scheduler.pt", isDeepSpeed || view.has("scheduler.pt")),
            ("the random numbers' state", "rng_state.pth", result.worldSize != nil),
        ]
        if let optimizer { result.faults += try DCP().faults(in: optimizer, of: view) }
        let absent = parts.filter { !$0.2 }
        result.missing = absent.map(\.0)
        if absent.count < parts.count {
            result.faults += absent.map { "\($0.1) is missing, though other state of the training is there" }
        }
        // One file alone is that of one of two ranks.
        let missing = CheckpointView.gap(in: ranks) ?? (ranks == [0] ? 1 : nil)
        if let missing { result.faults.append("rng_state_\(missing).pth is missing") }
        let isState = { (name: String) in
            Self.state(name) || NamePattern("rng_state_#.pth").matches(name)
        }
        for name in view.names() where view.has(name) && isState(name) {
            if let fault = try view.fault(inTensors: name) { result.faults.append(fault) }
        }
        if view.has(Self.arguments), let fault = try view.fault(inRecordsOf: Self.arguments) {
            result.faults.append(fault)
        }
    }

    private static func state(_ name: String) -> Bool {
        ["optimizer.pt", "optimizer.bin", "scheduler.pt", "rng_state.pth", "scaler.pt"].contains(name)
    }
}
