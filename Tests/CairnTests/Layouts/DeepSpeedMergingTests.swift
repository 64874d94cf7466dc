import Foundation
import Platform
import TensorFormats
import Testing

@testable import Cairn

/// DeepSpeed with tensor parallelism: what ranks say of how they divide parameters, and where it does not fit. What the library itself
/// writes and merges are trees of `LibraryTreeTests`.
@Suite struct DeepSpeedMergingTests {
    let layout = DeepSpeed()
    let bench: Workbench

    init() throws { bench = try Workbench(chunkSize: 4096) }

    private static let (up, down) = ("up.weight", "down.weight")

    private static func map(_ shape: [Int64], _ ranks: [(shard: [Int64], pieces: [TorchValue])]) -> TorchValue
    {
        .named([
            "logical_shape": list(shape),
            "ranks": .dictionary(
                ranks.enumerated().map { rank, own in
                    (
                        .integer(Int64(rank)),
                        .named(["shard_shape": list(own.shard), "pieces": .list(own.pieces)])
                    )
                }),
        ])
    }

    private static func piece(
        _ shape: [Int64], _ source: (Int64, [Int64]), _ own: (Int64, [Int64]), scale: Double? = nil
    ) -> TorchValue {
        let known: [(TorchValue, TorchValue)] = [
            (.text("shape"), list(shape)), (.text("source"), .list([.integer(source.0), list(source.1)])),
            (.text("dest"), .list([.integer(own.0), list(own.1)])),
            (.text("locations"), .list([.integer(0)])),
        ]
        return .dictionary(known + (scale.map { [(.text("scale"), .float($0))] } ?? []))
    }

    private static func list(_ numbers: [Int64]) -> TorchValue { .list(numbers.map { .integer($0) }) }

    /// Of two ranks what the patterns say: `down` along its second axis, `norm` the same, and `up` along its first.
    private static let patterns: [String: TorchValue] = [
        "tp_replicated_parameter_patterns": .list([.text("norm")]),
        "parameter_with_row_parallelism_patterns": .list([.text("down.*")]),
    ]

    private static func named(_ items: [String: TorchValue]) -> TorchValue {
        .dictionary(items.sorted { $0.key < $1.key }.map { (.text($0.key), $0.value) })
    }

    /// Two ranks without ZeRO: `up` of 2 by 3, `down` of 3 by 2, `norm` and a buffer, which both have.
    private func tag(
        _ division: TorchValue? = named(patterns), second: [TorchFile.Tensor]? = nil,
        changed: (inout [String: [UInt8]]) -> Void = { _ in }
    ) throws -> CheckpointView {
        var files: [String: [UInt8]] = [:]
        for rank in 0..<2 {
            files["mp_rank_0\(rank)_model_states.pt"] = try Self.state(
                division, rank == 1 ? second ?? Self.tensors(1) : Self.tensors(0))
        }
        changed(&files)
        return try CheckpointView(Path(try bench.write(UUID().uuidString, files)))
    }

    private static func tensors(_ rank: Int) -> [TorchFile.Tensor] {
        [
            .init(shape: [2, 3], first: Float(rank * 6)), .init(shape: [3, 2], first: Float(rank * 6)),
            .init(shape: [3]), .init(shape: [1], first: 9),
        ]
    }

    private static func state(_ division: TorchValue?, _ tensors: [TorchFile.Tensor]) throws -> [UInt8] {
        var items: [(TorchValue, TorchValue)] = [
            (
                .text("module"),
                .named([up: .tensor(0), down: .tensor(1), "norm": .tensor(2), "seen": .tensor(3)])
            ),
            (.text("buffer_names"), .list([.text("seen")])), (.text("param_shapes"), .none),
            (.text("global_steps"), .integer(5)), (.text("dp_world_size"), .integer(1)),
            (.text("mp_world_size"), .integer(2)), (.text("optimizer"), .named(["state": .named([:])])),
            (
                .text("checkpoint_parallel_dimensions"),
                .named(["tp_degree": .integer(2), "pp_degree": .integer(1)])
            ),
        ]
        if let division { items.append((.text("universal_checkpoint_info"), division)) }
        return try TorchFile.of(.dictionary(items), tensors)
    }

    private func message(_ view: CheckpointView) throws -> String {
        let error = #expect(throws: CairnError.self) { try layout.assembly(of: view) }
        return error?.message ?? ""
    }

    @Test func patternsSayWhatIsDividedAlongWhichAxis() throws {
        let view = try tag()
        #expect(try layout.inspect(view).faults == [] && layout.inspect(view).worldSize == 2)
        let tensors = try #require(try layout.assembly(of: view)).tensors
        #expect(tensors.map(\.name) == [Self.up, Self.down, "norm", "seen"])
        #expect(tensors.map(\.shape) == [[4, 3], [3, 4], [3], [1]])
        let found = try view.assembled(tensors)
        let down: [Float] = [0, 1, 6, 7, 2, 3, 8, 9, 4, 5, 10, 11]
        #expect(found[Self.down]?.sha256 == Self.digest(down))
        #expect(found[Self.up]?.sha256 == Self.digest((0..<12).map { Float($0) }))
    }

    private static func digest(_ values: [Float]) -> String {
        let digest = values.withUnsafeBytes { SHA256Hasher().digest($0) }
        return digest.withUnsafeBytes { $0.map { String(format: "%02x", $0) }.joined() }
    }

    @Test func aRanksFileThatIsMissingIsNamed() throws {
        for rank in 0..<2 {
            let file = "mp_rank_0\(rank)_model_states.pt"
            let view = try tag { $0[file] = nil }
            #expect(try layout.inspect(view).faults == ["\(file) is missing"])
            #expect(try message(view).contains("\(file) is missing"))
        }
    }

    @Test func whereNothingSaysHowRanksDivideItIsRefused() throws {
        for division in [nil, TorchValue.none, .named([:]), .integer(1)] as [TorchValue?] {
            #expect(
                try message(try tag(division)).contains(
                    "divided among 2 ranks of tensor parallelism, and nothing says along which axes: "
                        + "mp_rank_00_model_states.pt has no universal_checkpoint_info"))
        }
        // With a map, what is not in it is not divided anyhow.
        let map = TorchValue.named([
            "affine_map": .named(["version": .integer(1), "params": .named([:])]),
            "tp_replicated_parameter_patterns": .list([.text("norm")]),
        ])
        #expect(
            try message(try tag(map)).contains(
                "nothing says along which axis up.weight is divided among 2 ranks"))
        let later = TorchValue.named(["affine_map": .named(["version": .integer(2)])])
        #expect(try message(try tag(later)).contains("of a later version"))
    }

    @Test func whatIsSaidHasToFit() throws {
        let box = Self.piece([2, 3], (0, [3, 1]), (0, [3, 1]))
        let ranks: [(shard: [Int64], pieces: [TorchValue])] = [([2, 3], [box]), ([2, 3], [box])]
        func map(_ value: TorchValue) -> [String: TorchValue] {
            [
                "affine_map": .named([
                    "version": .integer(1), "params": .dictionary([(.text("^up\\.weight$"), value)]),
                ])
            ]
        }
        func joined(_ shape: TorchValue, _ more: [String: TorchValue] = [:]) -> [String: TorchValue] {
            more.merging([
                "parameter_with_sub_params": .list([
                    .named(["patterns": .list([.text("up")]), "shape": shape, "partition_dim": .integer(0)])
                ])
            ]) { $1 }
        }
        let new = ["universal_checkpoint_version": TorchValue.float(0.4)]
        let cases: [([String: TorchValue], String)] = [
            (
                ["tp_replicated_parameter_patterns": .list([.text("other")])],
                "no parameter has a name that other is meant for"
            ),
            (
                ["tp_replicated_parameter_patterns": .list([.text("(")])],
                "the pattern ( for names of parameters is not understood"
            ),
            (["tp_replicated_parameter_patterns": .list([.integer(3)])], "is no text"),
            (
                ["parameter_to_average_patterns": .list([.text("up")])],
                "of up.weight, it is the mean of what ranks have"
            ),
            (
                ["parameter_with_row_parallelism_patterns": .list([.text("down"), .text("down.w")])],
                "there are several patterns"
            ),
            (
                ["parameter_with_row_parallelism_patterns": .list([.text("down"), .text("seen")])],
                "of seen, the part in mp_rank_00_model_states.pt does not fit"
            ),
            (
                ["autotp_unsupported_parameter_patterns": .named(["^up\\.weight$": .text("it is woven")])],
                "of up.weight, it is woven"
            ),
            (map(Self.map([4, 3], [ranks[0]])), "its map is not one of 2 ranks"),
            (
                map(Self.map([4, 3], [ranks[0], ([3, 3], [box])])),
                "of up.weight, the part in mp_rank_01_model_states.pt does not fit"
            ),
            (
                map(
                    Self.map(
                        [4, 3],
                        [ranks[0], ([2, 3], [Self.piece([2, 3], (0, [3, 1]), (0, [3, 1]), scale: 0.5)])])),
                "it is stored divided by a number"
            ),
            (
                map(
                    Self.map(
                        [4, 3], [ranks[0], ([2, 3], [Self.piece([2, 3], (0, [1, 2]), (0, [3, 1]))])])),
                "has a piece that is no box of it"
            ),
            (
                map(
                    Self.map(
                        [4, 3], [ranks[0], ([2, 3], [Self.piece([2, 3], (9, [3, 1]), (0, [3, 1]))])])),
                "has a piece that is no box of it"
            ),
            (
                map(
                    Self.map(
                        [4, 3], [ranks[0], ([2, 3], [Self.piece([2, 3], (.max, [3, 1]), (0, [3, 1]))])])),
                "has a piece that is no box of it"
            ),
            (joined(.sizes(3, -1)), "[2, 3] is not 3 of the same length"),
            (joined(.sizes(2, -1, 3)), "its [2, 3] can't be divided so"),
            (
                joined(.list([.sizes(2, 4), .integer(-1)])),
                "it has [2, 3], where it is said to have 3 along axis 0"
            ),
            (joined(.list([.sizes(3, 1), .integer(-1)])), "it is said to have [3, 1] of several"),
            (
                joined(.list([.sizes(2, 2), .integer(-1)]), new),
                "how ranks divide the parameters up is not understood"
            ),
            (
                joined(
                    .list([.sizes(2, 2), .integer(-1)]),
                    new.merging([
                        "sub_param_shard_widths": .named(["up": .list([.sizes(1, 1), .sizes(2, 2)])])
                    ]) { $1 }),
                "it is said to have [2, 2] of several"
            ),
        ]
        for (division, words) in cases {
            let view = try tag(Self.named(Self.patterns.merging(division) { $1 }))
            let message = try message(view)
            #expect(message.contains(words), "\(message) instead of \(words)")
        }
    }

    @Test func partsThatAreNotLikeTheFirstOnesAreNamed() throws {
        let cases: [([TorchFile.Tensor], String)] = [
            (
                [.init(shape: [2, 4]), .init(shape: [3, 2]), .init(shape: [3]), .init(shape: [1])],
                "up.weight"
            ),
            (
                [.init(shape: [2, 3]), .init(shape: [4, 2]), .init(shape: [3]), .init(shape: [1])],
                "down.weight"
            ),
            ([.init(shape: [2, 3]), .init(shape: [3, 2]), .init(shape: [4]), .init(shape: [1])], "norm"),
        ]
        for (second, name) in cases {
            #expect(
                try message(try tag(second: second)).contains(
                    "of \(name), the part in mp_rank_01_model_states.pt does not fit"))
        }
    }

    /// - Returns: the message with which an export ends.
    private func exported(_ view: CheckpointView, _ path: String) throws -> String? {
        try bench.store.save(path, options: SaveOptions(run: "r", step: 5))
        let error = #expect(throws: CairnError.self) {
            try bench.store.export("r@5", to: bench.path("out"), options: ExportOptions(layout: "hf"))
        }
        return error?.message
    }

    @Test func ranksThatDisagreeOnWhatBothHaveAreNamed() throws {
        let own: [TorchFile.Tensor] = [
            .init(shape: [2, 3]), .init(shape: [3, 2]), .init(shape: [3], first: 1),
            .init(shape: [1], first: 9),
        ]
        let view = try tag(second: own)
        let path = bench.path(view.name)
        #expect(
            try exported(view, path)
                == "the tensor norm can't be put together: mp_rank_00_model_states.pt and mp_rank_01_model_states.pt "
                + "have different bytes for its elements [0:3]")
    }

    @Test func piecesThatDoNotTileAreNamed() throws {
        let box = Self.piece([2, 3], (0, [3, 1]), (0, [3, 1]))
        let map = Self.map(
            [5, 3], [([2, 3], [box]), ([2, 3], [Self.piece([2, 3], (6, [3, 1]), (0, [3, 1]))])])
        let division = Self.named(
            Self.patterns.merging([
                "affine_map": .named(["params": .dictionary([(.text("^up\\.weight$"), map)])]),
                "tp_replicated_parameter_patterns": .list([.text("norm")]),
            ]) { $1 })
        let view = try tag(division)
        #expect(
            try exported(view, bench.path(view.name))
                == "the tensor up.weight can't be put together: no file holds its elements [4:5, 0:3]; its pieces are in "
                + "mp_rank_00_model_states.pt, mp_rank_01_model_states.pt")
    }

    @Test(arguments: [
        "affine_map", "tp_replicated_parameter_patterns", "parameter_to_average_patterns",
        "vocabulary_parameter_patterns",
        "parameter_with_row_parallelism_patterns", "parameter_with_2_sub_params_cat_dim_0",
        "parameter_with_sub_params",
        "sub_param_shard_widths", "autotp_unsupported_parameter_patterns", "original_vocab_size",
        "universal_checkpoint_version",
    ])
    func whateverStandsInADivisionIsTakenCalmly(key: String) throws {
        let parts = (0..<2).map { rank in
            Assembly.Tensor(whole: Self.up, dtype: "F32", shape: [2, 3], file: "\(rank).pt")
        }
        for value in TorchValue.hostile {
            let values = [
                value, .named(["params": .dictionary([(.text("up"), value)])]),
                .named([
                    "params": .dictionary([(.text("up"), .named(["logical_shape": value, "ranks": value]))])
                ]),
                .list([
                    .named([
                        "patterns": .list([.text("up")]), "shape": .list([value]),
                        "partition_dim": .integer(0),
                    ])
                ]),
            ]
            for value in values {
                let division = Self.named(Self.patterns.merging([key: value]) { $1 })
                let bytes = try TorchFile.of(division, Self.tensors(0))
                let tree = try TorchTree(pyTorch: UInt64(bytes.count)) {
                    Array(bytes[Int($0.lowerBound)..<Int($0.upperBound)])
                }
                guard let cuts = try? DeepSpeedCuts(tree.root), let cut = try? cuts.cut(Self.up) else {
                    continue
                }
                _ = try? DeepSpeedParts(Self.up, parts).whole(cut, rowCount: cuts.rowCount(of: Self.up))
            }
        }
    }
}
