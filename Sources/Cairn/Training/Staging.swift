internal import Platform

/// A folder in a training's output folder for what is not finished yet. Whoever fills it holds a lock, so that the next one can tell
/// what a killed process left.
struct Staging {
    /// The number is for accelerate, which takes the greatest one that it finds in any name.
    private static let prefix = OutputFolder.ownPrefix + "resume-0-"
    private static let lockName = "lock"

    let path: Path
    private let lock: File

    /// - Parameter prefix: what its name begins with.
    init(in output: Path, _ prefix: String = Self.prefix) throws {
        try FileSystem.makeFolders(output)
        lock = try File.makeLocked { () throws(CairnError) in
            let folder = output.appending(prefix + Random.hex(8))
            try FileSystem.makeFolder(folder, mode: 0o700)
            return folder.appending(Self.lockName)
        }
        path = lock.path.parent
    }

    func remove() { _ = try? FileSystem.removeTree(path) }

    static func removeStale(in output: Path) throws {
        try forEachStale(in: output, prefix) { _ = try? FileSystem.removeTree($0) }
    }

    /// Calls `body` for each folder that a killed process left, with its lock held.
    static func forEachStale(in output: Path, _ prefix: String, _ body: (Path) throws -> Void) throws {
        for name in try FileSystem.names(in: output) where name.starts(with: prefix.utf8) {
            let folder = output.appending(name)
            if let lock = try? File(folder.appending(lockName), .write) {
                defer { withExtendedLifetime(lock) {} }
                if try lock.tryLock(.exclusive, at: 0) { try body(folder) }
            } else {
                // Killed before there was a lock, it is empty; and if not, it is just being made.
                _ = try? FileSystem.removeFolder(folder)
            }
        }
    }
}

extension FileSystem {
    /// Gives something another name, which must be free, also in another folder. A folder that may not be written can't tell its new
    /// parent otherwise.
    static func move(_ from: Path, to: Path) throws(CairnError) {
        let status = try status(from)
        guard let status, status.kind == .folder, status.mode & 0o200 == 0 else {
            return try rename(from, to: to, exclusive: true)
        }
        try setMode(from, status.mode | 0o200)
        do throws(CairnError) {
            try rename(from, to: to, exclusive: true)
        } catch {
            try? setMode(from, status.mode)
            throw error
        }
        try setMode(to, status.mode)
    }

    /// The absolute path without links that a path has, or will have once it is there.
    static func expected(_ path: Path) throws(CairnError) -> Path {
        var (existing, missing) = (path, [[UInt8]]())
        while try status(existing, followLinks: true) == nil, existing.parent != existing {
            missing.append(existing.name)
            existing = existing.parent
        }
        return missing.reversed().reduce(try resolved(existing)) { $0.appending($1) }
    }
}
