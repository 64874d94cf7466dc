internal import TensorFormats

/// Along which axis tensor parallelism divides a tensor, by what Megatron calls it. (Megatron-LM, the `sharded_state_dict` of
/// `core/tensor_parallel/layers.py`, `core/extensions/transformer_engine.py`, `core/transformer/mlp.py`)
struct MegatronRules {
    /// What one rank has of a tensor.
    struct Part {
        var file: String
        var tensor: TorchTree.Tensor
        /// The second linear layer behind this first one, which tells whether the first is gated.
        var partner: TorchTree.Tensor?
        /// Where it is several tensors along the first axis, how long each of them is.
        var lengths: [UInt64]?
    }

    private enum Cut {
        /// Each rank has all of it.
        case whole
        case axis(Int)
        /// Along the first axis, several of these lengths: each rank has its rows of the first, and behind them those of the next.
        case joined([UInt64])
        case unknown
    }

    private let arguments: MegatronArguments
    private let ranks: UInt64

    init(_ arguments: MegatronArguments, ranks: UInt64) {
        (self.arguments, self.ranks) = (arguments, ranks)
    }

    /// What the ranks have, as one tensor.
    /// - Throws: `.inconsistent` where nothing says how it is divided, or the parts are not alike.
    func merged(_ name: String, as global: String, _ parts: [Part]) throws -> Assembly.Tensor {
        let first = parts[0]
        if parts.count == 1 { return .init(whole: global, first.tensor, file: first.file) }
        switch cut(name, first) {
        case .whole: return try whole(global, parts)
        case .axis(let axis): return try along(axis, global, parts)
        case .joined(let lengths): return try joined(global, parts, lengths)
        case .unknown:
            throw Assembly.refused(
                "nothing says along which axis \(name) is divided among \(parts.count) ranks of tensor parallelism",
                first.file)
        }
    }

    // MARK: By name

    private static let columns: Set<Substring> = [
        "word_embeddings", "output_layer", "linear_qkv", "linear_q", "linear_kv", "linear_q_proj",
        "linear_q_up_proj",
        "linear_kv_up_proj", "query_key_value", "query", "key_value", "eh_proj",
    ]
    private static let rows: Set<Substring> = ["linear_proj", "linear_fc2", "dense_4h_to_h"]
    private static let firsts: Set<Substring> = ["linear_fc1", "dense_h_to_4h"]
    private static let wholes: Set<Substring> = [
        "position_embeddings", "tokentype_embeddings", "router", "pooler",
    ]

    private func cut(_ name: String, _ part: Part) -> Cut {
        let steps = name.split(separator: ".")
        guard let last = steps.last else { return .unknown }
        // The number of a grouped expert: `weight3`.
        let leaf = last.prefix { !$0.isNumber }
        let module = steps.dropLast().last ?? ""
        if let cut = mamba(steps, part) { return cut }
        if leaf.hasPrefix("layer_norm_") || module.contains("norm") || leaf == "expert_bias"
            || leaf == "gate_weight"
        {
            return .whole
        }
        if leaf == "softmax_offset" { return .axis(0) }
        guard leaf == "weight" || leaf == "bias" else { return .unknown }
        if Self.wholes.contains(module) || steps.dropLast(2).last == "pooler" { return .whole }
        if Self.columns.contains(module) { return .axis(0) }
        let isAttention = module == "dense" && steps.dropLast(2).last?.contains("attention") == true
        if Self.rows.contains(module) || isAttention { return leaf == "weight" ? .axis(1) : .whole }
        if Self.firsts.contains(module) {
            guard isGated(part), let rows = part.tensor.shape.first else { return .axis(0) }
            return .joined([rows / 2, rows - rows / 2])
        }
        return down(module, part)
    }

    /// What a layer of Mamba's has; nil for all else, and what nothing is known of.
    private func mamba(_ steps: [Substring], _ part: Part) -> Cut? {
        guard let place = steps.lastIndex(of: "mixer") else { return nil }
        switch steps[(place + 1)...].joined(separator: ".") {
        case "in_proj.weight", "conv1d.weight", "conv1d.bias": return part.lengths.map { .joined($0) }
        case "dt_bias", "A_log", "D", "norm.weight": return .axis(0)
        case "out_proj.weight": return .axis(1)
        default: return nil
        }
    }

    /// Projections to a small rank: whole on each rank in newer versions, divided in older ones. The arguments say how long they are.
    private func down(_ module: Substring, _ part: Part) -> Cut {
        let count: Int?
        switch module {
        case "linear_q_down_proj": count = arguments.int("q_lora_rank")
        case "linear_kv_down_proj":
            count = arguments.int("kv_lora_rank").flatMap { rank in
                arguments.int("qk_pos_emb_head_dim").flatMap {
                    rank.addingReportingOverflow($0).overflow ? nil : rank + $0
                }
            }
        default: return .unknown
        }
        guard let count, let rows = part.tensor.shape.first else { return .unknown }
        if rows == UInt64(exactly: count) { return .whole }
        return [rows, ranks].product == UInt64(exactly: count) ? .axis(0) : .unknown
    }

    // MARK: Gates

    /// The second linear layer of a first one.
    static func partner(of name: String) -> String? {
        if name.hasSuffix(".experts.weight1") { return name.dropLast() + "2" }
        for (first, second) in [("linear_fc1.", "linear_fc2."), ("dense_h_to_4h.", "dense_4h_to_h.")] {
            guard let range = name.lastRange(of: first) else { continue }
            // A bias as well is as long as the weight's rows.
            let leaf = name[range.upperBound...]
            let weight = leaf.hasPrefix("bias") ? "weight" + leaf.dropFirst(4) : String(leaf)
            return String(name[..<range.lowerBound]) + second + weight
        }
        return nil
    }

    /// Of a gated one, the second layer takes half of what the first gives.
    private func isGated(_ part: Part) -> Bool {
        if let rows = part.tensor.shape.first, let taken = part.partner?.shape.last,
            part.partner?.shape.count == 2
        {
            return rows / 2 == taken && rows % 2 == 0
        }
        return arguments.bool("swiglu") ?? arguments.bool("gated_linear_unit") ?? false
    }

    // MARK: Putting together

    private func along(_ axis: Int, _ name: String, _ parts: [Part]) throws -> Assembly.Tensor {
        let first = parts[0].tensor.shape
        guard first.indices.contains(axis) else { throw unlike(name, parts[0]) }
        var whole = Assembly.Tensor(whole: name, parts[0].tensor, file: parts[0].file)
        whole.pieces = []
        var length: UInt64 = 0
        for part in parts {
            let shape = part.tensor.shape
            var expected = first
            guard shape.count == first.count else { throw unlike(name, part) }
            expected[axis] = shape[axis]
            let (stored, dtype) = try part.tensor.stored(in: part.file)
            guard shape == expected, dtype == whole.dtype else { throw unlike(name, part) }
            var offset = [UInt64](repeating: 0, count: shape.count)
            offset[axis] = length
            let (end, overflow) = length.addingReportingOverflow(shape[axis])
            guard !overflow else { throw unlike(name, part) }
            length = end
            guard part.tensor.count > 0 else { continue }
            whole.pieces.append(
                .init(file: part.file, tensor: stored, place: .box(offset: offset, shape: shape)))
        }
        whole.shape[axis] = length
        return whole
    }

    /// All ranks have the same; that they do is looked at when it is put together.
    private func whole(_ name: String, _ parts: [Part]) throws -> Assembly.Tensor {
        var whole = Assembly.Tensor(whole: name, parts[0].tensor, file: parts[0].file)
        for part in parts.dropFirst() {
            let own = Assembly.Tensor(whole: name, part.tensor, file: part.file)
            guard own.shape == whole.shape, own.dtype == whole.dtype else { throw unlike(name, part) }
            whole.pieces += own.pieces
        }
        return whole
    }

    private func joined(_ name: String, _ parts: [Part], _ lengths: [UInt64]) throws -> Assembly.Tensor {
        let shape = parts[0].tensor.shape
        var whole = Assembly.Tensor(whole: name, parts[0].tensor, file: parts[0].file)
        whole.pieces = []
        guard let rows = shape.first, lengths.reduce(0, &+) == rows,
            let length = [rows, UInt64(parts.count)].product,
            [parts[0].tensor.count, UInt64(parts.count)].product != nil
        else { throw unlike(name, parts[0]) }
        let width = rows == 0 ? 0 : parts[0].tensor.count / rows
        for (rank, part) in parts.enumerated() {
            let (stored, dtype) = try part.tensor.stored(in: part.file)
            guard part.tensor.shape == shape, dtype == whole.dtype else { throw unlike(name, part) }
            var from: UInt64 = 0
            for length in lengths {
                let count = length * width
                let start = from * UInt64(parts.count) + UInt64(rank) * count
                if count > 0 {
                    whole.pieces.append(
                        .init(
                            file: part.file, tensor: stored,
                            place: .run(start: start, count: count, from: from)))
                }
                from += count
            }
        }
        whole.shape[0] = length
        return whole
    }

    /// The experts of several ranks that stand in one tensor: those of a rank stand one behind the other, whatever its shape says.
    func concatenated(_ tensors: [Assembly.Tensor], as name: String) throws -> Assembly.Tensor {
        var whole = tensors[0]
        let isFirst = name.hasSuffix("weight1")
        guard whole.shape.count == 2, let count = whole.shape.product,
            let length = [whole.shape[isFirst ? 1 : 0], UInt64(tensors.count)].product,
            [count, UInt64(tensors.count)].product != nil
        else { throw Assembly.refused("\(name) has no shape of experts") }
        whole.name = name
        whole.shape[isFirst ? 1 : 0] = length
        whole.pieces = []
        for (rank, tensor) in tensors.enumerated() {
            guard tensor.shape == tensors[0].shape, tensor.dtype == whole.dtype, tensor.pieces.count == 1
            else {
                throw Assembly.refused("the ranks of expert parallelism have different shapes of \(name)")
            }
            whole.pieces.append(
                .init(
                    file: tensor.pieces[0].file, tensor: tensor.pieces[0].tensor,
                    place: .run(start: UInt64(rank) * count, count: count, from: 0)))
        }
        return whole
    }

    private func unlike(_ name: String, _ part: Part) -> any Error {
        Assembly.refused(
            "the part of \(name) in \(part.file) does not fit to that of the first rank", part.file)
    }
}

/// A name that stands for an expert of a rank.
struct MegatronExpert {
    /// The number that it has there; 0 where all of a rank's stand in one tensor.
    let local: Int
    /// Whether one tensor has all experts of a rank.
    let isGrouped: Bool
    private let (head, tail): (Substring, Substring)

    init?(_ name: String) {
        if let range = name.lastRange(of: "experts.local_experts.") {
            let digits = name[range.upperBound...].prefix { $0.isASCII && $0.isNumber }
            guard let number = Int(digits), number < 1 << 20 else { return nil }
            (local, isGrouped) = (number, false)
            (head, tail) = (name[..<range.upperBound], name[digits.endIndex...])
        } else if name.hasSuffix(".experts.weight1") || name.hasSuffix(".experts.weight2") {
            (local, isGrouped) = (0, true)
            (head, tail) = (name[...], "")
        } else if let range = name.lastRange(of: ".experts.linear_fc") {
            let leaf = name[range.upperBound...]
            let digits = leaf.reversed().prefix { $0.isASCII && $0.isNumber }.reversed()
            guard leaf.contains("."), let number = Int(String(digits)), number < 1 << 20 else { return nil }
            (local, isGrouped) = (number, false)
            (head, tail) = (name[..<name.index(name.endIndex, offsetBy: -digits.count)], "")
        } else {
            return nil
        }
    }

    /// The name with another number.
    func numbered(_ number: Int) -> String { isGrouped ? String(head) : "\(head)\(number)\(tail)" }
}

extension String {
    /// The last place where a text stands in it.
    fileprivate func lastRange(of text: String) -> Range<String.Index>? {
        var found: Range<String.Index>?
        var start = startIndex
        while let range = self[start...].firstRange(of: text) {
            (found, start) = (range, range.upperBound)
        }
        return found
    }
}
