internal import ChunkStore
internal import Platform

/// What a save finds below PATH, before it reads any content.
struct SourceTree {
    struct Entry {
        /// Relative to PATH, as it will stand in the manifest; empty for PATH itself.
        var path: [UInt8]
        /// Where to read it.
        var source: Path
        var status: FileStatus
        /// What a link points to.
        var target: [UInt8]?
    }

    /// Sorted by path.
    private(set) var entries: [Entry] = []
    /// PATH without links in it.
    let root: Path
    private let followsLinks: Bool
    /// Other things lie beside what is saved, and may change.
    private let isPart: Bool

    /// - Parameter files: those that are saved, below PATH; nil: all that lies there.
    /// - Throws: `.notFound` where PATH is missing; `.usage` for an empty folder, a special file, or a link that leaves PATH.
    init(
        _ path: Path, files: Set<String>? = nil, followsLinks: Bool, store: Path,
        isIncluded: ([UInt8], FileStatus.Kind) -> Bool
    ) throws {
        self.followsLinks = followsLinks
        isPart = files != nil
        guard let status = try FileSystem.status(path, followLinks: true) else {
            throw CairnError(.notFound, "there is nothing at \(path) to save", path: path.text)
        }
        root = try FileSystem.resolved(path)
        if store.contains(root) || root.contains(store) && !isPart {
            throw CairnError(
                .usage,
                "the store \(store) lies in \(path), or \(path) in the store; save a folder beside it",
                path: path.text)
        }
        switch status.kind {
        case .file:
            entries = [Entry(path: root.name, source: root, status: status, target: nil)]
        case .folder:
            if let files {
                try take(files.map { [UInt8]($0.utf8) }, status, isIncluded)
            } else {
                try walk(root, [], status, ancestors: [], isIncluded)
            }
            if entries.count == 1 {
                throw CairnError(
                    .usage, "the folder \(path) is empty: there is nothing to save", path: path.text)
            }
        case .link, .other: throw Self.special(path)
        }
        entries.sort { $0.path.lexicographicallyPrecedes($1.path) }
        try checkLinks()
    }

    /// That no link leaves PATH, which is clear only when all links are known.
    private func checkLinks() throws {
        let links = Set(entries.filter { $0.target != nil }.map(\.path))
        for entry in entries {
            guard let target = entry.target,
                SafePath.leaves(target, from: entry.path, isLink: links.contains)
            else { continue }
            throw CairnError(
                .usage,
                "the link \(entry.source) points to \(Path(target)), outside of what is saved; "
                    + "pass --follow-links to save what it points to", path: entry.source.text)
        }
    }

    /// Some files, and the folders above them.
    private mutating func take(
        _ files: [[UInt8]], _ status: FileStatus, _ isIncluded: ([UInt8], FileStatus.Kind) -> Bool
    ) throws {
        entries = [Entry(path: [], source: root, status: status, target: nil)]
        var paths = Set(files)
        for file in files {
            for (place, byte) in file.enumerated() where byte == UInt8(ascii: "/") {
                paths.insert([UInt8](file[..<place]))
            }
        }
        for path in paths {
            if let entry = try entry(path, root.appending(path), isIncluded) { entries.append(entry) }
        }
    }

    /// What is at a place; nil where it is not to be saved.
    private func entry(
        _ path: [UInt8], _ source: Path, _ isIncluded: ([UInt8], FileStatus.Kind) -> Bool
    ) throws -> Entry? {
        guard let own = try FileSystem.status(source) else { throw Self.changed(source, "vanished") }
        guard isIncluded(path, own.kind) else { return nil }
        if own.kind == .link, !followsLinks {
            let target = try FileSystem.target(ofLink: source)
            return Entry(path: path, source: source, status: own, target: target)
        }
        guard let found = try FileSystem.status(source, followLinks: true) else {
            throw CairnError(.notFound, "the link \(source) points to nothing", path: source.text)
        }
        guard found.kind == .file || found.kind == .folder else { throw Self.special(source) }
        return Entry(path: path, source: source, status: found, target: nil)
    }

    private mutating func walk(
        _ folder: Path, _ relative: [UInt8], _ status: FileStatus, ancestors: [FileStatus],
        _ isIncluded: ([UInt8], FileStatus.Kind) -> Bool
    ) throws {
        if ancestors.contains(where: { $0.inode == status.inode && $0.device == status.device }) {
            throw CairnError(
                .usage, "the links below \(folder) lead in a circle; save without --follow-links")
        }
        entries.append(Entry(path: relative, source: folder, status: status, target: nil))
        for name in try FileSystem.names(in: folder) {
            let path = relative.isEmpty ? name : relative + [UInt8(ascii: "/")] + name
            guard let entry = try entry(path, folder.appending(name), isIncluded) else { continue }
            if entry.status.kind == .folder {
                try walk(entry.source, path, entry.status, ancestors: ancestors + [status], isIncluded)
            } else {
                entries.append(entry)
            }
        }
    }

    /// - Throws: `.changed` where anything is not what it was when the tree was read.
    func checkUnchanged() throws {
        // Files first: a folder changes with whatever is in it, and the file's name says more.
        let folders = entries.filter { $0.status.kind == .folder }
        for entry in entries.filter({ $0.status.kind != .folder }) + folders {
            guard let now = try FileSystem.status(entry.source, followLinks: entry.target == nil) else {
                throw Self.changed(entry.source, "vanished")
            }
            // In a folder that others share, what they write does not matter.
            let isShared = isPart && entry.status.kind == .folder
            if !isShared && now.differsInContent(from: entry.status) || now.kind != entry.status.kind {
                throw Self.changed(entry.source, "changed")
            }
        }
    }

    static func changed(_ path: Path, _ how: String) -> CairnError {
        CairnError(
            .changed, "\(path) \(how) while it was being saved; save it again once nothing writes there",
            path: path.text)
    }

    private static func special(_ path: Path) -> CairnError {
        CairnError(
            .usage, "\(path) is a device, socket or pipe, which a checkpoint can't hold; remove it",
            path: path.text)
    }
}
