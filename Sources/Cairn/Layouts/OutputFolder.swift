internal import Platform

/// A training's output folder on disk, as layouts look at it.
struct OutputFolder: Sendable {
    let path: Path
    /// What names begin with that are no framework's: what is not finished yet, or was put out of the way.
    static let ownPrefix = ".cairn-"

    /// What lies right in it, by name; links stand for what they point to. Names that are not UTF-8, and those of our own, are left out.
    let entries: [String: FileStatus]
    /// Told of each folder before what lies in it is looked up.
    private let visit: @Sendable (Path) -> Void

    /// - Throws: `.notFound` where there is none; `.usage` where it is no folder.
    init(_ path: Path, visit: @escaping @Sendable (Path) -> Void = { _ in }) throws {
        self.path = path
        self.visit = visit
        guard let status = try FileSystem.status(path, followLinks: true) else {
            throw CairnError(
                .notFound, "there is no folder \(path); pass the folder that the training writes to",
                path: path.text)
        }
        guard status.kind == .folder else {
            throw CairnError(
                .usage, "\(path) is a file; pass the folder that the training writes to", path: path.text)
        }
        visit(path)
        entries = try Self.entries(path)
    }

    private static func entries(_ folder: Path) throws -> [String: FileStatus] {
        var entries: [String: FileStatus] = [:]
        for bytes in try FileSystem.names(in: folder) {
            guard let name = String(validating: bytes, as: UTF8.self), !name.hasPrefix(Self.ownPrefix) else {
                continue
            }
            // A name without a status has vanished since; a link may point to nothing, or lead in a circle.
            entries[name] = (try? FileSystem.status(folder.appending(bytes), followLinks: true)) ?? nil
        }
        return entries
    }

    var names: [String] { entries.keys.sorted() }

    func hasFolder(_ name: String) -> Bool { entries[name]?.kind == .folder }

    func hasFile(_ name: String) -> Bool { entries[name]?.kind == .file }

    /// What lies right in a folder below this one; nothing where there is none.
    func entries(in folder: String) throws -> [String: FileStatus] {
        if folder.isEmpty { return entries }
        let path = path.appending(folder)
        visit(path)
        do {
            return try Self.entries(path)
        } catch let error as CairnError where error.code == .notFound {
            return [:]
        }
    }

    /// Whether what lies in a folder tells that it is an iteration.
    ///
    /// One that can't be looked into counts as well where its name alone says that it may be one: whoever looks at it finds out why. Many
    /// another folder lies around that is for another user alone, such as `lost+found`.
    /// - Throws: where it can't be looked into, though nothing forbids it.
    func isIteration(named isNamed: Bool, _ tells: () throws -> Bool) throws -> Bool {
        do {
            return try tells()
        } catch let error as CairnError where isNamed || error.isDenied {
            return isNamed
        }
    }

    /// A small file right in it or below; nil where there is none.
    func text(_ name: String) throws -> String? {
        do {
            let file = try File(path.appending(name), .read)
            return String(
                decoding: try file.read(Int(min(try file.status().size, 1 << 20)), at: 0), as: UTF8.self)
        } catch  where error.code == .notFound {
            return nil
        }
    }

    /// Folders whose names match, as candidates with the number that stands for the pattern's last `#`.
    func folders(_ pattern: NamePattern) -> [Candidate] { Self.folders(pattern, entries, "") }

    /// The same right in a folder below this one; none where there is no such folder.
    func folders(_ pattern: NamePattern, in folder: String) throws -> [Candidate] {
        guard hasFolder(folder) else { return [] }
        return Self.folders(pattern, try entries(in: folder), folder + "/")
    }

    private static func folders(
        _ pattern: NamePattern, _ entries: [String: FileStatus], _ prefix: String
    ) -> [Candidate] {
        entries.compactMap { name, status in
            guard status.kind == .folder, let numbers = pattern.numbers(in: name.utf8) else { return nil }
            return Candidate(name: name, path: prefix + name, step: numbers.last)
        }
    }

    /// Whether an entry is a symbolic link. What `entries` says is of what it points to.
    func isLink(_ name: String) throws -> Bool {
        try FileSystem.status(path.appending(name))?.kind == .link
    }

    /// The files of a candidate.
    /// - Throws: `.notFound` where it has vanished.
    func view(of candidate: Candidate) throws -> CheckpointView {
        let root = candidate.path.isEmpty ? path : path.appending(candidate.path)
        guard let files = candidate.files else { return try CheckpointView(root) }
        let prefix = candidate.path.isEmpty ? 0 : candidate.path.utf8.count + 1
        let paths = (files + candidate.beside).map {
            String(decoding: $0.utf8.dropFirst(prefix), as: UTF8.self)
        }
        return try CheckpointView(root, files: paths)
    }
}
