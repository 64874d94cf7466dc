package import Platform
package import TensorFormats

extension JSON {
    package init(_ damaged: DamagedIteration) {
        self = .fields(
            ("run", JSON(damaged.run)), ("step", JSON(damaged.step)), ("id", JSON(damaged.id)),
            ("tensors", .list(damaged.tensors)), ("files", .list(damaged.files)))
    }

    package init(_ report: VerifyReport) {
        self = .fields(
            ("ok", JSON(report.ok)), ("checkedBytes", JSON(report.checkedBytes)),
            ("damaged", .list(report.damaged) { JSON($0) }), ("problems", .list(report.problems)),
            ("quick", JSON(report.quick)), ("iterations", JSON(report.iterations)),
            ("chunks", JSON(report.chunks)),
            ("seconds", JSON(report.seconds)))
    }

    package init(_ report: RepairReport) {
        self = .fields(
            ("ok", JSON(report.ok)), ("indexedChunks", JSON(report.indexedChunks)),
            ("repairedChunks", JSON(report.repairedChunks)), ("repairedBytes", JSON(report.repairedBytes)),
            ("searchedBytes", JSON(report.searchedBytes)), ("damaged", .list(report.damaged) { JSON($0) }),
            ("problems", .list(report.problems)), ("seconds", JSON(report.seconds)))
    }

    package init(_ one: Resumability) {
        self = .fields(
            ("run", JSON(one.run)), ("step", JSON(one.step)), ("layout", JSON(one.layout)),
            ("resumable", JSON(one.lacking.isEmpty)), ("lacking", .list(one.lacking)))
    }

    package init(_ stats: StoreStats) {
        self = .fields(
            ("logicalBytes", JSON(stats.logicalBytes)), ("uniqueBytes", JSON(stats.uniqueBytes)),
            ("storedBytes", JSON(stats.storedBytes)), ("indexBytes", JSON(stats.indexBytes)),
            ("chunks", JSON(stats.chunks)), ("packs", JSON(stats.packs)),
            ("iterations", JSON(stats.iterations)),
            ("dtypes", .list(stats.dtypes) { JSON($0) }), ("codecs", .list(stats.codecs) { JSON($0) }),
            ("runs", .list(stats.runs) { JSON($0) }))
    }

    private init(_ share: StoreStats.Share) {
        self = .fields(
            ("name", JSON(share.name)), ("chunks", JSON(share.chunks)),
            ("uniqueBytes", JSON(share.uniqueBytes)),
            ("storedBytes", JSON(share.storedBytes)))
    }

    private init(_ run: StoreStats.Run) {
        self = .fields(
            ("name", JSON(run.name)), ("iterations", JSON(run.iterations)),
            ("logicalBytes", JSON(run.logicalBytes)), ("storedBytes", JSON(run.storedBytes)))
    }

    /// What a store is, as `init` says it.
    package init(_ store: Store) {
        self = .fields(
            ("path", JSON(store.path)), ("id", JSON(store.id)), ("chunkSize", JSON(store.chunkSize)),
            ("recoveryFactor", JSON(store.recoveryFactor)),
            ("recoveryRecords", JSON(store.recoveryRecords)))
    }

    /// `{"error": {"code", "message", "path"}}`; `path` is null where the error is about none.
    package init(_ error: CairnError) {
        self = .fields(
            (
                "error",
                .fields(
                    ("code", JSON(error.code.rawValue)), ("message", JSON(error.message)),
                    ("path", JSON(optional: error.path)))
            ))
    }
}
