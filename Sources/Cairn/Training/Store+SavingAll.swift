internal import ChunkStore
internal import Platform

extension Store {
    /// Saves every complete iteration of a training's output folder that the store does not have, the oldest first.
    ///
    /// Another content at a step that the store has takes its place, and what came after is superseded: the training went back.
    /// - Parameter report: told of each as soon as it is done.
    /// - Throws: `.notFound` or `.usage` where there is no such folder, or the run is not clear. What is wrong with one iteration is in
    ///   its outcome.
    @discardableResult
    public func saveAll(
        _ path: String, options: SaveAllOptions = SaveAllOptions(), progress: Progress = .silent,
        report: (SavedIteration) -> Void = { _ in }
    ) throws -> [SavedIteration] {
        let output = try OutputFolder(Path(path))
        let found = try output.iterations()
        let run = try self.run(options.run, try FileSystem.resolved(output.path).text)
        var moving = try Moving(output, found)
        var results: [SavedIteration] = []
        for one in found {
            try progress.checkInterruption("what was saved so far is kept")
            var result = try save(one, in: output, run, options, progress)
            if options.move, !options.dryRun {
                result.isMoved = try move(one, result, run, &moving, progress)
            }
            report(result)
            results.append(result)
        }
        return results
    }

    /// Saves one iteration of an output folder, unless the store has it.
    /// - Throws: `.interrupted` alone; whatever else happens is in the outcome.
    func save(
        _ found: Found, in output: OutputFolder, _ run: String, _ options: SaveAllOptions,
        _ progress: Progress
    ) throws -> SavedIteration {
        var result = SavedIteration(
            name: found.candidate.name, layout: found.layout?.name, step: found.step, outcome: .known)
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
        if let existing, try isUnchanged(subject, since: existing) || isOlder(subject, than: existing) {
            return .known
        }
        let result = try save(
            subject, SaveOptions(run: run, step: step, replace: existing != nil, dryRun: options.dryRun),
            progress)
        if result.unchanged { return .known }
        if existing != nil, let id = result.id { _ = try rewind(to: "#\(id)") }
        return .saved(result)
    }

    /// Whether other files of the same step are newer, as `last.ckpt` may be beside `step=16.ckpt`: of several, the newest counts.
    private func isOlder(_ subject: SaveSubject, than info: IterationInfo) throws -> Bool {
        let tree = try SourceTree(
            subject.path, followsLinks: false, store: chunks.folder, isIncluded: subject.includes)
        let (manifest, lock) = try manifest(of: info)
        defer { withExtendedLifetime(lock) {} }
        let saved = manifest.roots.entries.filter { $0.kind != .folder }
        let present = tree.entries.filter { $0.status.kind != .folder }
        guard Set(saved.map(\.path)).isDisjoint(with: present.map(\.path)) else { return false }
        let times = present.map { ($0.status.seconds, $0.status.nanoseconds) }
        guard let newest = times.max(by: <), let known = saved.map({ ($0.mtime, $0.nanoseconds) }).max(by: <)
        else { return false }
        return newest <= known
    }

    /// Whether the files on disk have the sizes, times and modes of those that were saved: then their content is not read again.
    func isUnchanged(_ subject: SaveSubject, since info: IterationInfo) throws -> Bool {
        let tree = try SourceTree(
            subject.path, followsLinks: false, store: chunks.folder, isIncluded: subject.includes)
        let (manifest, lock) = try manifest(of: info)
        defer { withExtendedLifetime(lock) {} }
        // The folder itself changes its time with what is beside the files of a step.
        let saved = manifest.roots.entries.filter { !$0.path.isEmpty }
        let present = tree.entries.filter { !$0.path.isEmpty }
        return saved.count == present.count
            && zip(saved, present).allSatisfy { saved, present in
                saved.path == present.path && saved.matches(present, size: manifest.size(of: saved))
            }
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
