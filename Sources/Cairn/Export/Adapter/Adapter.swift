internal import ChunkStore
internal import Platform
internal import TensorFormats

/// A LoRA adapter of PEFT: what it adds to weights, and what it has instead of tensors of the base.
struct Adapter {
    /// The two matrices of a module.
    struct Update: Sendable {
        /// `rank` rows.
        var a: ModelTensor
        /// `rank` columns.
        var b: ModelTensor
        var rank: UInt64
        var scaling: Float
        var isEmbedding: Bool
        /// Whether the product is transposed before it is added.
        var isTransposed = false
    }

    /// By the name of the weight.
    private(set) var updates: [String: Update] = [:]
    /// By the name of the base's tensor.
    private(set) var replacements: [String: ModelTensor] = [:]
    let config: AdapterConfig

    /// What PEFT puts before the names of the model that it wraps.
    static let prefix = "base_model.model."

    private struct Pair {
        var a: ModelTensor?
        var b: ModelTensor?
        var isEmbedding: Bool
    }

    /// - Throws: `.usage`, naming the tensor, for what is not understood.
    init(_ tensors: [ModelTensor], _ config: AdapterConfig) throws(CairnError) {
        self.config = config
        var pairs: [String: Pair] = [:]
        for tensor in tensors {
            guard tensor.name.hasPrefix(Self.prefix) else {
                throw Self.fail(
                    tensor.name, "is none of an adapter of peft, whose names begin with \(Self.prefix)")
            }
            let name = String(tensor.name.dropFirst(Self.prefix.count))
            guard let matrix = Self.matrix(name) else {
                guard !name.contains(".lora_") else {
                    let what = name.contains("lora_magnitude_vector") ? "DoRA" : "it"
                    throw Self.fail(
                        tensor.name, "is of LoRA, but \(what) can't be merged here; merge it with peft")
                }
                let plain = name.split(separator: ".", omittingEmptySubsequences: false).filter {
                    $0 != "base_layer"
                }
                replacements[plain.joined(separator: ".")] = tensor
                continue
            }
            var pair = pairs[matrix.module] ?? Pair(isEmbedding: matrix.isEmbedding)
            if matrix.isA { pair.a = tensor } else { pair.b = tensor }
            pairs[matrix.module] = pair
        }
        for (module, pair) in pairs { updates[module + ".weight"] = try Self.update(module, pair, config) }
    }

    /// Which matrix of which module a name stands for.
    private static func matrix(_ name: String) -> (module: String, isA: Bool, isEmbedding: Bool)? {
        for (word, isA, isEmbedding) in [
            (".lora_A", true, false), (".lora_B", false, false), (".lora_embedding_A", true, true),
            (".lora_embedding_B", false, true),
        ] {
            // Where it was not peft that saved it, the adapter's name is there as well.
            for end in isEmbedding ? ["", ".default"] : [".weight", ".default.weight"]
            where name.hasSuffix(word + end) {
                return (String(name.dropLast((word + end).count)), isA, isEmbedding)
            }
        }
        return nil
    }

    private static func update(_ module: String, _ pair: Pair, _ config: AdapterConfig) throws(CairnError)
        -> Update
    {
        guard let a = pair.a, let b = pair.b else {
            throw fail(prefix + module, "has only one of the two matrices of LoRA")
        }
        guard a.shape.count == 2, b.shape.count == 2 else {
            throw fail(
                a.name,
                "has the shape \(a.shape.text), and only LoRA of linear layers and embeddings can be merged here"
            )
        }
        guard a.shape[0] == b.shape[1], a.shape[0] > 0 else {
            throw fail(
                a.name,
                "has the shape \(a.shape.text), which does not fit \(b.shape.text) of the other matrix")
        }
        for matrix in [a, b]
        where DType(rawValue: matrix.dtype).map(types.contains) != true {
            throw fail(matrix.name, "is \(matrix.dtype), which can't be merged here")
        }
        return Update(
            a: a, b: b, rank: a.shape[0], scaling: config.scaling(of: module, rank: a.shape[0]),
            isEmbedding: pair.isEmbedding)
    }

    private static func fail(_ name: String, _ why: String) -> CairnError {
        CairnError(.usage, "the adapter's tensor \(name) \(why)")
    }

    /// A weight of the base with its update.
    /// - Throws: `.usage`, naming the weight, where it has another shape or a type that nothing can be added to.
    func merged(_ base: ModelTensor, _ update: Update, _ chunks: ChunkStore) throws(CairnError) -> ModelTensor
    {
        guard let dtype = DType(rawValue: base.dtype), Self.types.contains(dtype) else {
            throw CairnError(
                .usage,
                "the base's tensor \(base.name) is \(base.dtype), to which nothing can be added; pass --base with the model "
                    + "before it was quantised")
        }
        var update = update
        let plain = [update.b.shape[0], update.a.shape[1]]
        let turned = [plain[1], plain[0]]
        // An embedding has a row for each token. Layers of a model that is said to be transposed may nevertheless not be.
        update.isTransposed = update.isEmbedding || config.isTransposed && base.shape == turned
        guard base.shape == (update.isTransposed ? turned : plain) else {
            throw CairnError(
                .usage,
                "the base's tensor \(base.name) has the shape \(base.shape.text), and the adapter is for one of "
                    + "\(plain.text); pass --base with the model that it was trained for")
        }
        guard base.elementCount > 0 else { return base }
        var merged = base
        merged.content = .computed(MergedTensor(base, dtype, update, chunks))
        return merged
    }
}
