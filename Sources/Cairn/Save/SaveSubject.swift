internal import Platform

/// What is saved as one iteration.
struct SaveSubject {
    /// The folder or file.
    var path: Path
    /// The training's output folder, absolute and without links; nil: the folder that holds `path`.
    var output: Path?
    /// Where it is not all that lies at `path`: the files that belong to it, below `path`.
    private let files: Set<String>?
    /// The folders above those.
    private let folders: Set<String>

    init(path: Path) {
        (self.path, output, files, folders) = (path, nil, nil, [])
    }

    /// What a layout found in an output folder.
    init(_ candidate: Candidate, in output: OutputFolder) throws {
        path = candidate.path.isEmpty ? output.path : output.path.appending(candidate.path)
        self.output = try FileSystem.resolved(output.path)
        let prefix = candidate.path.isEmpty ? "" : candidate.path + "/"
        files = candidate.files.map { Set($0.map { String($0.dropFirst(prefix.count)) }) }
        folders = Set((files ?? []).flatMap { Self.folders(above: $0) })
    }

    func includes(_ path: String) -> Bool { files?.contains(path) ?? true }

    func includes(_ path: [UInt8], _ kind: FileStatus.Kind) -> Bool {
        guard let files else { return true }
        let text = String(decoding: path, as: UTF8.self)
        return kind == .folder ? folders.contains(text) : files.contains(text)
    }

    private static func folders(above file: String) -> [String] {
        let parts = file.split(separator: "/").dropLast()
        return parts.indices.map { parts[...$0].joined(separator: "/") }
    }
}
