internal import ChunkStore
internal import Platform
internal import TensorFormats

/// A Hugging Face export of a model that is in Hugging Face's own safetensors files: as it was saved, byte for byte, where nothing else
/// is asked for.
struct HuggingFaceExport {
    /// A tensor of the source's model, with the bytes that it has.
    private struct Tensor {
        var tensor: Schema.Tensor
        var dtype: DType
        var blob: BlobRef
    }

    private(set) var plan = ExportPlan()
    private let manifest: Manifest
    private let info: IterationInfo

    /// - Throws: `.usage` where `only` is no regular expression or matches nothing, or the source's model can't be exported.
    init(_ manifest: Manifest, _ info: IterationInfo, _ options: ExportOptions) throws {
        self.manifest = manifest
        self.info = info
        let files = manifest.roots.entries.filter { entry in
            guard !entry.path.isEmpty else { return false }
            let part = ModelFiles.part(of: entry.path)
            return part.isOfModel || (options.all && part != .marker)
        }
        let models = files.filter(Self.isSafetensors)
        guard options.maxShardSize != nil || options.only != nil else {
            plan.copied = files.map { .init(entry: $0, path: $0.path) }
            return
        }
        let replaced = Set(models.map(\.path)).union(files.map(\.path).filter(Self.isIndex))
        plan.copied = files.filter { !replaced.contains($0.path) }.map { .init(entry: $0, path: $0.path) }
        let keeps = try ExportTensors.filter(options.only)
        for (folder, entries) in Dictionary(grouping: models, by: { Path($0.path).parentFolder }).sorted(by: {
            $0.key.lexicographicallyPrecedes($1.key)
        }) {
            try rewrite(folder, entries, keeps, options)
        }
        if plan.written.isEmpty {
            throw CairnError(
                .usage,
                "no tensor of \(info.run)@\(info.step) matches \(options.only ?? ""); see `cairn show REF --tensors`"
            )
        }
    }

    /// Whether there is such a model.
    static func hasModel(_ manifest: Manifest) -> Bool {
        manifest.roots.entries.contains(where: isSafetensors)
    }

    private static func isSafetensors(_ entry: Roots.Entry) -> Bool {
        guard case .file = entry.kind else { return false }
        return entry.path.suffix(12).elementsEqual(".safetensors".utf8)
            && ModelFiles.part(of: entry.path) == .model
    }

    private static func isIndex(_ path: [UInt8]) -> Bool {
        Path(path).name.elementsEqual(HuggingFaceSharding.indexFileName.utf8)
    }

    /// Writes the chosen tensors of one folder's model files anew.
    private mutating func rewrite(
        _ folder: [UInt8], _ entries: [Roots.Entry], _ keeps: (String) -> Bool, _ options: ExportOptions
    ) throws {
        // An adapter's file is never cut: its readers know no index.
        for entry in entries where ModelFiles.isAdapter(entry.path) {
            let tensors = try self.tensors(entry).filter { keeps($0.tensor.name) }
            if !tensors.isEmpty { plan.written.append(file(entry.path, tensors)) }
        }
        let files = entries.filter { !ModelFiles.isAdapter($0.path) }
        let shards = try files.map { try self.tensors($0).filter { keeps($0.tensor.name) } }.filter {
            !$0.isEmpty
        }
        guard let size = options.maxShardSize, !Self.isCut(shards, at: size) else {
            return options.only == nil ? keep(folder, files, shards) : write(folder, shards)
        }
        let tensors = shards.flatMap(\.self)
        guard !tensors.isEmpty else { return }
        let sharding = HuggingFaceSharding(tensors.map(Self.item), maximumShardSize: size)
        write(folder, sharding.shards.map { shard in shard.items.map { tensors[$0] } })
    }

    /// Files that stay as they are, and their index with them: it counts no buffers, which the files don't tell from parameters.
    private mutating func keep(_ folder: [UInt8], _ files: [Roots.Entry], _ shards: [[Tensor]]) {
        let names = shards.indices.map { HuggingFaceSharding.fileName(number: $0 + 1, of: shards.count) }
        let index = manifest.roots.entries.filter { entry in
            shards.count > 1 && Self.isIndex(entry.path) && Path(entry.path).parentFolder == folder
        }
        guard files.map({ Path($0.path).name }) == names.map({ [UInt8]($0.utf8) }),
            shards.count < 2 || !index.isEmpty
        else { return write(folder, shards) }
        plan.written += (files + index).compactMap { manifest.output($0) }
    }

    /// Whether shards are cut as this size would cut them: then they stay. The order of the state dictionary, by which they were
    /// cut, is not in the files, and the order of the data would cut them elsewhere.
    private static func isCut(_ shards: [[Tensor]], at size: UInt64) -> Bool {
        var previous: UInt64?
        for shard in shards {
            let total = shard.reduce(0) { $0 + $1.blob.length }
            guard total <= size || shard.count == 1 else { return false }
            // What began this shard had no room in the one before: at least its largest tensor had none.
            if let previous, previous + shard.map(\.blob.length).max()! <= size { return false }
            previous = total
        }
        return true
    }

    private static func item(_ tensor: Tensor) -> HuggingFaceSharding.Item {
        .init(
            name: tensor.tensor.name, byteCount: tensor.blob.length,
            elementCount: tensor.tensor.shape.reduce(1, *))
    }

    /// The files of these shards, and the index where there are several.
    private mutating func write(_ folder: [UInt8], _ shards: [[Tensor]]) {
        let prefix = folder.isEmpty ? [] : folder + [UInt8(ascii: "/")]
        for (number, tensors) in shards.enumerated() {
            let name = HuggingFaceSharding.fileName(number: number + 1, of: shards.count)
            plan.written.append(file(prefix + [UInt8](name.utf8), tensors))
        }
        guard shards.count > 1 else { return }
        let index = HuggingFaceSharding.indexJSON(of: shards.map { $0.map(Self.item) })
        plan.written.append(
            OutputFile(
                path: prefix + [UInt8](HuggingFaceSharding.indexFileName.utf8), parts: [.literal(index)]))
    }

    /// A canonical safetensors file.
    private func file(_ path: [UInt8], _ tensors: [Tensor]) -> OutputFile {
        let (header, order) = SafetensorsHeader.canonicalHeader(
            tensors: tensors.map { ($0.tensor.name, $0.dtype, $0.tensor.shape, $0.blob.length) },
            metadata: [("format", "pt")])
        return OutputFile(path: path, parts: [.literal(header)] + order.map { .blob(tensors[$0].blob) })
    }

    /// A file's tensors in the order of their names' places in the model: that of the data, since nothing else is known.
    private func tensors(_ entry: Roots.Entry) throws -> [Tensor] {
        guard case .file(.split(let schema, _)) = entry.kind else {
            throw CairnError(
                .usage,
                "\(entry.text) is kept as it is, without its tensors being known, so it can't be written anew; "
                    + "export without --max-shard-size and --only")
        }
        let blobs = manifest.contentBlobs(of: entry)
        return try manifest.schemas[schema]!.tensors.map { tensor in
            guard let dtype = DType(rawValue: tensor.dtype) else {
                throw CairnError(
                    .newerVersion, "\(tensor.name) has the dtype \(tensor.dtype), which is not known here")
            }
            return Tensor(tensor: tensor, dtype: dtype, blob: blobs[tensor.blob])
        }
    }
}

extension ModelFiles {
    static func isAdapter(_ path: [UInt8]) -> Bool { Path(path).name.starts(with: "adapter_".utf8) }
}

extension Path {
    /// The folder of a relative path; empty at the top.
    fileprivate var parentFolder: [UInt8] {
        bytes.contains(UInt8(ascii: "/")) ? parent.bytes : []
    }
}
