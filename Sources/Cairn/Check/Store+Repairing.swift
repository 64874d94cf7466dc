internal import ChunkStore
internal import Platform

extension Store {
    /// Makes the index anew from journal and packs, and fills damaged chunks from folders, files or stores that still hold the same
    /// bytes.
    public func repair(from sources: [String] = [], progress: Progress = .silent) throws -> RepairReport {
        let start = Clock.monotonic
        defer { progress.end() }
        // A source that is not there is noticed before anything is changed.
        let trees = try sources.map {
            try SourceTree(Path($0), followsLinks: true, store: chunks.folder, isIncluded: { _ in true })
        }
        try chunks.rebuild()
        let structure = try chunks.checkStructure()
        try chunks.replacePacks(structure.damagedPacks)
        let infos = try iterations()
        var survey = try survey(infos, quick: false, progress: progress)
        var report = RepairReport()
        if !trees.isEmpty {
            try chunks.markDamaged(survey.chunks)
            for tree in trees { try fill(from: tree, infos, &report, progress) }
            survey = try self.survey(infos, quick: false, progress: progress)
        }
        report.indexedChunks = try chunks.census().chunks
        report.damaged = try infos.compactMap { try survey.damage($0, self) }
        report.problems = try chunks.checkStructure().problems
        report.seconds = Clock.monotonic - start
        return report
    }

    /// Cuts every file of a tree as a save does, and keeps the chunks that are missing or damaged and that an iteration names.
    private func fill(
        from tree: SourceTree, _ infos: [IterationInfo], _ report: inout RepairReport, _ progress: Progress
    ) throws {
        let plans = try FilePlans(tree)
        let session = try SaveSession(chunks, dryRun: false)
        progress.begin(phase: "searching", totalBytes: plans.bytes)
        let wanted = try wantedChunks(infos)
        for (plan, file) in zip(plans.plans, plans.sources) {
            let handle = try File(file.path, .read)
            let whole = [FilePlan.Extent(offset: 0, length: file.status.size)]
            for extent in plan.schema == nil ? whole : plan.extents + whole {
                try fill(handle, extent, wanted, session, &report, progress)
            }
            if let schema = plan.schema?.encoded() { try fill(bytes: schema, wanted, session, &report) }
        }
        report.searchedBytes += plans.bytes
        try session.commitRepair()
    }

    private func fill(
        _ file: File, _ extent: FilePlan.Extent, _ wanted: Set<ChunkID>, _ session: SaveSession,
        _ report: inout RepairReport, _ progress: Progress
    ) throws {
        var ids: [ChunkID] = []
        var offset = extent.offset
        let end = extent.offset + extent.length
        while offset < end {
            try progress.checkInterruption("what was found so far is not kept")
            let bytes = try file.read(Int(min(UInt64(chunkSize), end - offset)), at: offset)
            ids.append(try fill(chunk: bytes, wanted, session, &report))
            offset += UInt64(bytes.count)
            progress.advance(bytes: bytes.count)
        }
        _ = try BlobTree(chunkSize: chunkSize).root(over: ids) { _, list in
            _ = try fill(chunk: list, wanted, session, &report)
        }
    }

    /// A piece of a manifest that follows from the source alone.
    private func fill(
        bytes: [UInt8], _ wanted: Set<ChunkID>, _ session: SaveSession, _ report: inout RepairReport
    ) throws {
        var ids: [ChunkID] = []
        for start in stride(from: 0, to: bytes.count, by: chunkSize) {
            ids.append(
                try fill(
                    chunk: [UInt8](bytes[start..<min(start + chunkSize, bytes.count)]), wanted, session,
                    &report))
        }
        _ = try BlobTree(chunkSize: chunkSize).root(over: ids) { _, list in
            _ = try fill(chunk: list, wanted, session, &report)
        }
    }

    private func fill(
        chunk bytes: [UInt8], _ wanted: Set<ChunkID>, _ session: SaveSession, _ report: inout RepairReport
    ) throws -> ChunkID {
        let id = ChunkID.of(bytes)
        guard wanted.contains(id) else { return id }
        try bytes.withUnsafeBytes { try session.rewrite([(id, $0)]) }
        report.repairedChunks += 1
        report.repairedBytes += UInt64(bytes.count)
        return id
    }

    /// Chunks that are damaged or missing: those of readable manifests, and whatever the index has marked.
    private func wantedChunks(_ infos: [IterationInfo]) throws -> Set<ChunkID> {
        var wanted = try chunks.damagedChunks()
        for info in infos {
            guard let (manifest, lock) = try? manifest(of: info) else { continue }
            defer { withExtendedLifetime(lock) {} }
            for blob in Set(manifest.roots.entries.flatMap { manifest.contentBlobs(of: $0) })
            where blob.length > 0 {
                guard let ids = try? chunks.chunkIDs(of: blob) else {
                    wanted.insert(blob.id)
                    continue
                }
                for (id, place) in zip(ids, try chunks.locate(ids)) where place == nil { wanted.insert(id) }
            }
        }
        return wanted
    }
}
