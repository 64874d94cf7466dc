internal import ChunkStore
internal import Platform

extension Store {
    /// All iterations, or those of one run, by run and then by step.
    /// - Throws: `.notFound` where no run has that name.
    public func iterations(run: String? = nil) throws -> [IterationInfo] {
        let scope = try chunks.read { try self.scope($0) }
        guard let run else { return scope.iterations }
        let name = try RunName(run).text
        guard scope.runs.contains(name) else { throw scope.noRun(name) }
        return scope.iterations.filter { $0.run == name }
    }

    /// The run that is meant where none is given: the only one, or `main`, also where there is none yet.
    public func defaultRun() throws -> String {
        let scope = try chunks.read { try self.scope($0) }
        return scope.runs.isEmpty ? RunName.main.text : try scope.run(nil)
    }

    /// The iteration that a reference names, such as `latest`, `main@500` or `#3fa91c`.
    public func resolve(_ reference: String) throws -> IterationInfo {
        let reference = try self.reference(reference)
        return try chunks.read { try self.resolve(reference, $0) }
    }

    func resolve(_ reference: Reference, _ transaction: IndexTransaction) throws -> IterationInfo {
        try reference.resolve(in: try scope(transaction))
    }

    /// What people write to name an iteration. Plain `best` gets the metric that the framework recorded, unless a policy says one:
    /// it stands in the manifests, which no transaction reads.
    func reference(_ text: String) throws -> Reference {
        var reference = try Reference(text)
        guard case .best(nil, _) = reference.selector else { return reference }
        let scope = try chunks.read { try self.scope($0) }
        let run = try scope.run(reference.run)
        guard (scope.policies[run]?.keepBest ?? []).isEmpty else { return reference }
        for info in scope.iterations(of: run).newestFirst {
            // A damaged one says nothing.
            guard let head = try? Head(decoding: try chunks.chunk(info.id)),
                let metadata = try? metadata(of: info, head)
            else { continue }
            if let metric = TrainerState.bestMetricName(in: metadata) {
                reference.selector = .best(metric: metric, direction: nil)
                break
            }
        }
        return reference
    }

    /// The iteration that a run has at a step, or nil. Costs the same however many there are.
    func iteration(run: String, step: UInt64) throws -> IterationInfo? {
        try chunks.read { transaction in
            try transaction.iterationNumber(run: run, step: step).map { try info($0, transaction) }
        }
    }

    /// The newest iteration of a run below a step that is not superseded, or nil.
    func previousIteration(run: String, below step: UInt64) throws -> IterationInfo? {
        try chunks.read { transaction in
            try transaction.previousIteration(run: run, below: step).map { try info($0, transaction) }
        }
    }

    private func info(_ number: UInt64, _ transaction: IndexTransaction) throws -> IterationInfo {
        try IterationInfo(transaction.catalogEntry(number, store: chunks.id))
    }

    /// Everything that references are resolved in, in one state of the index.
    func scope(_ transaction: IndexTransaction) throws -> Reference.Scope {
        let entries = try transaction.catalog(store: chunks.id).filter { !PartRun.isPart($0.run) }
        let infos = try entries.map { try IterationInfo($0) }
        let runs = try transaction.runs().filter { !PartRun.isPart($0.name) }
        var policies: [String: Policy] = [:]
        for run in runs where !run.policy.isEmpty {
            policies[run.name] = try Policy(json: String(decoding: run.policy, as: UTF8.self))
        }
        return Reference.Scope(
            iterations: infos.sorted { ($0.run, $0.step) < ($1.run, $1.step) },
            pins: Dictionary(try transaction.pins().map { ($0.name, $0.iteration) }) { first, _ in first },
            policies: policies, runs: runs.map(\.name))
    }

    /// The decoded manifest of an iteration, and a lock that keeps the iteration from being removed.
    func manifest(of info: IterationInfo) throws -> (manifest: Manifest, lock: ReaderLock) {
        do {
            return try manifest(of: info) { try chunks.chunk($0) }
        } catch let error as SchemaDamage {
            throw info.manifestDamage(error.error)
        } catch let error as CairnError where error.code == .damage {
            throw info.manifestDamage(error)
        }
    }

    /// - Parameter read: the bytes of a chunk, checked.
    /// - Throws: `SchemaDamage` where the schema of a file is damaged, `.damage` where another part is.
    func manifest(
        of info: IterationInfo, read: (ChunkID) throws -> [UInt8]
    ) throws -> (manifest: Manifest, lock: ReaderLock) {
        let lock = try chunks.reading(info.number)
        let tree = BlobTree(chunkSize: chunkSize)
        let manifest = try Manifest(head: try read(info.id)) { try tree.bytes(of: $0, read: read) }
        return (manifest, lock)
    }

    /// What was written beside an iteration, later annotations folded in; values are JSON texts.
    func metadata(of info: IterationInfo, _ head: Head) throws -> [String: String] {
        var values: [String: String] = [:]
        if head.metadata.length > 0 {
            values = try Metadata(decoding: try chunks.bytes(of: head.metadata)).values
        }
        return values.merging(info.metadata) { _, later in later }
    }
}

extension IterationInfo {
    fileprivate func manifestDamage(_ error: CairnError) -> CairnError {
        CairnError(
            .damage, "the manifest of \(run)@\(step) is damaged: \(error.message)", path: error.path)
    }

    /// From what the index keeps; the metadata is only what annotations added, the rest is read with the manifest.
    init(_ entry: CatalogEntry) throws {
        let head: Head
        do {
            head = try Head(decoding: entry.head)
        } catch {
            throw CairnError(
                .damage,
                "the commit of \(entry.run)@\(entry.step) holds a head that \(error); run `cairn repair`")
        }
        var metrics = head.metrics
        var metadata: [String: String] = [:]
        for annotation in entry.annotations {
            metrics.merge(annotation.metrics) { _, later in later }
            metadata.merge(annotation.metadata) { _, later in later }
        }
        self.init(
            number: entry.number, run: entry.run, step: entry.step, id: entry.manifest,
            createdAt: head.createdAt,
            parent: head.parent, layout: head.layout, tensors: head.tensorCount, files: head.fileCount,
            logicalBytes: head.logicalBytes, storedBytes: entry.storedBytes, metrics: metrics,
            metadata: metadata,
            notes: entry.annotations.map(\.note).filter { !$0.isEmpty }, pins: entry.pins,
            superseded: entry.isSuperseded)
    }
}
