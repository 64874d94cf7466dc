import Foundation
import Platform
import TensorFormats
import Testing

@testable import Cairn

/// LoRA adapters that are merged into their base: numbers, stretches, and what adapters say.
@Suite struct AdapterTests {
    private func tensor(_ name: String, _ values: [Float], _ shape: [UInt64], _ dtype: DType = .f32)
        -> ModelTensor
    {
        let bytes = values.flatMap { value in
            switch dtype {
            case .bf16: Self.bytes(Adapter.bfloat16(value))
            case .f16: Self.bytes(Float16(value).bitPattern)
            default: Self.bytes(value.bitPattern)
            }
        }
        return ModelTensor(name: name, dtype: dtype.name, shape: shape, content: .literal(bytes))
    }

    private static func bytes(_ word: some FixedWidthInteger) -> [UInt8] {
        withUnsafeBytes(of: word.littleEndian) { [UInt8]($0) }
    }

    private func config(_ members: String = "") throws -> AdapterConfig {
        try AdapterConfig(parsing: [UInt8](#"{"peft_type": "LORA", "lora_alpha": 4\#(members)}"#.utf8))
    }

    private func merged(
        _ base: ModelTensor, _ a: ModelTensor, _ b: ModelTensor, _ config: AdapterConfig
    ) throws -> ModelTensor {
        let adapter = try Adapter([a, b], config)
        let bench = try Workbench()
        return try adapter.merged(base, try #require(adapter.updates[base.name]), bench.store.chunks)
    }

    private func pair(_ a: [Float], _ b: [Float], rank: UInt64) -> (ModelTensor, ModelTensor) {
        (
            tensor("base_model.model.w.lora_A.weight", a, [rank, UInt64(a.count) / rank]),
            tensor("base_model.model.w.lora_B.weight", b, [UInt64(b.count) / rank, rank])
        )
    }

    /// All bytes, taken in stretches of a length that cuts through elements.
    private func read(_ tensor: ModelTensor, by step: Int) throws -> [UInt8] {
        guard case .computed(let computed) = tensor.content else { return [] }
        var all: [UInt8] = []
        while all.count < Int(computed.length) {
            var part = [UInt8](repeating: 0xEE, count: min(step, Int(computed.length) - all.count))
            try part.withUnsafeMutableBytes { try computed.fill($0, from: UInt64(all.count)) }
            all += part
        }
        return all
    }

    @Test(arguments: [DType.f32, .bf16, .f16], [3, 4, 1000])
    func theScaledProductIsAdded(dtype: DType, step: Int) throws {
        // 2 x 3 with rank 2; scaling 4 / 2.
        let (a, b) = pair([1, 2, 3, 0.5, 0, -1], [1, 4, -2, 8], rank: 2)
        let base = tensor("w.weight", [10, 20, 30, 40, 50, 60], [2, 3], dtype)
        let product: [Float] = [1 + 2, 2, 3 - 4, -2 + 4, -4, -6 - 8]
        let expected = zip([10, 20, 30, 40, 50, 60] as [Float], product).map { $0 + 2 * $1 }
        let result = try merged(base, a, b, try config())
        #expect(result.dtype == dtype.name && result.shape == [2, 3])
        guard case .literal(let wanted) = tensor("", expected, [2, 3], dtype).content else { return }
        #expect(try read(result, by: step) == wanted)
    }

    @Test func transposedLayersAndEmbeddingsHaveTheirProductTurned() throws {
        let (a, b) = pair([1, 2, 3], [10, 100], rank: 1)
        let base = tensor("w.weight", [0, 0, 0, 0, 0, 0], [3, 2])
        let result = try merged(base, a, b, try config(#", "fan_in_fan_out": true"#))
        guard case .literal(let wanted) = tensor("", [40, 400, 80, 800, 120, 1200], [3, 2]).content else {
            return
        }
        #expect(try read(result, by: 5) == wanted)
        let embedding = try merged(
            base, tensor("base_model.model.w.lora_embedding_A", [1, 2, 3], [1, 3]),
            tensor("base_model.model.w.lora_embedding_B", [10, 100], [2, 1]), try config())
        #expect(try read(embedding, by: 7) == wanted)
        #expect(throws: CairnError.self) { try merged(base, a, b, try config()) }
    }

    @Test(
        arguments: [
            (#"{"architectures": ["LlamaForCausalLM"], "tie_word_embeddings": true}"#, false, true),
            (#"{"architectures": ["LlamaForCausalLM"]}"#, false, true),
            (#"{"architectures": ["LlamaForCausalLM"], "tie_word_embeddings": false}"#, false, false),
            (#"{"architectures": ["BertForSequenceClassification"]}"#, false, false),
            (#"{"architectures": ["LlamaForCausalLM"]}"#, true, false),
        ])
    func aCopyOfAnEmbeddingAloneIsNotMergedWhereItIsTied(config: String, hasHead: Bool, isRefused: Bool)
        throws
    {
        let bench = try Workbench()
        let base = try bench.write(
            "base",
            [
                "config.json": [UInt8](config.utf8),
                "model.safetensors": Workbench.safetensors(
                    [("model.embed_tokens.weight", [1, 2])] + (hasHead ? [("lm_head.weight", [1, 2])] : [])),
            ])
        let model = try BaseModel(folder: base)
        let embedding = "model.embed_tokens.weight"
        let code = bench.code { try model.checkTie([embedding], among: [embedding]) }
        #expect(code == (isRefused ? .usage : nil))
        #expect(bench.code { try model.checkTie([embedding], among: [embedding, "lm_head.weight"]) } == nil)
        #expect(bench.code { try model.checkTie(["model.norm.weight"], among: ["model.norm.weight"]) } == nil)
        // As it is in the base, beside LoRA for it.
        #expect(try !self.config().isCopied("model.embed_tokens.weight"))
        let copying = try self.config(#", "modules_to_save": ["embed_tokens"]"#)
        #expect(copying.isCopied("model.embed_tokens.weight") && !copying.isCopied("lm_head.weight"))
    }

    @Test func scalingIsThatOfTheModule() throws {
        let config = try config(#", "alpha_pattern": {"layers\\.1\\.q": 6, "up": 1}"#)
        #expect(config.scaling(of: "model.layers.1.q", rank: 2) == 3)
        #expect(config.scaling(of: "layers.1.q", rank: 2) == 3)
        #expect(config.scaling(of: "model.layers.11.q", rank: 2) == 2)
        #expect(config.scaling(of: "mlp.up", rank: 2) == 0.5)
        #expect(config.scaling(of: "mlp.gate_up", rank: 2) == 2)
        #expect(try self.config(#", "use_rslora": true"#).scaling(of: "q", rank: 16) == 1)
    }

    @Test func roundingIsToTheNearestAndToEven() {
        #expect(Adapter.bfloat16(Float(bitPattern: 0x3F80_8000)) == 0x3F80)
        #expect(Adapter.bfloat16(Float(bitPattern: 0x3F81_8000)) == 0x3F82)
        #expect(Adapter.bfloat16(Float(bitPattern: 0x3F80_8001)) == 0x3F81)
        #expect(Adapter.bfloat16(.infinity) == 0x7F80 && Adapter.bfloat16(.greatestFiniteMagnitude) == 0x7F80)
        #expect(Adapter.bfloat16(.nan) == 0x7FC0)
    }

    @Test(
        arguments: [
            ("base_model.model.w.lora_magnitude_vector.weight", "DoRA"),
            ("w.lora_A.weight", "base_model.model."),
            ("base_model.model.w.lora_C.weight", "lora_C"), ("base_model.model.w.lora_A.weight", "only one"),
        ])
    func whatIsNotUnderstoodIsNamed(name: String, part: String) throws {
        let error = #expect(throws: CairnError.self) {
            try Adapter([tensor(name, [1], [1, 1])], try config())
        }
        #expect(error?.code == .usage && error?.message.contains(part) == true, "\(error?.message ?? "")")
    }

    @Test func matricesThatDoNotFitAreNamed() throws {
        let (a, _) = pair([1, 2], [1], rank: 1)
        let others = [
            tensor("base_model.model.w.lora_B.weight", [1, 2], [1, 2]),
            tensor("base_model.model.w.lora_B.weight", [1], [1, 1, 1]),
            ModelTensor(
                name: "base_model.model.w.lora_B.weight", dtype: "I8", shape: [1, 1], content: .literal([1])),
        ]
        for b in others {
            #expect(throws: CairnError.self) { try Adapter([a, b], try config()) }
        }
    }

    @Test func copiesTakeTheirPlaceInTheTypeOfTheBase() throws {
        let bench = try Workbench()
        let copy = tensor("base_model.model.head.weight", [1.00390625, -2], [2])
        let adapter = try Adapter([copy], try config())
        #expect(adapter.updates.isEmpty && adapter.replacements.keys.sorted() == ["head.weight"])
        let cast = try CastTensor(copy, .bf16, bench.store.chunks)
        var bytes = [UInt8](repeating: 0, count: 3)
        try bytes.withUnsafeMutableBytes { try cast.fill($0, from: 1) }
        #expect(cast.length == 4 && bytes == [0x3F, 0x00, 0xC0])
        #expect(throws: CairnError.self) { try CastTensor(copy, .i32, bench.store.chunks) }
    }

    @Test(
        arguments: [
            #"{"peft_type": "LOHA", "lora_alpha": 1}"#, #"{"peft_type": "LORA"}"#, "[", "[]",
            #"{"peft_type": "LORA", "lora_alpha": 1, "use_dora": true}"#,
            #"{"peft_type": "LORA", "lora_alpha": 1, "init_lora_weights": "pissa_niter_4"}"#,
            #"{"peft_type": "LORA", "lora_alpha": 1, "alpha_pattern": {"(": 2}}"#,
            #"{"peft_type": "LORA", "lora_alpha": 1, "layer_replication": [[0, 4]]}"#,
            #"{"peft_type": "LORA", "lora_alpha": NaN}"#,
        ])
    func configurationsThatCanNotBeMergedAreWrongUsage(config: String) {
        let error = #expect(throws: CairnError.self) { try AdapterConfig(parsing: [UInt8](config.utf8)) }
        #expect(error?.code == .usage)
    }

    @Test(
        arguments: [
            ExportOptions(layout: "hf", base: "x"), ExportOptions(layout: "torch", mergesAdapter: true),
            ExportOptions(layout: "hf", mergesAdapter: true, adapterOnly: true),
            ExportOptions(layout: "hf", rename: "x", mergesAdapter: true),
            ExportOptions(layout: "hf", maxShardSize: 1, adapterOnly: true),
        ])
    func optionsThatContradictEachOtherAreWrongUsage(options: ExportOptions) {
        let error = #expect(throws: CairnError.self) { try ExportLayout(options) }
        #expect(error?.code == .usage)
    }
}
