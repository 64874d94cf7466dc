/// Which tensors of MindSpore are a model's, its optimizer's, or the training's: files have them side by side.
struct TensorGroups {
    /// Of all ranks.
    private let names: Set<String>

    init(_ names: some Sequence<String>) { self.names = Set(names) }

    /// What a training keeps beside its parameters, as tensors of one element.
    private static let state: Set = [
        "epoch_num", "step_num", "global_step", "loss_scale", "global_batch_size", "learning_rate",
        "scale_sense", "scaling_sens",
        "current_iterator_step", "last_overflow_iterator_step", "beta1_power", "beta2_power",
        "data_plan_state", "ckpt_status",
    ]
    /// What optimizers put in front of a parameter's name.
    private static let moments: Set = [
        "adam_m", "adam_v", "muon_m", "moment1", "moment2", "moments", "momentum", "accum", "exp_avg",
        "exp_avg_sq",
        "exp_avg_insta_row", "exp_avg_insta_col", "exp_avg_sq_row", "exp_avg_sq_col", "accu_grads",
    ]

    /// The name of one tensor is enough but for optimizers that are not known.
    static func part(of name: String) -> ModelFiles.Part {
        if state.contains(name) { return .trainerState }
        guard let dot = name.firstIndex(of: ".") else { return .model }
        return moments.contains(String(name[..<dot])) ? .optimizer : .model
    }

    /// As `part(of:)`; also a name that is a word in front of another one's is the optimizer's.
    func part(of name: String) -> ModelFiles.Part { base(of: name) == nil ? Self.part(of: name) : .optimizer }

    /// The parameter that a tensor of the optimizer is kept for. (mindformers, `checkpoint/sharded_tensor.py:_find_base_param_name`)
    func base(of name: String) -> String? {
        guard let dot = name.firstIndex(of: ".") else { return nil }
        let rest = String(name[name.index(after: dot)...])
        return names.contains(rest) ? rest : nil
    }

    var hasOptimizer: Bool { names.contains { part(of: $0) == .optimizer } }
}
