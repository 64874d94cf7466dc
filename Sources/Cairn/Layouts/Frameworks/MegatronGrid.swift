internal import TensorFormats

/// The ranks that `torch` has a folder for each of.
struct MegatronGrid {
    static let file = "model_optim_rng.pt"

    struct Rank: Hashable {
        var tensor: UInt64
        var pipeline: UInt64
        var expert: UInt64
    }

    /// Those that are there, sorted.
    let folders: [String]
    private(set) var ranks: [Rank: String] = [:]
    /// A file that says what the training was called with, and what that is.
    let first: String?
    let arguments: MegatronArguments
    /// How many there are along each.
    let (tensor, pipeline, expert): (UInt64, UInt64, UInt64)
    private let hasPipeline, hasExpert: Bool

    init(_ view: CheckpointView) throws {
        let named = view.folders.compactMap { folder in MegatronRank(folder).map { (folder, $0) } }
        folders = named.map(\.0)
        first = folders.map { "\($0)/\(Self.file)" }.first(where: view.has)
        let arguments = MegatronArguments(try first.flatMap { try view.tree(in: $0) })
        self.arguments = arguments
        let others = named.map(\.1.others)
        let most = others.map(\.count).max() ?? 0
        // One number alone is that of what is divided, and of the pipeline where nothing says.
        let isExpert = most == 1 && (arguments.pipelineRanks ?? 1) == 1 && (arguments.expertRanks ?? 1) > 1
        (hasPipeline, hasExpert) = (most > 1 || most == 1 && !isExpert, most > 1 || isExpert)
        for (folder, rank) in named where rank.others.count == most {
            let one = most == 1 ? rank.others[0] : 0
            ranks[
                Rank(
                    tensor: rank.tensor, pipeline: most > 1 ? rank.others[0] : isExpert ? 0 : one,
                    expert: most > 1 ? rank.others[1] : isExpert ? one : 0)] = folder
        }
        tensor = max(arguments.tensorRanks ?? 1, (ranks.keys.map(\.tensor).max() ?? 0) + 1)
        pipeline = max(arguments.pipelineRanks ?? 1, (ranks.keys.map(\.pipeline).max() ?? 0) + 1)
        expert = max(
            hasExpert ? arguments.expertRanks ?? 1 : 1, (ranks.keys.map(\.expert).max() ?? 0) + 1)
    }

    /// - Precondition: not `isAbsurd`.
    var count: UInt64 { tensor * pipeline * expert }

    var isAbsurd: Bool { [tensor, pipeline, expert].product.map { $0 > UInt64(Int.max) } ?? true }

    /// Where experts are divided by tensor parallelism otherwise than the rest, only some of the pairs have a rank.
    private var hasAllPairs: Bool {
        expert == 1 || arguments.expertTensorRanks == nil || arguments.expertTensorRanks == tensor
    }

    /// A fault for each rank that has no folder.
    func missing() -> [String] {
        if hasAllPairs {
            let numbers = ranks.keys.map { ($0.expert * pipeline + $0.pipeline) * tensor + $0.tensor }
            return RankFaults.missing(count, of: Set(numbers)) { number in
                name(
                    Rank(
                        tensor: number % tensor, pipeline: number / tensor % pipeline,
                        expert: number / tensor / pipeline))
            }
        }
        let tensors = Set(ranks.keys.map { $0.pipeline * tensor + $0.tensor })
        let experts = Set(ranks.keys.map { $0.pipeline * expert + $0.expert })
        return RankFaults.missing(tensor * pipeline, of: tensors) {
            name(Rank(tensor: $0 % tensor, pipeline: $0 / tensor, expert: 0))
        }
            + RankFaults.missing(expert * pipeline, of: experts) {
                name(Rank(tensor: 0, pipeline: $0 / expert, expert: $0 % expert))
            }
    }

    private func name(_ rank: Rank) -> String {
        let pipeline = hasPipeline || self.pipeline > 1 ? "_\(rank.pipeline.padded(3))" : ""
        let expert = hasExpert || self.expert > 1 ? "_\(rank.expert.padded(3))" : ""
        return "mp_rank_\(rank.tensor.padded(2))\(pipeline)\(expert)/\(Self.file)"
    }
}

/// The folder of a rank: `mp_rank_01`, `mp_rank_01_002`, `mp_rank_01_002_003`.
struct MegatronRank: Hashable {
    /// Of tensor parallelism.
    var tensor: UInt64
    /// Of pipeline parallelism, and of expert parallelism; where there is only one of them, the folder does not say which it is.
    var others: [UInt64]

    /// - Returns: nil where the name is no rank's.
    init?(_ folder: String) {
        let patterns: [NamePattern] = ["mp_rank_#", "mp_rank_#_#", "mp_rank_#_#_#"]
        guard folder.hasPrefix("mp_rank_"),
            let numbers = patterns.lazy.compactMap({ $0.numbers(in: folder.utf8) }).first
        else { return nil }
        tensor = numbers[0]
        others = Array(numbers.dropFirst())
    }
}
