internal import ChunkStore
internal import Platform

/// A folder, or a file, that appears all at once: filled under a temporary name beside it, made durable, then renamed.
///
/// The temporary name matches no pattern by which a framework finds checkpoints. Whoever fills it holds a lock, so that the next
/// one to write there can tell what a killed process left, and removes it.
struct Destination {
    let path: Path
    /// The folder to fill until `publish`.
    let temporary: Path
    private let lock: File
    private let force: Bool

    private static let lockSuffix = ".lock"

    /// - Throws: `.exists` where something is at `path` and `force` is not set; `.usage` for what is never replaced: a store, or a
    ///   folder that this one lies in.
    init(_ path: Path, force: Bool, store: Path) throws {
        self.path = path
        self.force = force
        guard !path.name.isEmpty, path.name != [UInt8](".".utf8), path.name != [UInt8]("..".utf8) else {
            throw CairnError(
                .usage, "'\(path)' can't be the destination; name a folder that does not exist yet",
                path: path.text)
        }
        try Self.checkSpares(store, path)
        if try FileSystem.status(path) != nil, !force {
            throw CairnError(
                .exists, "\(path) exists; choose another place, or pass --force to replace it",
                path: path.text)
        }
        try FileSystem.makeFolders(path.parent)
        // Now that all of the way exists, `..` in it leads where it will lead.
        try Self.checkSpares(store, path)
        // Not the name itself: some frameworks look for `step-` and a number anywhere in a name.
        let stem = [UInt8](".cairn-\(ChunkID.of(path.name).hex.prefix(16))".utf8)
        try Self.removeStale(in: path.parent, stem)
        lock = try File.makeLocked { () throws(CairnError) in
            path.parent.appending(stem + [UInt8]("-\(Random.hex(8))\(Self.lockSuffix)".utf8))
        }
        temporary = path.parent.appending([UInt8](lock.path.name.dropLast(Self.lockSuffix.utf8.count)))
        do {
            try FileSystem.makeFolder(temporary, mode: 0o700)
        } catch {
            _ = try? FileSystem.removeFile(lock.path)
            throw error
        }
    }

    /// Refuses to write into a store, or to replace one with all that it holds.
    private static func checkSpares(_ store: Path, _ path: Path) throws {
        var folder = path.parent
        while try FileSystem.status(folder, followLinks: true) == nil { folder = folder.parent }
        let way = try FileSystem.resolved(folder)
        let what: String
        if store.contains(way) {
            what = "lies in the store \(store)"
        } else if folder == path.parent, way.appending(path.name).contains(store) {
            what = "is or holds the store \(store)"
        } else if try FileSystem.status(path)?.kind == .folder,
            try FileSystem.status(path.appending("cairn.json")) != nil
        {
            what = "is another store"
        } else {
            return
        }
        throw CairnError(
            .usage, "\(path) \(what), where nothing is restored to; choose another place", path: path.text)
    }

    private static func removeStale(in parent: Path, _ stem: [UInt8]) throws {
        for name in try FileSystem.names(in: parent) {
            guard name.starts(with: stem + [UInt8(ascii: "-")]),
                name.suffix(5).elementsEqual(lockSuffix.utf8),
                name.count == stem.count + 22
            else { continue }
            let path = parent.appending(name)
            guard let file = try? File(path, .write), try file.tryLock(.exclusive, at: 0) else { continue }
            try FileSystem.removeTree(parent.appending([UInt8](name.dropLast(5))))
            try FileSystem.removeFile(path)
        }
    }

    /// Puts the filled folder in its place, and removes what was there before. When this throws, the destination is as it was,
    /// unless the error says otherwise.
    /// - Parameter file: the only one in the folder, that goes there instead of it.
    func publish(_ file: [UInt8]? = nil) throws {
        try FileSystem.syncFolder(temporary)
        let filled = file.map { temporary.appending($0) } ?? temporary
        if try force && FileSystem.status(path) != nil {
            if try FileSystem.exchange(filled, path) {
                try sync { _ = try FileSystem.exchange(filled, path) }
                try removeEarlier(filled)
            } else {
                try replace(filled)
            }
        } else {
            try FileSystem.rename(filled, to: path, exclusive: true)
            try sync { try FileSystem.rename(path, to: filled, exclusive: true) }
        }
        // The destination is there: what is left of the way to it is no reason to fail.
        if file != nil { _ = try? FileSystem.removeTree(temporary) }
        _ = try? FileSystem.removeFile(lock.path)
    }

    /// Replaces the destination where two names can't be exchanged. Killed in between, it leaves both under temporary names.
    private func replace(_ filled: Path) throws {
        let old = path.parent.appending(temporary.name + [UInt8](".old".utf8))
        try FileSystem.rename(path, to: old)
        do {
            try FileSystem.rename(filled, to: path, exclusive: true)
        } catch {
            try FileSystem.rename(old, to: path)
            throw error
        }
        try sync {
            try FileSystem.rename(path, to: filled, exclusive: true)
            try FileSystem.rename(old, to: path)
        }
        try removeEarlier(old)
    }

    /// Removes what was at the destination before.
    private func removeEarlier(_ folder: Path) throws {
        do {
            _ = try FileSystem.removeTree(folder)
        } catch {
            throw CairnError(
                .system,
                "\(path) is written and durable, but what was there before could not be removed (\(error)); "
                    + "remove \(folder) by hand", path: folder.text)
        }
    }

    /// Makes the new names durable; where that fails, takes them back and throws.
    private func sync(_ takeBack: () throws -> Void) throws {
        do {
            try FileSystem.syncFolder(path.parent)
        } catch {
            do { try takeBack() } catch {
                throw CairnError(
                    .system,
                    "\(path) is written and whole, but it could be neither made durable nor taken back (\(error)); "
                        + "it may or may not survive a power cut", path: path.text)
            }
            throw error
        }
    }

    /// Removes what was filled.
    func abandon() {
        _ = try? FileSystem.removeTree(temporary)
        _ = try? FileSystem.removeFile(lock.path)
    }
}
