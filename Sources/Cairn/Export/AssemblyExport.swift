internal import ChunkStore
internal import Platform
internal import TensorFormats

/// A Hugging Face export of a model that is put together from what its layout stores.
struct AssemblyExport {
    /// What `save_pretrained` cuts at where nobody says otherwise. (transformers 5, `modeling_utils.py`)
    static let shardSize: UInt64 = 50_000_000_000

    private(set) var plan = ExportPlan()
    private let subject: ExportSubject
    private var assembly: Assembly { subject.assembly }

    /// - Throws: `.inconsistent` where the pieces don't make the tensors; `.usage` where these can't be written as they are wanted.
    init(_ subject: ExportSubject) throws {
        self.subject = subject
        try checkNames()
        let ownState = subject.options.all && subject.layout is HuggingFace
        var tensors = try ExportTensors(subject, withOptimizer: subject.options.all && !ownState)
        tensors.untie()
        let (model, optimizer) = tensors.files()
        let size = subject.options.maxShardSize ?? Self.shardSize
        plan.written =
            assembly.fileName == "model"
            ? try SafetensorsFiles.sharded(model, stem: "model", maximumShardSize: size)
            : [try SafetensorsFiles.file(assembly.fileName + ".safetensors", model)]
        if !optimizer.isEmpty {
            plan.written.append(try SafetensorsFiles.file("optimizer.safetensors", optimizer))
        }
        plan.warnings = tensors.warnings
        if ownState { copyState() }
        if subject.options.config != nil, let bytes = try subject.config() {
            plan.written.append(OutputFile(path: [UInt8]("config.json".utf8), parts: [.literal(bytes)]))
        }
        try copyFiles()
    }

    /// Of a model with PEFT's names `from_pretrained` would load next to nothing, and only warn. An adapter alone has its own file.
    private func checkNames() throws(CairnError) {
        let (info, options) = (subject.info, subject.options)
        guard options.rename == nil, options.only == nil, assembly.fileName == "model",
            assembly.tensors.contains(where: { $0.name.hasPrefix(Adapter.prefix) })
        else { return }
        throw CairnError(
            .usage,
            "\(info.run)@\(info.step) holds a PEFT model and its base, under names that from_pretrained doesn't know: save "
                + "model.merge_and_unload(), or get_peft_model_state_dict(model) as the part adapter_model with the file "
                + "adapter_config.json, and export that; or choose tensors with --only, and their names with --rename"
        )
    }

    /// The Trainer's own files.
    private mutating func copyState() {
        for entry in subject.manifest.roots.entries where !entry.path.isEmpty {
            let part = ModelFiles.part(of: entry.path)
            if !part.isOfModel, part != .marker {
                plan.copied.append(.init(entry: entry, path: entry.path))
            }
        }
    }

    /// What goes with the model as it is.
    private mutating func copyFiles() throws {
        let info = subject.info
        var taken = Set(plan.written.map(\.path) + plan.copied.map(\.path))
        for (path, name) in assembly.files {
            guard let entry = subject.manifest.file(path) else {
                throw CairnError(.inconsistent, "\(path) is missing in \(info.run)@\(info.step)", path: path)
            }
            if taken.insert([UInt8](name.utf8)).inserted {
                plan.copied.append(.init(entry: entry, path: [UInt8](name.utf8)))
            }
        }
    }
}
