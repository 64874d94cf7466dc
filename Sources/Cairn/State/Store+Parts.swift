internal import ChunkStore
internal import Platform
internal import TensorFormats

/// Iterations that several processes save together: each commits its part, and whoever finds that all are there makes the iteration of them.
///
/// Parts make an iteration together if they are of one save: the same run, step and number of ranks, the same attempt, and the same turn
/// within it. All of them are newer than the iteration that is there. In any order, and whatever ends at any moment:
/// - A rank's part of a step takes the place of its last one, and is committed anew even if it is the same: its number, and whose it is, say
///   which save it belongs to. So a rank may come twice, and what a launch that crashed has left is never joined by the next one's.
/// - A save that fails leaves no part of its rank, so that it can try again and join the others. Where the iteration itself is refused,
///   all parts of that save go: nothing can become of them.
/// - Once the iteration is there, its parts go, and older ones of their ranks. Those that somebody reads then stay, and count no more.
/// - Within one turn a process saves but one content of a step.
/// - Each save with `replace` is a turn of its own: of two saves of one step none gets parts of the other, though a rank be ahead. One that
///   fails, other than that it is refused, is none.
/// - Whoever goes back behind iterations takes the parts away that wait beyond there.
extension Store {
    /// After so many seconds a part is given up whose iteration was never completed: nobody saves for so long.
    private static let patience = 86_400.0
    /// The same where its run has gone on since.
    private static let patienceOnceOver = 3_600.0

    /// For so many seconds a part waits for those who read the one that it replaces: other ranks alone, who look whether it is theirs.
    private static let patienceWithRanks = 60.0
    /// The same of the iteration, which may be read for as long as somebody wants.
    private static let patienceWithReaders = 3.0

    /// The numbers of the parts that this process has saved and that wait for others, by store and by run and step.
    static let ownParts = Monitor<[[UInt8]: [OwnPart: UInt64]]>([:])

    private typealias Part = (info: IterationInfo, manifest: Manifest, lock: ReaderLock)

    /// Makes an iteration of its parts where all are there.
    /// - Parameters:
    ///   - number: of the own part's commit.
    ///   - warn: told where others have saved the step in another turn.
    /// - Returns: the iteration, if it is there now, and the `id` of what it has replaced.
    func complete(
        _ run: String, _ options: StateSaveOptions, _ own: StatePart, _ number: UInt64,
        _ progress: Progress, warn: (String) -> Void
    ) throws -> (iteration: IterationInfo, replaced: String?)? {
        // The numbers of the parts, by the runs that hold them.
        var numbers = [PartRun(run, own).name: number]
        var whole: SaveResult?
        do {
            try remember(OwnPart(run: PartRun(run, own).name, step: options.step), number)
            // Those that are there anew each time: none is held while this waits, as its rank may have a newer one.
            whole = try waiting(Self.patienceWithReaders, progress) {
                try putTogether(run, options, own, &numbers, warn)
            }
        } catch let error as CairnError {
            let isRefused = error.code == .exists || error.code == .protected
            removeParts { part, _ in
                numbers[part.run] == part.number && (isRefused || part.number == number)
            }
            throw error
        }
        guard let whole else {
            // Another rank may have found them all, and have put them away. An older one has yet to be replaced.
            return try iteration(run: run, step: options.step).flatMap {
                $0.number > number ? ($0, nil) : nil
            }
        }
        // Nothing here reads them any more, which would keep them.
        removeParts { part, _ in
            part.step <= options.step && numbers[part.run].map { part.number <= $0 } ?? false
        }
        return try iteration(run: run, step: options.step).map { ($0, whole.replaced) }
    }

    /// A part waits where another rank reads what it is to replace.
    func commitPart(_ progress: Progress, _ commit: () throws -> SaveResult?) throws -> SaveResult? {
        try waiting(Self.patienceWithRanks, progress, commit)
    }

    /// Tries again, for so many seconds, where somebody reads what is to be replaced.
    func waiting<R>(_ patience: Double, _ progress: Progress, _ body: () throws -> R) throws -> R {
        let end = Clock.monotonic + patience
        var pause = 0.005
        while true {
            do { return try body() } catch let error as CairnError
                where error.code == .busy && Clock.monotonic < end
            {
                try progress.checkInterruption()
                Clock.sleep(seconds: pause)
                pause = min(2 * pause, 0.25)
            }
        }
    }

    /// Remembers a part, and forgets those that wait no more.
    private func remember(_ part: OwnPart, _ number: UInt64) throws {
        let others = Self.ownParts.change { $0[chunks.id]?.filter { $0.key.run == part.run } } ?? [:]
        let gone = try others.filter {
            try iteration(run: $0.key.run, step: $0.key.step)?.number != $0.value
        }
        Self.ownParts.change { parts in
            for other in gone.keys { parts[chunks.id]?[other] = nil }
            parts[chunks.id, default: [:]][part] = number
        }
    }

    /// Whoever saves other content of a step has to say that it is another save, here as for whole iterations: the ranks that are late
    /// would join it with what they have of the first one. What a crash has left may differ.
    /// - Throws: `.exists` where a rank saves other content than its part has that waits for others.
    func check(_ draft: Draft, isOnly own: StatePart) throws {
        let (name, step) = (draft.head.run, draft.head.step)
        let part = OwnPart(run: name, step: step)
        guard let number = Self.ownParts.change({ $0[chunks.id]?[part] }),
            let last = try iteration(run: name, step: step), last.number == number
        else { return }
        if let whole = try iteration(run: draft.origin, step: step), whole.number > last.number { return }
        do {
            guard try marks(of: last) == PartRun.marks(own, pin: nil), try !isSame(draft, last) else {
                return
            }
        } catch let error as CairnError where error.code == .notFound {
            return
        }
        throw CairnError(
            .exists,
            "rank \(own.rank) has saved \(draft.origin)@\(step) with other content, which waits for the other ranks; pass --replace "
                + "to replace it, on all of them, or another attempt where the training went back")
    }

    private func marks(of part: IterationInfo) throws -> [String: String] {
        let (manifest, lock) = try manifest(of: part)
        defer { withExtendedLifetime(lock) {} }
        return try metadata(of: part, manifest.head).filter {
            PartRun.isMark($0.key) && $0.key != PartRun.pinKey
        }
    }

    /// Commits the iteration that the parts make. Returns nil where they are not all there.
    private func putTogether(
        _ run: String, _ options: StateSaveOptions, _ own: StatePart, _ numbers: inout [String: UInt64],
        _ warn: (String) -> Void
    ) throws -> SaveResult? {
        guard let parts = try parts(run, options.step, own, warn) else { return nil }
        defer { withExtendedLifetime(parts) {} }
        for part in parts { numbers[part.info.run] = part.info.number }
        let metadata = try metadata(of: parts)
        let pin = metadata[PartRun.pinKey].flatMap { try? JSON(parsing: [UInt8]($0.utf8)).stringValue }
        let save = SaveOptions(
            run: run, step: options.step, metrics: parts.metrics, pin: pin, replace: options.replace)
        let session = try SaveSession(chunks, dryRun: false)
        defer { session.abandon() }
        for attempt in 1... {
            let draft = try draft(run, parts, metadata, options.step, session)
            if let result = try commit(draft, save, session) { return result }
            guard attempt < Self.attempts else { throw Self.overtaken(attempt) }
        }
        preconditionFailure("the loop only ends by returning or throwing")
    }

    /// What all ranks say; where they differ, the first one.
    private func metadata(of parts: [Part]) throws -> [String: String] {
        try parts.reduce(into: [:]) { metadata, part in
            metadata.merge(try self.metadata(of: part.info, part.manifest.head)) { first, _ in first }
        }
    }

    /// All parts of a save; nil where one is missing, or of another attempt or turn, or left of an iteration that the training has gone back
    /// to before: this rank is the first to come by once more.
    private func parts(
        _ run: String, _ step: UInt64, _ own: StatePart, _ warn: (String) -> Void
    ) throws -> [Part]? {
        var parts: [Part] = []
        let earlier = try iteration(run: run, step: step)?.number ?? 0
        for rank in 0..<own.worldSize {
            let name = PartRun(run, rank: rank, of: own.worldSize).name
            guard let info = try iteration(run: name, step: step), info.number > earlier else { return nil }
            do {
                let (manifest, lock) = try manifest(of: info)
                let metadata = try metadata(of: info, manifest.head)
                guard metadata[PartRun.attemptKey] == JSON(own.attempt).text else { return nil }
                let turn = metadata[PartRun.turnKey].flatMap { Int($0) } ?? 0
                guard turn == own.turn else {
                    let (ahead, behind) = turn > own.turn ? (rank, own.rank) : (own.rank, rank)
                    warn(
                        "rank \(ahead) has saved \(run)@\(step) more often with replace than rank \(behind), so it is not there: "
                            + "save it with replace on rank \(behind) again, or on all ranks in another attempt"
                    )
                    return nil
                }
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
        let own = metadata.filter { !PartRun.isMark($0.key) }
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
        let now = Clock.now
        removeParts { part, origin in
            let age = Double(now - part.createdAt) / 1e9
            if age > Self.patience { return true }
            // One of the ranks may save something else as well while the others are still at this.
            guard age > Self.patienceOnceOver, let (step, time) = newest[origin] else { return false }
            return step >= part.step && time > part.createdAt
        }
    }

    /// Nothing becomes of parts that wait beyond where the training has gone back to: it comes by there once more.
    /// - Parameter isFirst: whether others have not gone back yet. They may have saved anew otherwise, and only this process's own parts go.
    func removeParts(of run: String, above step: UInt64, isFirst: Bool) {
        let own = Self.ownParts.change { $0[chunks.id] } ?? [:]
        removeParts { part, origin in
            origin == run && part.step > step
                && (isFirst || own[OwnPart(run: part.run, step: part.step)] == part.number)
        }
    }

    /// What can't be removed now, as somebody reads it, goes another time.
    private func removeParts(where isWanted: (IterationInfo, _ origin: String) -> Bool) {
        _ = try? chunks.delete { transaction in
            let origins = Dictionary(
                try transaction.runs().filter { PartRun.isPart($0.name) }.map { ($0.name, $0.origin) }
            ) { first, _ in first }
            guard !origins.isEmpty else { return [] }
            return try transaction.catalog(store: chunks.id).compactMap { entry in
                guard let origin = origins[entry.run], isWanted(try IterationInfo(entry), origin) else {
                    return nil
                }
                return JournalEvent.Deletion(iteration: entry.number, reason: "a part of an iteration")
            }
        }
    }
}

/// A rank's part of a step: the run that holds it, which nobody sees.
struct OwnPart: Hashable {
    var run: String
    var step: UInt64
}

extension [(info: IterationInfo, manifest: Manifest, lock: ReaderLock)] {
    /// Of several ranks the first that says one.
    fileprivate var metrics: [String: Double] {
        reduce(into: [:]) { $0.merge($1.info.metrics) { first, _ in first } }
    }
}
