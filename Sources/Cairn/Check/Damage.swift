internal import ChunkStore
internal import Platform

/// Which chunks are damaged, and what each iteration loses by it.
struct DamageSurvey {
    /// Chunks that can't be read.
    var chunks: Set<ChunkID> = []
    /// Iterations whose manifest can't be read.
    var manifests: [UInt64: CairnError] = [:]

    var checkedBytes: UInt64 = 0
    var checkedChunks = 0

    /// What an iteration loses, or nil where it is whole.
    func damage(_ info: IterationInfo, _ store: Store) throws -> DamagedIteration? {
        var damaged = DamagedIteration(
            run: info.run, step: info.step, id: info.id.hex, tensors: [], files: [])
        guard let (manifest, lock) = try? store.manifest(of: info) else { return damaged }
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
        return damaged.files.isEmpty ? nil : damaged
    }

    private func isDamaged(_ blob: BlobRef, _ store: Store) -> Bool {
        guard blob.length > 0, !chunks.isEmpty else { return false }
        guard let ids = try? store.chunks.chunkIDs(of: blob) else { return true }
        return ids.contains { chunks.contains($0) }
    }
}

extension Store {
    /// Reads every chunk that these iterations reach, once.
    func survey(_ infos: [IterationInfo], quick: Bool, progress: Progress) throws -> DamageSurvey {
        var survey = DamageSurvey()
        var content: [ChunkID: UInt64] = [:]
        let tree = BlobTree(chunkSize: chunkSize)
        for info in infos {
            try progress.checkInterruption()
            do {
                let (manifest, lock) = try manifest(of: info)
                defer { withExtendedLifetime(lock) {} }
                let blobs =
                    [manifest.head.metadata]
                    + manifest.roots.entries.flatMap { manifest.contentBlobs(of: $0) }
                for blob in Set(blobs) where blob.length > 0 {
                    do {
                        for (index, id) in try chunks.chunkIDs(of: blob).enumerated() {
                            content[id] = UInt64(tree.chunkLength(index, of: blob.length))
                        }
                    } catch let error as CairnError where error.code == .damage {
                        try noteLists(of: blob, &survey)
                    }
                }
            } catch let error as CairnError where error.code == .damage {
                survey.manifests[info.number] = error
            }
        }
        survey.checkedChunks = content.count
        if quick { return survey }
        let damaged = Monitor<Set<ChunkID>>([])
        progress.begin(phase: "checking", totalBytes: content.values.reduce(0, +))
        try ChunkReading(chunks, Array(content.keys)).run(jobs: settings.jobs, progress: progress) { id in
            damaged.change { _ = $0.insert(id) }
        }
        survey.checkedBytes = content.values.reduce(0, +)
        survey.chunks.formUnion(damaged.change { $0 })
        return survey
    }

    /// The list chunks of a blob that can't be read: at least its root.
    private func noteLists(of blob: BlobRef, _ survey: inout DamageSurvey) throws {
        var lists: [ChunkID] = []
        _ = try? BlobTree(chunkSize: chunkSize).chunkIDs(of: blob, list: { lists.append($0) }) {
            try chunks.chunk($0)
        }
        for id in lists where (try? chunks.chunk(id)) == nil { survey.chunks.insert(id) }
    }
}

/// Reads chunks on all jobs, for nothing but to see that they are whole.
final class ChunkReading: Sendable {
    private static let batch = 512
    private let chunks: ChunkStore
    private let ids: [ChunkID]
    private let next = Monitor(0)

    /// The chunks are read in the order in which they lie in the packs.
    init(_ chunks: ChunkStore, _ ids: [ChunkID]) throws {
        self.chunks = chunks
        let places = try chunks.locate(ids)
        self.ids = ids.indices.sorted { a, b in
            guard let left = places[a], let right = places[b] else {
                return places[a] == nil && places[b] != nil
            }
            return (left.location.pack, left.location.offset) < (right.location.pack, right.location.offset)
        }.map { ids[$0] }
    }

    func run(jobs: Int, progress: Progress, damaged: @escaping @Sendable (ChunkID) -> Void) throws {
        try WorkerPool.shared.run(max(1, min(jobs, ids.count / Self.batch + 1))) { [self] _ in
            let scratch = try Buffer(size: (ChunkStore.scratchSize + 4095) / 4096 * 4096)
            let hasher = SHA256Hasher()
            while true {
                let start = next.change { next in
                    defer { next += Self.batch }
                    return next
                }
                guard start < ids.count else { return }
                try progress.checkInterruption()
                let part = Array(ids[start..<min(start + Self.batch, ids.count)])
                try chunks.readChunks(
                    part, scratch: scratch, hasher: hasher,
                    deliver: { _, bytes in progress.advance(bytes: bytes.count) },
                    failed: { index, _ in damaged(part[index]) })
            }
        }
    }
}
