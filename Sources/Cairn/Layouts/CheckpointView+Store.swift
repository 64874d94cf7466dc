internal import ChunkStore
internal import Platform
internal import TensorFormats

extension Store {
    /// A saved iteration as layouts look at it, kept from removal while the view is.
    func view(of info: IterationInfo) throws -> CheckpointView {
        let (manifest, lock) = try manifest(of: info)
        return try view(of: info, manifest, lock)
    }

    /// The same of a manifest that was read already.
    func view(
        of info: IterationInfo, _ manifest: Manifest, _ lock: ReaderLock
    ) throws -> CheckpointView {
        let metadata = try metadata(of: info, manifest.head)
        let place = metadata[SavedPlace.key].flatMap { SavedPlace($0) }
        var view = CheckpointView(manifest, name: place?.path ?? "", chunks, lock)
        view.knownUnhealthy = metadata[Identity.unhealthyKey]
        return view
    }
}

extension CheckpointView {
    /// - Parameters:
    ///   - name: of the folder that was saved.
    ///   - lock: kept as long as the view is.
    init(_ manifest: Manifest, name: String, _ chunks: ChunkStore, _ lock: ReaderLock) {
        var files: [File] = []
        var folders: [String] = []
        for entry in manifest.roots.entries where !entry.path.isEmpty {
            guard let path = String(validating: entry.path, as: UTF8.self) else { continue }
            switch entry.kind {
            case .folder: folders.append(path)
            case .file: files.append(File(path, entry, manifest.size(of: entry)))
            case .link(let target):
                // What it points to stands in the same checkpoint, or is not looked at.
                guard let pointed = manifest.roots.file(behind: target, from: entry.path) else { continue }
                files.append(File(path, entry, manifest.size(of: pointed)))
            }
        }
        let entry = { @Sendable (file: File) -> Roots.Entry in
            let entry = manifest.roots[[UInt8](file.path.utf8)]!
            guard case .link(let target) = entry.kind else { return entry }
            return manifest.roots.file(behind: target, from: entry.path)!
        }
        self.init(
            name: String(name.split(separator: "/").last ?? ""), files: files, folders: folders,
            content: Content(
                bytes: { file, range in
                    defer { withExtendedLifetime(lock) {} }
                    return try chunks.bytes(of: manifest.output(entry(file))!, range)
                },
                tensors: { file in
                    guard case .file(.split(let schema, _)) = entry(file).kind else { return nil }
                    return TensorMap(manifest.schemas[schema]!)
                }))
    }
}

extension CheckpointView.File {
    fileprivate init(_ path: String, _ entry: Roots.Entry, _ size: UInt64) {
        self.init(path: path, size: size, seconds: entry.mtime, nanoseconds: entry.nanoseconds)
    }
}

extension Roots {
    /// The file that a link right beside or below points to; nil where that is another link, or outside.
    func file(behind target: [UInt8], from path: [UInt8]) -> Entry? {
        guard !target.starts(with: "/".utf8), !target.starts(with: "..".utf8) else { return nil }
        let folder = path.lastIndex(of: UInt8(ascii: "/")).map { path[...$0] } ?? []
        guard let entry = self[folder + target], case .file = entry.kind else { return nil }
        return entry
    }
}

extension TensorMap {
    /// What a schema says of a file's tensors, and where they lie in it. Of the size of their numbers it says nothing.
    fileprivate init(_ schema: Schema) {
        var extents = schema.blobLengths.map { Extent(offset: 0, length: $0, elementSize: 1) }
        var offset: UInt64 = 0
        for part in schema.parts {
            if case .blob(let index) = part { extents[index].offset = offset }
            offset += schema.length(of: part)
        }
        self.init(
            format: schema.format, extents: extents,
            tensors: schema.tensors.map {
                Tensor(
                    name: $0.name, dtype: $0.dtype, shape: $0.shape, extent: $0.blob, offset: $0.offset,
                    length: $0.length)
            })
    }
}

extension ChunkStore {
    /// The bytes of a range of a file.
    fileprivate func bytes(of file: OutputFile, _ range: Range<UInt64>) throws -> [UInt8] {
        var bytes: [UInt8] = []
        var start: UInt64 = 0
        for part in file.parts {
            let end = start + part.length
            defer { start = end }
            let (lower, upper) = (max(start, range.lowerBound), min(end, range.upperBound))
            guard lower < upper else { continue }
            switch part {
            case .literal(let literal): bytes += literal[Int(lower - start)..<Int(upper - start)]
            case .blob(let blob): bytes += try self.bytes(of: blob, lower - start..<upper - start)
            case .gather, .checksum, .computed: preconditionFailure("a saved file has whole blobs")
            }
        }
        return bytes
    }
}
