internal import ChunkStore
internal import Platform

/// What a checkpoint says about itself: its step, its metrics, its layout, and the output folder it lies in.
struct Identity {
    var step: UInt64
    var metrics: [String: Double]
    var metadata: [String: String]
    var layout: String
    /// Absolute, without links.
    var origin: String

    /// - Throws: `.usage` where no step is found, where name and content disagree, or where PATH holds iterations instead of being one.
    init(_ path: Path, _ tree: SourceTree, _ options: SaveOptions) throws {
        let names = tree.entries.filter { !$0.path.contains(UInt8(ascii: "/")) }.map(\.path)
        if options.step == nil {
            let iterations = StepNames.iterations(entryNames: names)
            if StepNames.step(of: tree.root.name) == nil, !iterations.isEmpty {
                let list = listed(iterations.map { Path.text(of: $0.name) })
                throw CairnError(
                    .usage,
                    "\(path) holds iterations (\(list)); save one of them, or pass --step to save all as one",
                    path: path.text)
            }
        }
        var state: TrainerState?
        if let entry = tree.entries.first(where: { $0.path.elementsEqual("trainer_state.json".utf8) }),
            entry.target == nil, entry.status.kind == .file
        {
            state = try Self.trainerState(entry)
        }
        let name = [path.name, tree.root.name].lazy.compactMap { name in
            StepNames.step(of: name).map { (text: Path.text(of: name), step: $0) }
        }.first
        step = try StepSource.decide(
            option: options.step, name: name,
            content: state?.globalStep.map { (file: "trainer_state.json", step: $0) }
        ).step
        metrics = (state?.metrics ?? [:]).merging(options.metrics) { _, given in given }
        metadata = options.metadata
        if let best = state?.bestMetricName, metadata[TrainerState.bestMetricNameKey] == nil {
            metadata[TrainerState.bestMetricNameKey] = "\"\(best)\""
        }
        let hasWeights = names.contains { ModelFiles.part(of: $0) == .model }
        layout = state != nil || hasWeights ? "hf" : "files"
        origin = tree.root.parent.text
    }

    private static func trainerState(_ entry: SourceTree.Entry) throws -> TrainerState {
        let bytes = try File(entry.source, .read).readToEnd()
        do {
            return try TrainerState(bytes)
        } catch {
            throw CairnError(error.code, "\(entry.source.parent): \(error.message)", path: entry.source.text)
        }
    }
}
