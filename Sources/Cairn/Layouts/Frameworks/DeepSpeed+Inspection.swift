internal import Platform
internal import TensorFormats

extension DeepSpeed {
    func inspect(_ view: CheckpointView) throws -> Inspection {
        let files = DeepSpeedFiles(view)
        var result = Inspection()
        result.faults = try view.names().filter { DeepSpeedFiles.isOne($0) }.compactMap {
            try view.fault(inTensors: $0)
        }
        guard let first = files.states.keys.min(), let path = files.states[first] else {
            result.faults.append("\(files.stateName(.init(data: 0, model: 0))) is missing")
            return result
        }
        let state = DeepSpeedState(try view.tree(in: path))
        result.step = state.step
        result.stepFile = path
        result.epoch = state.epoch
        result.facts = state.facts(files)
        let (data, model) = worldSize(files, state, try partitionCount(view, files))
        let (ranks, overflow) = data.multipliedReportingOverflow(by: model)
        guard !overflow, let count = Int(exactly: ranks) else {
            result.faults.append("\(path) names more ranks than there can be")
            return result
        }
        if files.isUniversal {
            // These are copies of what the ranks wrote that it was made of.
            result.faults += missing(files.states, files.statesAreDivided ? data : 1, model, files.stateName)
            result.faults += try faultsOfUniversal(view, files, state)
            return result
        }
        result.worldSize = count
        result.faults += missing(files, state, data: data, model: model)
        result.faults += missingExperts(files, state) + (try missingLayers(view, files))
        if files.optimizers.isEmpty, !state.dividesOptimizer, !state.hasOptimizer, files.experts.isEmpty {
            result.missing.append("the optimizer's state")
        }
        return result
    }

    /// Ranks along which the data is divided, and the model.
    private func worldSize(
        _ files: DeepSpeedFiles, _ state: DeepSpeedState, _ partitionCount: UInt64?
    ) -> (data: UInt64, model: UInt64) {
        let ranks = Array(files.states.keys) + files.optimizers.keys
        let data = partitionCount ?? state.dataRanks ?? ranks.map(\.data).max().map { $0 + 1 } ?? 1
        let model = max(state.modelRanks ?? 1, ranks.map(\.model).max().map { $0 + 1 } ?? 1)
        return (max(data, 1), model)
    }

    /// Into how many parts the optimizer's state is divided, as those say that are there.
    private func partitionCount(_ view: CheckpointView, _ files: DeepSpeedFiles) throws -> UInt64? {
        let first = files.optimizers.keys.min().flatMap { files.optimizers[$0] }
        return try first.flatMap { try view.tree(in: $0)?.root["optimizer_state_dict"] }.flatMap {
            Self.partitionCount($0)
        }
    }

    /// - Parameter state: of an optimizer.
    static func partitionCount(_ state: TorchTree.Value) -> UInt64? {
        guard let count = state["partition_count"] else { return nil }
        // Experts are divided among fewer.
        let counts = count.elements?.compactMap(\.int) ?? [count.int].compactMap { $0 }
        return counts.max().flatMap { $0 > 0 ? UInt64($0) : nil }
    }

    /// The files that ranks did not write. (deepspeed, `utils/zero_to_fp32.py:parse_optim_states`)
    /// - Parameters: `data` times `model` is within 63 bits.
    private func missing(
        _ files: DeepSpeedFiles, _ state: DeepSpeedState, data: UInt64, model: UInt64
    ) -> [String] {
        var faults = missing(files.states, files.statesAreDivided ? data : 1, model, files.stateName)
        guard state.dividesOptimizer || !files.optimizers.isEmpty else { return faults }
        faults += missing(files.optimizers, data, model, files.optimizerName)
        if let more = files.optimizers.keys.filter({ $0.data >= data }).min() {
            faults.append(
                "\(files.optimizers[more]!) is there, though the state is in \(data) parts: "
                    + "an older checkpoint was written over")
        }
        return faults
    }

    private func missing(
        _ present: [DeepSpeedFiles.Rank: String], _ data: UInt64, _ model: UInt64,
        _ name: (DeepSpeedFiles.Rank) -> String
    ) -> [String] {
        let there = present.keys.filter { $0.data < data }.map { $0.model * data + $0.data }
        return RankFaults.missing(data * model, of: Set(there)) {
            name(DeepSpeedFiles.Rank(data: $0 % data, model: $0 / data))
        }
    }

    private func missingExperts(_ files: DeepSpeedFiles, _ state: DeepSpeedState) -> [String] {
        // With ZeRO 3, they are divided among the ranks like anything else.
        guard !files.statesAreDivided else { return [] }
        var present: [UInt64: Set<UInt64>] = [:]
        for expert in files.experts { present[expert.layer, default: []].insert(expert.expert) }
        return state.expertCounts.enumerated().flatMap { layer, count in
            RankFaults.missing(count, of: present[UInt64(layer)] ?? []) {
                "layer_\(layer)_expert_\($0)_mp_rank_00_model_states.pt"
            }
        }
    }

    /// Of a pipeline, each layer that has parameters has a file. With ZeRO their names begin with the layer's number; else the optimizer
    /// knows how many parameters there are.
    private func missingLayers(_ view: CheckpointView, _ files: DeepSpeedFiles) throws -> [String] {
        guard !files.layers.isEmpty else { return [] }
        let present = Set(files.layers.map(\.layer))
        var faults: [String] = []
        var wanted = 0
        for path in files.states.values.sorted() {
            let state = DeepSpeedState(try view.tree(in: path))
            let named = Set(state.shapes.joined().compactMap { UInt64($0.name.prefix { $0 != "." }) })
            faults += named.subtracting(present).sorted().map {
                "the file of the pipeline's layer \($0) is missing, which \(path) names"
            }
            wanted += state.optimizerCount
        }
        guard wanted > 0 else { return faults }
        let count = try files.layers.reduce(0) { $0 + (try view.tree(in: $1.path)?.tensors.count ?? 0) }
        if count < wanted {
            faults.append(
                "files of the pipeline's layers are missing: those that are there hold \(count) of \(wanted) parameters"
            )
        }
        return faults
    }

    /// Each parameter has a folder with a file for each part of its state. (deepspeed, `checkpoint/ds_to_universal.py:merge_tp_slices`)
    private func faultsOfUniversal(
        _ view: CheckpointView, _ files: DeepSpeedFiles, _ state: DeepSpeedState
    ) throws -> [String] {
        let trained = Set(state.shapes.joined().map(\.name))
        let parts = Set(files.parameters.values.joined().filter { $0.hasPrefix("exp_avg") }).sorted()
        let faults = try trained.union(files.parameters.keys).sorted().flatMap { name in
            // Buffers and frozen parameters have nothing else.
            try (["fp32.pt"] + (trained.contains(name) ? parts : [])).compactMap {
                try view.fault(inTensors: "zero/\(name)/\($0)")
            }
        }
        // Steps and what all parameters share.
        let others = try view.files.map(\.path).filter { path in
            path.hasPrefix("zero/") && path.hasSuffix(".pt") && !path.hasSuffix("/fp32.pt")
                && !parts.contains { path.hasSuffix("/" + $0) }
        }.compactMap { try view.fault(inTensors: $0) }
        return Array((faults + others).prefix(CheckpointView.faultLimit))
    }
}
