internal import ChunkStore
internal import Platform
internal import TensorFormats

/// Iterations that several processes save together: each commits its part, and whoever finds that all are there makes the iteration of them.
extension Store {
    /// After so many seconds a part is given up whose iteration was never completed: nobody saves for so long.
    private static let patience = 86_400.0

    private typealias Part = (info: IterationInfo, manifest: Manifest, lock: ReaderLock)

    /// Makes an iteration of its parts where all are there.
    /// - Returns: the iteration, if it is there now.
    func complete(
        _ run: String, _ options: StateSaveOptions, _ own: StatePart
    ) throws -> IterationInfo? {
        guard try putTogether(run, options, own) else { return try completed(run, options.step, own) }
        // Nothing here reads them any more, which would keep them.
        removeParts { $0.origin == run && $0.info.step <= options.step }
        return try iteration(run: run, step: options.step)
    }

    /// Commits the iteration that the parts make. Returns false where they are not all there.
    private func putTogether(_ run: String, _ options: StateSaveOptions, _ own: StatePart) throws -> Bool {
        guard let parts = try parts(run, options.step, own) else { return false }
        defer { withExtendedLifetime(parts) {} }
        let metadata = try metadata(of: parts)
        let pin = metadata[PartRun.pinKey].flatMap { try? JSON(parsing: [UInt8]($0.utf8)).stringValue }
        let save = SaveOptions(
            run: run, step: options.step, metrics: parts.metrics, pin: pin, replace: options.replace)
        let session = try SaveSession(chunks, dryRun: false)
        defer { session.abandon() }
        for attempt in 1... {
            let draft = try draft(run, parts, metadata, options.step, session)
            if try commit(draft, save, session) != nil { return true }
            guard attempt < Self.attempts else { throw Self.overtaken(attempt) }
        }
        preconditionFailure("the loop only ends by returning or throwing")
    }

    /// The iteration, where another rank has found all of its parts, and has put them away.
    private func completed(_ run: String, _ step: UInt64, _ own: StatePart) throws -> IterationInfo? {
        guard let whole = try iteration(run: run, step: step) else { return nil }
        // An older one has yet to be replaced.
        let part = try iteration(run: PartRun(run, own).name, step: step)
        return part.map { whole.number < $0.number } == true ? nil : whole
    }

    /// What all ranks say; where they differ, the first one.
    private func metadata(of parts: [Part]) throws -> [String: String] {
        try parts.reduce(into: [:]) { metadata, part in
            metadata.merge(try self.metadata(of: part.info, part.manifest.head)) { first, _ in first }
        }
    }

    /// All parts of an iteration; nil where one is missing, or of another attempt, or left of an iteration that the training has gone back
    /// to before: this rank is the first to come by once more.
    private func parts(_ run: String, _ step: UInt64, _ own: StatePart) throws -> [Part]? {
        var parts: [Part] = []
        let earlier = try iteration(run: run, step: step)?.number ?? 0
        for rank in 0..<own.worldSize {
            let name = PartRun(run, rank: rank, of: own.worldSize).name
            guard let info = try iteration(run: name, step: step), info.number > earlier else { return nil }
            do {
                let (manifest, lock) = try manifest(of: info)
                let attempt = try metadata(of: info, manifest.head)[PartRun.attemptKey]
                guard attempt == JSON(own.attempt).text else { return nil }
                parts.append((info, manifest, lock))
            } catch let error as CairnError where error.code == .notFound {
                return nil
            }
        }
        return parts
    }

    /// The iteration that the parts make.
    private func draft(
        _ run: String, _ parts: [Part], _ metadata: [String: String], _ step: UInt64, _ session: SaveSession
    ) throws -> Draft {
        var entries: [[UInt8]: Roots.Entry] = [:]
        for part in parts {
            for entry in part.manifest.roots.entries {
                if let other = entries[entry.path], other.kind != entry.kind {
                    throw CairnError(
                        .usage,
                        "the ranks of \(run)@\(step) saved different files \(entry.text); give each a folder of its own"
                    )
                }
                entries[entry.path] = entries[entry.path] ?? entry
            }
        }
        let own = metadata.filter { ![PartRun.attemptKey, PartRun.pinKey].contains($0.key) }
        let writer = ManifestWriter(session: session, tree: BlobTree(chunkSize: chunkSize))
        let roots = Roots(Array(entries.values))
        let files = roots.entries.filter { if case .file = $0.kind { true } else { false } }
        let sizes = parts.map(\.manifest).reduce(into: [[UInt8]: UInt64]()) { sizes, manifest in
            for entry in manifest.roots.entries { sizes[entry.path] = manifest.size(of: entry) }
        }
        let head = Head(
            run: run, step: step, createdAt: Clock.now,
            parent: try previousIteration(run: run, below: step)?.id, layout: StateIntake.layout,
            tensorCount: parts.reduce(0) { $0 + $1.manifest.head.tensorCount }, fileCount: files.count,
            logicalBytes: files.reduce(0) { $0 + sizes[$1.path]! },
            roots: try writer.blob(roots.encoded()), metrics: parts.metrics,
            metadata: try writer.blob(Metadata(own).encoded()))
        try writer.flush()
        return Draft(
            head: head, roots: roots, origin: "", chunks: 0, fingerprints: [],
            storedBefore: parts.reduce(0) { $0 + $1.info.storedBytes })
    }

    /// Gives up parts of iterations that will never be complete: the training has gone on, or nobody has come for a day.
    func removeAbandonedParts() throws {
        let newest = Dictionary(
            try iterations().map { ($0.run, ($0.step, $0.createdAt)) },
            uniquingKeysWith: { $0.1 > $1.1 ? $0 : $1 })
        let oldest = Clock.now - Int64(Self.patience * 1e9)
        removeParts { part in
            if part.info.createdAt < oldest { return true }
            guard let (step, time) = newest[part.origin] else { return false }
            return step >= part.info.step && time > part.info.createdAt
        }
    }

    /// What can't be removed now, as somebody reads it, goes another time.
    private func removeParts(where isWanted: ((info: IterationInfo, origin: String)) -> Bool) {
        _ = try? chunks.delete { transaction in
            let origins = Dictionary(
                try transaction.runs().filter { PartRun.isPart($0.name) }.map { ($0.name, $0.origin) }
            ) { first, _ in first }
            guard !origins.isEmpty else { return [] }
            return try transaction.catalog(store: chunks.id).compactMap { entry in
                guard let origin = origins[entry.run], isWanted((try IterationInfo(entry), origin)) else {
                    return nil
                }
                return JournalEvent.Deletion(iteration: entry.number, reason: "a part of an iteration")
            }
        }
    }
}

extension [(info: IterationInfo, manifest: Manifest, lock: ReaderLock)] {
    /// Of several ranks the first that says one.
    fileprivate var metrics: [String: Double] {
        reduce(into: [:]) { $0.merge($1.info.metrics) { first, _ in first } }
    }
}
