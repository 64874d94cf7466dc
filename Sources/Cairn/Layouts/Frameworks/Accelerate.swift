internal import Platform
internal import TensorFormats

/// What `Accelerator.save_state` writes: `checkpoints/checkpoint_3/`, or a folder that the training loop names, such as
/// `step_500/`. Nothing in it says a step or that it is whole. (accelerate, `checkpointing.py:save_accelerator_state`)
struct Accelerate: Layout {
    var name: String { "accelerate" }
    var abilities: LayoutAbilities {
        LayoutAbilities(
            title: "accelerate's save_state", splits: true, resumes: true, exportsTo: "torch",
            exportsToHuggingFace: true)
    }

    private static let names: [NamePattern] = ["checkpoint_#", "step_#", "epoch_#"]

    func candidates(in output: OutputFolder) throws -> [Candidate] {
        try Self.names.flatMap { try output.folders($0) + output.folders($0, in: "checkpoints") }.filter {
            candidate in
            // Many a folder has such a name.
            try output.isIteration(named: true) {
                try output.entries(in: candidate.path).keys.contains { Self.isOwn($0) }
            }
        }
    }

    func step(ofFile name: String) -> UInt64? {
        Self.names.lazy.compactMap { $0.numbers(in: name.utf8)?.last }.first
    }

    /// Files of the names that only it gives.
    private static let own: [NamePattern] = ["random_states_#.pkl", "custom_checkpoint_#.pkl"]
    private static let optimizers: [NamePattern] = ["optimizer.bin", "optimizer_#.bin"]

    private static func isOwn(_ name: String) -> Bool { (own + optimizers).contains { $0.matches(name) } }

    func recognises(_ view: CheckpointView) -> Bool {
        let names = view.names()
        // The Trainer leaves such optimizers as well, but says more.
        guard !names.contains("trainer_state.json") else { return false }
        // An optimizer in a file of that name may be anybody's.
        let isNamed = Self.names.contains { $0.matches(view.name) }
        return names.contains { name in
            view.has(name) && (isNamed ? Self.isOwn(name) : Self.own.contains { $0.matches(name) })
        }
    }

    func inspect(_ view: CheckpointView) throws -> Inspection {
        var result = Inspection()
        let ranks = view.files("random_states_#.pkl").map(\.numbers[0])
        if let last = ranks.last { result.worldSize = Int(last) + 1 }
        result.faults = try weights(view)
        if ranks.isEmpty {
            result.faults.append("random_states_0.pkl is missing, which is written behind the rest")
        }
        if let rank = CheckpointView.gap(in: ranks) {
            result.faults.append("random_states_\(rank).pkl is missing")
        }
        result.faults += try others(view)
        if !hasOptimizer(view) { result.missing.append("the optimizer's state") }
        if !view.names().contains(where: { NamePattern("scheduler*.bin").matches($0) }) {
            result.missing.append("the scheduler's state")
        }
        if let epoch = NamePattern("epoch_#").numbers(in: view.name.utf8)?.first {
            result.epoch = Double(epoch)
        }
        return result
    }

    /// The models: one or several, or folders and files of the library that shards them.
    private func weights(_ view: CheckpointView) throws -> [String] {
        if let folder = DCP.modelFolder(view) { return try DCP().faults(in: folder, of: view) }
        if view.hasFolder(Self.deepSpeed) {
            let inner = try DeepSpeed().inspect(view.view(of: Self.deepSpeed))
            return inner.faults.map { "in \(Self.deepSpeed), \($0)" }
        }
        let models = view.names().filter { view.has($0) && ModelFiles.part(of: $0) == .model }
        if let index = models.first(where: { $0.hasSuffix(".index.json") }) {
            return try view.faults(inIndex: index)
        }
        if models.isEmpty { return ["neither model.safetensors nor pytorch_model.bin is there"] }
        return try models.filter { !$0.hasSuffix(".json") }.compactMap { try view.fault(inTensors: $0) }
    }

    private static let deepSpeed = "pytorch_model"

    private func hasOptimizer(_ view: CheckpointView) -> Bool {
        DCP.optimizerFolder(view) != nil || view.hasFolder(Self.deepSpeed)
            || view.names().contains { name in Self.optimizers.contains { $0.matches(name) } }
    }

    /// Everything else that is a file of PyTorch.
    private func others(_ view: CheckpointView) throws -> [String] {
        var faults: [String] = []
        for file in view.files where !file.path.contains("/") && ModelFiles.part(of: file.path) != .model {
            if file.path.hasSuffix(".pkl") {
                if let fault = try view.treeOrFault(of: file).fault { faults.append(fault) }
            } else if file.path.hasSuffix(".bin") || file.path.hasSuffix(".pt") {
                if let fault = try view.fault(inTensors: file.path) { faults.append(fault) }
            }
        }
        if let folder = DCP.optimizerFolder(view) { faults += try DCP().faults(in: folder, of: view) }
        return faults
    }

    func part(of path: String, tensor: String?) -> ModelFiles.Part {
        guard path.hasPrefix(Self.deepSpeed + "/") else { return ModelFiles.part(of: path) }
        return DeepSpeed().part(of: String(path.dropFirst(Self.deepSpeed.count + 1)), tensor: tensor)
    }

    func pointers(to iteration: Candidate) -> [Pointer] { [] }

    func rank(of path: String) -> Int? {
        NamePattern("random_states_#.pkl").numbers(in: path.utf8)?.first.map { Int($0) }
    }

    // It lists the folder whenever it deletes or goes on.
    var allowsMoving: Bool { true }

    func assembly(of view: CheckpointView) throws -> Assembly? {
        if let assembly = try DCP().assembly(ofSharded: view) { return assembly }
        guard view.hasFolder(Self.deepSpeed) else { return try HuggingFace().assembly(of: view) }
        return try DeepSpeed().assembly(of: view, below: Self.deepSpeed)
    }
}
