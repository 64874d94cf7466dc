internal import ChunkStore
internal import Platform

/// How to watch a training's output folder.
public struct WatchOptions: Sendable {
    /// Which iterations are saved where a training writes them faster than they are saved.
    public enum WhenBehind: String, Sendable, CaseIterable {
        /// The newest of those that wait; the others are left.
        case newest
        /// All of them, the oldest first.
        case all
    }

    /// As in `SaveOptions`.
    public var run: String?
    /// As in `SaveAllOptions`.
    public var move: Bool
    /// Ends once everything that is there has been looked at.
    public var once: Bool
    public var whenBehind: WhenBehind

    public init(run: String? = nil, move: Bool = false, once: Bool = false, whenBehind: WhenBehind = .all) {
        self.run = run
        self.move = move
        self.once = once
        self.whenBehind = whenBehind
    }
}

extension Store {
    /// Saves iterations as a training writes them, until it is interrupted: each once it is complete and nothing changed for two
    /// seconds. The folder may come later, and iterations may vanish at any time.
    /// - Parameter report: told of each iteration that was saved, and of each that could not be.
    /// - Throws: `.interrupted`; what is wrong with an iteration is in its outcome, and it is tried again.
    public func watch(
        _ path: String, options: WatchOptions, progress: Progress, report: (SavedIteration) -> Void
    ) throws {
        let watcher = try Watcher(Path(path))
        var said: [Candidate: String] = [:]
        while true {
            try progress.checkInterruption("everything that was reported is saved")
            var due = try watcher.look()
            if options.whenBehind == .newest, due.count > 1 {
                due.dropLast().forEach(watcher.finish)
                due = [due.last!]
            }
            if let output = watcher.output {
                for candidate in due {
                    try take(candidate, output, watcher, options, progress) { one in
                        // The same again is no news.
                        if said.updateValue(one.words, forKey: candidate) != one.words { report(one) }
                    }
                }
            }
            if options.once, watcher.settling.isIdle { return }
            if due.isEmpty { watcher.wait() }
        }
    }

    private func take(
        _ candidate: Candidate, _ output: OutputFolder, _ watcher: Watcher, _ options: WatchOptions,
        _ progress: Progress, _ report: (SavedIteration) -> Void
    ) throws {
        let found: Found
        do {
            found = try output.look(at: candidate)
        } catch let error as CairnError where error.code == .notFound || error.code == .changed {
            return watcher.finish(candidate)
        }
        if found.isOther { return watcher.finish(candidate) }
        let run = try self.run(options.run, try FileSystem.resolved(output.path).text)
        var result = try save(found, in: output, run, SaveAllOptions(run: run), progress)
        switch result.outcome {
        case .refused:
            // Mostly its other files are still to come: that is worth a word only when it stays so.
            if !options.once, watcher.postpone(refused: candidate) { return }
        case .failed(let error) where error.code == .changed || error.code == .notFound:
            // Its framework writes on, or has deleted it: no error, and looked at again if it is still there.
            return watcher.postpone(candidate)
        case .failed: watcher.postpone(candidate)
        case .saved, .known:
            watcher.finish(candidate)
            if options.move { result.isMoved = try moveOthers(output, run, found, progress) }
        }
        if case .known = result.outcome, !result.isMoved { return }
        report(result)
    }

    /// Deletes the originals that may go now that another iteration is in the store.
    /// - Returns: whether the given one is gone.
    private func moveOthers(_ output: OutputFolder, _ run: String, _ own: Found, _ progress: Progress) throws
        -> Bool
    {
        let found = try OutputFolder(output.path).iterations()
        var moving = try Moving(output, found)
        var isOwnGone = false
        for one in found where one.inspection.isComplete {
            let known = SavedIteration(
                name: one.candidate.name, layout: one.layout?.name, step: one.step, outcome: .known)
            do {
                let isGone = try move(one, known, run, &moving, progress)
                isOwnGone = isOwnGone || (isGone && one.candidate == own.candidate)
            } catch let error as CairnError where error.code == .notFound || error.code == .changed {
                continue
            }
        }
        return isOwnGone
    }
}

extension SavedIteration {
    /// What there is to say, so that the same is not said twice.
    fileprivate var words: String {
        switch outcome {
        case .saved(let result): "saved \(result.id ?? "")"
        case .known: "known"
        case .refused(let reasons): reasons.joined(separator: "; ")
        case .failed(let error): error.message
        }
    }
}
