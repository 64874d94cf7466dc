internal import Platform

/// Sees when iterations in an output folder change, cheaply however many there are.
final class Watcher {
    /// Seconds between two looks while files are being written.
    private static let shortest = 0.2
    /// Seconds between two looks where no event tells.
    private static let polling = 1.0
    /// Seconds after which everything is looked at again, events or not.
    private static let sweep = 60.0
    /// Iterations whose files are looked at on each poll, besides those that were not saved yet.
    private static let recent = 4

    let path: Path
    private(set) var output: OutputFolder?
    private(set) var settling = Settling()
    private var events: FolderEvents?
    /// Candidates' folders in which something changed; nil: it may be any.
    private var changed: Set<Path>?
    private var nextSweep = 0.0
    /// Candidates that were not complete when they were quiet for the first time.
    private var waiting: Set<Candidate> = []

    init(_ path: Path) throws {
        self.path = path
        if FolderEvents.works(on: path) { events = try? FolderEvents() }
    }

    /// Looks at what has changed.
    /// - Returns: candidates to be looked at, the oldest first.
    func look() throws -> [Candidate] {
        let now = Clock.monotonic
        do {
            let output = try OutputFolder(path)
            self.output = output
            if let events, !events.watch(path) { self.events = nil }
            let candidates = try output.candidates()
            let isSweep = now >= nextSweep
            if isSweep { nextSweep = now + Self.sweep }
            let recent = Set(candidates.suffix(Self.recent))
            let before = settling
            try settling.update(candidates, at: now) { candidate in
                let isWanted =
                    isSweep || before.isOpen(candidate) || (events == nil && recent.contains(candidate))
                    || hasChanged(candidate, output)
                return isWanted ? try state(of: candidate, in: output) : nil
            }
            changed = []
            return settling.due(at: Clock.monotonic)
        } catch let error as CairnError where error.code == .notFound {
            // It comes when the training starts, or again when somebody has made room.
            (output, changed) = (nil, nil)
            settling = Settling()
            events?.forget(path)
            return []
        }
    }

    func finish(_ candidate: Candidate) { settling.finish(candidate) }

    func postpone(_ candidate: Candidate) { settling.postpone(candidate, at: Clock.monotonic) }

    /// It is not complete. Looks again after a while, the first time.
    /// - Returns: whether it will.
    func postpone(refused candidate: Candidate) -> Bool {
        guard waiting.insert(candidate).inserted else {
            waiting.remove(candidate)
            finish(candidate)
            return false
        }
        postpone(candidate)
        return true
    }

    /// Waits until there may be something to look at.
    func wait() {
        let now = Clock.monotonic
        let due = (settling.nextDue ?? .infinity) - now
        guard let events, output != nil else {
            Clock.sleep(seconds: max(0.01, min(due, Self.polling)))
            return
        }
        guard let folders = events.wait(seconds: max(0.01, min(due, nextSweep - now, Self.sweep))) else {
            (changed, nextSweep) = (nil, 0)
            return
        }
        changed?.formUnion(folders)
        if !folders.isEmpty { Clock.sleep(seconds: Self.shortest) }
    }

    private func hasChanged(_ candidate: Candidate, _ output: OutputFolder) -> Bool {
        guard let changed else { return true }
        if candidate.files != nil || output.hasFile(candidate.path) { return !changed.isEmpty }
        let folder = path.appending(candidate.path)
        return changed.contains { folder.contains($0) }
    }

    /// A number that differs when a file does, and watches the folders that it looks into.
    private func state(of candidate: Candidate, in output: OutputFolder) throws -> Int {
        var hasher = Hasher()
        do {
            let view = try output.view(of: candidate)
            for file in view.files { hasher.combine(file) }
            for folder in view.folders { hasher.combine(folder) }
            watchFolders(of: view, candidate, output)
        } catch let error as CairnError where error.code == .notFound {
            // Gone meanwhile.
        }
        return hasher.finalize()
    }

    private func watchFolders(of view: CheckpointView, _ candidate: Candidate, _ output: OutputFolder) {
        guard let events, !output.hasFile(candidate.path) else { return }
        let folder = path.appending(candidate.path)
        let folders = [folder] + view.folders.map { folder.appending($0) }
        // Where there are too many for events, looking now and then has to do.
        if !folders.allSatisfy({ events.watch($0) }) { self.events = nil }
    }
}
