internal import ChunkStore
internal import Platform

extension Store {
    /// Saves every complete iteration of a training's output folder that the store does not have, the oldest first.
    ///
    /// Another content at a step that the store has takes its place. Where tensors differ, the training went back, and what came after
    /// is superseded. An iteration of which only a part is left in the folder changes nothing.
    /// - Parameter report: told of each as soon as it is done.
    /// - Throws: `.notFound` or `.usage` where there is no such folder, or the run is not clear. What is wrong with one iteration is in
    ///   its outcome.
    @discardableResult
    public func saveAll(
        _ path: String, options: SaveAllOptions = SaveAllOptions(), progress: Progress = .silent,
        report: (SavedIteration) -> Void = { _ in }
    ) throws -> [SavedIteration] {
        defer { progress.end() }
        let output = try OutputFolder(Path(path))
        try Intake.check(output.path, store: chunks.folder)
        let run = try run(options.run, forOutput: output.path)
        let moves = options.move && !options.dryRun
        if moves { try OriginalRemoval.finish(in: output.path) }
        var intake = Intake(self, run: run, dryRun: options.dryRun, progress)
        var results: [SavedIteration] = []
        func say(_ one: SavedIteration) {
            report(one)
            results.append(one)
        }
        var found: [Found] = []
        for candidate in try output.candidates() {
            try progress.checkInterruption()
            switch try intake.look(at: candidate, in: output) {
            case .found(let one): found.append(one)
            case .failed(let one): say(one)
            case .gone: break
            }
        }
        let looked = Clock.monotonic
        for var one in found.sorted(by: { $0.isBefore($1) }) {
            try progress.checkInterruption("what was saved so far is kept")
            if Clock.monotonic > looked + 1 {
                // Meanwhile the training has written on.
                guard case .found(let now) = try intake.look(at: one.candidate, in: output) else { continue }
                one = now
            }
            guard var result = try intake.take(one, in: output) else { continue }
            if moves { try intake.move(one.candidate, in: output, &result) }
            say(result)
        }
        return results
    }

    /// The run to save an output folder into, which may not be there yet.
    /// - Throws: `.usage` where the name is none, or the store's only run belongs to another folder.
    func run(_ given: String?, forOutput path: Path) throws -> String {
        if let given { return try RunName(given).text }
        return try run(nil, try FileSystem.expected(path).text)
    }

    /// Saves one iteration of an output folder, unless the store has it.
    /// - Throws: `.interrupted` alone; whatever else happens is in the outcome.
    func save(
        _ found: Found, in output: OutputFolder, _ run: String, _ options: SaveAllOptions,
        _ progress: Progress
    ) throws -> SavedIteration {
        var result = SavedIteration(found, .known)
        do {
            result.outcome = try outcome(found, output, run, options, progress)
        } catch let error as CairnError where error.code != .interrupted {
            result.outcome = .failed(error)
        }
        return result
    }

    private func outcome(
        _ found: Found, _ output: OutputFolder, _ run: String, _ options: SaveAllOptions, _ progress: Progress
    ) throws -> SavedIteration.Outcome {
        guard found.inspection.isComplete else { return .refused(found.inspection.faults) }
        guard let step = found.step else {
            return .refused(["neither its name nor anything inside says which step it is"])
        }
        let subject = try SaveSubject(found.candidate, in: output)
        let existing = try iteration(run: run, step: step)
        if let existing, try likeness(of: subject, to: existing).isKnown { return .known }
        var saving = SaveOptions(run: run, step: step, replace: existing != nil, dryRun: options.dryRun)
        saving.goesBack = true
        let result = try save(subject, saving, progress)
        return result.unchanged ? .known : .saved(result)
    }

    /// What an iteration of the store is to files on disk, by their sizes, times and modes: their content is not read.
    enum Likeness {
        /// They are those that were saved.
        case same
        /// One is a part of the other: somebody deleted some of the files, or a policy let go of all but the weights.
        case part
        case different

        var isKnown: Bool { self != .different }
    }

    func isUnchanged(_ subject: SaveSubject, since info: IterationInfo) throws -> Bool {
        try likeness(of: subject, to: info) == .same
    }

    func likeness(of subject: SaveSubject, to info: IterationInfo) throws -> Likeness {
        let tree = try SourceTree(
            subject.path, files: subject.files, followsLinks: false, store: chunks.folder,
            isIncluded: subject.includes)
        let (manifest, lock) = try manifest(of: info)
        defer { withExtendedLifetime(lock) {} }
        // The folder itself changes its time with what is beside the files of a step, and what others need as well with them.
        let isOwn = { (path: [UInt8]) in !path.isEmpty && !subject.shared.contains(path) }
        let present = tree.entries.filter { isOwn($0.path) }
        let saved = manifest.roots.entries.filter { isOwn($0.path) }
        let matches = present.count { entry in
            manifest.roots[entry.path].map { $0.matches(entry, size: manifest.size(of: $0)) } ?? false
        }
        if matches == present.count { return matches == saved.count ? .same : .part }
        let isWeights = try metadata(of: info, manifest.head)[Self.weightsOfKey] != nil
        return isWeights && matches == saved.count ? .part : .different
    }
}

extension Found {
    /// By step; of one step, those first whose names say it.
    fileprivate func isBefore(_ other: Found) -> Bool {
        (step ?? .max, candidate) < (other.step ?? .max, other.candidate)
    }
}

extension SavedIteration {
    init(_ found: Found, _ outcome: Outcome) {
        self.init(
            name: found.candidate.name, layout: found.layout?.name, step: found.step, outcome: outcome)
    }
}

extension Roots.Entry {
    /// Whether what is on disk has the kind, size, time and mode of what was saved.
    fileprivate func matches(_ entry: SourceTree.Entry, size: UInt64) -> Bool {
        switch kind {
        case .folder: entry.status.kind == .folder
        case .link(let target): entry.target == target
        case .file:
            entry.status.kind == .file && entry.target == nil && entry.status.size == size
                && entry.status.seconds == mtime && entry.status.nanoseconds == nanoseconds
                && entry.status.mode == mode
        }
    }
}
