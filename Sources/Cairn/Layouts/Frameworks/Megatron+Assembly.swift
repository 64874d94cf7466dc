internal import Platform
internal import TensorFormats

extension Megatron {
    /// Under Megatron's own names, of which layers have the numbers that they have in the whole model; with `torch_dist`, layers are stacked
    /// along a first axis, as they are stored. Rows that pad the vocabulary stay.
    func assembly(of view: CheckpointView) throws -> Assembly? {
        let grid = try MegatronGrid(view)
        if grid.folders.isEmpty { return try assembly(of: try DistributedFolder(view)) }
        return Assembly(tensors: try MegatronMerging(view, grid).tensors())
    }

    // MARK: torch_dist

    /// Of the optimizer's state what is kept by parameter, not in buckets.
    func assembly(of folder: DistributedFolder) throws -> Assembly {
        guard let metadata = folder.metadata, folder.faults.isEmpty else {
            throw Assembly.refused(folder.faults.first ?? "", folder.prefix + DistributedFolder.metadataName)
        }
        var assembly = Assembly()
        var shapes: [String: [UInt64]] = [:]
        for tensor in metadata.tensors where Self.stateName(tensor.name) == nil {
            guard !Self.isOther(tensor.name) else { continue }
            shapes[tensor.name] = tensor.shape
            assembly.tensors.append(folder.tensor(tensor, of: metadata, name: tensor.name))
        }
        for tensor in metadata.tensors {
            guard let (part, name) = Self.stateName(tensor.name), let name,
                // Older versions cut each of them into rows, whose axes are no longer those of the parameter.
                shapes[name] == tensor.shape
            else { continue }
            assembly.optimizer.append(folder.tensor(tensor, of: metadata, name: "\(part).\(name)"))
        }
        return assembly
    }

    /// Of `optimizer.state.exp_avg.decoder.layers.mlp.linear_fc1.weight`, what comes behind `state`: a part of the state, and the parameter,
    /// which is nil where it is a bucket of several; nil for a name that is not the optimizer's.
    private static func stateName(_ name: String) -> (part: Substring, name: String?)? {
        var rest = name[...]
        if rest.hasPrefix("chained_"), let dot = rest.firstIndex(of: ".") {
            rest = rest[rest.index(after: dot)...]
        }
        guard rest.hasPrefix("optimizer.") else { return nil }
        let steps = rest.split(separator: ".", maxSplits: 3)
        guard steps.count == 4, steps[1] == "state" else { return (rest, nil) }
        return (steps[2], String(steps[3]))
    }

    /// The states of random numbers and of what may be run anew.
    private static func isOther(_ name: String) -> Bool {
        name.hasPrefix("rng_state") || name.hasPrefix("rerun_state_machine_state")
            || name.hasSuffix("._extra_state") || name.contains("._extra_state/")
    }
}
