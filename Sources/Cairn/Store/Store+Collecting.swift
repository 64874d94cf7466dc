internal import ChunkStore
internal import Platform

extension Store {
    /// Applies the policies of all runs, and gives back the space that no iteration needs.
    ///
    /// Killed at any instant, it leaves every kept iteration whole. Works on a full disk.
    /// - Throws: `.damage`, having freed nothing, where something that must be kept can't be read.
    public func collect(dryRun: Bool, progress: Progress = .silent) throws -> CollectionResult {
        var result = CollectionResult(dryRun: dryRun)
        try collect(&result, progress: progress)
        return result
    }

    /// - Parameter result: also has what was deleted where this throws.
    func collect(_ result: inout CollectionResult, progress: Progress) throws {
        let (start, dryRun) = (Clock.monotonic, result.dryRun)
        defer { progress.end() }
        progress.begin(phase: "collecting", totalBytes: 0)
        try progress.checkInterruption()
        if !dryRun { try removeAbandonedParts() }
        var doomed: [Doomed] = []
        var inUse: [UInt64] = []
        // What is known to be damaged takes no place from what is whole. Only looked for where something is to go.
        let runs = Set(try chunks.read { try self.doomed($0, []) }.map(\.info.run))
        let incomplete = try runs.isEmpty ? [] : incomplete(try iterations().filter { runs.contains($0.run) })
        if dryRun {
            doomed = try chunks.read { try self.doomed($0, incomplete) }
        } else {
            inUse = try chunks.delete { transaction in
                doomed = try self.doomed(transaction, incomplete)
                return doomed.map { JournalEvent.Deletion(iteration: $0.info.number, reason: $0.reason) }
            }.inUse
        }
        for (info, reason) in doomed {
            let iteration = DeletedIteration(info, reason)
            if inUse.contains(info.number) {
                result.skipped.append(iteration)
            } else {
                result.deletedIterations.append(iteration)
            }
        }
        let stripped = try keepWeightsOnly(dryRun: dryRun, without: Set(doomed.map(\.info.number)), progress)
        result.stripped = stripped.done
        result.skipped += stripped.skipped
        let outcome = try chunks.collect(
            dryRun: dryRun, without: dryRun ? Set(doomed.map(\.info.number)) : [])
        result.reclaimedBytes = outcome.reclaimedBytes
        result.liveBytes = outcome.liveBytes
        if outcome.cannotPunch {
            result.warnings.append(
                "this file system gives back only whole packs: space inside of others stays taken")
        }
        result.seconds = Clock.monotonic - start
    }

    private typealias Doomed = (info: IterationInfo, reason: String)

    /// What the policies delete, with each reason, by run and step.
    private func doomed(_ transaction: IndexTransaction, _ incomplete: Set<UInt64>) throws -> [Doomed] {
        let scope = try scope(transaction)
        var doomed: [Doomed] = []
        for run in scope.runs.sorted() {
            guard let policy = scope.policies[run] else { continue }
            let infos = scope.iterations.filter { $0.run == run }
            let byNumber = Dictionary(infos.map { ($0.number, $0) }) { first, _ in first }
            let decisions = Retention.decide(
                infos.map { .init($0, complete: !incomplete.contains($0.number)) }, policy: policy)
            for decision in decisions {
                guard case .delete(let reason) = decision.verdict,
                    let info = byNumber[decision.number]
                else { continue }
                doomed.append((info, reason))
            }
        }
        return doomed
    }

    /// Forgets iterations. The space comes back with the next collection.
    /// - Throws: `.protected` for a pinned iteration and for the newest of a run; nothing is deleted then.
    public func delete(_ references: [String]) throws -> DeleteResult {
        let references = try references.map { try reference($0) }
        let runs = Set(
            try chunks.read { transaction in try references.map { try resolve($0, transaction).run } })
        var incomplete: Set<UInt64> = []
        for run in runs { try incomplete.formUnion(newestIncomplete(try iterations(run: run))) }
        return try delete { scope in
            let chosen = try references.map { try $0.resolve(in: scope) }
            for info in chosen {
                try Self.checkUnpinned(info)
                let newest = scope.iterations.last {
                    $0.run == info.run && !$0.superseded && !incomplete.contains($0.number)
                }
                if newest?.number == info.number {
                    throw CairnError(
                        .protected,
                        "\(info.run)@\(info.step) is the newest iteration of its run and stays; save a newer one first, "
                            + "or delete the whole run with `cairn delete --run \(info.run)`")
                }
            }
            return chosen
        }
    }

    /// Forgets a whole run. - Throws: `.protected` where one of its iterations is pinned.
    public func deleteRun(_ run: String) throws -> DeleteResult {
        try delete { scope in
            let run = try scope.run(try RunName(run).text)
            let chosen = scope.iterations.filter { $0.run == run }
            for info in chosen { try Self.checkUnpinned(info) }
            return chosen
        }
    }

    private static func checkUnpinned(_ info: IterationInfo) throws {
        guard let pin = info.pins.first else { return }
        throw CairnError(
            .protected, "\(info.run)@\(info.step) is pinned as \(pin) and stays; `cairn unpin \(pin)` first")
    }

    func delete(_ choose: (Reference.Scope) throws -> [IterationInfo]) throws -> DeleteResult {
        var chosen: [UInt64: IterationInfo] = [:]
        let (deleted, inUse) = try chunks.delete { transaction in
            chosen = Dictionary(try choose(try scope(transaction)).map { ($0.number, $0) }) { first, _ in
                first
            }
            return chosen.keys.sorted().map {
                JournalEvent.Deletion(iteration: $0, reason: "deleted by hand")
            }
        }
        return DeleteResult(
            deleted: deleted.compactMap { deletion in
                chosen[deletion.iteration].map { DeletedIteration($0, deletion.reason) }
            },
            skipped: inUse.compactMap { number in
                chosen[number].map { DeletedIteration($0, "someone is reading it") }
            })
    }
}

extension DeletedIteration {
    init(_ info: IterationInfo, _ reason: String) {
        self.init(run: info.run, step: info.step, id: info.id.hex, reason: reason)
    }
}
