internal import Platform
internal import TensorFormats
internal import _StringProcessing

/// `adapter_config.json` of PEFT, as far as a merge depends on it. (peft, `tuners/lora/config.py`)
struct AdapterConfig {
    static let fileName = "adapter_config.json"

    /// Whether weights are stored as columns of outputs, as in GPT-2.
    let isTransposed: Bool
    /// The ends of the names of modules of which the adapter has copies that were trained.
    private let copies: [String]
    private let usesRankStabilisation: Bool
    private let alpha: Double
    /// What modules whose name ends with a match of the expression have instead.
    private let alphas: [(pattern: Regex<AnyRegexOutput>, alpha: Double)]

    /// What changes what is computed, and is not known here: a member that says neither null nor false nor nothing.
    private static let refused: [(member: String, what: String)] = [
        ("use_dora", "DoRA"), ("lora_bias", "biases of LoRA"), ("use_qalora", "QA-LoRA"),
        ("target_parameters", "LoRA of parameters that are no layers"),
        ("trainable_token_indices", "trained tokens"),
        ("layer_replication", "replicated layers"), ("arrow_config", "Arrow"), ("use_bdlora", "BD-LoRA"),
        ("velora_config", "VeLoRA"), ("monteclora_config", "MonteCLoRA"), ("kasa_config", "KaSA"),
        ("alora_invocation_tokens", "activated LoRA"), ("megatron_config", "LoRA of Megatron's layers"),
    ]
    /// Ways to begin that leave the base as it is.
    private static let plainBeginnings: Set = ["gaussian", "orthogonal", "eva", "true", "false"]

    /// - Throws: `.usage` where it is no such file, or says something that can't be merged here.
    init(parsing bytes: [UInt8]) throws(CairnError) {
        func fail(_ why: String) -> CairnError {
            CairnError(.usage, "\(Self.fileName) \(why)", path: Self.fileName)
        }
        guard let json = try? JSON(parsing: bytes, allowNonFinite: true), json.members != nil else {
            throw fail("is not JSON, so the adapter can't be merged")
        }
        guard json["peft_type"]?.stringValue == "LORA" else {
            throw fail("says that the adapter is no LoRA, and only LoRA can be merged; use --adapter-only")
        }
        for (member, what) in Self.refused where json[member].map(Self.isSet) == true {
            throw fail(
                "says \"\(member)\", and \(what) can't be merged here; merge it with peft, or use --adapter-only"
            )
        }
        if let beginning = json["init_lora_weights"]?.stringValue,
            !Self.plainBeginnings.contains(beginning.lowercased())
        {
            throw fail(
                "says that training began with \(beginning), which changes the base as well; merge it with peft, or use "
                    + "--adapter-only")
        }
        guard let alpha = json["lora_alpha"]?.double, alpha.isFinite else {
            throw fail("has no \"lora_alpha\"")
        }
        var alphas: [(pattern: Regex<AnyRegexOutput>, alpha: Double)] = []
        for member in json["alpha_pattern"]?.members ?? [] {
            guard let pattern = try? Regex("(.*\\.)?(\(member.key))"), let alpha = member.value.double else {
                throw fail("has something in \"alpha_pattern\" that is no expression with a number")
            }
            alphas.append((pattern, alpha))
        }
        (self.alpha, self.alphas) = (alpha, alphas)
        copies = json["modules_to_save"]?.array?.compactMap(\.stringValue) ?? []
        isTransposed = json["fan_in_fan_out"]?.bool ?? false
        usesRankStabilisation = json["use_rslora"]?.bool ?? false
    }

    /// Whether a tensor is of a module that was copied and trained beside the base's. An embedding may be in the adapter as it is in the
    /// base, too.
    func isCopied(_ tensor: String) -> Bool {
        let module = tensor.split(separator: ".").dropLast().joined(separator: ".")
        return copies.contains { module == $0 || module.hasSuffix("." + $0) }
    }

    private static func isSet(_ value: JSON) -> Bool {
        switch value {
        case .null, .bool(false): false
        case .array(let items): !items.isEmpty
        case .object(let members): !members.isEmpty
        default: true
        }
    }

    /// What the product of the matrices of a module is multiplied with.
    func scaling(of module: String, rank: UInt64) -> Float {
        let own = alphas.first { (try? $0.pattern.wholeMatch(in: module)) != nil }?.alpha ?? alpha
        let rank = Double(rank)
        return Float(usesRankStabilisation ? own / rank.squareRoot() : own / rank)
    }
}
