internal import Platform

extension CheckpointView {
    /// The files below a folder on disk, or a single file.
    /// - Throws: `.notFound` where there is nothing. What vanishes while the folder is read is left out.
    init(_ root: Path) throws {
        guard let status = try FileSystem.status(root, followLinks: true) else {
            throw CairnError(.notFound, "there is nothing at \(root)", path: root.text)
        }
        var files: [File] = []
        var folders: [String] = []
        let name = String(decoding: root.name, as: UTF8.self)
        guard status.kind == .folder else {
            self.init(name: name, files: [File(name, status)], folders: [], content: .disk { _ in root })
            return
        }
        try Self.walk(root, "", 0, &files, &folders)
        self.init(name: name, files: files, folders: folders, content: .disk { root.appending($0) })
    }

    /// The same; nil where there is nothing, as another process may have moved what was there a moment ago.
    static func ifThere(_ root: Path) throws -> CheckpointView? {
        do {
            return try CheckpointView(root)
        } catch let error as CairnError where error.code == .notFound {
            return nil
        }
    }

    /// Some of the files below a folder on disk.
    /// - Parameter paths: below the folder. The folders of those that are not there count as well.
    /// - Throws: `.notFound` where none of them is there any more.
    init(_ root: Path, files paths: [String]) throws {
        let files = try paths.compactMap { path in
            try FileSystem.status(root.appending(path), followLinks: true).map { File(path, $0) }
        }
        guard !files.isEmpty else {
            throw CairnError(
                .notFound, "\(paths.first ?? "what was looked for") in \(root) has vanished", path: root.text)
        }
        self.init(
            name: String(decoding: root.name, as: UTF8.self), files: files,
            folders: Self.folders(above: paths),
            content: .disk { root.appending($0) })
    }

    private static func folders(above paths: [String]) -> [String] {
        var folders: Set<String> = []
        for path in paths {
            var path = path[...]
            while let slash = path.lastIndex(of: "/") {
                path = path[..<slash]
                guard folders.insert(String(path)).inserted else { break }
            }
        }
        return Array(folders)
    }

    /// Deeper than any framework nests its folders.
    private static let depthLimit = 16

    private static func walk(
        _ folder: Path, _ relative: String, _ depth: Int, _ files: inout [File], _ folders: inout [String]
    ) throws {
        guard depth < depthLimit else { return }
        for bytes in try FileSystem.names(in: folder) {
            guard let name = String(validating: bytes, as: UTF8.self) else { continue }
            let path = relative.isEmpty ? name : relative + "/" + name
            let source = folder.appending(bytes)
            // A link that leads nowhere, or in a circle, is no file.
            guard let status = try? FileSystem.status(source, followLinks: true) else { continue }
            switch status.kind {
            case .file: files.append(File(path, status))
            case .folder:
                folders.append(path)
                do {
                    try walk(source, path, depth + 1, &files, &folders)
                } catch let error as CairnError where error.code == .notFound {
                    folders.removeAll { $0 == path || $0.hasPrefix(path + "/") }
                }
            default: break
            }
        }
    }
}

extension CheckpointView.Content {
    /// - Parameter place: where a path of the view lies.
    fileprivate static func disk(_ place: @escaping @Sendable (String) -> Path) -> Self {
        let open = { @Sendable (file: CheckpointView.File) in try Platform.File(place(file.path), .read) }
        return Self(
            bytes: { try open($0).read($1.count, at: $1.lowerBound) },
            tensors: { try FilePlan.map(Path($0.path), open($0), $0.size) })
    }
}

extension CheckpointView.File {
    init(_ path: String, _ status: FileStatus) {
        self.init(
            path: path, size: status.size, seconds: status.seconds, nanoseconds: status.nanoseconds)
    }
}
