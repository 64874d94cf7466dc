internal import Platform
internal import TensorFormats

extension VeRL {
    /// The step is in the folder's name alone.
    func inspect(_ view: CheckpointView) throws -> Inspection {
        var result = Inspection()
        let roles = Self.roles.filter { role in view.files.contains { $0.path.hasPrefix(role + "/") } }
        let root = VeRLModel(view, folder: "")
        let isPPO = root.isAbsent && view.files("data_#.pt").isEmpty
        if isPPO, roles.first != Self.roles[0] {
            result.faults.append("actor is missing, which verl deletes from the steps that it does not keep")
        }
        for folder in isPPO ? roles : [""] {
            let model = folder.isEmpty ? root : VeRLModel(view, folder: folder)
            try inspect(model, view, &result, isFirst: folder != Self.roles[1])
        }
        try checkData(view, isPPO: isPPO, &result)
        return result
    }

    private func inspect(
        _ model: VeRLModel, _ view: CheckpointView, _ result: inout Inspection, isFirst: Bool
    ) throws {
        result.faults += try view.faults(inConfigurationsOf: model.prefix + "huggingface/")
        if model.isMegatron {
            let folder = try DistributedFolder(view, folder: model.prefix + "dist_ckpt")
            result.faults += try Megatron().faults(of: folder)
            guard isFirst else { return }
            let arguments = try Megatron().arguments(of: folder)
            result.worldSize = arguments.worldSize ?? folder.rankCount
            result.facts.append(("strategy", "Megatron"))
            result.facts += arguments.facts
            return
        }
        let configuration = model.prefix + VeRLModel.configuration
        if let fault = try view.fault(inJSON: configuration) { result.faults.append(fault) }
        let ranks = try model.ranks(view)
        for kind in VeRLModel.Kind.allCases {
            try check(model, kind, ranks, view, &result)
        }
        guard isFirst else { return }
        result.worldSize = Int(exactly: ranks)
        if let version = try view.json(configuration)?["FSDP_version"]?.int {
            result.facts.append(("strategy", "FSDP\(version)"))
        }
        result.facts += try facts(model, ranks, view)
    }

    private func check(
        _ model: VeRLModel, _ kind: VeRLModel.Kind, _ ranks: UInt64, _ view: CheckpointView,
        _ result: inout Inspection
    ) throws {
        let files = model.files[kind]?[ranks] ?? [:]
        if files.isEmpty, kind != .model {
            let lacking =
                kind == .optimizer ? "the optimizer's state" : "the scheduler's and random numbers' state"
            if !result.missing.contains(lacking) { result.missing.append(lacking) }
            return
        }
        result.faults += RankFaults.missing(ranks, of: Set(files.keys)) {
            model.prefix + kind.name(ranks, $0)
        }
        for rank in files.keys.sorted() {
            if let fault = try view.fault(inTensors: files[rank]!) { result.faults.append(fault) }
        }
    }

    /// Where the data loader was: PPO writes it last, and SFT each rank of data parallelism its own.
    private func checkData(_ view: CheckpointView, isPPO: Bool, _ result: inout Inspection) throws {
        let files = isPPO ? ["data.pt"] : view.files("data_#.pt").map(\.file.path)
        for file in files where view.has(file) {
            if let fault = try view.fault(inTensors: file) { result.faults.append(fault) }
        }
        guard !files.contains(where: view.has) else { return }
        if view.mayBeUnfinished {
            result.faults.append("\(isPPO ? "data.pt" : "data_0.pt") is missing, which is written last")
        } else {
            result.missing.append("the data loader's state")
        }
    }

    /// How the weights are divided, and their dtype.
    private func facts(
        _ model: VeRLModel, _ ranks: UInt64, _ view: CheckpointView
    ) throws -> [(name: String, value: String)] {
        guard let path = model.files[.model]?[ranks]?.min(by: { $0.key < $1.key })?.value,
            let tree = try view.tree(in: path), let value = tree.root.items?.first?.value
        else { return [] }
        var facts: [(name: String, value: String)] = []
        if let mesh = try? value.distributedTensor()?.mesh {
            let names = mesh.names ?? mesh.shape.map { _ in "fsdp" }
            let sizes = zip(names, mesh.shape).map { "\($0) \($1)" }
            facts.append(("parallel layout", sizes.joined(separator: ", ")))
        }
        if let precision = Precision.name(tree.tensors.first?.tensor.dtype) {
            facts.append(("precision", precision))
        }
        return facts
    }
}
