internal import ChunkStore
internal import Platform
internal import TensorFormats

extension Store {
    /// The metadata key under which an iteration of weights only has the id of the whole one, as a JSON text.
    static let weightsOfKey = "weights_of"
    /// The annotation key under which the names of pins stand that hold the weights alone, as a JSON list.
    private static let weightsPinsKey = "cairn.weights_pins"

    /// Lets go of all but the weights of older iterations, as the policies of their runs say. Each gets a new id, and says the old one.
    /// - Returns: what was done, or with `dryRun` would be; and what someone is reading, which stays whole for now.
    /// - Parameter doomed: what a dry run would have deleted before.
    func keepWeightsOnly(
        dryRun: Bool, without doomed: Set<UInt64>, _ progress: Progress
    ) throws -> (done: [StrippedIteration], skipped: [DeletedIteration]) {
        var done: [StrippedIteration] = []
        var skipped: [DeletedIteration] = []
        for (run, policy) in try policies() {
            guard let count = policy.keepOptimizerLast else { continue }
            let infos = try iterations(run: run)
            let damaged = try newestIncomplete(infos)
            let placed = infos.filter {
                !$0.superseded && !damaged.contains($0.number) && !doomed.contains($0.number)
            }
            for info in try older(placed, thanLast: count) where try mayLoseState(info, policy) {
                try progress.checkInterruption()
                do {
                    if let one = try keepWeightsOnly(info, dryRun: dryRun) { done.append(one) }
                } catch let error as CairnError where error.code == .busy {
                    skipped.append(DeletedIteration(info, "someone is reading it"))
                } catch let error as CairnError where error.code == .notFound {
                    continue
                }
            }
        }
        return (done, skipped)
    }

    /// Those before the last few that a training can go on from: what has no state beside the model in files of its own, or is not healthy, is
    /// none of them.
    private func older(_ infos: [IterationInfo], thanLast count: Int) throws -> ArraySlice<IterationInfo> {
        var (left, end) = (count, infos.endIndex)
        while left > 0, end > infos.startIndex {
            end -= 1
            if try hasState(infos[end]) { left -= 1 }
        }
        return infos[..<end]
    }

    private func hasState(_ info: IterationInfo) throws -> Bool {
        let (manifest, lock) = try manifest(of: info)
        defer { withExtendedLifetime(lock) {} }
        let metadata = try metadata(of: info, manifest.head)
        let layout = Layouts.named(info.layout)
        return metadata[Self.weightsOfKey] == nil && metadata[Identity.unhealthyKey] == nil
            && manifest.roots.entries.contains { entry in
                let path = String(decoding: entry.path, as: UTF8.self)
                return entry.kind != .folder
                    && !(layout?.part(of: path, tensor: nil) ?? ModelFiles.part(of: entry.path)).isOfModel
            }
    }

    /// Whether nothing holds the whole of it, and there is more than weights.
    private func mayLoseState(_ info: IterationInfo, _ policy: Policy) throws -> Bool {
        guard Set(info.pins).isSubset(of: weightsPins(info)), !policy.milestones.contains(info.step) else {
            return false
        }
        let head = try Head(decoding: try chunks.chunk(info.id))
        return try metadata(of: info, head)[Self.weightsOfKey] == nil
    }

    private func weightsPins(_ info: IterationInfo) -> Set<String> {
        guard let text = info.metadata[Self.weightsPinsKey],
            let names = (try? JSON(parsing: [UInt8](text.utf8)))?.array
        else { return [] }
        return Set(names.compactMap(\.stringValue))
    }

    /// Notes that a pin holds no more than the weights, or that it holds all again.
    func setWeightsOnly(_ isOnly: Bool, pin: String, of reference: String) throws {
        let info = try resolve(reference)
        var names = weightsPins(info)
        guard names.contains(pin) != isOnly else { return }
        if isOnly { names.insert(pin) } else { names.remove(pin) }
        let list = JSON.array(names.sorted().map { JSON($0) })
        try annotate(
            info, metrics: [:],
            metadata: [Self.weightsPinsKey: list.text], note: "")
    }

    /// Puts an iteration of its weights alone in the place of a whole one. Nothing of what stays is written again.
    /// - Returns: nil where there is nothing else in it.
    private func keepWeightsOnly(_ info: IterationInfo, dryRun: Bool) throws -> StrippedIteration? {
        let session = try SaveSession(chunks, dryRun: dryRun)
        defer { session.abandon() }
        guard let head = try weightsHead(info, session) else { return nil }
        var result = StrippedIteration(
            run: info.run, step: info.step, id: info.id.hex, newID: nil,
            droppedBytes: info.logicalBytes - min(head.logicalBytes, info.logicalBytes))
        if dryRun { return result }
        let bytes = head.encoded()
        let outcome = try session.commit(
            .init(run: info.run, step: info.step, head: bytes, origin: "", pins: info.pins)
        ) { transaction in
            // What it leans on lives as long as the iteration that it takes the place of.
            let pins = try transaction.pins().filter { $0.iteration == info.number }.map(\.name)
            guard try transaction.iterationNumber(run: info.run, step: info.step) == info.number,
                pins.sorted() == info.pins.sorted()
            else { return .cancel }
            return .commit(replacing: info.number)
        }
        guard case .committed = outcome else { return nil }
        let id = ChunkID.of(bytes).hex
        result.newID = id
        for note in info.notes { _ = try annotate("#" + id, metrics: [:], note: note) }
        return result
    }

    /// The head of an iteration of its weights alone; nil where there is nothing else in it.
    private func weightsHead(_ info: IterationInfo, _ session: SaveSession) throws -> Head? {
        let (manifest, lock) = try manifest(of: info)
        defer { withExtendedLifetime(lock) {} }
        let entries = try weights(info, manifest, lock)
        guard entries.count < manifest.roots.entries.count else { return nil }
        return try head(info, manifest, entries, session)
    }

    /// The entries of the weights, and what goes with them.
    private func weights(
        _ info: IterationInfo, _ manifest: Manifest, _ lock: ReaderLock
    ) throws -> [Roots.Entry] {
        let files = try WeightFiles(
            try view(of: info, manifest, lock), layout: Layouts.named(info.layout))
        let kept = manifest.roots.entries.filter { $0.kind == .folder || files.has($0.path) }
        // A folder of nothing else goes as well.
        return kept.filter { entry in
            entry.kind != .folder || entry.path.isEmpty
                || kept.contains {
                    $0.kind != .folder && $0.path.starts(with: entry.path + [UInt8(ascii: "/")])
                }
        }
    }

    private func head(
        _ info: IterationInfo, _ manifest: Manifest, _ entries: [Roots.Entry], _ session: SaveSession
    ) throws -> Head {
        let writer = ManifestWriter(session: session, tree: BlobTree(chunkSize: chunkSize))
        var head = manifest.head
        var metadata = try metadata(of: info, head)
        metadata[Self.weightsOfKey] = "\"\(info.id.hex)\""
        head.metrics = info.metrics
        head.logicalBytes = entries.reduce(0) { $0 + manifest.size(of: $1) }
        head.fileCount = entries.count { if case .file = $0.kind { true } else { false } }
        head.tensorCount = entries.reduce(0) { count, entry in
            guard case .file(.split(let schema, _)) = entry.kind else { return count }
            return count + manifest.schemas[schema]!.tensors.count
        }
        head.roots = try writer.blob(Roots(entries).encoded())
        head.metadata = try writer.blob(Metadata(metadata).encoded())
        try writer.flush()
        return head
    }
}
