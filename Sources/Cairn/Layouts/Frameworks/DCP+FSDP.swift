internal import Platform

/// The folders in which accelerate, and with it the Trainer, keeps what FSDP's ranks have: one for a model, one for its optimizer.
/// (accelerate, `utils/fsdp_utils.py:save_fsdp_model`)
extension DCP {
    /// The folder of the first model; nil where there is none.
    static func modelFolder(_ view: CheckpointView) -> String? {
        view.folders.first { NamePattern("pytorch_model_fsdp_#").matches($0) }
    }

    static func optimizerFolder(_ view: CheckpointView) -> String? {
        view.folders.first { NamePattern("optimizer_#").matches($0) }
    }

    /// What a checkpoint in a folder of another one lacks.
    func faults(in folder: String, of view: CheckpointView) throws -> [String] {
        try inspect(view.view(of: folder)).faults.map { "in \(folder), \($0)" }
    }

    /// Model and optimizer together; nil where the model is not in such a folder.
    func assembly(ofSharded view: CheckpointView) throws -> Assembly? {
        guard let model = Self.modelFolder(view),
            var assembly = try assembly(of: view, below: model)
        else { return nil }
        if let folder = Self.optimizerFolder(view), let state = try self.assembly(of: view, below: folder) {
            assembly.optimizer = state.optimizer
        }
        return assembly
    }
}
