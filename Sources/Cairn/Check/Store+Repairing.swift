internal import ChunkStore
internal import Platform

extension Store {
    /// Makes the index anew from journal and packs, and fills damaged chunks from folders, files or stores that still hold the same
    /// bytes. The pieces of a manifest follow from the files it was made from, and its head stands in the journal.
    public func repair(from sources: [String] = [], progress: Progress = .silent) throws -> RepairReport {
        let start = Clock.monotonic
        defer { progress.end() }
        for source in sources where try FileSystem.status(Path(source), followLinks: true) == nil {
            throw CairnError(
                .notFound, "there is nothing at \(source); name what --from is to read", path: source)
        }
        try chunks.rebuild()
        try chunks.replacePacks(try chunks.checkStructure().damagedPacks)
        let infos = try iterations()
        var survey = try survey(infos, quick: false, progress: progress)
        var report = RepairReport()
        // Once more after each success: a damaged piece of a manifest hides what is damaged below it.
        while !survey.chunks.isEmpty {
            let found = try fill(survey, from: sources.map { Path($0) }, &report, progress)
            guard found else { break }
            survey = try self.survey(infos, quick: false, progress: progress)
        }
        try chunks.markDamaged(survey.chunks)
        report.indexedChunks = try chunks.census().chunks
        report.damaged = try infos.compactMap { try survey.damage($0, self) }
        report.problems = try chunks.checkStructure().problems + infos.flatMap { survey.sentences($0) }
        report.seconds = Clock.monotonic - start
        return report
    }

    /// Looks for the chunks that are damaged, and keeps what it finds. Returns whether it found any.
    private func fill(
        _ survey: DamageSurvey, from sources: [Path], _ report: inout RepairReport, _ progress: Progress
    ) throws -> Bool {
        let filling = try Filling(self, survey)
        defer { filling.session.abandon() }
        for head in try chunks.read({ try $0.catalog(store: chunks.id) }).map(\.head) {
            try filling.fill(chunk: head)
        }
        for source in sources { try filling.fill(from: source, progress) }
        report.repairedChunks += filling.found.count
        report.repairedBytes += filling.foundBytes
        report.searchedBytes += filling.searchedBytes
        guard !filling.found.isEmpty else { return false }
        try filling.session.commitRepair()
        return true
    }
}

/// One search for chunks that are damaged, wherever the same bytes may be.
final class Filling {
    let session: SaveSession
    private(set) var found: Set<ChunkID> = []
    private(set) var foundBytes: UInt64 = 0
    private(set) var searchedBytes: UInt64 = 0
    private let store: Store
    private let wanted: Set<ChunkID>
    /// A manifest can't be read, so that its pieces are looked for as well.
    private let wantsManifests: Bool
    private let tree: BlobTree

    init(_ store: Store, _ survey: DamageSurvey) throws {
        self.store = store
        wanted = survey.chunks
        wantsManifests = !survey.manifests.isEmpty
        tree = BlobTree(chunkSize: store.chunkSize)
        session = try SaveSession(store.chunks, dryRun: false)
    }

    /// Keeps the bytes of a chunk if they are wanted.
    @discardableResult
    func fill(chunk bytes: [UInt8]) throws -> ChunkID {
        let id = ChunkID.of(bytes)
        guard wanted.contains(id), found.insert(id).inserted else { return id }
        try bytes.withUnsafeBytes { try session.rewrite([(id, $0)]) }
        foundBytes += UInt64(bytes.count)
        return id
    }

    func fill(from source: Path, _ progress: Progress) throws {
        guard found != wanted else { return }
        if try FileSystem.status(source.appending("cairn.json"), followLinks: true) != nil {
            try fill(fromStore: source)
        } else {
            try fill(fromFiles: source, progress)
        }
    }

    /// Takes what another store has under the same ids. Its index is not trusted.
    private func fill(fromStore source: Path) throws {
        let other = try ChunkStore(source, settings: store.chunks.settings, access: .read, repairing: true)
        let readable = try other.readable(try other.checkStructure())
        for id in wanted.subtracting(found) {
            guard let bytes = try? readable.chunk(id) else { continue }
            try fill(chunk: bytes)
            searchedBytes += UInt64(bytes.count)
        }
    }

    /// Cuts every file below a path as a save does.
    private func fill(fromFiles source: Path, _ progress: Progress) throws {
        let files = try SourceTree(
            source, followsLinks: true, store: store.chunks.folder, isIncluded: { _, _ in true })
        let plans = try FilePlans(files)
        progress.begin(phase: "searching", totalBytes: plans.bytes)
        var contents: [Path: Roots.FileContent] = [:]
        for (plan, file) in zip(plans.plans, plans.files) {
            contents[file.source] = try content(plan, file, progress)
        }
        searchedBytes += plans.bytes
        guard wantsManifests else { return }
        try fill(rootsOver: files, contents)
        // Links are followed above, so that what they point to is searched; a save usually keeps them as links.
        if let links = try? SourceTree(
            source, followsLinks: false, store: store.chunks.folder, isIncluded: { _, _ in true })
        {
            try fill(rootsOver: links, contents)
        }
    }

    /// Reads a file as it is saved, split where it has tensors, and as one blob.
    private func content(
        _ plan: FilePlan, _ file: SourceTree.Entry, _ progress: Progress
    ) throws -> Roots.FileContent {
        let handle = try File(file.source, .read)
        let blobs = try plan.extents.map { try blob(handle, $0, progress) }
        guard let schema = plan.schema else { return .opaque(blobs.first ?? .empty) }
        _ = try blob(handle, .init(offset: 0, length: file.status.size), progress)
        return .split(schema: try blob(schema.encoded()), blobs: blobs.map(\.id))
    }

    private func blob(
        _ file: File, _ extent: FilePlan.Extent, _ progress: Progress
    ) throws -> BlobRef {
        var ids: [ChunkID] = []
        var offset = extent.offset
        let end = extent.offset + extent.length
        while offset < end {
            try progress.checkInterruption("what was found so far is not kept")
            let bytes = try file.read(Int(min(UInt64(tree.chunkSize), end - offset)), at: offset)
            ids.append(try fill(chunk: bytes))
            offset += UInt64(bytes.count)
            progress.advance(bytes: UInt64(bytes.count))
        }
        return try blob(length: extent.length, over: ids)
    }

    private func blob(_ bytes: [UInt8]) throws -> BlobRef {
        let ids = try stride(from: 0, to: bytes.count, by: tree.chunkSize).map { start in
            try fill(chunk: [UInt8](bytes[start..<min(start + tree.chunkSize, bytes.count)]))
        }
        return try blob(length: UInt64(bytes.count), over: ids)
    }

    private func blob(length: UInt64, over ids: [ChunkID]) throws -> BlobRef {
        guard length > 0 else { return .empty }
        return BlobRef(length: length, id: try tree.root(over: ids) { _, list in try fill(chunk: list) })
    }

    /// Any folder may be the checkpoint whose roots are lost, whole or only its model; and so may any file.
    private func fill(rootsOver files: SourceTree, _ contents: [Path: Roots.FileContent]) throws {
        for top in files.entries where top.target == nil {
            guard top.status.kind == .folder else {
                try fill(roots: [Roots.Entry(top, path: top.source.name, contents)])
                continue
            }
            let prefix = top.path.isEmpty ? [] : top.path + [UInt8(ascii: "/")]
            let below = files.entries.filter { $0.path.starts(with: prefix) && $0.path != top.path }
            let entries = below.map {
                Roots.Entry($0, path: [UInt8]($0.path.dropFirst(prefix.count)), contents)
            }
            let own = Roots.Entry(top, path: [], contents)
            try fill(roots: [own] + entries)
            guard let weights = try? WeightFiles(CheckpointView(top.source)) else { continue }
            try fill(roots: [own] + entries.filter { $0.kind == .folder || weights.has($0.path) })
        }
    }

    private func fill(roots entries: [Roots.Entry]) throws {
        let roots = Roots(entries)
        guard (try? roots.check()) != nil else { return }
        _ = try blob(roots.encoded())
    }
}

extension Roots.Entry {
    fileprivate init(
        _ entry: SourceTree.Entry, path: [UInt8], _ contents: [Path: Roots.FileContent]
    ) {
        var kind = Roots.Kind.folder
        if let target = entry.target {
            kind = .link(target: target)
        } else if entry.status.kind == .file {
            kind = .file(contents[entry.source] ?? .opaque(.empty))
        }
        self.init(
            path: path, kind: kind, mode: entry.status.mode, mtime: entry.status.seconds,
            nanoseconds: entry.status.nanoseconds)
    }
}
