internal import Platform
internal import TensorFormats

/// What Megatron-LM writes, and MindSpeed-LLM after it: `torch`, with a folder for each rank of tensor, pipeline and expert parallelism, and
/// `torch_dist`, a distributed checkpoint of torch's in which nothing is divided by ranks any more. (Megatron-LM,
/// `training/checkpointing.py`, `core/dist_checkpointing`)
struct Megatron: Layout {
    var name: String { "megatron" }
    var abilities: LayoutAbilities {
        LayoutAbilities(
            title: "Megatron-LM, MindSpeed-LLM: torch and torch_dist", splits: true, resumes: true,
            exportsTo: nil, exportsToHuggingFace: true)
    }

    var takesOutputFolder: Bool { true }
    // It deletes the one that the pointer named before, and what lies in `non_persistent` if it is there.
    var allowsMoving: Bool { true }

    // MARK: Finding

    private static let (release, apart) = ("release", "non_persistent")

    func candidates(in output: OutputFolder) throws -> [Candidate] {
        var found = output.folders("iter_#")
        if output.hasFolder(Self.release) {
            let names = try output.entries(in: Self.release).keys
            let isOne = names.contains { $0.hasPrefix("mp_rank_") || $0 == Self.configuration }
            if isOne { found.append(Candidate(name: Self.release, path: Self.release, step: nil)) }
        }
        guard output.hasFolder(Self.apart) else { return found }
        for (name, status) in try output.entries(in: Self.apart) where status.kind == .folder {
            guard let step = NamePattern("iter_#").numbers(in: name.utf8)?.first else { continue }
            let path = "\(Self.apart)/\(name)"
            found.append(Candidate(name: path, path: path, step: step))
        }
        return found
    }

    static let configuration = "metadata.json"
    static let common = "common.pt"

    func recognises(_ view: CheckpointView) throws -> Bool {
        if view.folders.contains(where: { MegatronRank($0) != nil }) { return true }
        // Others have files of that name as well, which may be large.
        if let size = view[Self.configuration]?.size, size < 4096,
            try view.json(Self.configuration)?["sharded_backend"] != nil
        {
            return true
        }
        let isShared =
            view.has(DistributedFolder.metadataName) || view.files.contains { $0.path.hasSuffix(".distcp") }
        return isShared && (view.has(Self.common) || NamePattern("iter_#").matches(view.name))
    }

    // MARK: Pointers

    private static let pointer = "latest_checkpointed_iteration.txt"

    func pointers(to iteration: Candidate) -> [Pointer] {
        let folder = iteration.path.hasPrefix(Self.apart + "/") ? Self.apart + "/" : ""
        let text = iteration.path == Self.release ? Self.release : iteration.step.map { String($0) }
        return text.map { [Pointer(path: folder + Self.pointer, text: $0)] } ?? []
    }

    func pointed(in output: OutputFolder) throws -> Pointer? {
        // Others have a pointer of the same name.
        let hasOne = output.hasFolder(Self.release) || !output.folders("iter_#").isEmpty
        guard hasOne, let text = try output.text(Self.pointer) else { return nil }
        let step = Step.decimal(text.trimmed.utf8).map { String($0) }
        guard let says = text.trimmed == Self.release ? Self.release : step else { return nil }
        return Pointer(path: Self.pointer, text: text, says: says)
    }

    // MARK: Parts

    func part(of path: String, tensor: String?) -> ModelFiles.Part {
        if path.hasSuffix("/model_optim_rng.pt") { return Self.part(ofState: tensor) }
        let name = path.split(separator: "/").last ?? ""
        if path.contains("/"), name == "distrib_optim.pt" || name.hasPrefix("layer_wise_optimizer_") {
            return .optimizer
        }
        if name.hasPrefix("train_dataloader_dprank") { return .trainerState }
        if path == "integrity.json" { return .marker }
        // Of what all ranks share, nothing is told apart by its file.
        let isShared =
            path.hasSuffix(".distcp") || path == DistributedFolder.metadataName || path == Self.configuration
        return isShared || path == Self.common ? .model : ModelFiles.part(of: path)
    }

    private static func part(ofState tensor: String?) -> ModelFiles.Part {
        guard let tensor else { return .model }
        switch tensor.prefix(while: { $0 != "." }) {
        case "optimizer": return .optimizer
        case "opt_param_scheduler": return .scheduler
        case "rng_state": return .rng
        case let top where top.hasPrefix("model"): return .model
        default: return .trainerState
        }
    }
}
