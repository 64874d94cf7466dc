internal import Platform

extension ChunkStore {
    /// This store, once its structure was checked; where its index can't be used, the same store read through another index.
    ///
    /// That one is made from journal and packs, belongs to the returned object alone, and goes with it.
    /// - Throws: `.damage` where the journal does not say enough.
    public func readable(_ report: StructureReport) throws -> ChunkStore {
        let isOpen = opened.change { $0.index != nil }
        switch report.index {
        case .sound where isOpen: return self
        case .sound where !isReadOnly:
            try openIndex()
            return self
        case .sound:
            // It may be behind the journal, and can't be brought to its end here.
            if (try? openIndex()) != nil { return self }
        case .obsolete where !isReadOnly:
            try opened.change { opened in try locks.committing { try rebuildIndex(&opened) } }
            return self
        case .obsolete, .damaged: break
        }
        let copy = try ChunkStore(folder, settings: settings, access: .read, repairing: true)
        try copy.openOwnIndex()
        return copy
    }

    /// Makes an index that belongs to this object alone, and that no file is left of.
    func openOwnIndex() throws {
        let folder = Path(Process.environment("TMPDIR") ?? "/tmp")
        let path = folder.appending(".cairn-index-\(Random.hex(8))")
        defer { _ = try? FileSystem.removeFile(path) }
        try opened.change { opened in
            try locks.reading { try makeIndex(at: path, journal.records().records) }
            opened.index = try Index(path, readOnly: true)
        }
    }

    /// Notes in the index that chunks are damaged, so that the next save that holds the same bytes writes them again.
    public func markDamaged(_ ids: some Sequence<ChunkID>) throws {
        guard !isReadOnly else { return }
        try changeIndex { transaction in
            var state = try transaction.state()
            for id in ids {
                guard var location = try transaction.chunk(id), !location.isDamaged else { continue }
                location.isDamaged = true
                try transaction.updateChunk(id, location)
                state.sweepToken = Random.bytes(16)
            }
            transaction.setState(state)
        }
    }

    /// Takes back what was noted of chunks that are whole again, as what they lean on was written once more.
    /// - Parameter except: those that a check has just found damaged.
    public func unmarkWhole(except: Set<ChunkID> = []) throws {
        guard !isReadOnly else { return }
        let whole = try damagedChunks().subtracting(except).filter { (try? chunk($0)) != nil }
        guard !whole.isEmpty else { return }
        try changeIndex { transaction in
            for id in whole {
                guard var location = try transaction.chunk(id), location.isDamaged else { continue }
                location.isDamaged = false
                try transaction.updateChunk(id, location)
            }
        }
    }

    /// What chunks that can't be read lean on, as far as that can't be read either, or is missing.
    public func damagedBases(of ids: Set<ChunkID>) throws -> Set<ChunkID> {
        var damaged: Set<ChunkID> = []
        var sound: Set<ChunkID> = []
        for id in ids {
            var next = try locate([id])[0]?.location.base ?? .zero
            while next != .zero, !sound.contains(next), !damaged.contains(next) {
                if isReadable(next) {
                    sound.insert(next)
                } else {
                    damaged.insert(next)
                    next = try locate([next])[0]?.location.base ?? .zero
                }
            }
        }
        return damaged
    }

    /// Whether a chunk can be read, or could be by a later version.
    private func isReadable(_ id: ChunkID) -> Bool {
        do {
            _ = try chunk(id)
            return true
        } catch {
            return (error as? CairnError)?.code == .newerVersion
        }
    }

    /// Chunks that were marked as damaged.
    public func damagedChunks() throws -> Set<ChunkID> {
        try chunkIDs { _, location in location.isDamaged }
    }

    /// The chunks that lie in these packs.
    public func chunks(in packs: Set<PackName>) throws -> Set<ChunkID> {
        guard !packs.isEmpty else { return [] }
        let numbers = try read {
            Set(try $0.packs().filter { packs.contains($0.summary.name) }.map(\.number))
        }
        return try chunkIDs { _, location in numbers.contains(location.pack) }
    }

    private func chunkIDs(where isWanted: (ChunkID, ChunkLocation) -> Bool) throws -> Set<ChunkID> {
        try read { transaction in
            var ids: Set<ChunkID> = []
            try transaction.scanChunks { id, location in
                if isWanted(id, location) { ids.insert(id) }
                return true
            }
            return ids
        }
    }
}
