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
        self.store = store
        self.options = options
        run = try options.run.map { try RunName($0).text } ?? store.runOfStates()
        key = options.rehash ? nil : store.chunks.fingerprintKey(makes: true)
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
            if var result = try store.commit(draft, saveOptions, session) {
                if let key { store.leaveFingerprints(draft, result, key) }
                if let id = result.id { store.states.remember(id, draft.roots) }
                result.warnings = warnings + store.lostBases(session)
                try store.applyAutomaticPolicy(run, &result, progress)
                result.seconds = Clock.monotonic - start
                return result
            }
            guard attempt < Store.attempts, !isPartlyTaken else { throw Store.overtaken(attempt) }
            files.forgetTaken()
            try findEarlier()
        }
        preconditionFailure("the loop only ends by returning or throwing")
    }

    /// The session, which the first reading begins.
    private func begun() throws -> SaveSession {
        if let session { return session }
        var rules = try store.encodingRules(run, options.step, saveOptions)
        rules.readsBases = options.readsBases
        let session = try SaveSession(store.chunks, dryRun: false, encoding: rules)
        self.session = session
        try findEarlier()
        return session
    }

    private func findEarlier() throws {
        (earlier, warnings) = try store.earlierIteration(run, options.step, saveOptions, key)
    }

    private func takePending(_ session: SaveSession, _ progress: Progress) throws {
        let known = options.earlier.flatMap { store.states.roots(of: $0) }
        let sources = files.sources { [earlier] path in
            // The bytes at hand are those that the earlier iteration has only where it has the very same file.
            earlier?.kind(of: path).map { $0 == known?[path]?.kind } ?? false
        }
        let ingest = Ingest(
            sources, step: options.step, earlier: earlier, key: key, chunkSize: store.chunkSize,
            after: files.takenCount)
        files.take(try ingest.run(session, store.settings, progress: progress))
    }

    private var heading: SaveHeading {
        SaveHeading(
            run: run, step: options.step, layout: Self.layout, origin: "", metrics: options.metrics,
            metadata: options.metadata)
    }

    private var saveOptions: SaveOptions {
        SaveOptions(
            run: run, step: options.step, metrics: options.metrics, metadata: options.metadata,
            pin: options.pin, replace: options.replace, rehash: options.rehash)
    }
}

extension Store {
    /// The run that states are saved to where none is named.
    fileprivate func runOfStates() throws -> String {
        let scope = try chunks.read { try self.scope($0) }
        return scope.runs.isEmpty ? RunName.main.text : try scope.run(nil)
    }
}
