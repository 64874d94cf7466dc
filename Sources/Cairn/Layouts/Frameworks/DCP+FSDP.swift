internal import Platform

/// The folders in which accelerate, and with it the Trainer, keeps what FSDP has sharded: one for the model, one for the optimizer.
/// (accelerate, `utils/fsdp_utils.py`)
extension DCP {
    private static let (model, optimizer) = ("pytorch_model_fsdp_0", "optimizer_0")

    /// Whether a checkpoint has such folders.
    static func isSharded(_ view: CheckpointView) -> Bool { view.hasFolder(model) }

    static func hasShardedOptimizer(_ view: CheckpointView) -> Bool { view.hasFolder(optimizer) }

    /// What those that are there lack.
    func faults(ofSharded view: CheckpointView) throws -> [String] {
        try [Self.model, Self.optimizer].filter(view.hasFolder).flatMap { try faults(in: $0, of: view) }
    }

    /// What a checkpoint in a folder of another one lacks.
    func faults(in folder: String, of view: CheckpointView) throws -> [String] {
        try inspect(view.view(of: folder)).faults.map { "in \(folder), \($0)" }
    }

    /// Model and optimizer together.
    func assembly(ofSharded view: CheckpointView) throws -> Assembly? {
        guard var assembly = try assembly(of: view.view(of: Self.model))?.below(Self.model) else { return nil }
        if view.hasFolder(Self.optimizer), let state = try self.assembly(of: view.view(of: Self.optimizer)) {
            assembly.optimizer = state.below(Self.optimizer).optimizer
        }
        return assembly
    }
}
