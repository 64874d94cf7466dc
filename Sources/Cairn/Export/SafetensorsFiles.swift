internal import Platform
internal import TensorFormats

/// Canonical safetensors files of tensors that are put together.
struct SafetensorsFiles {
    private let sources: [Gather.Source]

    /// - Parameter sources: of the stored tensors.
    init(_ sources: [Gather.Source]) { self.sources = sources }

    /// One file.
    /// - Throws: `.usage`, naming the tensor, where it has a type that safetensors files don't.
    func file(_ path: String, _ tensors: [GatheredTensor]) throws -> OutputFile {
        let (header, order) = SafetensorsHeader.canonicalHeader(
            tensors: try tensors.map {
                ($0.name, try $0.dtype(in: "safetensors files"), $0.shape, $0.length)
            }, metadata: [("format", "pt")])
        return OutputFile(
            path: [UInt8](path.utf8),
            parts: try [.literal(header)] + order.map { .gather(try tensors[$0].gather(sources)) })
    }

    /// As many as it takes, called `model-00001-of-00004.safetensors` for the stem `model`, and their index; of one file,
    /// `model.safetensors`.
    /// - Throws: as `file`.
    func sharded(_ tensors: [GatheredTensor], stem: String, maximumShardSize: UInt64) throws -> [OutputFile] {
        let items = try tensors.map { tensor in
            _ = try tensor.dtype(in: "safetensors files")
            return HuggingFaceSharding.Item(
                name: tensor.name, byteCount: tensor.length, elementCount: tensor.elements.count)
        }
        let shards = HuggingFaceSharding(items, maximumShardSize: maximumShardSize, stem: stem).shards
        var files = try shards.map { try file($0.fileName, $0.items.map { tensors[$0] }) }
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
        let files = SafetensorsFiles(tensors.sources)
        plan.warnings = tensors.warnings
        if let fileName {
            plan.written = [try files.file(fileName, tensors.model)]
            plan.isFile = true
            return
        }
        for (stem, tensors) in [("model", tensors.model), ("optimizer", tensors.optimizer)]
        where !tensors.isEmpty {
            plan.written += try files.sharded(
                tensors, stem: stem, maximumShardSize: options.maxShardSize ?? .max)
        }
    }
}
