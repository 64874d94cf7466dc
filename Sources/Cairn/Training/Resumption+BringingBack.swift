internal import ChunkStore
internal import Platform

/// How an iteration of the store gets into the folder.
extension Resumption {
    /// Writes what is not there yet under a name of its own; nothing that a framework sees is changed.
    mutating func prepare(_ brought: inout Brought) throws {
        let missing = try missing(of: brought)
        guard !missing.isEmpty else { return }
        let staged = try stage().appending("iteration")
        try brought.restore(missing, to: staged, progress)
        brought.staged = (staged, missing.count == brought.wanted.count)
        if brought.isWhole, options.relocate {
            try mendPaths(in: staged, of: brought.layout, brought.view, brought.target)
        }
    }

    /// The files to write: those that are wanted and not there, or all of a folder that holds anything else.
    private func missing(of brought: Brought) throws -> [Roots.Entry] {
        let presence = try brought.presence()
        if presence.different.isEmpty, try isSame(presence, brought) { return presence.missing }
        if brought.isWhole { return brought.wanted }
        let others = Set(presence.different + presence.touched)
        return presence.missing + brought.wanted.filter { others.contains($0.path) }
    }

    private func isSame(_ presence: Brought.Presence, _ brought: Brought) throws -> Bool {
        if presence.touched.isEmpty { return true }
        return try presence.missing.isEmpty && brought.isSame(presence.touched, progress)
    }

    /// Puts what was prepared in its place.
    mutating func bringBack(_ brought: Brought) throws {
        result.id = brought.info.id.hex
        if let staged = brought.staged {
            try progress.checkInterruption("nothing was brought back")
            if brought.isWhole {
                try place(staged.path, staged.isAll, brought)
            } else {
                try placeFiles(staged.path, brought)
            }
        }
        try finish(brought.candidate, brought.layout, brought.inspection, brought.info.step, .store)
        if brought.layout.wantsOneStep { try leaveAlone(brought) }
    }

    /// A folder of its own: it appears at once, or gets what is missing in it.
    private mutating func place(_ staged: Path, _ isAll: Bool, _ brought: Brought) throws {
        try FileSystem.makeFolders(brought.target.parent)
        while true {
            if try FileSystem.status(brought.target) == nil {
                guard isAll else {
                    throw Brought.changed(brought.target)
                }
                if try isMoved(staged, to: brought.target) { return }
            }
            let presence = try brought.presence()
            if presence.different.isEmpty, try isSame(presence, brought) {
                if presence.missing.isEmpty { return }
                return try add(presence.missing, staged, brought)
            }
            try setAside(brought.candidate.path, brought.reasons())
        }
    }

    /// - Returns: false where another node was faster.
    private func isMoved(_ staged: Path, to target: Path) throws -> Bool {
        do throws(CairnError) {
            try FileSystem.move(staged, to: target)
        } catch {
            guard error.code == .exists else { throw error }
            return false
        }
        try FileSystem.syncFolder(target.parent)
        return true
    }

    private func add(_ entries: [Roots.Entry], _ staged: Path, _ brought: Brought) throws {
        for entry in entries {
            let target = brought.target.appending(entry.path)
            try FileSystem.makeFolders(target.parent)
            try FileSystem.rename(staged.appending(entry.path), to: target)
        }
        for folder in Set(entries.map { brought.target.appending($0.path).parent }) {
            try FileSystem.syncFolder(folder)
        }
        try brought.setTimes(ofFoldersAbove: entries)
    }

    /// Files that lie among others: each gets its name when all are written.
    private mutating func placeFiles(_ staged: Path, _ brought: Brought) throws {
        let presence = try brought.presence()
        if try presence.different.isEmpty && presence.missing.isEmpty && isSame(presence, brought) { return }
        // All folders first: how many there are is how many ranks there are.
        for entry in brought.wanted {
            try FileSystem.makeFolders(brought.target.appending(entry.path).parent)
        }
        let prefix = brought.candidate.path.isEmpty ? "" : brought.candidate.path + "/"
        let wanted = Set(brought.wanted.map(\.path))
        for path in presence.different + presence.touched where wanted.contains(path) {
            try setAside(prefix + String(decoding: path, as: UTF8.self), brought.reasons(for: path))
        }
        var folders: Set<Path> = []
        for entry in brought.wanted {
            let (from, target) = (staged.appending(entry.path), brought.target.appending(entry.path))
            guard try FileSystem.status(from) != nil else { continue }
            try FileSystem.rename(from, to: target)
            folders.insert(target.parent)
        }
        for folder in folders { try FileSystem.syncFolder(folder) }
    }

    /// Puts other iterations out of the folders that hold the files of this one.
    private mutating func leaveAlone(_ brought: Brought) throws {
        let own = Set(brought.candidate.files ?? [])
        let folders = Set(own.compactMap { $0.before(last: "/") })
        for other in try OutputFolder(path).candidates() {
            for file in other.own where !own.contains(file) && folders.contains(file.before(last: "/") ?? "")
            {
                try setAside(file, ["a rank's folder is to hold the step alone that was brought back"])
            }
        }
    }

    /// Where what is not finished lies.
    mutating func stage() throws -> Path {
        if let staging { return staging.path }
        let staging = try Staging(in: path)
        self.staging = staging
        return staging.path
    }
}
