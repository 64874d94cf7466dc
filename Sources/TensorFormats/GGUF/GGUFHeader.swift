/// What stands in a GGUF file in front of its tensors: metadata, and where each tensor lies. Versions 2 and 3.
public struct GGUFHeader: Sendable {
    /// A value of the metadata.
    public enum Value: Sendable, Equatable {
        case unsigned(UInt64)
        case integer(Int64)
        case number(Double)
        case bool(Bool)
        case text(String)
        /// What it holds, a tokenizer's words for example, is passed over.
        case array(count: UInt64)
    }

    /// A tensor in the file.
    public struct Tensor: Sendable, Equatable {
        public let name: String
        public let type: GGMLType
        /// Elements along each axis, the slowest first as everywhere else: the file has it the other way round.
        public let shape: [UInt64]
        /// Bytes from the start of the file.
        public let offset: UInt64
        /// Bytes.
        public let length: UInt64
    }

    public let version: UInt32
    /// In the order of the file; no two have one key.
    public let metadata: [(key: String, value: Value)]
    /// In the order of the file, which is that of their data.
    public let tensors: [Tensor]
    /// Every tensor begins at a multiple of it.
    public let alignment: UInt64

    init(version: UInt32, metadata: [(key: String, value: Value)], tensors: [Tensor], alignment: UInt64) {
        self.version = version
        self.metadata = metadata
        self.tensors = tensors
        self.alignment = alignment
    }

    /// The value of a key, such as `general.architecture`.
    public subscript(key: String) -> Value? {
        metadata.first { $0.key.hasSameBytes(as: key) }?.value
    }

    /// What the model is built like, such as `llama`.
    public var architecture: String? { text("general.architecture") }

    /// The model's own name.
    public var name: String? { text("general.name") }

    /// How most of its tensors are quantised, such as `Q4_K_M`; nil where the file doesn't say, or in a way that is
    /// not known here.
    public var quantization: String? {
        guard case .unsigned(let number)? = self["general.file_type"] else { return nil }
        return Self.fileTypes[number]
    }

    private func text(_ key: String) -> String? {
        if case .text(let text)? = self[key] { text } else { nil }
    }

    /// llama.cpp's names (`llama_ftype`), without what they have in common.
    private static let fileTypes: [UInt64: String] = [
        0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K", 11: "Q3_K_S",
        12: "Q3_K_M", 13: "Q3_K_L", 14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S", 17: "Q5_K_M", 18: "Q6_K",
        19: "IQ2_XXS", 20: "IQ2_XS", 21: "Q2_K_S", 22: "IQ3_XS", 23: "IQ3_XXS", 24: "IQ1_S", 25: "IQ4_NL",
        26: "IQ3_S", 27: "IQ3_M", 28: "IQ2_S", 29: "IQ2_M", 30: "IQ4_XS", 31: "IQ1_M", 32: "BF16",
        36: "TQ1_0",
        37: "TQ2_0", 38: "MXFP4_MOE", 39: "NVFP4", 40: "Q1_0",
    ]
}

extension TensorMap {
    /// The map of a GGUF file: an extent for each tensor, and one for the header where it is long.
    ///
    /// A tensor of quantised blocks has ggml's name of the type, and its shape counts single numbers.
    public init(_ header: GGUFHeader, fileSize: UInt64) throws(TensorFileError) {
        try self.init(
            format: "gguf", size: fileSize,
            header.tensors.map { tensor in
                Stretch(
                    range: tensor.offset..<tensor.offset + tensor.length,
                    elementSize: tensor.type.bytesPerNumber,
                    tensor: (tensor.name, tensor.type.name, tensor.shape))
            })
    }
}
