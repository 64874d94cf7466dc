internal import ChunkStore
internal import Platform

extension Store {
    /// Writes an iteration's model as others load it.
    ///
    /// The destination appears all at once, durable; when this throws, or the process dies, it is as it was.
    /// - Throws: `.usage` for an unknown layout, or what it can't hold; `.exists` where the destination exists; `.damage`.
    @discardableResult
    public func export(
        _ reference: String, to destination: String, options: ExportOptions, progress: Progress = .silent
    ) throws -> RestoreResult {
        let start = Clock.monotonic
        defer { progress.end() }
        guard options.layout == "hf" else {
            throw CairnError(.usage, "there is no layout \(options.layout) to export to; known is hf")
        }
        let info = try resolve(reference)
        let (manifest, lock) = try manifest(of: info)
        defer { withExtendedLifetime(lock) {} }
        let plan = try HuggingFaceExport(manifest, info, options)
        let files = plan.written + plan.copied.compactMap { manifest.output($0) }
        let place = try Destination(
            Path(destination), force: options.force, store: chunks.folder)
        do {
            for file in files { try FileSystem.makeFolders(place.temporary.appending(file.path).parent) }
            progress.begin(phase: "exporting", totalBytes: files.reduce(0) { $0 + $1.size })
            let damaged = try FolderWriter(chunks, folder: place.temporary, files: files).run(
                settings, progress: progress)
            if !damaged.isEmpty { throw damage(info, manifest, damaged) }
            for file in plan.written { try FileSystem.setMode(place.temporary.appending(file.path), 0o644) }
            for entry in plan.copied { try copyProperties(entry, manifest.roots, place.temporary) }
            try FileSystem.setMode(place.temporary, 0o755)
            try place.publish()
        } catch {
            place.abandon()
            throw error
        }
        return RestoreResult(
            run: info.run, step: info.step, id: info.id.hex, path: place.path.text, files: files.count,
            bytes: files.reduce(0) { $0 + $1.size }, seconds: Clock.monotonic - start, warnings: plan.warnings
        )
    }

    private func copyProperties(_ entry: Roots.Entry, _ roots: Roots, _ folder: Path) throws {
        let path = folder.appending(entry.path)
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
