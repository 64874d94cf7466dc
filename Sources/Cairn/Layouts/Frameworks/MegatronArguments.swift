internal import TensorFormats

/// The arguments of the training, which every checkpoint of Megatron-LM's holds; each nil where it does not.
struct MegatronArguments {
    private let root: TorchTree.Value?
    private let arguments: TorchTree.Value?

    /// - Parameter tree: of `model_optim_rng.pt` or `common.pt`.
    init(_ tree: TorchTree?) {
        root = tree?.root
        arguments = root?["args"]
    }

    func int(_ name: String) -> Int? { arguments?.attribute(name)?.int }
    func bool(_ name: String) -> Bool? { arguments?.attribute(name)?.bool }

    private func size(_ name: String) -> UInt64? {
        int(name).flatMap { $0 > 0 ? UInt64($0) : nil }
    }

    var iteration: UInt64? { root?["iteration"]?.int.flatMap { UInt64(exactly: $0) } }
    var worldSize: Int? { int("world_size").flatMap { $0 > 0 ? $0 : nil } }
    var tensorRanks: UInt64? { size("tensor_model_parallel_size") }
    var pipelineRanks: UInt64? { size("pipeline_model_parallel_size") }
    var expertRanks: UInt64? { size("expert_model_parallel_size") }
    var expertTensorRanks: UInt64? { size("expert_tensor_parallel_size") }

    func has(_ key: String) -> Bool { root?[key].map { !$0.isNone } ?? false }

    /// Whether the output's weights are the embedding's.
    var isTied: Bool { bool("untie_embeddings_and_output_weights") == false }

    var facts: [(name: String, value: String)] {
        let sizes: [(String, UInt64?)] = [
            ("tp", tensorRanks), ("pp", pipelineRanks), ("vpp", size("virtual_pipeline_model_parallel_size")),
            ("ep", expertRanks), ("cp", size("context_parallel_size")), ("dp", size("data_parallel_size")),
        ]
        let parallel = sizes.compactMap { name, size in size.map { "\(name) \($0)" } }
        var facts: [(name: String, value: String)] = []
        if !parallel.isEmpty { facts.append(("parallel layout", parallel.joined(separator: ", "))) }
        if let precision = Precision.name(arguments?.attribute("params_dtype")?.dtype) {
            facts.append(("precision", precision))
        }
        if let samples = int("consumed_train_samples") { facts.append(("consumed samples", String(samples))) }
        if let version = root?["checkpoint_version"]?.double {
            facts.append(("checkpoint version", String(version)))
        }
        return facts
    }
}
