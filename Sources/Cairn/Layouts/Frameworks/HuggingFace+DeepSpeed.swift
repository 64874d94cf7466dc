extension HuggingFace {
    /// The folder of a Trainer's checkpoint in which DeepSpeed keeps the optimizer's state, and with ZeRO 3 the only weights.
    /// (transformers, `trainer.py:_save_checkpoint`)
    func deepSpeed(in view: CheckpointView) -> String? {
        let pattern = NamePattern("global_step#")
        return view.folders.compactMap { folder in
            pattern.numbers(in: folder.utf8).map { (folder, $0[0]) }
        }.max { $0.1 < $1.1 }?.0
    }

    func checkDeepSpeed(_ view: CheckpointView, _ result: inout Inspection) throws {
        guard let folder = deepSpeed(in: view) else { return }
        let inner = try DeepSpeed().inspect(view.view(of: folder))
        result.faults += inner.faults.map { "\(folder): \($0)" }
        result.worldSize = result.worldSize ?? inner.worldSize
        result.facts += inner.facts
    }

    func deepSpeedAssembly(_ view: CheckpointView) throws -> Assembly? {
        guard let folder = deepSpeed(in: view),
            var assembly = try DeepSpeed().assembly(of: view, below: folder)
        else { return nil }
        assembly.files = beside(view)
        return assembly
    }
}
