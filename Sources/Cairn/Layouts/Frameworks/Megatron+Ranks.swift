extension Megatron {
    /// Of `torch`, the folder of a part of the model is that of all ranks that have this part. Where experts are divided, or the ranks are
    /// counted in another order, all get all.
    func readers(in view: CheckpointView) throws -> [String: RankReaders] {
        let grid = try MegatronGrid(view)
        let arguments = grid.arguments
        guard !grid.folders.isEmpty, !grid.isAbsurd, let world = arguments.worldSize, grid.expert == 1,
            (arguments.expertRanks ?? 1) == 1, arguments.bool("use_tp_pp_dp_mapping") != true
        else { return [:] }
        var readers: [String: RankReaders] = [:]
        for (rank, folder) in grid.ranks {
            guard let own = RankReaders(rank, tensors: grid.tensor, stages: grid.pipeline, of: world) else {
                return [:]
            }
            for file in view.files where file.path.hasPrefix(folder + "/") { readers[file.path] = own }
        }
        return readers
    }
}

extension RankReaders {
    /// Those that have a part of a model, counted along tensor parallelism first and along the pipeline last.
    /// (Megatron-LM, `core/parallel_state.py:initialize_model_parallel`)
    /// - Returns: nil where the ranks can't be divided so.
    init?(_ part: MegatronGrid.Rank, tensors: UInt64, stages: UInt64, of world: Int) {
        guard let parts = [tensors, stages].product.flatMap({ Int(exactly: $0) }), parts > 0,
            world.isMultiple(of: parts), part.tensor < tensors, part.pipeline < stages
        else { return nil }
        self.init(
            first: Int(part.pipeline) * (world / Int(stages)) + Int(part.tensor), step: Int(tensors),
            count: world / parts)
    }
}
