internal import Platform
internal import TensorFormats

extension DeepSpeed {
    typealias Partition = (file: String, state: TorchTree.Value)

    func optimizerTrees(_ view: CheckpointView, _ files: DeepSpeedFiles) throws -> [Partition] {
        try files.optimizers.keys.sorted().map { rank in
            let path = files.optimizers[rank]!
            guard let state = try view.wantedTree(in: path).root["optimizer_state_dict"] else {
                throw Assembly.refused("\(path) has no state of an optimizer", path)
            }
            return (path, state)
        }
    }

    func zero(
        _ view: CheckpointView, _ files: DeepSpeedFiles, _ state: DeepSpeedState, _ path: String,
        _ partitions: [Partition]
    ) throws -> Assembly {
        guard !partitions.isEmpty,
            partitions.indices.allSatisfy({ files.optimizers[.init(data: UInt64($0), model: 0)] != nil })
        else {
            throw Assembly.refused("the optimizer's state of some rank is missing")
        }
        if let count = Self.partitionCount(partitions[0].state), count != UInt64(partitions.count) {
            throw Assembly.refused("\(partitions.count) of \(count) parts of the optimizer's state are there")
        }
        guard let masters = Self.masters.first(where: { partitions[0].state[$0] != nil }) else {
            throw Assembly.refused(
                "\(partitions[0].file) has no weights in full precision", partitions[0].file)
        }
        let isStage3 = masters == Self.masters[1]
        let cut = { (rows: [(file: String, rows: [TorchTree.Tensor])]) throws -> [Assembly.Tensor] in
            let flat = try FlatPartitions(rows)
            if isStage3 { return try flat.inShares(Array(state.shapes.joined())) }
            return try flat.inRows(state.shapes, gaps: Self.gaps(partitions[0].state))
        }
        let rows = partitions.map { ($0.file, ($0.state[masters]?.elements ?? []).compactMap(\.tensor)) }
        var weights = try cut(rows)
        if isStage3 { weights += try frozen(view, files, state, ranks: partitions.count) }
        var assembly = Assembly(tensors: try merged(state, path, weights: weights, isEmptied: isStage3))
        for part in Self.parts(of: partitions[0].state) {
            guard let rows = Self.rows(of: part, partitions, like: rows) else { continue }
            assembly.optimizer += try cut(rows).map { tensor in
                var tensor = tensor
                tensor.name = "\(part).\(tensor.name)"
                return tensor
            }
        }
        return assembly
    }

    /// Elements behind each parameter that are there for alignment alone; since 0.19.8.
    private static func gaps(_ state: TorchTree.Value) -> [[UInt64]] {
        (state["param_alignment_paddings"]?.elements ?? []).map { group in
            (group.elements ?? []).map { UInt64(exactly: $0.int ?? 0) ?? 0 }
        }
    }

    /// What each rank has of a frozen parameter, with ZeRO 3 in its model's state. (deepspeed, `zero_to_fp32.py:_zero3_merge_frozen_params`)
    func frozen(
        _ view: CheckpointView, _ files: DeepSpeedFiles, _ state: DeepSpeedState, ranks: Int
    ) throws -> [Assembly.Tensor] {
        guard !state.frozen.isEmpty else { return [] }
        guard ranks <= files.states.count else {
            throw Assembly.refused("the model's state of some rank is missing")
        }
        let states = try (0..<ranks).map { rank in
            let own = DeepSpeedFiles.Rank(data: UInt64(rank), model: 0)
            let path = files.states[own] ?? files.stateName(own)
            return (path, DeepSpeedState(try view.wantedTree(in: path)))
        }
        return try state.frozen.flatMap { shape in
            let rows = try states.map { path, state in
                guard let part = state.frozenPart(shape.name) else {
                    throw Assembly.refused("\(path) has no part of \(shape.name)", path)
                }
                return (file: path, rows: [part])
            }
            return try FlatPartitions(rows).inShares([shape])
        }
    }

    // MARK: The optimizer's state

    /// What the optimizer that ZeRO stands around says of each group of parameters, by the group's number.
    private static func groups(_ state: TorchTree.Value) -> TorchTree.Value? {
        (state["base_optimizer_state"] ?? state["optimizer_state_dict"])?["state"]
    }

    /// The names of what there is for each element of a parameter.
    private static func parts(of state: TorchTree.Value) -> [String] {
        DeepSpeedState.named(groups(state)?[0]).compactMap { name, value in
            value.tensor?.shape.count == 1 ? name : nil
        }
    }

    /// The rows of a part of the state; nil where they are not those of the weights. They may have padding at their ends.
    private static func rows(
        of part: String, _ partitions: [Partition], like rows: [(file: String, rows: [TorchTree.Tensor])]
    ) -> [(file: String, rows: [TorchTree.Tensor])]? {
        var found: [(file: String, rows: [TorchTree.Tensor])] = []
        for (rank, partition) in partitions.enumerated() {
            let groups = groups(partition.state)
            let tensors = rows[rank].rows.indices.compactMap { groups?[$0]?[part]?.tensor }
            guard tensors.count == rows[rank].rows.count,
                zip(tensors, rows[rank].rows).allSatisfy({ $0.count >= $1.count && $0.shape.count == 1 })
            else { return nil }
            found.append((partition.file, tensors))
        }
        return found
    }
}
