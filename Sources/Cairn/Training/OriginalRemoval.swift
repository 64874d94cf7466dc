internal import Platform

/// Deletes the files of an iteration from an output folder so that all of them are there or none, whenever the process is killed.
enum OriginalRemoval {
    /// What holds the files until all of them are in it, and then.
    private static let (gathering, doomed) = (".cairn-moving-", ".cairn-moved-")
    /// In the first: held by who gathers, and the files by their paths.
    private static let (lockName, filesName) = ("lock", "files")

    /// - Parameter paths: files or folders below the output folder.
    static func delete(_ paths: [String], in output: Path) throws {
        let name = Random.hex(8)
        // A name that no framework takes for an iteration's.
        let last = output.appending(doomed + name)
        if paths.count == 1 {
            let path = output.appending(paths[0])
            try FileSystem.rename(path, to: last)
            try FileSystem.syncFolder(path.parent)
        } else {
            let folder = output.appending(gathering + name)
            try gather(paths, output, folder)
            try FileSystem.rename(folder, to: last)
        }
        try FileSystem.syncFolder(output)
        try FileSystem.removeTree(last)
    }

    private static func gather(_ paths: [String], _ output: Path, _ folder: Path) throws {
        try FileSystem.makeFolder(folder, mode: 0o700)
        let lock = try File(folder.appending(lockName), .create, mode: 0o600)
        defer { withExtendedLifetime(lock) {} }
        guard try lock.tryLock(.exclusive, at: 0) else {
            throw CairnError(.busy, "another process moves the files in \(folder); try again later")
        }
        let files = folder.appending(filesName)
        do {
            for path in paths {
                try FileSystem.makeFolders(files.appending(path).parent)
                try FileSystem.rename(output.appending(path), to: files.appending(path))
            }
        } catch {
            try? putBack(files, output)
            _ = try? FileSystem.removeTree(folder)
            throw error
        }
    }

    /// Puts back what a killed process had gathered in part, and deletes what was to be deleted.
    static func finish(in output: Path) throws {
        for bytes in try FileSystem.names(in: output) {
            let folder = output.appending(bytes)
            if bytes.starts(with: doomed.utf8) {
                // Another one may be at it.
                _ = try? FileSystem.removeTree(folder)
            } else if bytes.starts(with: gathering.utf8) {
                guard let lock = try? File(folder.appending(lockName), .write),
                    try lock.tryLock(.exclusive, at: 0)
                else { continue }
                try putBack(folder.appending(filesName), output)
                _ = try? FileSystem.removeTree(folder)
            }
        }
    }

    /// What has been written anew meanwhile stays.
    private static func putBack(_ from: Path, _ to: Path) throws {
        guard let status = try FileSystem.status(from) else { return }
        guard status.kind == .folder else {
            try FileSystem.makeFolders(to.parent)
            do {
                return try FileSystem.rename(from, to: to, exclusive: true)
            } catch {
                if error.code != .exists { throw error }
                return
            }
        }
        for name in try FileSystem.names(in: from) { try putBack(from.appending(name), to.appending(name)) }
    }
}
