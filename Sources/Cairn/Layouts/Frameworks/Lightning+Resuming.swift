internal import Platform
internal import TensorFormats

extension Lightning {
    /// What `ModelCheckpoint` says of its own folder: it takes up its list of the best only where that is the same.
    /// (lightning, `pytorch/callbacks/model_checkpoint.py:load_state_dict`)
    func paths(in view: CheckpointView) throws -> [StatePath] {
        guard let (file, tree) = try state(of: view) else { return [] }
        var found: [StatePath] = []
        for (_, callback) in tree.root["callbacks"]?.items ?? [] where callback.kind == .dictionary {
            guard let folder = callback["dirpath"]?.string, !folder.isEmpty else { continue }
            guard !found.contains(where: { $0.path == folder }) else { continue }
            found.append(
                StatePath(
                    file: file.path, path: folder, target: .folder, meaning: "the folder of checkpoints",
                    consequence: "so Lightning forgets which were the best unless it writes there again"))
        }
        return found
    }
}
