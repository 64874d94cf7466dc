internal import Platform
internal import TensorFormats

extension BaseModel {
    /// Modules that turn words into vectors, and those that turn vectors into words.
    private static let embeddings: Set<Substring> = [
        "embed_tokens", "wte", "word_embeddings", "tok_embeddings", "embed_in", "shared", "embeddings",
    ]
    private static let heads: Set<Substring> = [
        "lm_head", "embed_out", "output_layer", "proj_out", "decoder",
    ]

    /// That no trained copy takes the place of an embedding alone which the base ties to its head: peft trains with the head as it was, and
    /// whoever loads the merged model would tie both to the copy.
    /// - Throws: `.usage` where one does.
    func checkTie(_ copied: Set<String>, among replaced: Set<String>) throws {
        let config = try view.json("config.json")
        guard config?["tie_word_embeddings"]?.bool != false,
            let name = copied.sorted().first(where: { Self.module(of: $0, isOneOf: Self.embeddings) })
        else { return }
        let classes = config?["architectures"]?.array?.compactMap(\.stringValue) ?? []
        let hasHead = ["LM", "LMHeadModel", "Generation"].contains { word in
            classes.contains { $0.hasSuffix(word) }
        }
        let names = replaced.union(tensors.map(\.name))
        guard hasHead || classes.isEmpty, tensors.contains(where: { $0.name == name }),
            !names.contains(where: { Self.module(of: $0, isOneOf: Self.heads) })
        else { return }
        throw CairnError(
            .usage,
            "the adapter has a copy of \(name) alone, which the base ties to its head, so a merged model would have another head "
                + "than the one it was trained with; merge it with peft, or use --adapter-only")
    }

    /// Whether a tensor is the weight of a module that is called so.
    private static func module(of tensor: String, isOneOf names: Set<Substring>) -> Bool {
        let parts = tensor.split(separator: ".")
        return parts.count > 1 && parts.last == "weight" && names.contains(parts[parts.count - 2])
    }
}
