internal import TensorFormats

/// What a tensor or object of a distributed checkpoint is for, by the keys that lead to it.
enum DCPRole: Equatable {
    /// With the name that it has in the model.
    case model(String)
    /// With `exp_avg.` and the like in front of the parameter's name; nil where parameters are numbered, or it is no tensor of the state.
    case optimizer(String?)
    case other

    var isOptimizer: Bool { if case .optimizer = self { true } else { false } }

    /// - Parameters:
    ///   - path: nil where the writer left it out.
    ///   - isState: the checkpoint holds nothing but the state of an optimizer.
    init(_ name: String, _ path: [DCPMetadata.Key]?, isState: Bool = false) {
        var keys = Self.keys(name, path)
        if isState {
            self = .optimizer(Self.stateName(keys, path))
            return
        }
        // One key with dots is a parameter's name: torchtitan has the model's at the top.
        if keys.count == 1, path != nil, keys[0].contains(".") {
            self = .model(keys[0])
            return
        }
        if keys.count > 2, Self.wrappers.contains(keys[0]), Self.isKnown(keys[1]) { keys.removeFirst() }
        if keys.count > 1, Self.models.contains(keys[0]) {
            self = .model(keys.dropFirst().joined(separator: "."))
        } else if keys[0].hasPrefix("optim") || keys[0] == "opt_state" {
            self = .optimizer(Self.stateName(Array(keys.dropFirst()), path))
        } else if Self.others.contains(keys[0]) || keys[0].hasPrefix("lr_sched") {
            self = .other
        } else {
            self = .model(keys.joined(separator: "."))
        }
    }

    /// Whether a checkpoint holds nothing but what an optimizer gives of itself.
    static func isState(_ metadata: DCPMetadata) -> Bool {
        let names =
            metadata.tensors.map { keys($0.name, $0.path)[0] }
            + metadata.objects.map { keys($0.name, $0.path)[0] }
        return !names.isEmpty
            && names.allSatisfy { name in
                ["state", "param_groups"].contains { name == $0 || name.hasPrefix($0 + ".") }
            }
    }

    /// The keys as texts; at least one.
    static func keys(_ name: String, _ path: [DCPMetadata.Key]?) -> [String] {
        guard let path, !path.isEmpty else {
            return name.split(separator: ".", omittingEmptySubsequences: false).map(String.init)
        }
        return path.map { key in
            switch key {
            case .name(let name): name
            case .index(let index): String(index)
            }
        }
    }

    private static let models: Set = [
        "model", "module", "net", "network", "state_dict", "model_state_dict", "model_state", "params",
        "weights",
    ]
    private static let others: Set = [
        "scheduler", "schedulers", "sched", "train_state", "trainer_state", "dataloader", "data_loader",
        "extra_state", "rng",
        "rng_state", "scaler", "step", "global_step", "iteration", "iter", "epoch", "args", "config",
        "trainer",
    ]
    /// Objects that hold all of a training's state.
    private static let wrappers: Set = ["app", "state", "app_state", "checkpoint", "ckpt"]

    private static func isKnown(_ key: String) -> Bool {
        models.contains(key) || others.contains(key) || key.hasPrefix("optim")
    }

    /// Of `state`, a parameter, and what is kept for it: three keys, or one with dots between them.
    private static func stateName(_ keys: [String], _ path: [DCPMetadata.Key]?) -> String? {
        var keys = keys
        if path == nil || keys.count == 1 {
            keys = keys.flatMap {
                $0.split(separator: ".", omittingEmptySubsequences: false).map(String.init)
            }
        }
        guard keys.count > 2, keys[0] == "state" else { return nil }
        let (parameter, kept) = (keys[1..<keys.count - 1].joined(separator: "."), keys[keys.count - 1])
        return parameter.utf8.allSatisfy(StoreName.isDigit) ? nil : kept + "." + parameter
    }
}
