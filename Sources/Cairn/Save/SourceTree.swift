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

    /// - Throws: `.notFound` where PATH is missing; `.usage` for an empty folder, a special file, or a link that leaves PATH.
    init(_ path: Path, followsLinks: Bool, store: Path, isIncluded: ([UInt8], FileStatus.Kind) -> Bool) throws
    {
        self.followsLinks = followsLinks
        guard let status = try FileSystem.status(path, followLinks: true) else {
            throw CairnError(.notFound, "there is nothing at \(path) to save", path: path.text)
        }
        root = try FileSystem.resolved(path)
        if root.contains(store) || store.contains(root) {
            throw CairnError(
                .usage,
                "the store \(store) lies in \(path), or \(path) in the store; save a folder beside it",
                path: path.text)
        }
        switch status.kind {
        case .file:
            entries = [Entry(path: root.name, source: root, status: status, target: nil)]
        case .folder:
            try walk(root, [], status, ancestors: [], isIncluded)
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
            let source = folder.appending(name)
            guard let own = try FileSystem.status(source) else { throw Self.changed(source, "vanished") }
            guard isIncluded(path, own.kind) else { continue }
            if own.kind == .link, !followsLinks {
                let target = try FileSystem.target(ofLink: source)
                entries.append(Entry(path: path, source: source, status: own, target: target))
                continue
            }
            guard let found = try FileSystem.status(source, followLinks: true) else {
                throw CairnError(.notFound, "the link \(source) points to nothing", path: source.text)
            }
            switch found.kind {
            case .file: entries.append(Entry(path: path, source: source, status: found, target: nil))
            case .folder: try walk(source, path, found, ancestors: ancestors + [status], isIncluded)
            case .link, .other: throw Self.special(source)
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
            if now.differsInContent(from: entry.status) || now.kind != entry.status.kind {
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
