internal import ChunkStore
internal import Platform

extension Store {
    /// How often a save starts again because a collection removed what it relied on, before it gives up.
    static let attempts = 5

    /// - Parameter attempts: how often it was tried.
    static func overtaken(_ attempts: Int) -> CairnError {
        CairnError(
            .busy, "collections removed what this save relied on \(attempts) times; save again when none runs"
        )
    }

    /// Saves a checkpoint folder or file, writing only what the store does not have.
    ///
    /// When it returns, the iteration survives a power cut. When it throws, or the process dies, the store is as it was. What goes wrong
    /// with an automatic policy after the commit is one of the `warnings`.
    /// - Throws: `.usage` for wrong or missing names and steps and for what no checkpoint can hold; `.exists` where the run has
    ///   another iteration at this step; `.changed` where a file changed meanwhile.
    @discardableResult
    public func save(
        _ path: String, options: SaveOptions = SaveOptions(), progress: Progress = .silent
    ) throws -> SaveResult {
        try save(SaveSubject(path: Path(path)), options, progress)
    }

    func save(_ subject: SaveSubject, _ options: SaveOptions, _ progress: Progress) throws -> SaveResult {
        let start = Clock.monotonic
        defer { progress.end() }
        if let pin = options.pin { _ = try PinName(pin) }
        if let run = options.run { _ = try RunName(run) }
        let weights = options.modelOnly ? try weightFiles(subject) : nil
        let tree = try SourceTree(
            subject.path, files: subject.files, followsLinks: options.followLinks, store: chunks.folder,
            isIncluded: { path, kind in
                subject.includes(path, kind)
                    && (kind == .folder || weights?.has(path) ?? true)
            })
        let identity = try Identity(subject, tree, options)
        let run = try self.run(options.run, identity.origin)
        let plans = try FilePlans(tree)
        let key = options.rehash ? nil : chunks.fingerprintKey(makes: !options.dryRun)
        let session = try SaveSession(
            chunks, dryRun: options.dryRun, encoding: try encodingRules(run, identity.step, options))
        // Whatever is not committed goes now, not when the last thread lets go of the session.
        defer { session.abandon() }
        for attempt in 1... {
            let earlier = try earlierIteration(run, identity.step, options, key)
            let ingest = Ingest(
                plans.sources, step: identity.step, earlier: earlier.iteration, key: key, chunkSize: chunkSize
            )
            progress.begin(phase: "saving", totalBytes: plans.bytes)
            let outcome = try ingest.run(session, settings, progress: progress)
            try tree.checkUnchanged()
            let draft = try self.draft(identity.heading(run: run), plans.entries(tree, outcome), session)
            earlier.iteration?.release()
            if var result = try commit(draft, options, session) {
                if let key { leaveFingerprints(draft, result, key) }
                result.seconds = Clock.monotonic - start
                result.warnings =
                    identity.warnings(subject.path, except: plans.keptWhole) + plans.warnings
                    + earlier.warnings
                    + lostBases(session)
                applyAutomaticPolicy(run, &result, progress)
                return result
            }
            guard attempt < Self.attempts else { throw Self.overtaken(attempt) }
        }
        preconditionFailure("the loop only ends by returning or throwing")
    }

    /// What is saved where only weights are wanted.
    private func weightFiles(_ subject: SaveSubject) throws -> WeightFiles {
        try WeightFiles(subject.view(FileSystem.resolved(subject.path)))
    }

    /// The run to save into: the given one; else the one that was first saved from this output folder; else the only one, or `main`.
    func run(_ given: String?, _ origin: String) throws -> String {
        if let given { return given }
        let runs = try chunks.read { transaction in
            let all = try transaction.runs().filter { !PartRun.isPart($0.name) }
            let saved = try all.filter { try transaction.hasIterations(run: $0.name) }
            return saved.isEmpty ? all : saved
        }
        if let known = runs.first(where: { $0.origin == origin }) { return known.name }
        guard !runs.isEmpty else { return RunName.main.text }
        let name = try Reference.Scope(iterations: [], pins: [:], runs: runs.map(\.name)).run(nil)
        if let other = runs.first(where: { $0.name == name })?.origin, !other.isEmpty, other != origin {
            throw CairnError(
                .usage,
                "run \(name) was saved from \(other), and this is in \(origin); pass --run \(name) if they are one run, "
                    + "or --run with another name")
        }
        return name
    }

    /// A save before its commit: everything is put, nothing counts yet.
    struct Draft {
        var head: Head
        var roots: Roots
        var origin: String
        var chunks: Int
        /// Of all content, in the order of the manifest; none where none are made.
        var fingerprints: [FingerprintTable.Entry]
        /// Bytes that its parts took when they were saved.
        var storedBefore: UInt64 = 0
    }

    /// Makes the manifest over what was put.
    func draft(_ heading: SaveHeading, _ entries: [StoredEntry], _ session: SaveSession) throws -> Draft {
        let writer = ManifestWriter(session: session, tree: BlobTree(chunkSize: chunkSize))
        let entries = entries.sorted { $0.path.lexicographicallyPrecedes($1.path) }
        let files = entries.compactMap(\.file)
        let roots = Roots(try entries.map { try $0.root(writer) })
        let previous = try previousIteration(run: heading.run, below: heading.step)
        let head = Head(
            run: heading.run, step: heading.step, createdAt: Clock.now, parent: previous?.id,
            layout: heading.layout,
            tensorCount: files.reduce(0) { $0 + ($1.plan.schema?.tensors.count ?? 0) },
            fileCount: files.count, logicalBytes: files.reduce(0) { $0 + $1.plan.size },
            roots: try writer.blob(roots.encoded()), metrics: heading.metrics,
            metadata: try writer.blob(Metadata(heading.metadata).encoded()))
        try writer.flush()
        return Draft(
            head: head, roots: roots, origin: heading.origin,
            chunks: files.reduce(0) { $0 + $1.ids.reduce(0) { $0 + $1.count } },
            fingerprints: files.flatMap { $0.fingerprints.flatMap(\.self) })
    }

    /// Commits a draft, or finds that the store has the same iteration already.
    /// - Returns: nil where everything has to be put again, as a collection removed what this relies on.
    func commit(_ draft: Draft, _ options: SaveOptions, _ session: SaveSession) throws -> SaveResult? {
        let head = draft.head
        var result = SaveResult(
            run: head.run, step: head.step, id: nil, layout: head.layout, tensors: head.tensorCount,
            files: head.fileCount, logicalBytes: head.logicalBytes, newBytes: session.new.bytes,
            chunks: draft.chunks, newChunks: session.new.chunks, dryRun: options.dryRun)
        let existing = try iteration(run: head.run, step: head.step)
        // A run that was rewound comes by once more: what was superseded counts again, or makes room unless it is pinned.
        let makesRoom = existing.map { $0.superseded && $0.pins.isEmpty } ?? false
        // A part is always committed anew: by that it is known to belong to the save that is under way.
        if let existing, !makesRoom, !PartRun.isPart(head.run), try isSame(draft, existing) {
            guard try options.dryRun || session.commitHealing() else { return nil }
            return try keep(existing, draft, options, result)
        }
        if let existing, !options.replace, !makesRoom {
            throw CairnError(
                .exists,
                "\(head.run)@\(head.step) exists with other content (#\(existing.id.hex.prefix(12))); pass --replace to "
                    + "replace it, or --run or --step to save under another name")
        }
        if options.dryRun { return result }
        if let existing, options.goesBack, existing.pins.isEmpty, try hasOtherTensors(draft, than: existing) {
            // Before the commit: were it killed in between, what came after would count as newer for ever.
            result.superseded = try rewind(to: "#\(existing.id.hex)").map(\.step)
        }
        let pins = try self.pins(options, head)
        let bytes = head.encoded()
        let manifest = SaveSession.Manifest(
            run: head.run, step: head.step, head: bytes, origin: draft.origin, pins: pins,
            storedBefore: draft.storedBefore)
        let outcome = try session.commit(manifest) { transaction in
            guard try transaction.iterationNumber(run: head.run, step: head.step) == existing?.number else {
                return .cancel
            }
            try Self.check(pins, existing, transaction)
            return .commit(replacing: existing?.number)
        }
        switch outcome {
        case .committed(let number, let stored):
            result.number = number
            result.id = ChunkID.of(bytes).hex
            result.storedBytes = stored
            result.replaced = existing?.id.hex
            return result
        // Someone committed the same step, or deleted it, a moment ago: look at what is there now.
        case .cancelled: return try commit(draft, options, session)
        case .mustRepeat: return nil
        }
    }

    /// The pins that a save sets at once: the given one, and the policy's milestone.
    private func pins(_ options: SaveOptions, _ head: Head) throws -> [String] {
        var pins = [options.pin].compactMap { $0 }
        if let policy = try policy(run: head.run), policy.milestones.contains(head.step) {
            let name = PinName.milestone(step: head.step).text
            let isTaken = try chunks.read { try $0.pins().contains { $0.name == name } }
            if !pins.contains(name), !isTaken { pins.append(name) }
        }
        return pins
    }

    private static func check(
        _ pins: [String], _ replaced: IterationInfo?, _ transaction: IndexTransaction
    ) throws {
        for pin in try transaction.pins() {
            if pin.iteration == replaced?.number {
                throw CairnError(
                    .protected,
                    "the pin \(pin.name) protects the iteration that is to be replaced; remove it first "
                        + "with `cairn unpin \(pin.name)`")
            }
            if pins.contains(pin.name) {
                throw CairnError(
                    .exists,
                    "the pin \(pin.name) is set already; choose another name, or `cairn unpin \(pin.name)`")
            }
        }
    }

    /// Whether a stored iteration has the same files, links and folders, but for their times.
    func isSame(_ draft: Draft, _ existing: IterationInfo) throws -> Bool {
        let (manifest, lock) = try manifest(of: existing)
        defer { withExtendedLifetime(lock) {} }
        return draft.roots.withoutTimes == manifest.roots.withoutTimes
    }

    /// Whether a stored iteration has tensors that what takes its place lacks: its training went back and came by once more. Otherwise
    /// something was only added or changed beside them.
    private func hasOtherTensors(_ draft: Draft, than existing: IterationInfo) throws -> Bool {
        let (manifest, lock) = try manifest(of: existing)
        defer { withExtendedLifetime(lock) {} }
        let (before, now) = (manifest.roots.contents, draft.roots.contents)
        return !(now.tensors.union(now.others)).isSuperset(
            of: before.tensors.isEmpty ? before.others : before.tensors)
    }

    /// The same iteration is there: adds what is new beside its content.
    private func keep(
        _ existing: IterationInfo, _ draft: Draft, _ options: SaveOptions, _ unchanged: SaveResult
    ) throws -> SaveResult {
        var result = unchanged
        result.id = existing.id.hex
        result.unchanged = true
        (result.newBytes, result.newChunks) = (0, 0)
        if options.dryRun { return result }
        let metrics = draft.head.metrics.filter { key, value in
            guard let known = existing.metrics[key] else { return true }
            return known != value && !(known.isNaN && value.isNaN)
        }
        if !metrics.isEmpty || !options.metadata.isEmpty {
            try annotate(existing, metrics: metrics, metadata: options.metadata, note: "")
        }
        if let pin = options.pin, !existing.pins.contains(pin) {
            _ = try self.pin("#\(existing.id.hex)", name: pin)
        }
        return result
    }

    /// What was committed is saved, and reported as that, whatever keeps the policy from being applied.
    func applyAutomaticPolicy(_ run: String, _ result: inout SaveResult, _ progress: Progress) {
        var collection = CollectionResult()
        do {
            guard !result.dryRun, try policy(run: run)?.auto == true else { return }
            try collect(&collection, progress: progress)
        } catch {
            let why = (error as? CairnError)?.code == .interrupted ? "interrupted" : "\(error)"
            result.warnings.append("this is saved, but the policy was not applied to the end: \(why)")
        }
        result.deleted = collection.deletedIterations
        result.reclaimedBytes = collection.reclaimedBytes
        result.warnings += collection.warnings
    }
}

extension Roots {
    /// What the files hold: tensors and what lies between them where that is known, and other files.
    fileprivate var contents: (tensors: Set<ChunkID>, others: Set<ChunkID>) {
        var (tensors, others): (Set<ChunkID>, Set<ChunkID>) = ([], [])
        for entry in entries {
            switch entry.kind {
            case .file(.split(_, let ids)): tensors.formUnion(ids)
            case .file(.opaque(let blob)): others.insert(blob.id)
            case .folder, .link: break
            }
        }
        return (tensors, others)
    }

    /// The same entries with all times at zero.
    var withoutTimes: Roots {
        Roots(
            entries.map { entry in
                var copy = entry
                (copy.mtime, copy.nanoseconds) = (0, 0)
                return copy
            })
    }
}
