internal import Platform

/// What is saved as one iteration.
struct SaveSubject {
    /// The folder or file.
    var path: Path
    /// The training's output folder, absolute and without links; nil: the folder that holds `path`.
    var output: Path?
    private let candidate: Candidate?
    /// Where it is not all that lies at `path`: the files that belong to it, below `path`.
    let files: Set<String>?
    /// The folders above those.
    private let folders: Set<String>
    /// What is looked at as well, below `path`.
    private let beside: [String]
    /// Those of its files that other iterations need as well, below `path`.
    let shared: Set<[UInt8]>

    init(path: Path) {
        (self.path, output, candidate, files, folders, beside, shared) = (path, nil, nil, nil, [], [], [])
    }

    /// What a layout found in an output folder.
    init(_ candidate: Candidate, in output: OutputFolder) throws {
        self.candidate = candidate
        path = candidate.path.isEmpty ? output.path : output.path.appending(candidate.path)
        self.output = try FileSystem.resolved(output.path)
        let prefix = candidate.path.isEmpty ? "" : candidate.path + "/"
        files = candidate.files.map { Set($0.map { String($0.dropFirst(prefix.count)) }) }
        folders = Set((files ?? []).flatMap { Self.folders(above: $0) })
        beside = candidate.beside.map { String($0.dropFirst(prefix.count)) }
        shared = Set(candidate.shared.map { [UInt8]($0.utf8.dropFirst(prefix.utf8.count)) })
    }

    /// As layouts look at it.
    /// - Parameter root: `path`, without links.
    func view(_ root: Path) throws -> CheckpointView {
        try files.map { try CheckpointView(root, files: $0.sorted() + beside) } ?? CheckpointView(root)
    }

    func includes(_ path: [UInt8], _ kind: FileStatus.Kind) -> Bool {
        guard let files else { return true }
        let text = String(decoding: path, as: UTF8.self)
        return kind == .folder ? folders.contains(text) : files.contains(text)
    }

    /// Where it lies below its output folder.
    func place(_ tree: SourceTree) -> SavedPlace {
        let isFolder = tree.entries.first?.path.isEmpty == true
        guard let candidate else {
            let name = String(decoding: tree.root.name, as: UTF8.self)
            return SavedPlace(path: isFolder ? name : "", isWhole: isFolder)
        }
        guard isFolder else {
            let folder = candidate.path.split(separator: "/").dropLast().joined(separator: "/")
            return SavedPlace(path: folder, isWhole: false)
        }
        return SavedPlace(path: candidate.path, isWhole: candidate.files == nil)
    }

    private static func folders(above file: String) -> [String] {
        let parts = file.split(separator: "/").dropLast()
        return parts.indices.map { parts[...$0].joined(separator: "/") }
    }
}
