internal import Platform

/// Deletes the files of an iteration from an output folder so that all of them are there or none, whenever the process is killed.
enum OriginalRemoval {
    /// What holds the files until all of them are in it, and then. The number is for accelerate, as in `Staging`.
    private static let (gathering, doomed) = (".cairn-moving-0-", ".cairn-moved-0-")
    /// In the first: the files by their paths.
    private static let filesName = "files"

    /// - Parameter paths: files or folders below the output folder.
    static func delete(_ paths: [String], in output: Path) throws {
        // A name that no framework takes for an iteration's.
        let last = output.appending(doomed + Random.hex(8))
        if paths.count == 1 {
            let path = output.appending(paths[0])
            try FileSystem.rename(path, to: last)
            try FileSystem.syncFolder(path.parent)
        } else {
            let staging = try Staging(in: output, gathering)
            defer { withExtendedLifetime(staging) {} }
            try gather(paths, output, staging)
            try FileSystem.rename(staging.path, to: last)
        }
        try FileSystem.syncFolder(output)
        try FileSystem.removeTree(last)
    }

    private static func gather(_ paths: [String], _ output: Path, _ staging: Staging) throws {
        let files = staging.path.appending(filesName)
        do {
            for path in paths {
                try FileSystem.makeFolders(files.appending(path).parent)
                try FileSystem.rename(output.appending(path), to: files.appending(path))
            }
        } catch {
            try? putBack(files, output)
            staging.remove()
            throw error
        }
    }

    /// Puts back what a killed process had gathered in part, and deletes what was to be deleted.
    static func finish(in output: Path) throws {
        for bytes in try FileSystem.names(in: output) where bytes.starts(with: doomed.utf8) {
            // Another one may be at it.
            _ = try? FileSystem.removeTree(output.appending(bytes))
        }
        try Staging.forEachStale(in: output, gathering) { folder in
            try putBack(folder.appending(filesName), output)
            _ = try? FileSystem.removeTree(folder)
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
