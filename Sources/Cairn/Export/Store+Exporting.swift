internal import ChunkStore
package import Platform

extension Store {
    /// Writes an iteration's model as others load it.
    ///
    /// The destination appears all at once, durable; when this throws, or the process dies, it is as it was.
    /// - Throws: `.usage` for an unknown layout, or what it can't hold; `.inconsistent` where the pieces of a tensor don't fit together;
    ///   `.exists` where the destination exists; `.damage`.
    @discardableResult
    public func export(
        _ reference: String, to destination: String, options: ExportOptions, progress: Progress = .silent
    ) throws -> RestoreResult {
        try export(reference, to: Path(destination), options: options, progress: progress)
    }

    /// The same, to a destination whose name may be any bytes.
    package func export(
        _ reference: String, to destination: Path, options: ExportOptions, progress: Progress
    ) throws -> RestoreResult {
        let layout = try ExportLayout(options)
        let info = try resolve(reference)
        let (manifest, lock) = try manifest(of: info)
        defer { withExtendedLifetime(lock) {} }
        let start = Clock.monotonic
        var plan = try plan(layout, info, manifest, lock, options, destination)
        if options.all { try addTrainingMetadata(to: &plan, info, manifest) }
        var result = try write(plan, info, manifest, destination, force: options.force, progress)
        result.seconds = Clock.monotonic - start
        return result
    }

    /// Where something was recorded by who saved the iteration, and none of its own files is called so.
    private func addTrainingMetadata(
        to plan: inout ExportPlan, _ info: IterationInfo, _ manifest: Manifest
    ) throws {
        // What the files themselves say was recorded by nobody.
        let metadata = try metadata(of: info, manifest.head).filter {
            !$0.key.hasPrefix("cairn.") && $0.key != TrainerState.bestMetricNameKey
        }
        let file = TrainingMetadata.file(info, metadata)
        if metadata.isEmpty || plan.isFile || plan.files(manifest).contains(where: { $0.path == file.path }) {
            return
        }
        plan.written.append(file)
    }

    /// Writes what was planned of an iteration.
    func write(
        _ plan: ExportPlan, _ info: IterationInfo, _ manifest: Manifest, _ destination: Path, force: Bool,
        _ progress: Progress
    ) throws -> RestoreResult {
        defer { progress.end() }
        let files = plan.files(manifest)
        let place = try Destination(destination, force: force, store: chunks.folder)
        do {
            for file in files { try FileSystem.makeFolders(place.temporary.appending(file.path).parent) }
            progress.begin(phase: "exporting", totalBytes: files.reduce(0) { $0 + $1.size })
            let damaged = try FolderWriter(
                chunks, folder: place.temporary, files: files, settings: settings
            ).run(progress: progress)
            if !damaged.isEmpty { throw damage(info, manifest, damaged.values.flatMap(\.self)) }
            for file in plan.written { try FileSystem.setMode(place.temporary.appending(file.path), 0o644) }
            for copied in plan.copied { try copyProperties(copied, manifest.roots, place.temporary) }
            try FileSystem.setMode(place.temporary, 0o755)
            try place.publish(plan.isFile ? plan.written[0].path : nil)
        } catch {
            place.abandon()
            throw error
        }
        return RestoreResult(
            run: info.run, step: info.step, id: info.id.hex, path: place.path.text, files: files.count,
            bytes: files.reduce(0) { $0 + $1.size }, warnings: plan.warnings)
    }

    /// A model in Hugging Face's own safetensors files is exported as it is; every other is put together.
    private func plan(
        _ target: ExportLayout, _ info: IterationInfo, _ manifest: Manifest, _ lock: ReaderLock,
        _ options: ExportOptions, _ destination: Path
    ) throws -> ExportPlan {
        let view = try view(of: info, manifest, lock)
        let layout = try Layouts.layout(of: view)
        let isOwn =
            target == .hf && options.rename == nil && options.config == nil && !options.mergesAdapter
            && !options.adapterOnly
        if isOwn, layout == nil || layout is HuggingFace, HuggingFaceExport.hasModel(manifest) {
            return try HuggingFaceExport(manifest, info, options).plan
        }
        guard let layout else {
            let known = Layouts.all.filter(\.abilities.exportsToHuggingFace).map(\.name)
            throw CairnError(
                .usage,
                "\(info.run)@\(info.step) has no model that is known, so it can't be exported as \(target.rawValue): it is "
                    + "in none of the layouts \(known.joined(separator: ", ")) (see `cairn layouts`); use `cairn restore`"
            )
        }
        guard let assembly = try layout.assembly(of: view) else {
            throw CairnError(
                .usage,
                "\(info.run)@\(info.step) has no model that can be put together from the layout \(layout.name), so it "
                    + "can't be exported as \(target.rawValue); use `cairn restore`")
        }
        let subject = ExportSubject(
            info: info, manifest: manifest, view: view, layout: layout, assembly: assembly, options: options,
            chunks: chunks)
        return try plan(subject, target, destination: String(decoding: destination.name, as: UTF8.self))
    }

    /// - Parameter name: of the folder or file that is written.
    func plan(_ subject: ExportSubject, _ target: ExportLayout, destination name: String) throws -> ExportPlan
    {
        switch target {
        case .hf where subject.options.mergesAdapter: try mergePlan(subject)
        case .hf where subject.options.adapterOnly: try adapterPlan(subject)
        case .hf: try AssemblyExport(subject).plan
        case .safetensors:
            try SafetensorsExport(subject, fileName: name.hasSuffix(".safetensors") ? name : nil).plan
        case .torch: try TorchExport(subject, destination: name).plan
        case .dcp: try DCPExport(subject).plan
        case .mindformers: try MindFormersExport(subject, mesh: mesh(subject)).plan
        case .mindformers1: try MindFormers1Export(subject, mesh: mesh(subject)).plan
        }
    }

    private func copyProperties(_ copied: ExportPlan.Copied, _ roots: Roots, _ folder: Path) throws {
        let (entry, path) = (copied.entry, folder.appending(copied.path))
        switch entry.kind {
        case .file:
            try FileSystem.setMode(path, entry.mode)
            try FileSystem.setTime(path, seconds: entry.mtime, nanoseconds: entry.nanoseconds)
        case .link(let target):
            guard !roots.leaves(target, from: entry.path) else {
                throw CairnError(
                    .damage, "the link \(entry.text) points outside of the destination; nothing was exported")
            }
            try FileSystem.makeFolders(path.parent)
            try FileSystem.makeLink(path, target: target)
        case .folder:
            try FileSystem.makeFolders(path)
        }
    }
}
