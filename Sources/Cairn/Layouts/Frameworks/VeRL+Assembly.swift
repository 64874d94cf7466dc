internal import TensorFormats

extension VeRL {
    /// The actor, or the model that SFT trains. Its names are those of Hugging Face, or with Megatron that one's.
    func assembly(of view: CheckpointView) throws -> Assembly? {
        let root = VeRLModel(view, folder: "")
        let isPPO = root.isAbsent && view.files("data_#.pt").isEmpty
        let model = isPPO ? VeRLModel(view, folder: Self.roles[0]) : root
        var assembly = Assembly()
        if model.isMegatron {
            assembly = try Megatron().assembly(
                of: try DistributedFolder(view, folder: model.prefix + "dist_ckpt"))
        } else {
            assembly.tensors = try gathered(model, view)
        }
        let folder = model.prefix + "huggingface"
        assembly.files = view.names(in: folder).filter { name in
            view.has("\(folder)/\(name)")
                && (Self.describing.contains(name) || ModelFiles.part(of: name) != .model)
        }.map { ("\(folder)/\($0)", $0) }
        return assembly
    }

    /// What says how to build the model; its weights may lie beside it.
    private static let describing: Set = ["config.json", "generation_config.json"]

    private func gathered(_ model: VeRLModel, _ view: CheckpointView) throws -> [Assembly.Tensor] {
        let ranks = try model.ranks(view)
        guard let files = model.files[.model]?[ranks] else {
            throw Assembly.refused("no rank has any of the weights")
        }
        var gathering = ShardGathering()
        for rank in files.keys.sorted() {
            let path = files[rank]!
            for item in try view.wantedTree(in: path).root.items ?? [] {
                guard let name = item.key.string else { continue }
                try gathering.add(name, item.value, file: path)
            }
        }
        return try gathering.tensors()
    }
}
