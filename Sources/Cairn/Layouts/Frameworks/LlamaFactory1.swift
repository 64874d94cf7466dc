internal import Platform
internal import TensorFormats

/// What LLaMA-Factory v1 writes: `checkpoint-500/` with `model/`, `optimizer/`, a state of each rank, and last of all an empty
/// `CHECKPOINT_COMPLETE`. (LLaMA-Factory, `src/llamafactory/v1/core/utils/checkpoint.py`)
struct LlamaFactory1: Layout {
    var name: String { "llamafactory" }
    var abilities: LayoutAbilities {
        LayoutAbilities(
            title: "LLaMA-Factory v1", splits: true, resumes: true, exportsTo: "hf",
            exportsToHuggingFace: true)
    }

    private static let marker = "CHECKPOINT_COMPLETE"
    private static let metadata = "metadata.json"
    private static let deepSpeed = "pytorch_model"

    func candidates(in output: OutputFolder) throws -> [Candidate] { output.folders("checkpoint-#") }

    func recognises(_ view: CheckpointView) throws -> Bool {
        if view.has(Self.marker) { return true }
        guard view.has(Self.metadata), let metadata = try view.json(Self.metadata) else { return false }
        return metadata["global_step"] != nil && metadata["num_training_steps"] != nil
    }

    func inspect(_ view: CheckpointView) throws -> Inspection {
        var result = Inspection()
        if !view.has(Self.marker) {
            result.faults.append("\(Self.marker) is missing, which is written last")
        }
        if let fault = try view.fault(inJSON: Self.metadata) { result.faults.append(fault) }
        if let metadata = try view.json(Self.metadata) {
            result.step = metadata["global_step"]?.uint64.flatMap { $0 <= Step.maximum ? $0 : nil }
            result.stepFile = Self.metadata
            result.epoch = metadata["epoch"]?.double
            if result.step == nil { result.faults.append("\(Self.metadata) says no step") }
            if let steps = metadata["num_training_steps"]?.int {
                result.facts.append(("steps in all", String(steps)))
            }
        }
        result.faults += try weights(view)
        try checkState(view, &result)
        return result
    }

    private func weights(_ view: CheckpointView) throws -> [String] {
        if view.hasFolder(Self.deepSpeed) {
            return try view.files.filter {
                $0.path.hasPrefix(Self.deepSpeed + "/") && $0.path.hasSuffix(".pt")
            }.compactMap {
                try view.fault(inTensors: $0.path)
            }
        }
        guard view.hasFolder("model") else { return ["model is missing"] }
        let model = view.view(of: "model")
        if try DCP().recognises(model) { return try DCP().faults(in: "model", of: view) }
        return try HuggingFace().inspect(model).faults.map { "in model, \($0)" }
    }

    /// The optimizer's state and what each rank keeps of its own.
    private func checkState(_ view: CheckpointView, _ result: inout Inspection) throws {
        let optimizer = view.view(of: "optimizer")
        if try DCP().recognises(optimizer) {
            result.faults += try DCP().faults(in: "optimizer", of: view)
        } else if view.has("optimizer/state_dict.pt") {
            if let fault = try view.fault(inTensors: "optimizer/state_dict.pt") {
                result.faults.append(fault)
            }
        } else if !view.hasFolder(Self.deepSpeed) {
            result.missing.append("the optimizer's state")
        }
        if view.has("scheduler.pt") {
            if let fault = try view.fault(inTensors: "scheduler.pt") { result.faults.append(fault) }
        } else if !view.hasFolder(Self.deepSpeed) {
            result.missing.append("the scheduler's state")
        }
        for (folder, what) in [
            ("dataloader", "the data loader's state"), ("rng_state", "the random numbers' state"),
        ] {
            let ranks = view.files("rank_#.pt", in: folder)
            if ranks.isEmpty {
                if folder == "dataloader" || !view.hasFolder(Self.deepSpeed) { result.missing.append(what) }
                continue
            }
            result.worldSize = max(result.worldSize ?? 0, Int(ranks[ranks.count - 1].numbers[0]) + 1)
            if let rank = CheckpointView.gap(in: ranks.map { $0.numbers[0] }) {
                result.faults.append("\(folder)/rank_\(rank).pt is missing")
            }
            for rank in ranks {
                if let fault = try view.fault(inTensors: rank.file.path) { result.faults.append(fault) }
            }
        }
    }

    func part(of path: String, tensor: String?) -> ModelFiles.Part {
        if path == Self.metadata { return .trainerState }
        guard path.hasPrefix(Self.deepSpeed + "/") else { return ModelFiles.part(of: path) }
        return DeepSpeed().part(of: String(path.dropFirst(Self.deepSpeed.count + 1)), tensor: tensor)
    }

    func pointers(to iteration: Candidate) -> [Pointer] { [] }

    func rank(of path: String) -> Int? {
        let names: [NamePattern] = ["rng_state/rank_#.pt", "dataloader/rank_#.pt"]
        return names.lazy.compactMap { $0.numbers(in: path.utf8)?.first }.first.map { Int($0) }
    }

    // It lists the folder whenever it deletes or goes on.
    var allowsMoving: Bool { true }

    func assembly(of view: CheckpointView) throws -> Assembly? {
        guard view.hasFolder("model") else { return nil }
        let model = view.view(of: "model")
        guard try DCP().recognises(model) else {
            return try HuggingFace().assembly(of: view, below: "model")
        }
        guard var assembly = try DCP().assembly(of: view, below: "model") else { return nil }
        if let state = try DCP().assembly(of: view, below: "optimizer") {
            assembly.optimizer = state.optimizer
        }
        return assembly
    }
}
