package import TensorFormats

extension JSON {
    package init(_ deleted: DeletedIteration) {
        self = .fields(
            ("run", JSON(deleted.run)), ("step", JSON(deleted.step)), ("id", JSON(deleted.id)),
            ("reason", JSON(deleted.reason)))
    }

    private init(_ stripped: StrippedIteration) {
        self = .fields(
            ("run", JSON(stripped.run)), ("step", JSON(stripped.step)), ("id", JSON(stripped.id)),
            ("newId", JSON(optional: stripped.newID)), ("droppedBytes", JSON(stripped.droppedBytes)))
    }

    package init(_ result: CollectionResult) {
        self = .fields(
            ("deletedIterations", .list(result.deletedIterations) { JSON($0) }),
            ("strippedIterations", .list(result.stripped) { JSON($0) }),
            ("skippedIterations", .list(result.skipped) { JSON($0) }),
            ("reclaimedBytes", JSON(result.reclaimedBytes)), ("liveBytes", JSON(result.liveBytes)),
            ("dryRun", JSON(result.dryRun)), ("seconds", JSON(result.seconds)),
            ("warnings", .list(result.warnings)))
    }

    package init(_ result: DeleteResult) {
        self = .fields(
            ("deletedIterations", .list(result.deleted) { JSON($0) }),
            ("skippedIterations", .list(result.skipped) { JSON($0) }))
    }

    /// - Parameter superseded: what a rewind went back behind.
    package init(superseded: [IterationInfo]) {
        self = .fields(("superseded", .list(superseded) { JSON($0) }))
    }

    package init(run: String, policy: Policy?) {
        let rules = policy.flatMap { try? JSON(parsing: [UInt8]($0.json.utf8)) }
        self = .fields(("run", JSON(run)), ("policy", rules ?? .null))
    }
}
