internal import ChunkStore
package import Platform

extension Store {
    /// Brings the saved files back, byte for byte, with their modes, times and links.
    ///
    /// The destination appears all at once, durable; when this throws, or the process dies, it is as it was.
    /// - Throws: `.exists` where the destination exists; `.damage` with the names of tensors and files where stored bytes are not
    ///   what they were.
    @discardableResult
    public func restore(
        _ reference: String, to destination: String, options: RestoreOptions = RestoreOptions(),
        progress: Progress = .silent
    ) throws -> RestoreResult {
        try restore(reference, to: Path(destination), options: options, progress: progress)
    }

    /// The same, to a destination whose name may be any bytes.
    package func restore(
        _ reference: String, to destination: Path, options: RestoreOptions, progress: Progress
    ) throws -> RestoreResult {
        let start = Clock.monotonic
        defer { progress.end() }
        let info = try resolve(reference)
        let (manifest, lock) = try manifest(of: info)
        defer { withExtendedLifetime(lock) {} }
        let entries = try chosen(manifest, options)
        let files = entries.compactMap { manifest.output($0) }
        let place = try Destination(destination, force: options.force, store: chunks.folder)
        var result = RestoreResult(run: info.run, step: info.step, id: info.id.hex, path: place.path.text)
        do {
            try makeFolders(entries, in: place.temporary)
            progress.begin(phase: "restoring", totalBytes: files.reduce(0) { $0 + $1.size })
            let damaged = try FolderWriter(
                chunks, folder: place.temporary, files: files, settings: settings
            ).run(progress: progress)
            if !damaged.isEmpty, !options.skipDamaged {
                throw damage(info, manifest, damaged.values.flatMap(\.self))
            }
            for index in damaged.keys {
                result.damagedFiles.append(Path.text(of: files[index].path))
                try FileSystem.removeFile(place.temporary.appending(files[index].path))
            }
            result.damagedFiles.sort()
            let lost = Set(damaged.keys.map { files[$0].path })
            try finish(entries.filter { !lost.contains($0.path) }, in: place.temporary)
            result.files = files.count - lost.count
            result.bytes = files.filter { !lost.contains($0.path) }.reduce(0) { $0 + $1.size }
            try place.publish()
        } catch {
            place.abandon()
            throw error
        }
        result.seconds = Clock.monotonic - start
        return result
    }

    /// The entries that are wanted, with the folders above them. Links that lead out of the destination are refused.
    private func chosen(_ manifest: Manifest, _ options: RestoreOptions) throws -> [Roots.Entry] {
        var entries = manifest.roots.entries
        if let files = options.files {
            entries = entries.filter { $0.kind == .folder || files.contains($0.text) }
        }
        if let pattern = options.path {
            let glob = Glob(pattern)
            let wanted = entries.filter { !$0.path.isEmpty && glob.matches($0.path) }
            guard !wanted.isEmpty else {
                throw CairnError(.usage, "no saved file matches \(pattern); see `cairn show REF --files`")
            }
            entries = entries.filter { entry in
                entry.path.isEmpty
                    || wanted.contains {
                        $0.path == entry.path || $0.path.starts(with: entry.path + [UInt8(ascii: "/")])
                    }
            }
        }
        for entry in entries {
            if case .link(let target) = entry.kind, manifest.roots.leaves(target, from: entry.path) {
                throw CairnError(
                    .damage,
                    "the link \(entry.text) points to \(Path(target)), outside of the destination, so nothing was restored",
                    path: entry.text)
            }
        }
        return entries
    }

    private func makeFolders(_ entries: [Roots.Entry], in folder: Path) throws {
        for entry in entries where !entry.path.isEmpty {
            let path = folder.appending(entry.path)
            switch entry.kind {
            case .folder: try FileSystem.makeFolders(path)
            case .link, .file: try FileSystem.makeFolders(path.parent)
            }
            if case .link(let target) = entry.kind { try FileSystem.makeLink(path, target: target) }
        }
    }

    /// Modes and times: of files first, then of folders, the deepest first, since filling one changes its time.
    private func finish(_ entries: [Roots.Entry], in folder: Path) throws {
        for entry in entries.reversed() {
            let path = folder.appending(entry.path)
            if case .link = entry.kind {
            } else {
                if entry.kind == .folder { try FileSystem.syncFolder(path) }
                try FileSystem.setMode(path, entry.mode)
            }
            if entry.kind != .folder {
                try FileSystem.setTime(path, seconds: entry.mtime, nanoseconds: entry.nanoseconds)
            }
        }
        for entry in entries.reversed() where entry.kind == .folder {
            try FileSystem.setTime(
                folder.appending(entry.path), seconds: entry.mtime, nanoseconds: entry.nanoseconds)
        }
    }

    /// The error that names everything that damaged blobs belong to: tensors that were to be put together, else those that are stored.
    func damage(
        _ info: IterationInfo, _ manifest: Manifest, _ damaged: [FolderWriter.Damage]
    ) -> CairnError {
        var tensors: Set<String> = Set(damaged.compactMap(\.tensor))
        var files: Set<String> = []
        var seen: Set<BlobRef> = []
        for one in damaged where seen.insert(one.blob).inserted {
            let owners = manifest.owners(of: one.blob)
            if one.tensor == nil { tensors.formUnion(owners.tensors) }
            files.formUnion(owners.files)
        }
        let first = damaged[0].error
        let tensorText = tensors.isEmpty ? "" : "tensors \(listed(tensors.sorted())) in "
        return CairnError(
            .damage,
            "\(info.run)@\(info.step) is damaged: \(tensorText)\(listed(files.sorted())) (\(first.message))",
            path: first.path)
    }

    /// One saved file, in order, every chunk checked before it is handed on.
    public func cat(
        _ reference: String, file: String, to write: (UnsafeRawBufferPointer) throws -> Void
    ) throws {
        let info = try resolve(reference)
        let (manifest, lock) = try manifest(of: info)
        defer { withExtendedLifetime(lock) {} }
        guard
            let entry = manifest.roots.entries.first(where: {
                $0.text == file || $0.path == [UInt8](file.utf8)
            }),
            let output = manifest.output(entry)
        else {
            throw CairnError(
                .notFound,
                "\(info.run)@\(info.step) has no file \(file); see `cairn show \(reference) --files`")
        }
        for part in output.parts {
            switch part {
            case .literal(let bytes): try bytes.withUnsafeBytes(write)
            case .gather, .checksum, .computed: preconditionFailure("a saved file has whole blobs")
            case .blob(let blob):
                do {
                    let tree = BlobTree(chunkSize: chunkSize)
                    for (index, id) in try chunks.chunkIDs(of: blob).enumerated() {
                        let bytes = try chunks.chunk(id)
                        guard bytes.count == tree.chunkLength(index, of: blob.length) else {
                            throw BlobTree.otherLength(blob)
                        }
                        try bytes.withUnsafeBytes(write)
                    }
                } catch let error as CairnError where error.code == .damage {
                    throw damage(info, manifest, [.init(blob: blob, error: error)])
                }
            }
        }
    }
}
