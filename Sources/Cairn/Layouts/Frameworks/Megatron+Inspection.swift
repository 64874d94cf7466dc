internal import Platform
internal import TensorFormats

extension Megatron {
    func inspect(_ view: CheckpointView) throws -> Inspection {
        let grid = try MegatronGrid(view)
        return try grid.folders.isEmpty ? inspectShared(try DistributedFolder(view)) : inspect(view, grid)
    }

    // MARK: torch

    private func inspect(_ view: CheckpointView, _ grid: MegatronGrid) throws -> Inspection {
        var result = Inspection()
        let arguments = grid.arguments
        result.step = arguments.iteration
        result.stepFile = grid.first
        result.facts = [("format", "torch")] + arguments.facts
        guard !grid.isAbsurd else {
            result.faults.append("\(grid.first ?? "a file") names more ranks than there can be")
            return result
        }
        result.worldSize = arguments.worldSize ?? Int(exactly: grid.count)
        result.faults = grid.missing()
        let hasOptimizers = grid.folders.contains { view.has("\($0)/\(Self.optimizer)") }
        for folder in grid.folders {
            let files = [MegatronGrid.file] + (hasOptimizers ? [Self.optimizer] : [])
            result.faults += try files.compactMap { try view.fault(inTensors: "\(folder)/\($0)") }
            result.faults += try view.files("layer_wise_optimizer_#.pt", in: folder).compactMap {
                try view.fault(inTensors: $0.file.path)
            }
        }
        // Without arguments, nothing says what there should be.
        guard grid.first != nil else { return result }
        if !hasOptimizers, !arguments.has("optimizer") { result.missing.append("the optimizer's state") }
        if !arguments.has("rng_state") { result.missing.append("the random numbers' state") }
        return result
    }

    private static let optimizer = "distrib_optim.pt"

    // MARK: torch_dist

    private func inspectShared(_ folder: DistributedFolder) throws -> Inspection {
        var result = Inspection()
        result.faults = try faults(of: folder)
        let arguments = try arguments(of: folder)
        result.step = arguments.iteration
        result.stepFile = folder.has(Self.common) ? Self.common : nil
        let inside = [arguments.tensorRanks ?? 1, arguments.pipelineRanks ?? 1].product.flatMap {
            Int(exactly: $0)
        }
        result.worldSize = arguments.worldSize ?? max(folder.rankCount, inside ?? 1)
        result.facts = [("format", "torch_dist")] + arguments.facts
        return result
    }

    /// Why a folder of `torch_dist` is not complete. (Megatron-LM, `core/dist_checkpointing/serialization.py:save`)
    func faults(of folder: DistributedFolder) throws -> [String] {
        var faults = folder.faults
        let path = folder.prefix + Self.configuration
        let hasCommon = folder.has(Self.common)
        let isShared = hasCommon || folder.metadata?.objects.contains { $0.name == Self.commonState } ?? true
        let configuration = try folder.view.json(path)
        if !folder.has(Self.configuration) {
            // torch_dcp and fsdp_dtensor have none, and nothing that all ranks share beside the tensors.
            if isShared { faults.append("\(path) is missing, which is written last") }
        } else if configuration?["sharded_backend"] == nil {
            faults.append("\(path) is not JSON, so its writing was cut off")
        }
        if hasCommon || configuration?["common_backend"] != nil,
            let fault = try folder.view.fault(inTensors: folder.prefix + Self.common)
        {
            faults.append(fault)
        }
        return faults + (try faultsOfDigests(folder))
    }

    /// Where it keeps the digests of its files, each must be there. The digests are not computed here.
    private func faultsOfDigests(_ folder: DistributedFolder) throws -> [String] {
        let path = folder.prefix + "integrity.json"
        guard folder.view.has(path) else { return [] }
        guard let files = try folder.view.json(path)?["files"]?.members else {
            return ["\(path) is not JSON, so its writing was cut off"]
        }
        return files.map(\.key).filter { !folder.has($0) }.prefix(20).map {
            "\(folder.prefix)\($0) is missing, which \(path) names"
        }
    }

    /// What a newer version keeps among the tensors, instead of in `common.pt`.
    private static let commonState = "common_state/shard_0_1"

    func arguments(of folder: DistributedFolder) throws -> MegatronArguments {
        let tree = try folder.view.tree(in: folder.prefix + Self.common) ?? folder.object(Self.commonState)
        return MegatronArguments(tree)
    }
}
