internal import ChunkStore
internal import Platform
internal import TensorFormats

/// A Hugging Face export of a LoRA adapter that is merged into its base, tensor by tensor while it is written.
struct MergeExport {
    private(set) var plan = ExportPlan()
    private let chunks: ChunkStore

    /// - Throws: `.usage` where the adapter can't be merged, or is another model's.
    init(_ subject: ExportSubject, adapter: [ModelTensor], base: BaseModel) throws {
        let options = subject.options
        chunks = subject.chunks
        guard let bytes = try subject.view.read(AdapterConfig.fileName) else {
            throw CairnError(
                .usage,
                "\(subject.info.run)@\(subject.info.step) has no \(AdapterConfig.fileName), which says how to merge its adapter"
            )
        }
        let adapter = try Adapter(adapter, try AdapterConfig(parsing: bytes))
        let isWanted = try ExportTensors.filter(options.only)
        let tensors = try merge(adapter, base).filter { isWanted($0.name) }
        guard !tensors.isEmpty else {
            throw CairnError(.usage, "no tensor of the merged model matches \(options.only ?? "")")
        }
        let size = options.maxShardSize ?? AssemblyExport.shardSize
        plan.written = try SafetensorsFiles.sharded(tensors, stem: "model", maximumShardSize: size)
        plan.base = base.view
        plan.warnings += base.warnings
        copyFiles(subject, base)
    }

    /// The base's tensors, changed; then those that it does not have.
    private mutating func merge(_ adapter: Adapter, _ base: BaseModel) throws -> [ModelTensor] {
        let replaced = Set(adapter.replacements.keys)
        try base.checkTie(replaced.filter(adapter.config.isCopied), among: replaced)
        var (updates, replacements) = (adapter.updates, adapter.replacements)
        var merged = try base.tensors.map { tensor in
            var tensor = tensor
            if let other = replacements.removeValue(forKey: tensor.name) {
                tensor = try cast(other, like: tensor)
            }
            if let update = updates.removeValue(forKey: tensor.name) {
                tensor = try adapter.merged(tensor, update, chunks)
            }
            return tensor
        }
        if let lost = updates.keys.min() {
            throw CairnError(
                .usage,
                "the base has no tensor \(lost), which the adapter changes; pass --base with the model that it was trained for"
            )
        }
        // A trained copy of what the base ties to another tensor.
        for (name, tensor) in replacements.sorted(by: { $0.key < $1.key }) {
            var tensor = tensor
            tensor.name = name
            merged.append(tensor)
            plan.warnings.append("\(name) is the adapter's alone: the base has no tensor of that name")
        }
        return merged
    }

    /// What the adapter has instead of a tensor of the base, in the base's type.
    private mutating func cast(_ other: ModelTensor, like base: ModelTensor) throws -> ModelTensor {
        var tensor = other
        tensor.name = base.name
        if tensor.shape != base.shape {
            plan.warnings.append(
                "\(base.name) has the shape \(tensor.shape.text) in the adapter and \(base.shape.text) in the base, so "
                    + "config.json may have to say another vocab_size")
        }
        guard tensor.dtype != base.dtype, let dtype = DType(rawValue: base.dtype) else { return tensor }
        tensor.dtype = base.dtype
        tensor.content = .computed(try CastTensor(other, dtype, chunks))
        return tensor
    }

    /// The base's files, but a tokenizer that lies with the adapter goes before the base's.
    private mutating func copyFiles(_ subject: ExportSubject, _ base: BaseModel) {
        // Nobody shall take the merged model for an adapter.
        var taken = Set(plan.written.map(\.path) + [[UInt8](AdapterConfig.fileName.utf8)])
        // Beside an adapter that Python saved lie the other parts of its state.
        let beside =
            subject.layout is CairnState ? Set(subject.assembly.files.map { [UInt8]($0.path.utf8) }) : nil
        for entry in subject.manifest.roots.entries where !entry.path.isEmpty {
            let name = Path(entry.path).name
            guard ModelFiles.part(of: entry.path) == .other, case .file = entry.kind,
                name != [UInt8]("README.md".utf8), beside?.contains(entry.path) ?? true
            else { continue }
            if taken.insert(entry.path).inserted { plan.copied.append(.init(entry: entry, path: entry.path)) }
        }
        for file in base.files where taken.insert(file.path).inserted { plan.written.append(file) }
    }
}
