internal import Platform
internal import TensorFormats

/// Canonical safetensors files.
enum SafetensorsFiles {
    /// One file.
    /// - Throws: `.usage`, naming the tensor, where it has a type that safetensors files don't.
    static func file(_ path: String, _ tensors: [ModelTensor]) throws(CairnError) -> OutputFile {
        var entries: [(name: String, dtype: DType, shape: [UInt64], byteCount: UInt64)] = []
        for tensor in tensors {
            entries.append((tensor.name, try dtype(of: tensor), tensor.shape, tensor.length))
        }
        let (header, order) = SafetensorsHeader.canonicalHeader(
            tensors: entries, metadata: [("format", "pt")])
        return OutputFile(
            path: [UInt8](path.utf8), parts: [.literal(header)] + order.map { tensors[$0].content })
    }

    /// As many as it takes, called `model-00001-of-00004.safetensors` for the stem `model`, and their index; of one file,
    /// `model.safetensors`.
    /// - Throws: as `file`.
    static func sharded(
        _ tensors: [ModelTensor], stem: String, maximumShardSize: UInt64
    ) throws(CairnError) -> [OutputFile] {
        for tensor in tensors { _ = try dtype(of: tensor) }
        let items = tensors.map {
            HuggingFaceSharding.Item(name: $0.name, byteCount: $0.length, elementCount: $0.elementCount)
        }
        let shards = HuggingFaceSharding(items, maximumShardSize: maximumShardSize, stem: stem).shards
        var files: [OutputFile] = []
        for shard in shards { files.append(try file(shard.fileName, shard.items.map { tensors[$0] })) }
        if shards.count > 1 {
            let index = HuggingFaceSharding.indexJSON(
                of: shards.map { $0.items.map { items[$0] } }, stem: stem)
            files.append(
                OutputFile(
                    path: [UInt8](HuggingFaceSharding.indexFileName(stem: stem).utf8),
                    parts: [.literal(index)]))
        }
        return files
    }

    private static func dtype(of tensor: ModelTensor) throws(CairnError) -> DType {
        guard let dtype = DType(rawValue: tensor.dtype) else {
            throw .unsupported(tensor.name, tensor.dtype, in: "safetensors files")
        }
        return dtype
    }
}

/// An export as safetensors files alone, in which each tensor has its name, whether a reader would tie it again or not.
struct SafetensorsExport {
    private(set) var plan = ExportPlan()

    /// - Parameter fileName: of the one file that is wanted; nil for a folder.
    init(_ subject: ExportSubject, fileName: String?) throws {
        let options = subject.options
        if let fileName, options.all || options.maxShardSize != nil {
            throw CairnError(
                .usage,
                "\(fileName) can only be one file with the model's tensors; name a folder for --all or --max-shard-size"
            )
        }
        let tensors = try ExportTensors(subject, withOptimizer: options.all)
        let (model, optimizer) = tensors.files()
        plan.warnings = tensors.warnings
        if let fileName {
            plan.written = [try SafetensorsFiles.file(fileName, model)]
            plan.isFile = true
            return
        }
        for (stem, tensors) in [("model", model), ("optimizer", optimizer)] where !tensors.isEmpty {
            plan.written += try SafetensorsFiles.sharded(
                tensors, stem: stem, maximumShardSize: options.maxShardSize ?? .max)
        }
    }
}
