extension DeepSpeed {
    /// What ZeRO divides is each rank's own. Where the model is divided too, names do not say which rank has what, so that all have all.
    func readers(in view: CheckpointView) throws -> [String: RankReaders] {
        let files = DeepSpeedFiles(view)
        let divided = files.statesAreDivided ? files.states : [:]
        let ranks = Array(files.states.keys) + Array(files.optimizers.keys)
        guard ranks.allSatisfy({ $0.model == 0 }), files.layers.isEmpty, files.experts.isEmpty else {
            return [:]
        }
        var readers: [String: RankReaders] = [:]
        for (rank, path) in Array(divided) + Array(files.optimizers) {
            if let number = Int(exactly: rank.data) { readers[path] = RankReaders(first: number) }
        }
        return readers
    }
}
