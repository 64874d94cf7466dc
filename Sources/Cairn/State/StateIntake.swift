internal import ChunkStore
internal import Platform
internal import TensorFormats

/// Takes a state from memory, in one go or several, and commits it.
final class StateIntake {
    /// The layout that such a state has in manifests.
    static let layout = "cairn"

    private let store: Store
    private let options: StateSaveOptions
    private let run: String
    /// The run that holds what is committed: of a part, one that nobody sees.
    private let target: String
    private var files = StateFiles()
    /// Some of it was taken before the commit, and can't be taken again.
    private var isPartlyTaken = false
    private var isEnded = false
    private var session: SaveSession?
    private let key: [UInt8]?
    private var earlier: EarlierIteration?
    private var warnings: [String] = []
    private let start = Clock.monotonic

    init(_ store: Store, _ options: StateSaveOptions) throws {
        if let pin = options.pin { _ = try PinName(pin) }
        guard options.step <= Step.maximum else {
            throw CairnError(.usage, "the step \(options.step) is beyond the last, which is \(Step.maximum)")
        }
        self.store = store
        self.options = options
        run = try options.run.map { try RunName($0).text } ?? store.defaultRun()
        if let part = options.part {
            guard part.worldSize > 0, (0..<part.worldSize).contains(part.rank) else {
                throw CairnError(.usage, "there is no rank \(part.rank) of \(part.worldSize)")
            }
            guard part.turn >= 0 else { throw CairnError(.usage, "there is no turn \(part.turn)") }
            target = PartRun(run, part).name
        } else {
            target = run
        }
        // A part has no place among the fingerprints of its run.
        key = options.rehash || options.part != nil ? nil : store.chunks.fingerprintKey(makes: true)
    }

    deinit { abort() }

    func add(_ tensor: StateSave.Tensor) throws {
        try checkOpen()
        try files.add(tensor)
    }

    func add(file path: String, _ bytes: UnsafeRawBufferPointer) throws {
        try checkOpen()
        try files.add(path, bytes)
    }

    private func checkOpen() throws {
        if isEnded { throw CairnError(.usage, "this save has ended; begin another one") }
    }

    func take(_ progress: Progress) throws {
        try checkOpen()
        defer { progress.end() }
        progress.begin(phase: "saving", totalBytes: files.pendingBytes)
        isPartlyTaken = true
        do { try takePending(try begun(), progress) } catch {
            abort()
            throw error
        }
    }

    func abort() {
        isEnded = true
        earlier?.release()
        session?.abandon()
        (session, earlier) = (nil, nil)
        files = StateFiles()
    }

    func commit(_ progress: Progress) throws -> SaveResult {
        try checkOpen()
        // Whatever is not committed goes now.
        defer {
            abort()
            progress.end()
        }
        progress.begin(phase: "saving", totalBytes: files.pendingBytes)
        let session = try begun()
        for attempt in 1... {
            try takePending(session, progress)
            let draft = try store.draft(heading, files.entries(time: Clock.now), session)
            earlier?.release()
            if let result = try committed(draft, session, progress) {
                return try finished(result, draft, session, progress)
            }
            guard attempt < Store.attempts, !isPartlyTaken else { throw Store.overtaken(attempt) }
            files.forgetTaken()
            try findEarlier()
        }
        preconditionFailure("the loop only ends by returning or throwing")
    }

    private func committed(
        _ draft: Store.Draft, _ session: SaveSession, _ progress: Progress
    ) throws -> SaveResult? {
        guard let part = options.part else { return try store.commit(draft, saveOptions, session) }
        if !options.replace { try store.check(draft, isOnly: part) }
        return try store.commitPart(progress) { try store.commit(draft, saveOptions, session) }
    }

    private func finished(
        _ committed: SaveResult, _ draft: Store.Draft, _ session: SaveSession, _ progress: Progress
    ) throws -> SaveResult {
        var result = committed
        if let key { store.leaveFingerprints(draft, result, key) }
        if let id = result.id { store.states.remember(id, draft.roots) }
        result.warnings = warnings + store.lostBases(session)
        result.run = run
        if let part = options.part, let number = committed.number {
            let whole = try store.complete(
                run, options, part, number, progress, warn: { result.warnings.append($0) })
            (result.isPart, result.iteration) = (whole == nil, whole?.iteration.idText)
            // Of the part itself it is one that nobody has seen.
            result.replaced = whole?.replaced
        }
        if !result.isPart { store.applyAutomaticPolicy(run, &result, progress) }
        result.seconds = Clock.monotonic - start
        return result
    }

    /// The session, which the first reading begins.
    private func begun() throws -> SaveSession {
        if let session { return session }
        try findEarlier()
        var rules = try store.encodingRules(run, options.step, saveOptions)
        // Bytes at hand that are those of another iteration, as when somebody else has saved since, serve for nothing.
        rules.readsBases = options.readsBases || earlier?.id.hex != options.earlier
        let session = try SaveSession(store.chunks, dryRun: false, encoding: rules)
        self.session = session
        return session
    }

    private func findEarlier() throws {
        (earlier, warnings) = try store.earlierIteration(run, options.step, saveOptions, key)
    }

    private func takePending(_ session: SaveSession, _ progress: Progress) throws {
        let known = options.earlier.flatMap { store.states.roots(of: $0) }
        let sources = files.sources(isPrivate: options.isPrivate) { [earlier] path in
            // The bytes at hand are those that the earlier iteration has only where it has the very same file.
            earlier?.kind(of: path).map { $0 == known?[path]?.kind } ?? false
        }
        let ingest = Ingest(
            sources, step: options.step, earlier: earlier, key: key, chunkSize: store.chunkSize,
            after: files.takenCount)
        files.take(try ingest.run(session, store.settings, progress: progress))
    }

    private var heading: SaveHeading {
        var metadata = options.metadata
        if let part = options.part {
            metadata.merge(PartRun.marks(part, pin: options.pin)) { _, mark in mark }
        }
        return SaveHeading(
            run: target, step: options.step, layout: Self.layout,
            // By that it is known whose part it is.
            origin: options.part == nil ? "" : run, metrics: options.metrics, metadata: metadata)
    }

    private var saveOptions: SaveOptions {
        let isPart = options.part != nil
        return SaveOptions(
            run: target, step: options.step, metrics: options.metrics, metadata: options.metadata,
            pin: isPart ? nil : options.pin,
            // One that a crash left.
            replace: isPart || options.replace, rehash: options.rehash)
    }
}
