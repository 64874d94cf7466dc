internal import Platform

extension CheckpointView {
    /// The files below a folder on disk, or a single file.
    /// - Parameter isIncluded: which of the paths below it belong to the checkpoint.
    /// - Throws: `.notFound` where there is nothing. What vanishes while the folder is read is left out.
    init(_ root: Path, isIncluded: (String) -> Bool = { _ in true }) throws {
        guard let status = try FileSystem.status(root, followLinks: true) else {
            throw CairnError(.notFound, "there is nothing at \(root)", path: root.text)
        }
        var files: [File] = []
        var folders: [String] = []
        let name = String(decoding: root.name, as: UTF8.self)
        if status.kind == .folder {
            try Self.walk(root, "", 0, &files, &folders, isIncluded)
        } else {
            files = [File(name, status)]
        }
        let isFolder = status.kind == .folder
        let open = { @Sendable (file: File) in
            try Platform.File(isFolder ? root.appending(file.path) : root, .read)
        }
        self.init(
            name: name, files: files, folders: folders,
            content: Content(
                bytes: { try open($0).read($1.count, at: $1.lowerBound) },
                tensors: { try FilePlan.map(Path($0.path), open($0), $0.size) }))
    }

    /// Deeper than any framework nests its folders.
    private static let depthLimit = 16

    private static func walk(
        _ folder: Path, _ relative: String, _ depth: Int, _ files: inout [File], _ folders: inout [String],
        _ isIncluded: (String) -> Bool
    ) throws {
        guard depth < depthLimit else { return }
        for bytes in try FileSystem.names(in: folder) {
            guard let name = String(validating: bytes, as: UTF8.self) else { continue }
            let path = relative.isEmpty ? name : relative + "/" + name
            let source = folder.appending(bytes)
            guard let status = try FileSystem.status(source, followLinks: true) else { continue }
            switch status.kind {
            case .file where isIncluded(path): files.append(File(path, status))
            case .folder:
                folders.append(path)
                do {
                    try walk(source, path, depth + 1, &files, &folders, isIncluded)
                } catch let error as CairnError where error.code == .notFound {
                    folders.removeLast()
                }
            default: break
            }
        }
    }
}

extension CheckpointView.File {
    init(_ path: String, _ status: FileStatus) {
        self.init(
            path: path, size: status.size, seconds: status.seconds, nanoseconds: status.nanoseconds)
    }
}
