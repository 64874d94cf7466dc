internal import Platform

/// What verl writes: a folder for each step of PPO with those of its actor and critic, or of SFT with the model's right in it. Each rank of
/// FSDP has files of its own; Megatron's ranks share a distributed checkpoint. (verl, `utils/checkpoint/fsdp_checkpoint_manager.py`,
/// `megatron_checkpoint_manager.py`, `trainer/ppo/ray_trainer.py`)
struct VeRL: Layout {
    var name: String { "verl" }
    var abilities: LayoutAbilities {
        LayoutAbilities(
            title: "verl: PPO and SFT, with FSDP or Megatron", splits: true, resumes: true, exportsTo: nil,
            exportsToHuggingFace: true)
    }

    var takesOutputFolder: Bool { true }
    // What it would delete and is gone, it passes over.
    var allowsMoving: Bool { true }

    private static let folder: NamePattern = "global_step_#"

    func candidates(in output: OutputFolder) throws -> [Candidate] { output.folders(Self.folder) }

    func recognises(_ view: CheckpointView) -> Bool {
        let isOfModel = view.files.contains { file in
            let name = Self.roles.first { file.path.hasPrefix($0 + "/") }.map {
                file.path.dropFirst($0.count + 1)
            }
            return VeRLModel.isOne(name ?? file.path[...], isInRole: name != nil)
        }
        return isOfModel || Self.folder.matches(view.name) && Self.leftovers.contains(where: view.hasAny)
    }

    /// The models that PPO trains; the first is the one that people want.
    static let roles = ["actor", "critic"]
    /// What stays in a step's folder when its models are deleted, or is there before they are.
    private static let leftovers: [NamePattern] = ["data.pt", "data_#.pt", "actor", "critic"]

    func part(of path: String, tensor: String?) -> ModelFiles.Part {
        if path.hasPrefix("critic/") || NamePattern("data_#.pt").matches(path) || path == "data.pt" {
            return .trainerState
        }
        let name = path.hasPrefix("actor/") ? String(path.dropFirst(6)) : path
        if name.hasPrefix("dist_ckpt/") {
            return Megatron().part(of: String(name.dropFirst(10)), tensor: tensor)
        }
        if name.hasPrefix("huggingface/") { return ModelFiles.part(of: String(name.dropFirst(12))) }
        return VeRLModel.part(of: name, tensor: tensor) ?? ModelFiles.part(of: name)
    }

    /// Each rank of FSDP reads its own files.
    func rank(of path: String) -> Int? {
        let name = path.split(separator: "/").last ?? ""
        for kind in VeRLModel.Kind.allCases {
            if let rank = kind.pattern.numbers(in: name.utf8)?.last { return Int(rank) }
        }
        return nil
    }

    // MARK: Pointers

    private static let pointer = "latest_checkpointed_iteration.txt"

    func pointers(to iteration: Candidate) -> [Pointer] {
        iteration.step.map { [Pointer(path: Self.pointer, text: String($0))] } ?? []
    }

    func pointed(in output: OutputFolder) throws -> Pointer? {
        // Others have a pointer of the same name.
        guard !output.folders(Self.folder).isEmpty, let text = try output.text(Self.pointer),
            let step = Step.decimal(text.trimmed.utf8)
        else { return nil }
        return Pointer(path: Self.pointer, text: text, says: String(step))
    }
}

/// The files of one model, in the folder of its role or right in that of the step.
struct VeRLModel {
    /// What each rank of FSDP writes, in this order.
    enum Kind: CaseIterable {
        case model, optimizer, extra

        var pattern: NamePattern {
            switch self {
            case .model: "model_world_size_#_rank_#.pt"
            case .optimizer: "optim_world_size_#_rank_#.pt"
            case .extra: "extra_state_world_size_#_rank_#.pt"
            }
        }

        private var word: String {
            switch self {
            case .model: "model"
            case .optimizer: "optim"
            case .extra: "extra_state"
            }
        }

        func name(_ ranks: UInt64, _ rank: UInt64) -> String {
            "\(word)_world_size_\(ranks)_rank_\(rank).pt"
        }
    }

    /// Of the names, with the slash at its end; empty right in the step's folder.
    let prefix: String
    /// Of each kind the files of the ranks, by the number of ranks.
    private(set) var files: [Kind: [UInt64: [UInt64: String]]] = [:]
    let isMegatron: Bool

    init(_ view: CheckpointView, folder: String) {
        prefix = folder.isEmpty ? "" : folder + "/"
        isMegatron = view.hasFolder(prefix + "dist_ckpt")
        for kind in Kind.allCases {
            for (file, numbers) in view.files(kind.pattern, in: folder) {
                files[kind, default: [:]][numbers[0], default: [:]][numbers[1]] = file.path
            }
        }
    }

    var isAbsent: Bool { files.isEmpty && !isMegatron }

    static let configuration = "fsdp_config.json"

    /// How many ranks wrote it: what its configuration says, else the names of files.
    func ranks(_ view: CheckpointView) throws -> UInt64 {
        let said = try view.json(prefix + Self.configuration)?["world_size"]?.int.flatMap {
            $0 > 0 ? UInt64($0) : nil
        }
        return said ?? (files[.model] ?? files[.optimizer] ?? [:]).keys.max() ?? 1
    }

    /// Whether only verl gives a file such a name.
    static func isOne(_ name: Substring, isInRole: Bool) -> Bool {
        if Kind.allCases.contains(where: { $0.pattern.matches(name.utf8) }) || name == configuration {
            return true
        }
        return isInRole && (name.hasPrefix("dist_ckpt/") || name.hasPrefix("huggingface/"))
            || name == "dist_ckpt/.metadata" || name == "dist_ckpt/metadata.json"
    }

    static func part(of name: String, tensor: String?) -> ModelFiles.Part? {
        if Kind.model.pattern.matches(name) || name == configuration || name == "transformer_config.json"
            || name.hasPrefix("lora_adapter/") || name.hasPrefix("adapter_checkpoint/")
        {
            return .model
        }
        if Kind.optimizer.pattern.matches(name) { return .optimizer }
        guard Kind.extra.pattern.matches(name) else { return nil }
        return tensor?.hasPrefix("lr_scheduler") == true ? .scheduler : .rng
    }
}

extension CheckpointView {
    /// Whether there is a file or folder right in it whose name matches.
    fileprivate func hasAny(_ pattern: NamePattern) -> Bool {
        names().contains { pattern.matches($0) }
    }
}
