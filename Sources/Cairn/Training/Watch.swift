internal import ChunkStore
internal import Platform

/// One `watch`, from its beginning to its end.
final class Watch {
    /// How often the folder can't be read one after the other before that is worth a word: one time may be bad luck.
    private static let patience = 3
    /// Seconds after which an iteration that is not complete is looked at once more, and called so.
    private static let grace = 30.0

    /// How often an iteration is put off, by two seconds each time, because a file of it is open for writing.
    private static let writingPatience = 5

    private let store: Store
    private let options: WatchOptions
    private let progress: Progress
    private let report: (SavedIteration) -> Void
    private let note: (String) -> Void
    private let watcher: Watcher
    private var intake: Intake
    private let path: Path
    /// What was said of candidates last: the same again is no news.
    private var said: [Candidate: String] = [:]
    /// Those that a pin keeps out, with their steps.
    private var pinned: [Candidate: UInt64] = [:]
    private var failures = 0
    private var lastNote: String?

    init(
        _ store: Store, _ path: Path, _ options: WatchOptions, _ progress: Progress,
        _ report: @escaping (SavedIteration) -> Void, _ note: @escaping (String) -> Void
    ) throws {
        (self.store, self.path, self.options, self.progress) = (store, path, options, progress)
        (self.report, self.note) = (report, note)
        let isThere = try FileSystem.status(path, followLinks: true) != nil
        // Says at once what would never get better.
        if isThere || options.once {
            _ = try OutputFolder(path)
            try Intake.check(path, store: store.chunks.folder)
        }
        intake = Intake(store, run: try store.run(options.run, forOutput: path), progress)
        watcher = Watcher(path)
        if options.move, isThere { try OriginalRemoval.finish(in: path) }
    }

    func run() throws {
        while true {
            try progress.checkInterruption(Self.consequence)
            let due = try look()
            guard due.isEmpty else {
                try take(due)
                continue
            }
            // One at a time: what a training writes meanwhile comes first.
            let hasMoved = options.move ? try moveNext() : false
            if options.once, !hasMoved, failures == 0, watcher.isIdle { return }
            watcher.wait(atMost: hasMoved ? 0 : .infinity) { self.isInterrupted }
        }
    }

    private static let consequence = "everything that was reported is saved"

    private var isInterrupted: Bool {
        do { try progress.checkInterruption() } catch { return true }
        return false
    }

    private func look() throws -> [Candidate] {
        do {
            let due = try watcher.look()
            failures = 0
            let isThere = watcher.output != nil
            say(note: isThere ? nil : "there is no folder \(path); waiting for it")
            if isThere { forgetVanished() }
            return due
        } catch {
            failures += 1
            guard failures >= Self.patience else { return [] }
            if options.once { throw error }
            say(note: "\(error); trying again")
            return []
        }
    }

    private func say(note sentence: String?) {
        if let sentence, sentence != lastNote { note(sentence) }
        lastNote = sentence
    }

    private func forgetVanished() {
        guard said.count + pinned.count > 0 else { return }
        let present = Set(watcher.candidates)
        said = said.filter { present.contains($0.key) }
        pinned = pinned.filter { present.contains($0.key) }
    }

    private func take(_ due: [Candidate]) throws {
        guard let output = watcher.output else { return }
        var isCaughtUp = false
        for candidate in options.whenBehind == .newest ? due.reversed() : due {
            try progress.checkInterruption(Self.consequence)
            // Saving those before may have taken long.
            guard watcher.isStill(candidate) else { continue }
            if isCaughtUp, !intake.knows(candidate, in: output) {
                watcher.finish(candidate, isSaved: false)
                say(
                    SavedIteration(name: candidate.name, layout: nil, step: candidate.step, outcome: .left),
                    candidate)
            } else if try take(candidate, output) {
                isCaughtUp = options.whenBehind == .newest
            }
        }
        // What others delete in the store gives its space back once nobody has it open.
        store.chunks.closePacks()
    }

    /// - Returns: whether an original was deleted, or could not be.
    private func moveNext() throws -> Bool {
        do {
            guard let moved = try intake.moveNext(of: watcher.candidates, in: path) else { return false }
            say(moved, nil)
            store.chunks.closePacks()
            return true
        } catch let error as CairnError where error.code != .interrupted {
            // The folder can't be read: whoever looks at it next says so.
            return false
        }
    }

    /// - Returns: whether the store has it now.
    private func take(_ candidate: Candidate, _ output: OutputFolder) throws -> Bool {
        if let step = pinned[candidate], watcher.attempts(candidate) > 0, intake.isPinned(step) {
            watcher.postpone(candidate, by: Self.grace)
            return false
        }
        var result: SavedIteration
        switch try intake.look(at: candidate, in: output) {
        case .gone:
            // Or it is something else that has such a name, or is being written: then it changes.
            watcher.finish(candidate, isSaved: false)
            return false
        case .failed(let failed): result = failed
        case .found(let found):
            // Not for ever: a process that was started meanwhile may have it open without knowing.
            if !options.once, watcher.attempts(candidate) < Self.writingPatience,
                intake.reasonToWait(found, in: output) != nil
            {
                watcher.postpone(candidate, by: Settling.quiet)
                return false
            }
            guard let taken = try intake.take(found, in: output, evenIfOpen: !options.once) else {
                watcher.postpone(candidate)
                return false
            }
            result = taken
        }
        return settle(candidate, result)
    }

    /// - Returns: whether the store has it now.
    private func settle(_ candidate: Candidate, _ result: SavedIteration) -> Bool {
        switch result.outcome {
        case .saved, .known:
            watcher.finish(candidate, isSaved: true)
            if case .saved = result.outcome { say(result, candidate) }
            return true
        case .refused where !options.once && watcher.attempts(candidate) == 0:
            // Mostly its other files are still to come: that is worth a word only where it stays so.
            watcher.postpone(candidate, by: Self.grace)
            return false
        case .refused, .left: watcher.finish(candidate, isSaved: false)
        case .failed(let error):
            pinned[candidate] = error.code == .protected ? result.step : nil
            let isQuiet = error.code == .changed && watcher.attempts(candidate) < Self.patience
            watcher.postpone(candidate)
            // Its framework writes on: no error, and looked at again once it is quiet.
            if isQuiet, !options.once { return false }
        }
        say(result, candidate)
        return false
    }

    private func say(_ one: SavedIteration, _ candidate: Candidate?) {
        progress.end()
        if let candidate, said.updateValue(one.words, forKey: candidate) == one.words { return }
        report(one)
    }
}

extension SavedIteration {
    /// What there is to say, so that the same is not said twice.
    fileprivate var words: String {
        switch outcome {
        case .saved(let result): "saved \(result.id ?? "")"
        case .known: "known"
        case .left: "left"
        case .refused(let reasons): reasons.joined(separator: "; ")
        // What the system refuses is told by its number: the sentence may name another temporary file each time.
        case .failed(let error): error.errno.map { "\(error.code.rawValue) \($0)" } ?? error.message
        }
    }
}
