internal import Platform
internal import TensorFormats

/// Single files that training loops of people's own write with `torch.save`: `ckpt_9.pth`, `model_epoch3_acc0.91.pt`, `latest.pt`.
///
/// One whose name has no number is overwritten again and again, so its step is what is inside. Where that says none either, each content of
/// it is a new iteration.
struct PlainTorch: Layout {
    var name: String { "torch" }
    var abilities: LayoutAbilities {
        LayoutAbilities(
            title: "plain PyTorch: .pt, .pth, .bin of training loops of one's own", splits: true,
            resumes: true,
            exportsTo: "torch", exportsToHuggingFace: true)
    }

    private static let endings = [".pth.tar", ".pt.tar", ".pt", ".pth", ".bin", ".ckpt"]

    /// A name without its ending; nil where that is none of PyTorch's.
    static func stem(_ name: String) -> String? {
        endings.first { name.lowercased().hasSuffix($0) }.map { String(name.dropLast($0.count)) }
    }

    func candidates(in output: OutputFolder) throws -> [Candidate] {
        try output.names.filter { output.hasFile($0) }.compactMap { name in
            // Lightning's has all of that ending.
            guard ModelFiles.part(of: name) == .other, !name.hasSuffix(".ckpt"),
                let said = Self.stem(name).map({ CheckpointName($0) }), !said.isPart,
                said.isNumbered || said.isAlias || said.anyNumber != nil,
                // `latest.pt` may be a link to one of the others.
                try !output.isLink(name)
            else { return nil }
            return Candidate(name: name, path: name, step: said.order, mayBeAnything: true)
        }
    }

    /// Only where the name says that it is a step. What `3` in `ckpt_3.pth` counts, the file itself knows better.
    func step(ofFile name: String) -> UInt64? { Self.stem(name).flatMap { CheckpointName($0).step } }

    func recognises(_ view: CheckpointView) throws -> Bool {
        guard let file = view.onlyFile, let stem = Self.stem(file.path) else { return false }
        let said = CheckpointName(stem)
        guard try view.beginsAsTorch(file) else { return file.size == 0 && said.isNumbered && !said.isPart }
        let (tree, fault) = try view.treeOrFault(of: file)
        if let tree { return TorchContent(tree) != nil }
        return fault == nil || said.isNumbered || said.isAlias
    }

    func inspect(_ view: CheckpointView) throws -> Inspection {
        var result = Inspection()
        guard let file = view.onlyFile, let stem = Self.stem(file.path) else { return result }
        let said = CheckpointName(stem)
        (result.metrics, result.epoch) = (said.metrics, said.epoch.map { Double($0) })
        let (tree, fault) = try view.treeOrFault(of: file)
        if let fault { result.faults.append(fault) }
        var inside: UInt64?
        if let tree, let content = TorchContent(tree) {
            inside = try content.step(view, file)
            if let epoch = try content.epoch(view, file) { result.epoch = epoch }
            if !content.hasOptimizer { result.missing.append("the optimizer's state") }
            if !content.keys.isEmpty { result.facts.append(("holds", content.keys.joined(separator: ", "))) }
        }
        result.step = inside ?? (said.step == nil ? said.order ?? wholeEpoch(result.epoch) : nil)
        result.stepFile = file.path
        return result
    }

    private func wholeEpoch(_ epoch: Double?) -> UInt64? { epoch.flatMap { TensorNumber.float($0).step } }

    func part(of path: String, tensor: String?) -> ModelFiles.Part {
        tensor.map { TorchContent.part(ofKey: $0.split(separator: ".").first.map(String.init) ?? "") }
            ?? .model
    }

    func pointers(to iteration: Candidate) -> [Pointer] { [] }

    func assembly(of view: CheckpointView) throws -> Assembly? {
        guard let file = view.onlyFile, let tree = try view.treeOrFault(of: file).tree,
            let content = TorchContent(tree),
            let tensors = TorchModel(tree: tree, file: file.path).tensors(below: content.modelKey)
        else { return nil }
        // Beside an optimizer, what has a name of its own is the model's.
        let isMixed = content.modelKey == nil && !content.keys.isEmpty
        return Assembly(
            tensors: isMixed ? tensors.filter { part(of: file.path, tensor: $0.name) == .model } : tensors)
    }
}

/// What a file holds that a training loop wrote: a state dictionary, a module, or a dictionary of these and what else is needed to go on.
struct TorchContent {
    let root: TorchTree.Value
    /// Those of a dictionary of several things; none of a state dictionary or module.
    private(set) var keys: [String] = []
    /// The one that the model is below; nil where it is not below one of its own.
    private(set) var modelKey: String?

    var hasOptimizer: Bool { keys.contains { Self.part(ofKey: $0) == .optimizer } }

    /// nil where it is something else: data, for example.
    init?(_ tree: TorchTree) {
        root = tree.root
        if root.kind == .object {
            guard root.attribute("_modules") != nil else { return nil }
            return
        }
        guard root.kind == .dictionary, let items = root.items, !items.isEmpty else { return nil }
        let named = items.compactMap { item in item.key.string.map { ($0, item.value) } }
        let holders = named.filter { $0.1.kind == .dictionary || $0.1.kind == .object || $0.1.kind == .list }
        modelKey = Self.models.first { key in holders.contains { $0.0 == key } }
        if modelKey != nil || holders.contains(where: { Self.part(ofKey: $0.0) == .optimizer }) {
            keys = named.map(\.0)
            return
        }
        // All of it is a state dictionary: its class is telling, and parameters have dots in their names.
        let tensors = named.filter { $0.1.kind == .tensor }
        if root.className == "collections.OrderedDict", !tensors.isEmpty { return }
        guard tensors.contains(where: { $0.0.contains(".") }), tensors.count * 2 > items.count else {
            return nil
        }
    }

    private static let models = [
        "model_state_dict", "model", "state_dict", "net", "network", "module", "model_state",
        "net_state_dict", "weights", "params",
        "generator", "policy", "student",
    ]

    /// What a key of such a dictionary stands for.
    static func part(ofKey key: String) -> ModelFiles.Part {
        let key = key.lowercased()
        if key.contains("sched") { return .scheduler }
        if key.contains("optim") || ["opt", "scaler", "grad_scaler", "amp"].contains(key) {
            return .optimizer
        }
        if key.hasSuffix("rng") || key.contains("rng_state") || key.contains("random_state") { return .rng }
        if ["epoch", "step", "global_step", "iteration", "iter", "loops", "callbacks", "best_acc"].contains(
            key)
        {
            return .trainerState
        }
        return ["args", "config", "hyper_parameters", "hparams", "cfg"].contains(key) ? .arguments : .model
    }

    func step(_ view: CheckpointView, _ file: CheckpointView.File) throws -> UInt64? {
        for key in ["global_step", "step", "steps", "iteration", "iter", "iterations", "num_steps"]
        where !keys.isEmpty {
            if let step = try view.number(root[key], in: file)?.step { return step }
        }
        return nil
    }

    func epoch(_ view: CheckpointView, _ file: CheckpointView.File) throws -> Double? {
        keys.isEmpty ? nil : try view.number(root["epoch"], in: file)?.double
    }
}
