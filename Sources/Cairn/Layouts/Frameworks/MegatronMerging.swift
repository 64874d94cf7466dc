internal import Platform
internal import TensorFormats

/// Puts the model of `torch` together from the files of its ranks.
struct MegatronMerging {
    private typealias Rank = MegatronGrid.Rank

    /// What a file has of the model: each tensor by the name that it has in this part of the model.
    private struct Part {
        var file: String
        var tensors: [(name: String, tensor: TorchTree.Tensor)]
        private var places: [String: Int] = [:]

        init(file: String, tensors: [(name: String, tensor: TorchTree.Tensor)]) {
            (self.file, self.tensors) = (file, tensors)
            for (index, tensor) in tensors.enumerated() { places[tensor.name] = index }
        }

        subscript(name: String) -> TorchTree.Tensor? { places[name].map { tensors[$0].tensor } }
    }

    /// A part of the model that a stage of the pipeline has: one of several where stages are interleaved.
    private struct Stage {
        /// By the names of the files.
        var ranks: [(rank: Rank, part: Part)]
        /// How many experts each rank has.
        var expertCount: Int

        init(_ ranks: [(rank: Rank, part: Part)]) {
            self.ranks = ranks
            let numbers = ranks.flatMap { $0.part.tensors.compactMap { MegatronExpert($0.name)?.local } }
            expertCount = (numbers.max() ?? 0) + 1
        }

        /// The names of its tensors, in the order of the first file, and behind them those that only others have.
        var names: [String] {
            var known: Set<String> = []
            return ranks.flatMap { $0.part.tensors.map(\.name).filter { known.insert($0).inserted } }
        }

        /// What the first rank of some has of a tensor.
        func part(of name: String, where isWanted: (Rank) -> Bool) throws -> MegatronRules.Part {
            for (rank, part) in ranks where isWanted(rank) {
                guard let tensor = part[name] else { continue }
                let partner = MegatronRules.partner(of: name).flatMap { part[$0] }
                let lengths = MegatronMamba.lengths(of: name) { part[$0]?.shape }
                return MegatronRules.Part(file: part.file, tensor: tensor, partner: partner, lengths: lengths)
            }
            throw Assembly.refused("some rank has no \(name)")
        }
    }

    private let grid: MegatronGrid
    /// In the order of their layers: the first part of each stage, the second of each stage.
    private var stages: [Stage] = []
    private let rules: MegatronRules

    init(_ view: CheckpointView, _ grid: MegatronGrid) throws {
        self.grid = grid
        rules = MegatronRules(grid.arguments, ranks: grid.tensor)
        guard !grid.isAbsurd else { throw Assembly.refused("it names more ranks than there can be") }
        if let fault = grid.missing().first { throw Assembly.refused(fault) }
        try read(view)
    }

    private mutating func read(_ view: CheckpointView) throws {
        var parts: [Int: [UInt64: [(rank: Rank, part: Part)]]] = [:]
        for (rank, folder) in grid.ranks.sorted(by: { $0.value < $1.value }) {
            let path = "\(folder)/\(MegatronGrid.file)"
            for (number, tensors) in Self.models(try view.wantedTree(in: path)) {
                parts[number, default: [:]][rank.pipeline, default: []].append(
                    (rank, Part(file: path, tensors: tensors)))
            }
        }
        for (_, stages) in parts.sorted(by: { $0.key < $1.key }) {
            self.stages += stages.sorted { $0.key < $1.key }.map { Stage($0.value) }
        }
    }

    /// The tensors of `model`, or of `model0`, `model1` and so on, by their names below that.
    private static func models(_ tree: TorchTree) -> [Int: [(name: String, tensor: TorchTree.Tensor)]] {
        var models: [Int: [(name: String, tensor: TorchTree.Tensor)]] = [:]
        for (path, tensor) in tree.tensors {
            guard let top = path.first?.name, top.hasPrefix("model"), path.count > 1,
                let number = top == "model" ? 0 : Int(top.dropFirst(5))
            else { continue }
            let name = path.dropFirst().map(\.name).joined(separator: ".")
            if name.hasSuffix("_extra_state") { continue }
            models[number, default: []].append((name, tensor))
        }
        return models
    }

    // MARK: Merging

    func tensors() throws -> [Assembly.Tensor] {
        var tensors: [Assembly.Tensor] = []
        var known: Set<String> = []
        var layers = LayerNumbers()
        for (index, stage) in stages.enumerated() {
            let before = layers
            for name in stage.names {
                let global = before.global(name, &layers)
                if isCopy(name, inFirst: index == 0) { continue }
                for tensor in try merged(name, as: global, stage) where known.insert(tensor.name).inserted {
                    tensors.append(tensor)
                }
            }
        }
        return tensors
    }

    /// Of an embedding whose weights are the output's as well, the last stage has a copy.
    private func isCopy(_ name: String, inFirst: Bool) -> Bool {
        if name.hasSuffix("word_embeddings_for_head.weight") { return true }
        return !inFirst && grid.arguments.isTied && name.hasSuffix("output_layer.weight")
    }

    /// The tensor, or where it stands for an expert of each rank of expert parallelism, those.
    private func merged(_ name: String, as global: String, _ stage: Stage) throws -> [Assembly.Tensor] {
        guard let expert = MegatronExpert(name) else {
            let ranks = try (0..<grid.tensor).map { tensor in try stage.part(of: name) { $0.tensor == tensor }
            }
            return [try rules.merged(name, as: global, ranks)]
        }
        let divided = grid.arguments.expertTensorRanks ?? grid.tensor
        // Where it is more, several ranks wrote the same file.
        guard divided > 0, grid.tensor.isMultiple(of: divided) else {
            throw Assembly.refused(
                "its experts are divided among \(divided) ranks of tensor parallelism, and the rest among \(grid.tensor)"
            )
        }
        let parts = try (0..<grid.expert).map { number in
            try (0..<divided).map { tensor in
                try stage.part(of: name) { $0.expert == number && $0.tensor % divided == tensor }
            }
        }
        if expert.isGrouped, divided > 1 {
            return [
                try MegatronGroupedExperts(grid.arguments, ranks: grid.expert).merged(name, as: global, parts)
            ]
        }
        let experts = try parts.enumerated().map { number, ranks in
            let place = expert.local + number * stage.expertCount
            return try rules.merged(global, as: MegatronExpert(global)?.numbered(place) ?? global, ranks)
        }
        return expert.isGrouped && experts.count > 1 ? [try rules.concatenated(experts, as: global)] : experts
    }
}

/// How many layers the parts of a model before have: each part counts its own from 0.
private struct LayerNumbers {
    /// By what stands in front of the number.
    private var counts: [String: Int] = [:]

    /// The name with the number in the whole model.
    /// - Parameter next: where this layer is counted for the parts behind.
    func global(_ name: String, _ next: inout LayerNumbers) -> String {
        let steps = name.split(separator: ".", omittingEmptySubsequences: false)
        guard let index = steps.dropLast().firstIndex(of: "layers"), let number = Int(steps[index + 1]),
            number >= 0, number < 1 << 20
        else { return name }
        let prefix = String(name[..<steps[index].endIndex])
        let global = (counts[prefix] ?? 0) + number
        next.counts[prefix] = max(next.counts[prefix] ?? 0, global + 1)
        return prefix + ".\(global)" + name[steps[index + 1].endIndex...]
    }
}
