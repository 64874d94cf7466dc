internal import ChunkStore
internal import Platform
internal import TensorFormats

/// A Hugging Face export of a model that is put together from what its layout stores.
struct AssemblyExport {
    /// What `save_pretrained` cuts at where nobody says otherwise. (transformers 5, `modeling_utils.py`)
    static let shardSize: UInt64 = 50_000_000_000
    /// The longest JSON file that is read.
    private static let configLimit: UInt64 = 16 << 20

    private(set) var plan = ExportPlan()
    private let manifest: Manifest
    private let info: IterationInfo
    private let options: ExportOptions
    private var assembler: Assembler

    /// - Throws: `.inconsistent` where the pieces don't make the tensors; `.usage` where these can't be written as they are wanted.
    init(
        _ assembly: Assembly, of layout: any Layout, _ manifest: Manifest, _ info: IterationInfo,
        _ options: ExportOptions, _ chunks: ChunkStore
    ) throws {
        self.manifest = manifest
        self.info = info
        self.options = options
        assembler = Assembler(chunks, manifest)
        let config = try config(assembly, chunks)
        let renaming = try options.rename.map { path in
            Renaming(
                try Rename(parsing: try Self.read(path), path: path),
                config: config.flatMap { try? JSON(parsing: $0, allowNonFinite: true) })
        }
        try planModel(assembly, renaming)
        if options.all { try planState(assembly, layout) }
        try planFiles(assembly)
    }

    // MARK: Tensors

    private mutating func planModel(_ assembly: Assembly, _ renaming: Renaming?) throws {
        let chosen = try chosen(assembly, renaming)
        guard !chosen.isEmpty else {
            let why =
                options.only.map { "no tensor of \(info.run)@\(info.step) matches \($0)" }
                ?? "\(info.run)@\(info.step) has no tensors of a model"
            throw CairnError(.usage, "\(why); see `cairn show REF --tensors`")
        }
        let tensors = untied(chosen)
        try checkNames(tensors)
        let size =
            assembly.fileName == "model" ? options.maxShardSize ?? Self.shardSize : UInt64.max
        let items = try tensors.map { tensor in
            try Self.check(tensor)
            return HuggingFaceSharding.Item(
                name: tensor.name, byteCount: tensor.bytes.count, elementCount: tensor.count)
        }
        let shards = HuggingFaceSharding(items, maximumShardSize: size).shards
        for shard in shards {
            let path = assembly.fileName == "model" ? shard.fileName : assembly.fileName + ".safetensors"
            plan.written.append(file(path, shard.items.map { tensors[$0] }))
        }
        guard shards.count > 1 else { return }
        let index = HuggingFaceSharding.indexJSON(of: shards.map { $0.items.map { items[$0] } })
        plan.written.append(
            OutputFile(path: [UInt8](HuggingFaceSharding.indexFileName.utf8), parts: [.literal(index)]))
    }

    /// The tensors that are wanted, by the names that they get.
    private mutating func chosen(_ assembly: Assembly, _ renaming: Renaming?) throws -> [GatheredTensor] {
        let wanted = try Self.filter(options.only)
        guard let renaming else {
            return try assembly.tensors.filter { wanted($0.name) }.map { try assembler.tensor($0) }
        }
        return try renaming.apply(assembly.tensors.map { ($0.name, $0) }) { try assembler.tensor($0) }
            .filter { wanted($0.name) }
    }

    static func filter(_ pattern: String?) throws -> (String) -> Bool {
        guard let pattern else { return { _ in true } }
        do {
            let regex = try Regex(pattern)
            return { $0.firstMatch(of: regex) != nil }
        } catch {
            throw CairnError(.usage, "\(pattern) is not a regular expression")
        }
    }

    /// Leaves out what is the same memory as a tensor before it, as `save_pretrained` does: readers tie them again.
    private mutating func untied(_ tensors: [GatheredTensor]) -> [GatheredTensor] {
        var first: [GatheredTensor.Content: String] = [:]
        return tensors.filter { tensor in
            guard tensor.count > 0 else { return true }
            if let other = first[tensor.content] {
                plan.warnings.append("\(tensor.name) is left out: it is tied to \(other)")
                return false
            }
            first[tensor.content] = tensor.name
            return true
        }
    }

    private func checkNames(_ tensors: [GatheredTensor]) throws {
        var names: Set<ExactText> = []
        for tensor in tensors where !names.insert(ExactText(tensor.name)).inserted {
            throw CairnError(
                .inconsistent, "two tensors of \(info.run)@\(info.step) are called \(tensor.name)")
        }
    }

    private static func check(_ tensor: GatheredTensor) throws {
        guard DType(rawValue: tensor.dtype) != nil else {
            throw CairnError(
                .usage,
                "the tensor \(tensor.name) is \(tensor.dtype), which safetensors files can't hold; leave it out with --only"
            )
        }
    }

    /// A canonical safetensors file.
    private func file(_ path: String, _ tensors: [GatheredTensor]) -> OutputFile {
        let (header, order) = SafetensorsHeader.canonicalHeader(
            tensors: tensors.map { ($0.name, DType(rawValue: $0.dtype)!, $0.shape, $0.bytes.count) },
            metadata: [("format", "pt")])
        let sources = assembler.sources
        return OutputFile(
            path: [UInt8](path.utf8),
            parts: [.literal(header)] + order.map { .gather(tensors[$0].gather(sources)) })
    }

    // MARK: What goes with them

    /// The state of the optimizer: by the names of the parameters in a file of its own, or the Trainer's own files.
    private mutating func planState(_ assembly: Assembly, _ layout: any Layout) throws {
        if layout is HuggingFace {
            for entry in manifest.roots.entries where !entry.path.isEmpty {
                let part = ModelFiles.part(of: entry.path)
                if !part.isOfModel, part != .marker {
                    plan.copied.append(.init(entry: entry, path: entry.path))
                }
            }
        } else if assembly.optimizer.isEmpty {
            plan.warnings.append(
                "the optimizer's state is left out: \(layout.name) does not keep it by the names of the parameters"
            )
        } else {
            let tensors = try assembly.optimizer.map { try assembler.tensor($0) }
            try checkNames(tensors)
            for tensor in tensors { try Self.check(tensor) }
            plan.written.append(file("optimizer.safetensors", tensors))
        }
    }

    /// The model's configuration: the one that was given, or the iteration's.
    private mutating func config(_ assembly: Assembly, _ chunks: ChunkStore) throws -> [UInt8]? {
        if let path = options.config {
            let bytes = try Self.read(path)
            guard (try? JSON(parsing: bytes, allowNonFinite: true)) != nil else {
                throw CairnError(
                    .usage, "\(path) is not JSON, so it can't be the model's config.json", path: path)
            }
            plan.written.append(OutputFile(path: [UInt8]("config.json".utf8), parts: [.literal(bytes)]))
            return bytes
        }
        guard let path = assembly.files.first(where: { $0.name == "config.json" })?.path,
            let entry = manifest.file(path), manifest.size(of: entry) <= Self.configLimit
        else { return nil }
        return try manifest.contentBlobs(of: entry).flatMap { try chunks.bytes(of: $0) }
    }

    private static func read(_ path: String) throws -> [UInt8] {
        let file = try File(Path(path), .read)
        let size = try file.status().size
        guard size <= configLimit else {
            throw CairnError(.usage, "\(path) has \(size) bytes, more than any file of its kind", path: path)
        }
        return try file.read(Int(size), at: 0)
    }

    private mutating func planFiles(_ assembly: Assembly) throws {
        var taken = Set(plan.written.map(\.path) + plan.copied.map(\.path))
        for (path, name) in assembly.files {
            guard let entry = manifest.file(path) else {
                throw CairnError(.inconsistent, "\(path) is missing in \(info.run)@\(info.step)", path: path)
            }
            if taken.insert([UInt8](name.utf8)).inserted {
                plan.copied.append(.init(entry: entry, path: [UInt8](name.utf8)))
            }
        }
    }
}
