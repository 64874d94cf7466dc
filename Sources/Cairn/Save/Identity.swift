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
    private let inspection: Inspection

    /// The metadata key under which it is recorded why the framework called it unhealthy.
    static let unhealthyKey = "cairn.unhealthy"

    /// - Throws: `.usage` where no step is found, where name and content disagree, or where PATH holds iterations instead of being one.
    init(_ subject: SaveSubject, _ tree: SourceTree, _ options: SaveOptions) throws {
        let path = subject.path
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
        if let entry = tree.entries.first(where: { $0.path.elementsEqual("trainer_state.json".utf8) }),
            entry.target == nil, entry.status.kind == .file
        {
            try Self.checkTrainerState(entry)
        }
        var view = try subject.view(tree.root)
        // Whoever names it thinks that it is whole.
        view.mayBeUnfinished = false
        let layout = try Layouts.layout(of: view)
        let inspection = try layout?.inspect(view) ?? Inspection()
        let name = [path.name, tree.root.name].lazy.compactMap { name in
            (StepNames.step(of: name) ?? layout?.step(ofFile: String(decoding: name, as: UTF8.self))).map {
                (text: Path.text(of: name), step: $0)
            }
        }.first
        step = try StepSource.decide(
            option: options.step, name: name,
            content: inspection.step.map { (file: inspection.stepFile ?? "what is in it", step: $0) }
        ).step
        metrics = inspection.metrics.merging(options.metrics) { _, given in given }
        metadata = options.metadata
        if let best = inspection.bestMetricName, metadata[TrainerState.bestMetricNameKey] == nil {
            metadata[TrainerState.bestMetricNameKey] = "\"\(best)\""
        }
        metadata[SavedPlace.key] = subject.place(tree).text
        // What says so may not be in it.
        metadata[Self.unhealthyKey] = inspection.unhealthy
        self.layout = layout?.name ?? "files"
        origin = subject.output?.text ?? tree.root.parent.text
        self.inspection = inspection
    }

    func heading(run: String) -> SaveHeading {
        SaveHeading(
            run: run, step: step, layout: layout, origin: origin, metrics: metrics, metadata: metadata)
    }

    /// What whoever saves it may not know, in sentences.
    /// - Parameter said: the files of which it is said already that they are not what their names say.
    func warnings(_ path: Path, except said: [String]) -> [String] {
        var warnings: [String] = []
        let faults = inspection.faults.filter { fault in !said.contains { fault.hasPrefix($0) } }
        if !faults.isEmpty {
            warnings.append("\(path) is not complete: \(faults.joined(separator: "; "))")
        }
        if let unhealthy = inspection.unhealthy {
            warnings.append("\(path) is not healthy: \(unhealthy)")
        }
        return warnings
    }

    private static func checkTrainerState(_ entry: SourceTree.Entry) throws {
        let bytes = try File(entry.source, .read).readToEnd()
        do {
            _ = try TrainerState(bytes)
        } catch {
            throw CairnError(error.code, "\(entry.source.parent): \(error.message)", path: entry.source.text)
        }
    }
}
