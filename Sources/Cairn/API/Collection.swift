/// An iteration that a collection, a deletion or an automatic policy removed, or would remove.
public struct DeletedIteration: Sendable, Hashable {
    public var run: String
    public var step: UInt64
    /// The manifest id in hex.
    public var id: String
    /// Why, as the end of a sentence: `no rule keeps it (last 5, first)`.
    public var reason: String

    public init(run: String, step: UInt64, id: String, reason: String) {
        self.run = run
        self.step = step
        self.id = id
        self.reason = reason
    }
}

/// An iteration that a collection left the weights of, or would.
public struct StrippedIteration: Sendable, Hashable {
    public var run: String
    public var step: UInt64
    /// The manifest id of the whole one, in hex.
    public var id: String
    /// That of its weights alone; nil for a dry run.
    public var newID: String?
    /// Bytes of the files that it has no longer.
    public var droppedBytes: UInt64
}

/// What a deletion removed. The bytes come back with the next collection.
public struct DeleteResult: Sendable {
    public var deleted: [DeletedIteration]
    /// What stays for now because someone is reading it.
    public var skipped: [DeletedIteration]

    public init(deleted: [DeletedIteration] = [], skipped: [DeletedIteration] = []) {
        self.deleted = deleted
        self.skipped = skipped
    }
}

/// What a collection did, or with `dryRun` would do.
public struct CollectionResult: Sendable {
    public var deletedIterations: [DeletedIteration]
    /// Of which only the weights are kept.
    public var stripped: [StrippedIteration] = []
    /// What stays for now because someone is reading it.
    public var skipped: [DeletedIteration]
    /// Bytes given back to the file system, or with `dryRun` those that would be: whole blocks, shared
    /// bytes not counted.
    public var reclaimedBytes: UInt64
    /// Bytes of packs that are still needed.
    public var liveBytes: UInt64
    public var dryRun: Bool
    public var seconds: Double
    /// Sentences for people, such as that this file system gives back only whole packs.
    public var warnings: [String]

    public init(
        deletedIterations: [DeletedIteration] = [], skipped: [DeletedIteration] = [],
        reclaimedBytes: UInt64 = 0,
        liveBytes: UInt64 = 0, dryRun: Bool = false, seconds: Double = 0, warnings: [String] = []
    ) {
        self.deletedIterations = deletedIterations
        self.skipped = skipped
        self.reclaimedBytes = reclaimedBytes
        self.liveBytes = liveBytes
        self.dryRun = dryRun
        self.seconds = seconds
        self.warnings = warnings
    }
}
