import TensorFormats

/// Puts what ranks of tensor parallelism have together, by what the training says of how they divide parameters.
struct DeepSpeedMerging {
    private let view: CheckpointView
    private let files: DeepSpeedFiles
    /// Of each rank the model's state, and the file that it is in.
    private let ranks: [(path: String, state: DeepSpeedState)]
    private let cuts: DeepSpeedCuts

    /// - Throws: `.inconsistent` where a rank's file is missing, or nothing says how they divide parameters.
    init(_ view: CheckpointView, _ files: DeepSpeedFiles, ranks: UInt64) throws {
        (self.view, self.files) = (view, files)
        var found: [(path: String, state: DeepSpeedState)] = []
        // As many as there are files.
        while UInt64(found.count) < ranks {
            let rank = DeepSpeedFiles.Rank(data: 0, model: UInt64(found.count))
            guard let path = files.states[rank] else {
                throw Assembly.refused("\(files.stateName(rank)) is missing")
            }
            found.append((path, DeepSpeedState(try view.wantedTree(in: path))))
        }
        self.ranks = found
        let state = found[0].state
        guard state.pipelineRanks == 1, !state.hasDividedExperts, files.experts.isEmpty else {
            throw Assembly.refused(
                "beside \(ranks) ranks of tensor parallelism there are a pipeline's or those of experts; "
                    + "export the universal checkpoint of it that DeepSpeed's ds_to_universal.py makes")
        }
        guard let division = state.division else {
            throw Assembly.refused(
                "it is divided among \(ranks) ranks of tensor parallelism, and nothing says along which axes: "
                    + "\(found[0].path) has no universal_checkpoint_info")
        }
        cuts = try DeepSpeedCuts(division)
    }

    func assembly() throws -> Assembly {
        let layout = DeepSpeed()
        let state = ranks[0].state
        var assembly: Assembly
        if files.isUniversal {
            // What is not trained is there as the first rank has it, whoever divides it.
            let known = state.shapes.joined().map(\.name).filter { files.parameters[$0] != nil }
            assembly = try layout.parameters(known, view, files, [:])
            assembly.tensors += try merged(try ranks.indices.map { try module($0) }, without: Set(known))
        } else {
            let parts = try ranks.enumerated().map { rank, own in
                try layout.assembly(of: view, files.ofModelRank(UInt64(rank)), own.state, own.path)
            }
            assembly = Assembly(tensors: try merged(parts.map(\.tensors), without: []))
            assembly.optimizer = try merged(parts.map(\.optimizer), without: [], areStates: true)
        }
        var known = Set(assembly.tensors.map(\.name))
        known.formUnion(state.shared.filter { known.contains($0.original) }.map(\.name))
        assembly.tensors = try layout.merged(
            state, ranks[0].path, weights: assembly.tensors, isEmptied: true
        ).filter { known.contains($0.name) }
        return assembly
    }

    /// What the module of a rank holds, and of ZeRO 3 what is frozen.
    private func module(_ rank: Int) throws -> [Assembly.Tensor] {
        let (path, state) = ranks[rank]
        let own = files.ofModelRank(UInt64(rank))
        let frozen =
            files.statesAreDivided
            ? try DeepSpeed().frozen(view, own, state, ranks: own.states.count) : []
        return try DeepSpeed().merged(state, path, weights: frozen, isEmptied: files.statesAreDivided)
    }

    // MARK: All tensors

    /// - Parameters:
    ///   - tensors: of each rank.
    ///   - areStates: they are the optimizer's, so that a word stands in front of the parameter's name.
    private func merged(
        _ tensors: [[Assembly.Tensor]], without known: Set<String>, areStates: Bool = false
    ) throws -> [Assembly.Tensor] {
        // Only the first rank says which are others under a second name, and they are those then.
        let known = known.union(ranks[0].state.shared.map(\.name))
        let own = try tensors.map { tensors in
            try Dictionary(tensors.map { ($0.name, $0) }) { first, _ in
                throw Assembly.refused("there are two tensors \(first.name)", first.files.min())
            }
        }
        for (rank, tensors) in own.enumerated() {
            if let name = Set(tensors.keys).subtracting(own[0].keys).subtracting(known).min() {
                throw Assembly.refused(
                    "\(ranks[rank].path) has \(name), which \(ranks[0].path) has not", ranks[rank].path)
            }
        }
        let names = Names(ranks[0].state)
        if let pattern = cuts.unused(among: names.all) {
            throw Assembly.refused(
                "no parameter has a name that \(pattern) is meant for, so nothing says how ranks of tensor "
                    + "parallelism divide them", ranks[0].path)
        }
        return try tensors[0].filter { !known.contains($0.name) }.map { first in
            let parts = try own.enumerated().map { rank, tensors in
                guard let part = tensors[first.name] else {
                    throw Assembly.refused("\(ranks[rank].path) has no \(first.name)", ranks[rank].path)
                }
                return part
            }
            let parameter = areStates ? first.name.after(first: ".") : first.name
            let cut = try self.cut(parameter, names)
            return try DeepSpeedParts(first.name, parts).whole(
                cut.cut, rowCount: try cuts.rowCount(of: cut.name))
        }
    }

    // MARK: By name

    /// What a name stands for.
    private struct Names {
        let all: Set<String>
        let buffers: Set<String>
        /// Those that an optimizer has, or may have.
        let trained: Set<String>
        /// By a second name, those of the same tensor.
        private(set) var others: [String: [String]] = [:]

        init(_ state: DeepSpeedState) {
            let module = state.module
            let shapes = Set(state.shapes.joined().map(\.name))
            buffers = state.buffers
            all = shapes.union(module.map(\.name)).union(state.frozen.map(\.name))
            trained = shapes.isEmpty ? all.subtracting(buffers) : shapes
            var places: [Range<UInt64>: [String]] = [:]
            for (name, value) in module {
                if let range = value.tensor?.range, !range.isEmpty { places[range, default: []].append(name) }
            }
            for names in places.values where names.count > 1 {
                for name in names { others[name] = names }
            }
            for (name, original) in state.shared { others[name, default: []].append(original) }
        }
    }

    private func cut(_ name: String, _ names: Names) throws -> (cut: DeepSpeedCuts.Cut, name: String) {
        // Only one of the names of a tensor is described.
        for name in [name] + (names.others[name] ?? []) {
            if let cut = try cuts.cut(name) { return (cut, name) }
        }
        if names.buffers.contains(name) { return (.replicated, name) }
        if names.trained.contains(name), let other = cuts.other { return (other, name) }
        throw Assembly.refused(
            "nothing says along which axis \(name) is divided among \(ranks.count) ranks of tensor parallelism",
            ranks[0].path)
    }
}

extension String {
    /// What stands behind the first one of a text; all of it where there is none.
    fileprivate func after(first separator: Character) -> String {
        firstIndex(of: separator).map { String(self[index(after: $0)...]) } ?? self
    }
}
