internal import Platform
internal import TensorFormats

extension DeepSpeed {
    /// The weights in full precision where ranks keep them, as `zero_to_fp32.py` puts them together, and everything else as the module has it.
    ///
    /// Where a model has experts or is a pipeline, the weights are those that it computes with. Buffers and frozen parameters stay of the
    /// type that they are stored in.
    func assembly(of view: CheckpointView) throws -> Assembly? {
        let files = DeepSpeedFiles(view)
        guard let first = files.states.keys.min(), let path = files.states[first] else {
            throw Assembly.refused("no file has the model's state")
        }
        let state = DeepSpeedState(try view.wantedTree(in: path))
        if !files.layers.isEmpty, !files.isUniversal { return try pipeline(view, files) }
        let ranks = max(state.modelRanks ?? 1, (files.states.keys.map(\.model).max() ?? 0) + 1)
        if ranks > 1 { return try DeepSpeedMerging(view, files, ranks: ranks).assembly() }
        if files.isUniversal { return try universal(view, files, state, path) }
        return try assembly(of: view, files, state, path)
    }

    /// Of one rank of tensor parallelism, what it has.
    func assembly(
        of view: CheckpointView, _ files: DeepSpeedFiles, _ state: DeepSpeedState, _ path: String
    ) throws -> Assembly {
        if state.hasDividedExperts {
            throw Assembly.refused(
                "its experts are divided by AutoEP; make a universal checkpoint of it with DeepSpeed's ds_to_universal.py"
            )
        }
        if !files.experts.isEmpty { return try withExperts(view, files, state, path) }
        // Without ZeRO the module has all weights, also where an optimizer of bfloat16 has files of its own.
        guard state.dividesOptimizer else { return Assembly(tensors: try merged(state, path, weights: [])) }
        return try zero(view, files, state, path, try optimizerTrees(view, files))
    }

    // MARK: What the module has

    /// The model in the module's order: of each name the weight that was put together, else what the module has.
    func merged(
        _ state: DeepSpeedState, _ path: String, weights: [Assembly.Tensor], isEmptied: Bool = false
    ) throws -> [Assembly.Tensor] {
        var weight = Dictionary(weights.map { ($0.name, $0) }) { first, _ in first }
        // Under the second name as well, as in `zero_to_fp32.py`.
        for (name, original) in state.shared {
            guard weight[name] == nil, var copy = weight[original] else { continue }
            copy.name = name
            weight[name] = copy
        }
        let buffers = state.buffers
        var tensors: [Assembly.Tensor] = []
        for (name, value) in state.module {
            if let known = weight.removeValue(forKey: name) {
                tensors.append(known)
            } else if let tensor = value.tensor, !isEmptied || buffers.contains(name) || tensor.count > 0 {
                tensors.append(.init(whole: name, tensor, file: path))
            }
        }
        let rest = weights.map(\.name) + state.shared.map(\.name)
        return tensors + rest.compactMap { weight.removeValue(forKey: $0) }
    }

    /// Each expert has a file, in which it has the number that it has among all. (deepspeed, `runtime/engine.py:_save_moe_checkpoint`)
    private func withExperts(
        _ view: CheckpointView, _ files: DeepSpeedFiles, _ state: DeepSpeedState, _ path: String
    ) throws -> Assembly {
        guard !files.statesAreDivided else {
            throw Assembly.refused("its experts are divided among the ranks of ZeRO 3")
        }
        var assembly = Assembly(tensors: try merged(state, path, weights: []))
        for expert in files.experts {
            assembly.tensors += try tensors(in: expert.path, view, prefix: "")
        }
        return assembly
    }

    /// Each layer has a file, in which its parameters have no number. (deepspeed, `runtime/pipe/module.py:save_state_dict`)
    private func pipeline(_ view: CheckpointView, _ files: DeepSpeedFiles) throws -> Assembly {
        for (one, next) in zip(files.layers, files.layers.dropFirst()) where one.layer == next.layer {
            throw Assembly.refused(
                "layer \(one.layer) is divided among ranks of tensor parallelism, and nothing says along which axes",
                next.path)
        }
        return Assembly(
            tensors: try files.layers.flatMap { try tensors(in: $0.path, view, prefix: "\($0.layer).") })
    }

    private func tensors(in path: String, _ view: CheckpointView, prefix: String) throws -> [Assembly.Tensor]
    {
        DeepSpeedState.named(try view.wantedTree(in: path).root).compactMap { name, value in
            value.tensor.map { .init(whole: prefix + name, $0, file: path) }
        }
    }
}
