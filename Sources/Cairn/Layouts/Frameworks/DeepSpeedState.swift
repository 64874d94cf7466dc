internal import TensorFormats

/// What a model's state says of the training. (deepspeed, `runtime/engine.py:_common_checkpoint_state`)
struct DeepSpeedState {
    typealias Shape = (name: String, shape: [UInt64])

    private let root: TorchTree.Value?
    /// For each group of the optimizer, the parameters that it holds in full precision, in the order in which it does.
    let shapes: [[Shape]]

    /// - Parameter tree: nil for a file that can't be read, which says nothing.
    init(_ tree: TorchTree?) {
        root = tree?.root
        shapes = (root?["param_shapes"]?.elements ?? []).map { Self.shapes($0) }
    }

    private static func shapes(_ group: TorchTree.Value) -> [Shape] {
        (group.items ?? []).compactMap { item in
            guard let name = item.key.string, let shape = item.value.dimensions else { return nil }
            return (name, shape)
        }
    }

    var step: UInt64? { root?["global_steps"]?.int.flatMap { UInt64(exactly: $0) } }
    /// Where the training code gave one.
    var epoch: Double? { root?["epoch"]?.double }
    var dataRanks: UInt64? { root?["dp_world_size"]?.int.flatMap { UInt64(exactly: $0) } }
    var modelRanks: UInt64? { root?["mp_world_size"]?.int.flatMap { UInt64(exactly: $0) } }
    /// Of each layer that has experts.
    var expertCounts: [UInt64] {
        (root?["num_experts"]?.elements ?? []).compactMap { $0.int.flatMap { UInt64(exactly: $0) } }
    }

    /// How ranks of tensor parallelism divide parameters; nil where nothing says.
    var division: TorchTree.Value? {
        root?["universal_checkpoint_info"].flatMap { $0.items?.isEmpty ?? true ? nil : $0 }
    }

    var pipelineRanks: Int { root?["checkpoint_parallel_dimensions"]?["pp_degree"]?.int ?? 1 }

    /// The stage of ZeRO in the configuration.
    var stage: Int? { root?["ds_config"]?["zero_optimization"]?["stage"]?.int }
    /// Whether each rank has a part of the optimizer's state in a file of its own.
    var dividesOptimizer: Bool { root?["param_shapes"].map { !$0.isNone } ?? ((stage ?? 0) > 0) }
    var hasOptimizer: Bool { root?["optimizer"].map { !$0.isNone } ?? false }

    /// Parameters of an optimizer that is not divided.
    var optimizerCount: Int {
        (root?["optimizer"]?["param_groups"]?.elements ?? []).reduce(0) {
            $0 + ($1["params"]?.elements?.count ?? 0)
        }
    }

    private func isEnabled(_ key: String) -> Bool { root?["ds_config"]?[key]?["enabled"]?.bool ?? false }

    var precision: String {
        if isEnabled("bf16") || isEnabled("bfloat16") { return "bf16" }
        return isEnabled("fp16") ? "fp16" : "fp32"
    }

    func facts(_ files: DeepSpeedFiles) -> [(name: String, value: String)] {
        var facts: [(name: String, value: String)] = []
        let dimensions = root?["checkpoint_parallel_dimensions"]
        var parallel = dataRanks.map { ["dp \($0)"] } ?? []
        for (key, name) in [("tp_degree", "tp"), ("pp_degree", "pp")] {
            if let degree = dimensions?[key]?.int { parallel.append("\(name) \(degree)") }
        }
        if !parallel.isEmpty { facts.append(("parallel layout", parallel.joined(separator: ", "))) }
        if let stage { facts.append(("ZeRO stage", String(stage))) }
        if root?["ds_config"]?.items != nil { facts.append(("precision", precision)) }
        if files.isUniversal { facts.append(("form", "universal")) }
        if let version = root?["ds_version"]?.string { facts.append(("DeepSpeed version", version)) }
        return facts
    }

    // MARK: The model

    /// What the module holds, in its order. With ZeRO 3 its parameters are empty.
    var module: [(name: String, value: TorchTree.Value)] { Self.named(root?["module"]) }
    var buffers: Set<String> { Set((root?["buffer_names"]?.elements ?? []).compactMap(\.string)) }
    var frozen: [Shape] { root?["frozen_param_shapes"].map { Self.shapes($0) } ?? [] }

    /// The part of a frozen parameter that this rank has: all of it, unless with ZeRO 3.
    func frozenPart(_ name: String) -> TorchTree.Tensor? { root?["frozen_param_fragments"]?[name]?.tensor }

    /// Parameters that are others under a second name, and those.
    var shared: [(name: String, original: String)] {
        Self.named(root?["shared_params"]).compactMap { name, value in value.string.map { (name, $0) } }
    }

    var hasDividedExperts: Bool {
        ["ds_autoep_layers", "autoep_layers"].contains { root?[$0].map { !$0.isNone } ?? false }
    }

    static func named(_ value: TorchTree.Value?) -> [(name: String, value: TorchTree.Value)] {
        (value?.items ?? []).compactMap { item in item.key.string.map { ($0, item.value) } }
    }
}
