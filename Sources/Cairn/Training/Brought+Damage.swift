internal import ChunkStore
internal import Platform

/// What lies in the place of an iteration and is not what was saved, though nobody wrote it anew: after a power cut, or on a failing
/// disk.
extension Brought {
    /// A file that was read and found to be damaged.
    struct DamagedFile {
        var status: FileStatus
        /// A sentence without its full stop.
        var reason: String
    }

    /// How often files may change while they are read, as another node brings them back.
    private static let attempts = 100

    /// Reads what has the size and the time that were saved.
    /// - Throws: `.interrupted`, where it is the store that can't be read, and where a file can't be read though its device is well.
    mutating func findDamage(_ progress: Progress) throws {
        for attempt in 1... {
            let untouched = try presence().untouched
            do {
                for path in try differing(untouched, progress) {
                    let name = Path.text(of: path)
                    try note(
                        path,
                        "\(name) holds other bytes than were saved, though its size and its time are the same"
                    )
                }
                return
            } catch let error as CairnError where error.code == .changed || error.code == .notFound {
                guard attempt < Self.attempts else { throw Self.changed(target) }
            } catch let error as CairnError {
                let unreadable = untouched.first { target.appending($0.path).text == error.path }
                guard error.code != .interrupted, let unreadable else { throw error }
                guard error.isOfContent else { throw error.mayHide(candidate) }
                try note(unreadable.path, error.message)
            }
        }
    }

    private mutating func note(_ path: [UInt8], _ reason: String) throws {
        guard let status = try FileSystem.status(target.appending(path)) else { return }
        damaged[path] = DamagedFile(status: status, reason: reason)
    }

    static func changed(_ target: Path) -> CairnError {
        CairnError(
            .changed, "\(target) changed while it was looked at; resume again", path: target.text)
    }

    /// Why what lies in its place is not what was saved.
    /// - Parameter path: of a file; nil: of any.
    func reasons(for path: [UInt8]? = nil) -> [String] {
        let known = damaged.filter { path == nil || $0.key == path }
        let sorted = known.sorted { $0.key.lexicographicallyPrecedes($1.key) }
        return sorted.isEmpty ? ["it is not what the store has"] : sorted.map(\.value.reason)
    }

    // MARK: Reading

    /// Those of some files, each as long as it was saved, that hold other bytes. They are cut as they were when they were saved.
    /// - Throws: where one can't be read; `.changed` or `.notFound` where one is written or deleted meanwhile.
    func differing(_ files: [Roots.Entry], _ progress: Progress) throws -> [[UInt8]] {
        guard !files.isEmpty else { return [] }
        let sources = try files.map { try source(of: $0) }
        progress.begin(phase: "comparing", totalBytes: files.reduce(0) { $0 + manifest.size(of: $1) })
        defer { progress.end() }
        let key = store.chunks.fingerprintKey(makes: false)
        let session = try SaveSession(store.chunks, dryRun: true)
        defer { session.abandon() }
        let ingest = Ingest(
            sources, step: info.step,
            earlier: EarlierIteration(
                info, manifest, lock, store.chunks,
                key.flatMap { store.chunks.fingerprints(run: info.run, key: $0) }),
            key: key, chunkSize: store.chunkSize)
        let ids = try ingest.run(session, store.settings, progress: progress).ids
        let paths = try layout.paths(in: view)
        return try zip(files, ids).filter { file, ids in
            if isSaved(ids, file), try hasLiterals(of: file) { return false }
            return try !isRewritten(file, paths)
        }.map(\.0.path)
    }

    /// What a file is cut into.
    private func source(of file: Roots.Entry) throws -> Ingest.Source {
        let place = target.appending(file.path)
        guard let status = try FileSystem.status(place) else { throw Self.changed(target) }
        return Ingest.Source(
            content: .file(place, status), place: file.path, extents: stretches(of: file).extents,
            names: manifest.blobNames(of: file))
    }

    /// Where the blobs of a file lie in it, and the bytes between them.
    private func stretches(
        of file: Roots.Entry
    ) -> (extents: [FilePlan.Extent], literals: [(offset: UInt64, bytes: [UInt8])]) {
        guard case .file(.split(let id, _)) = file.kind, let schema = manifest.schemas[id] else {
            return (FilePlan(opaque: manifest.size(of: file)).extents, [])
        }
        var extents = schema.blobLengths.map { FilePlan.Extent(offset: 0, length: $0) }
        var literals: [(offset: UInt64, bytes: [UInt8])] = []
        var offset: UInt64 = 0
        for part in schema.parts {
            switch part {
            case .literal(let bytes):
                literals.append((offset, bytes))
                offset += UInt64(bytes.count)
            case .blob(let index):
                extents[index].offset = offset
                offset += extents[index].length
            }
        }
        return (extents, literals)
    }

    private func isSaved(_ ids: [[ChunkID]], _ file: Roots.Entry) -> Bool {
        let tree = BlobTree(chunkSize: store.chunkSize)
        let blobs = manifest.contentBlobs(of: file)
        return zip(blobs, ids).allSatisfy { blob, ids in
            blob.length == 0 || tree.root(over: ids) { _, _ in } == blob.id
        }
    }

    private func hasLiterals(of file: Roots.Entry) throws -> Bool {
        let literals = stretches(of: file).literals
        guard !literals.isEmpty else { return true }
        let open = try File(target.appending(file.path), .read)
        return try literals.allSatisfy { try open.read($0.bytes.count, at: $0.offset) == $0.bytes }
    }
}
