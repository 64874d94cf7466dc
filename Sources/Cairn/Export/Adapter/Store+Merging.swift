internal import ChunkStore
internal import Platform
internal import TensorFormats

extension Store {
    /// An iteration's adapter, merged into its base.
    func mergePlan(_ subject: ExportSubject) throws -> ExportPlan {
        let assembly = try adapter(subject)
        var assembler = Assembler(chunks, subject.manifest)
        let gathered = try assembly.tensors.map { try assembler.tensor($0) }
        let sources = assembler.sources
        let adapter = gathered.map { ModelTensor($0, sources) }
        return try MergeExport(subject, adapter: adapter, base: try base(of: subject)).plan
    }

    /// An iteration's adapter alone.
    func adapterPlan(_ subject: ExportSubject) throws -> ExportPlan {
        var own = subject.assembly
        own.tensors = try adapter(subject).tensors
        own.fileName = "adapter_model"
        let alone = subject.with(own)
        var plan = ExportPlan()
        let tensors = try ExportTensors(alone, withOptimizer: false)
        plan.written = [
            try SafetensorsFiles.file("adapter_model.safetensors", tensors.files().model)
        ]
        for entry in subject.manifest.roots.entries where !entry.path.isEmpty {
            let isBeside =
                ModelFiles.part(of: entry.path) == .other
                || Path(entry.path).name == [UInt8](AdapterConfig.fileName.utf8)
            if case .file = entry.kind, isBeside { plan.copied.append(.init(entry: entry, path: entry.path)) }
        }
        return plan
    }

    /// - Throws: `.usage` where there is none.
    private func adapter(_ subject: ExportSubject) throws -> Assembly {
        if subject.assembly.fileName == "adapter_model" { return subject.assembly }
        for file in ["adapter_model.safetensors", "adapter_model.bin"] where subject.view.has(file) {
            guard let map = try subject.view.tensors(in: file) else { continue }
            let tensors = map.tensors.map {
                Assembly.Tensor(whole: $0.name, dtype: $0.dtype, shape: $0.shape, file: file)
            }
            return Assembly(tensors: tensors, fileName: "adapter_model")
        }
        throw CairnError(
            .usage,
            "\(subject.info.run)@\(subject.info.step) has no adapter of PEFT, so there is nothing to merge or to take alone"
        )
    }

    /// The model that is named, that lies with the adapter, or that this says it was trained for.
    private func base(of subject: ExportSubject) throws -> BaseModel {
        if let name = subject.options.base {
            if try FileSystem.status(Path(name), followLinks: true)?.kind == .folder {
                return try BaseModel(folder: name)
            }
            return try BaseModel(try base(name, subject))
        }
        if subject.assembly.fileName == "model" { return try BaseModel(subject) }
        let name = try subject.view.json(AdapterConfig.fileName)?["base_model_name_or_path"]?.stringValue
        if let name, try FileSystem.status(Path(name), followLinks: true)?.kind == .folder {
            return try BaseModel(folder: name)
        }
        throw CairnError(
            .usage,
            "the adapter's base \(name.map { "\($0) is no folder here" } ?? "is not named"); pass --base with the folder of "
                + "the model, or with an iteration")
    }

    private func base(_ reference: String, _ subject: ExportSubject) throws -> ExportSubject {
        let info = try resolve(reference)
        let (manifest, lock) = try manifest(of: info)
        let view = try view(of: info, manifest, lock)
        guard let layout = try Layouts.layout(of: view), let assembly = try layout.assembly(of: view),
            assembly.fileName == "model"
        else {
            throw CairnError(
                .usage, "\(info.run)@\(info.step) has no model that an adapter could be merged into")
        }
        return ExportSubject(
            info: info, manifest: manifest, view: view, layout: layout, assembly: assembly,
            options: ExportOptions(layout: "hf"), chunks: chunks)
    }
}

extension ExportSubject {
    /// The same with other tensors.
    fileprivate func with(_ assembly: Assembly) -> ExportSubject {
        ExportSubject(
            info: info, manifest: manifest, view: view, layout: layout, assembly: assembly, options: options,
            chunks: chunks)
    }
}
