internal import ChunkStore
internal import Platform

/// Which chunks are damaged, and what each iteration loses by it.
struct DamageSurvey {
    /// What is known of an iteration whose manifest can't be read.
    struct Unreadable {
        var error: CairnError
        /// The file whose schema is damaged.
        var files: [String]
    }

    /// Chunks that can't be read, those of manifests and chunk lists among them, and what they lean on.
    var chunks: Set<ChunkID> = []
    /// By iteration.
    var manifests: [UInt64: Unreadable] = [:]
    /// By iteration: the chunks of its metadata.
    var metadata: [UInt64: [ChunkID]] = [:]

    /// Those that were deleted before they could be looked at.
    var gone: Set<UInt64> = []

    var checkedBytes: UInt64 = 0
    var checkedChunks = 0

    /// What an iteration loses, or nil where it is whole.
    func damage(_ info: IterationInfo, _ store: Store) throws -> DamagedIteration? {
        var damaged = DamagedIteration(info)
        if let unreadable = manifests[info.number] {
            damaged.files = unreadable.files
            return damaged
        }
        guard !chunks.isEmpty else { return nil }
        let (manifest, lock) = try store.manifest(of: info)
        defer { withExtendedLifetime(lock) {} }
        for entry in manifest.roots.entries {
            let blobs = manifest.contentBlobs(of: entry)
            let bad = blobs.map { isDamaged($0, store) }
            guard bad.contains(true) else { continue }
            damaged.files.append(entry.text)
            if case .file(.split(let schema, _)) = entry.kind {
                damaged.tensors += manifest.schemas[schema]!.tensors.filter { bad[$0.blob] }.map(\.name)
            }
        }
        // Everything else that is an iteration's own: what was found in a pack whose frame is damaged may be any part of it.
        let others = [manifest.head.metadata, manifest.head.roots] + manifest.schemas.keys
        let isWhole =
            damaged.files.isEmpty && !chunks.contains(info.id) && !others.contains { isDamaged($0, store) }
        return isWhole ? nil : damaged
    }

    /// What there is to say of an iteration beside the names of what it loses.
    func sentences(_ info: IterationInfo) -> [String] {
        if let unreadable = manifests[info.number] {
            return ["\(info.run)@\(info.step): \(unreadable.error.message)."]
        }
        guard metadata[info.number, default: []].contains(where: { chunks.contains($0) }) else { return [] }
        return [
            "\(info.run)@\(info.step): the metadata is damaged; run `cairn repair --from` a copy of the store."
        ]
    }

    private func isDamaged(_ blob: BlobRef, _ store: Store) -> Bool {
        guard blob.length > 0 else { return false }
        var lists: [ChunkID] = []
        let ids = try? BlobTree(chunkSize: store.chunkSize).chunkIDs(
            of: blob, list: { lists.append($0) }, read: { try store.chunks.chunk($0) })
        guard let ids else { return true }
        return (ids + lists).contains { chunks.contains($0) }
    }
}

extension DamagedIteration {
    init(_ info: IterationInfo) {
        self.init(run: info.run, step: info.step, id: info.id.hex, tensors: [], files: [])
    }
}

extension Store {
    /// Reads every chunk that these iterations reach, once.
    /// - Parameter ifThere: leaves out what is deleted meanwhile.
    /// - Throws: `.notFound` where something is, and that isn't to be left out.
    func survey(
        _ infos: [IterationInfo], quick: Bool, ifThere: Bool = false, progress: Progress
    ) throws -> DamageSurvey {
        var survey = DamageSurvey()
        var content: [ChunkID: UInt64] = [:]
        for info in infos {
            try progress.checkInterruption()
            do { try look(at: info, &survey, &content) } catch let error as CairnError
                where error.code == .notFound && ifThere
            {
                survey.gone.insert(info.number)
            }
        }
        survey.checkedChunks = content.count
        if quick { return survey }
        let damaged = Monitor<Set<ChunkID>>([])
        progress.begin(phase: "checking", totalBytes: content.values.reduce(0, +))
        try ChunkReading(chunks, content).run(
            jobs: settings.jobs(each: ChunkReading.memory(chunks)), progress: progress
        ) { id in
            damaged.change { _ = $0.insert(id) }
        }
        survey.checkedBytes = content.values.reduce(0, +)
        survey.chunks.formUnion(damaged.change { $0 })
        // No live iteration may hold them, but those that lean on them do.
        survey.chunks.formUnion(try chunks.damagedBases(of: survey.chunks))
        return survey
    }

    /// Reads the manifest and the chunk lists of an iteration, and adds the chunks with its files' bytes to `content`.
    private func look(
        at info: IterationInfo, _ survey: inout DamageSurvey, _ content: inout [ChunkID: UInt64]
    ) throws {
        let tree = BlobTree(chunkSize: chunkSize)
        var lost: Set<ChunkID> = []
        defer { survey.chunks.formUnion(lost) }
        let read = { (id: ChunkID) in
            do { return try self.chunks.chunk(id) } catch let error as CairnError where error.code == .damage
            {
                lost.insert(id)
                throw error
            }
        }
        do {
            let (manifest, lock) = try manifest(of: info, read: read)
            defer { withExtendedLifetime(lock) {} }
            let blobs =
                [manifest.head.metadata] + manifest.roots.entries.flatMap { manifest.contentBlobs(of: $0) }
            for blob in Set(blobs) {
                guard let ids = try? tree.chunkIDs(of: blob, read: read) else { continue }
                if blob == manifest.head.metadata { survey.metadata[info.number] = ids }
                for (index, id) in ids.enumerated() {
                    content[id] = UInt64(tree.chunkLength(index, of: blob.length))
                }
            }
        } catch let error as SchemaDamage where error.cause.code == .damage {
            survey.manifests[info.number] = .init(error: error.error, files: [error.file])
        } catch let error as CairnError where error.code == .damage {
            survey.manifests[info.number] = .init(error: error, files: [])
        }
    }
}

/// Reads chunks on all jobs, for nothing but to see that they are whole.
final class ChunkReading: Sendable {
    private static let batch = 512
    /// As many as are hashed side by side; of larger chunks as many as stay in a cache until then.
    private static func spareChunks(_ chunks: ChunkStore) -> Int {
        max(2, min(16, (4 << 20) / chunks.chunkSize))
    }

    private let chunks: ChunkStore
    private let ids: [ChunkID]
    private let lengths: [ChunkID: UInt64]
    private let next = Monitor(0)

    /// The chunks are read in the order in which they lie in the packs.
    /// - Parameter lengths: of all chunks that are to be read, as the blobs have them.
    init(_ chunks: ChunkStore, _ lengths: [ChunkID: UInt64]) throws {
        self.chunks = chunks
        self.lengths = lengths
        let ids = [ChunkID](lengths.keys)
        let places = try chunks.locate(ids)
        self.ids = ids.indices.sorted { a, b in
            guard let left = places[a], let right = places[b] else {
                return places[a] == nil && places[b] != nil
            }
            return (left.location.pack, left.location.offset) < (right.location.pack, right.location.offset)
        }.map { ids[$0] }
    }

    /// Bytes of memory that a job takes at most.
    static func memory(_ chunks: ChunkStore) -> Int {
        ChunkReader.memory(chunks, spareChunks: spareChunks(chunks))
    }

    func run(jobs: Int, progress: Progress, damaged: @escaping @Sendable (ChunkID) -> Void) throws {
        try WorkerPool.shared.run(max(1, min(jobs, ids.count / Self.batch + 1))) { [self] _ in
            // What the disk holds is in question.
            let reader = try ChunkReader(
                chunks, spareChunks: Self.spareChunks(chunks), usesCache: false)
            while true {
                let start = next.change { next in
                    defer { next += Self.batch }
                    return next
                }
                guard start < ids.count else { return }
                try progress.checkInterruption()
                let part = Array(ids[start..<min(start + Self.batch, ids.count)])
                try reader.read(
                    part,
                    deliver: { index, bytes in
                        if lengths[part[index]] != UInt64(bytes.count) { damaged(part[index]) }
                        progress.advance(bytes: bytes.count)
                    },
                    failed: { index, _ in damaged(part[index]) })
            }
        }
    }
}
