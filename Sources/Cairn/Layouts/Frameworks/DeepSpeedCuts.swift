import TensorFormats

/// How ranks of tensor parallelism divide parameters, which DeepSpeed's AutoTP writes beside them, and trainings with a division of their
/// own: patterns of names, and with newer versions a map of each parameter. (deepspeed, `checkpoint/ds_to_universal.py:merge_tp_slices`,
/// `checkpoint/affine.py`, `module_inject/layers.py:collect_autotp_universal_checkpoint_info`)
struct DeepSpeedCuts {
    enum Cut {
        /// All ranks have all of it.
        case replicated
        /// One rank's behind the other's along this axis.
        case axis(Int)
        /// Several parameters in one, one behind the other along the first axis that is a number: each is divided by itself.
        case joined(Joined)
        /// Of each rank the boxes that it has.
        case map(TorchTree.Value)
        /// Why it can't be put together, as the end of a sentence.
        case refused(String)
    }

    struct Joined {
        var axis: Int
        /// Axes of the view in which it is divided; nil for any.
        var axisCount: Int?
        /// Along that axis the length of each of the parameters; nil where they are `count` of the same.
        var lengths: [UInt64]?
        var count: UInt64
        /// For each of these, what each rank has of it; nil where ranks have the same.
        var shares: [[UInt64]]?
    }

    private var maps = PythonPatterns<TorchTree.Value>()
    private var replicated = PythonPatterns<Void>()
    private var averaged = PythonPatterns<Void>()
    private var rows = PythonPatterns<Void>()
    private var vocabularies = PythonPatterns<Void>()
    private var halved = PythonPatterns<Void>()
    private var joined = PythonPatterns<Joined>()
    private var refused = PythonPatterns<String>()
    private let vocabularySize: UInt64?
    private let describesAll: Bool

    /// What nothing describes is divided along its first axis, unless all parameters are described.
    private static let mapVersion = 1

    /// - Parameter information: the `universal_checkpoint_info` of a model's state.
    /// - Throws: `.inconsistent` where it can't be understood.
    init(_ information: TorchTree.Value) throws {
        let map = information["affine_map"]
        describesAll = map != nil
        vocabularySize = information["original_vocab_size"]?.int.flatMap { UInt64(exactly: $0) }
        guard map?["version"]?.int ?? Self.mapVersion <= Self.mapVersion else {
            throw Assembly.refused("its map of how ranks divide parameters is of a later version")
        }
        for item in map?["params"]?.items ?? [] { try maps.add(Self.text(item.key), item.value) }
        for (key, path) in [
            ("tp_replicated_parameter_patterns", \Self.replicated),
            ("parameter_to_average_patterns", \.averaged),
            ("parameter_with_row_parallelism_patterns", \.rows),
            ("vocabulary_parameter_patterns", \.vocabularies),
            ("parameter_with_2_sub_params_cat_dim_0", \.halved),
        ] as [(String, WritableKeyPath<Self, PythonPatterns<Void>>)] {
            for pattern in information[key]?.elements ?? [] {
                try self[keyPath: path].add(Self.text(pattern), ())
            }
        }
        for item in information["autotp_unsupported_parameter_patterns"]?.items ?? [] {
            try refused.add(Self.text(item.key), item.value.string ?? "DeepSpeed does not know how")
        }
        let version = information["universal_checkpoint_version"]?.double ?? 0
        for entry in information["parameter_with_sub_params"]?.elements ?? [] {
            for pattern in entry["patterns"]?.elements ?? [] {
                let text = try Self.text(pattern)
                let shares = information["sub_param_shard_widths"]?[text]
                guard let value = Self.joined(entry, version < 0.4 ? nil : shares),
                    version < 0.4 || value.shares != nil
                else {
                    throw Assembly.refused("how ranks divide the parameters \(text) is not understood")
                }
                try joined.add(text, value)
            }
        }
    }

    private static func text(_ value: TorchTree.Value) throws -> String {
        guard let text = value.string else {
            throw Assembly.refused("a pattern for names of parameters is no text")
        }
        return text
    }

    private static func joined(_ entry: TorchTree.Value, _ shares: TorchTree.Value?) -> Joined? {
        guard let shape = entry["shape"]?.elements, let axis = entry["partition_dim"]?.int,
            shape.indices.contains(axis)
        else { return nil }
        var joined = Joined(axis: axis, axisCount: shape.count, count: 1)
        if let lengths = numbers(shape[axis]) {
            joined.lengths = lengths
        } else if let count = shape[axis].int, count > 0 {
            joined.count = UInt64(count)
        } else {
            return nil
        }
        if let shares {
            guard let lists = shares.elements?.map(numbers), !lists.contains(where: { $0 == nil }) else {
                return nil
            }
            joined.shares = lists.map { $0! }
        }
        return joined
    }

    private static func numbers(_ list: TorchTree.Value) -> [UInt64]? {
        guard let elements = list.elements else { return nil }
        let numbers = elements.compactMap { $0.int.flatMap { UInt64(exactly: $0) } }
        return numbers.count == elements.count && numbers.allSatisfy { $0 < 1 << 48 } ? numbers : nil
    }

    // MARK: By name

    /// What is said of a parameter; nil where nothing is.
    func cut(_ name: String) throws -> Cut? {
        if let why = try refused.value(of: name) { return .refused(why) }
        if let map = try maps.value(of: name) { return .map(map) }
        if try replicated.value(of: name) != nil { return .replicated }
        if try averaged.value(of: name) != nil {
            return .refused("it is the mean of what ranks have, which is not computed here")
        }
        if try halved.value(of: name) != nil { return .joined(Joined(axis: 0, count: 2)) }
        if let joined = try joined.value(of: name) { return .joined(joined) }
        if try rows.value(of: name) != nil { return .axis(1) }
        return try vocabularies.value(of: name) == nil ? nil : .axis(0)
    }

    /// What is true of parameters of which nothing is said; nil where that is not known.
    var other: Cut? { describesAll ? nil : .axis(0) }

    /// How many rows a table of words has without those that make it divisible; nil for other parameters.
    func rowCount(of name: String) throws -> UInt64? {
        try vocabularies.value(of: name) == nil ? nil : vocabularySize
    }

    /// A pattern that is for none of a model's parameters, so that the others may not be meant for them either.
    func unused(among names: Set<String>) -> String? {
        [replicated, averaged, rows, vocabularies, halved].lazy.compactMap { $0.unused(among: names) }.first
            ?? joined.unused(among: names)
    }
}
