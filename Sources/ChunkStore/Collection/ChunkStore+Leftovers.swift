internal import Platform

extension ChunkStore {
    /// Removes what dead saves and killed commands left behind: packs that no commit names and nobody writes, temporary files, and
    /// ranges that a sweep had yet to free.
    func removeLeftovers() throws {
        try removeTemporaryFiles()
        // Not taken by every save: a collection that finds it taken would give up.
        guard try hasLeftovers(), let lock = try locks.collectionLock() else { return }
        defer { withExtendedLifetime(lock) {} }
        do {
            try removeOrphans()
            let pending = try read { try $0.pendingPacks() }
            if !pending.isEmpty { _ = try freeSpace(in: Set(pending)) }
        } catch let error as CairnError where error.code == .damage {
            // Nothing is removed from a damaged store. A save must not fail for that: what it adds is whole.
        }
        if try FileSystem.status(folder.appending("reserve")) == nil { try? restoreReserve() }
    }

    private func hasLeftovers() throws -> Bool {
        if try FileSystem.status(folder.appending("reserve")) == nil { return true }
        // Counted first: a save must not look at every pack.
        let count = try FileSystem.count(in: folder.appending("packs"))
        let (known, isPending) = try read { (try $0.packCount(), try !$0.pendingPacks().isEmpty) }
        return try isPending || (count != known && hasOrphans())
    }

    /// Whether there are packs that no commit names and nobody writes.
    private func hasOrphans() throws -> Bool {
        let files = try FileSystem.names(in: folder.appending("packs"))
        let known = try knownPacks()
        return try files.compactMap { PackName(fileName: $0) }.contains { name in
            guard !known.contains(name), let file = try? File(packs.path(name), .write) else {
                return false
            }
            return try file.tryLock(.exclusive, at: 0)
        }
    }

    func restoreReserve() throws {
        try Self.fillReserve(folder, indexBytes: FileSystem.status(indexPath)?.size ?? 0)
    }

    /// Files whose names say that they were never finished. Whoever makes one holds the commit lock, unless it is one of a cache,
    /// which may as well be gone.
    private func removeTemporaryFiles() throws {
        let folders = [folder, folder.appending("index"), folder.appending("fingerprints")]
        let suspects = try folders.filter { try FileSystem.status($0) != nil }.flatMap { folder in
            try FileSystem.names(in: folder).filter { $0.suffix(8).elementsEqual(".partial".utf8) }
                .map { folder.appending($0) }
        }
        guard !suspects.isEmpty else { return }
        try opened.change { _ in
            try locks.committing { for path in suspects { try FileSystem.removeFile(path) } }
        }
    }

    /// Packs that are locked at once: each takes a file descriptor.
    private static let orphanBatch = 100

    /// Unlinks the packs that no commit names, if nobody holds their lock; looks again once it has the lock.
    /// Returns the bytes that came back.
    @discardableResult
    func removeOrphans() throws -> UInt64 {
        let files = try FileSystem.names(in: folder.appending("packs"))
        let known = try knownPacks()
        let orphans = files.compactMap { PackName(fileName: $0) }.filter { !known.contains($0) }
        return try stride(from: 0, to: orphans.count, by: Self.orphanBatch).reduce(0) { freed, start in
            try freed + remove(orphans[start..<min(start + Self.orphanBatch, orphans.count)])
        }
    }

    private func remove(_ orphans: ArraySlice<PackName>) throws -> UInt64 {
        let locked = try orphans.compactMap { name -> (PackName, File)? in
            guard let file = try? File(packs.path(name), .write, closesInChild: true),
                try file.tryLock(.exclusive, at: 0)
            else { return nil }
            return (name, file)
        }
        // Their writers may have committed them between the two looks.
        let known = try knownPacks()
        var freed: UInt64 = 0
        for (name, file) in locked where !known.contains(name) {
            freed += try file.status().allocated
            packs.forget(name)
            try FileSystem.removeFile(packs.path(name))
        }
        return freed
    }

    /// By the journal: what is unlinked for an error in the index is lost.
    private func knownPacks() throws -> Set<PackName> {
        try checkProcess()
        return try opened.change { opened in
            try locks.reading {
                Set(JournalFold(try journal.records().records).packs.map(\.summary.name))
            }
        }
    }
}
