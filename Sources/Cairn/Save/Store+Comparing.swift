internal import ChunkStore
internal import Platform

/// What a save is compared with, and what it leaves for the next one.
extension Store {
    /// The iteration that a save is compared with: the given one; else the one of the same step that is saved again; else the newest
    /// one below the step. None where it is damaged, which a warning says.
    func earlierIteration(
        _ run: String, _ step: UInt64, _ options: SaveOptions, _ key: [UInt8]?
    ) throws -> (iteration: EarlierIteration?, warnings: [String]) {
        let given = try options.base.map { try resolve($0) }
        let table = key.flatMap { chunks.fingerprints(run: given?.run ?? run, key: $0) }
        var info = given
        if info == nil, let same = try iteration(run: run, step: step), table?.manifest == same.id,
            !same.superseded
        {
            info = same
        }
        if info == nil { info = try previousIteration(run: run, below: step) }
        guard let info else { return (nil, []) }
        do {
            let (manifest, lock) = try manifest(of: info)
            return (EarlierIteration(info, manifest, lock, chunks, table), [])
        } catch let error as CairnError where error.code == .damage {
            return (nil, ["nothing leans on \(info.run)@\(info.step): \(error.message)"])
        } catch let error as CairnError where error.code == .notFound && given == nil {
            // Deleted a moment ago.
            return (nil, [])
        }
    }

    /// A save that is pinned from the start stands on its own; under a policy that keeps the last few, a delta must be worth that its
    /// base stays as long as itself.
    func encodingRules(_ run: String, _ step: UInt64, _ options: SaveOptions) throws -> EncodingRules {
        let policy = try policy(run: run)
        let isPinned = options.pin != nil || policy?.milestones.contains(step) == true
        return EncodingRules(usesDeltas: !isPinned, keepsLast: policy?.keepLast)
    }

    func lostBases(_ session: SaveSession) -> [String] {
        let lost = session.lostBases.count
        guard lost > 0 else { return [] }
        return [
            "\(lost) earlier chunk\(lost == 1 ? " is" : "s are") damaged, so what was to lean on \(lost == 1 ? "it" : "them") "
                + "was saved in full; run `cairn verify` to see which iterations that concerns"
        ]
    }

    /// Leaves the fingerprints of what was committed for the next save of the run.
    func leaveFingerprints(_ draft: Draft, _ result: SaveResult, _ key: [UInt8]) {
        guard let id = result.id.flatMap({ ChunkID(hex: $0) }), !result.dryRun else { return }
        var table = FingerprintTable(manifest: id, capacity: draft.chunks)
        for entry in draft.fingerprints { table.append(entry) }
        chunks.setFingerprints(table, run: draft.head.run, key: key)
    }
}
