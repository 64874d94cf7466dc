internal import TensorFormats

/// What a Trainer reads when it goes on.
extension HuggingFace {
    /// The random numbers are each rank's own, and so is what DeepSpeed divides.
    func readers(in view: CheckpointView) throws -> [String: RankReaders] {
        var readers: [String: RankReaders] = [:]
        for (file, numbers) in view.files("rng_state_#.pth") {
            if let rank = Int(exactly: numbers[0]) { readers[file.path] = RankReaders(first: rank) }
        }
        for folder in view.folders where NamePattern("global_step#").matches(folder) {
            for (path, rank) in try DeepSpeed().readers(in: view.view(of: folder)) {
                readers["\(folder)/\(path)"] = rank
            }
        }
        return readers
    }

    /// (transformers, `trainer_callback.py:TrainerState.best_model_checkpoint`)
    func paths(in view: CheckpointView) throws -> [StatePath] {
        let (file, key) = ("trainer_state.json", "best_model_checkpoint")
        guard let size = view[file]?.size, size <= Self.stateLimit,
            let best = try view.json(file)?[key]?.stringValue, !best.isEmpty
        else { return [] }
        return [
            StatePath(
                file: file, key: key, path: best, target: .sibling, meaning: "the best checkpoint",
                consequence: "so the training deletes another one than it should")
        ]
    }

    /// Bytes: a log of more entries than any training has.
    private static let stateLimit: UInt64 = 1 << 30
}
