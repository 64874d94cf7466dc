internal import Platform

/// Sees when iterations in an output folder change, cheaply however many there are.
final class Watcher {
    /// Seconds between two looks while files are being written.
    private static let shortest = 0.2
    /// Seconds between two listings of everything, which cost more.
    private static let listing = 0.5
    /// Seconds between two looks at the newest where no event tells, and at all folders.
    private static let (polling, slowPolling) = (0.5, 2.0)
    /// Seconds after which everything is looked at again, events or not.
    private static let sweep = 60.0
    /// Iterations whose files are looked at on each poll, besides those that were not dealt with yet.
    private static let recent = 4
    /// Seconds between two looks at whether to stop.
    private static let patience = 0.25

    let path: Path
    private(set) var output: OutputFolder?
    private(set) var candidates: [Candidate] = []
    private(set) var settling = Settling()
    private let mayUseEvents: Bool
    private var events: FolderEvents?
    /// What changed since the last look; nil: anything may have.
    private var changes: FolderEvents.Changes?
    /// The folders that names were looked up in, and what they were like just before.
    private var listed: [Path: FileStatus] = [:]
    /// Candidates that are files among others.
    private var files: Set<Candidate> = []
    private var nextSweep = 0.0
    /// When to list again, as far as that is clear.
    private var nextListing: Double?
    private var lastListing = -Double.infinity
    private var nextSlowPoll = 0.0

    /// - Parameter mayUseEvents: false: looks again and again, as where events can't work.
    init(_ path: Path, mayUseEvents: Bool = true) {
        self.path = Path(path.withoutTrailingSlashes)
        self.mayUseEvents = mayUseEvents
    }

    /// Everything was looked at.
    var isIdle: Bool { settling.isIdle }

    // MARK: Looking

    /// Looks at what has changed.
    /// - Returns: candidates that are to be dealt with, the longest quiet first.
    /// - Throws: where the folder can't be read, but not where it is not there.
    func look() throws -> [Candidate] {
        do {
            try listIfNeeded()
            update()
        } catch let error as CairnError where error.code == .notFound {
            changes = nil
            // Something in it may have vanished at an unlucky moment.
            guard try FileSystem.status(path, followLinks: true) == nil else { throw error }
            // It comes when the training starts, or again when somebody has made room.
            (output, events, candidates, listed) = (nil, nil, [], [:])
            settling = Settling()
            return []
        }
        return settling.due(at: Clock.monotonic)
    }

    /// Whether a candidate is what it was when it became due. If not, it is due again once it is quiet.
    func isStill(_ candidate: Candidate) -> Bool {
        guard let output else { return false }
        return settling.update(candidate, at: Clock.monotonic, state: state(of: candidate, in: output))
    }

    func attempts(_ candidate: Candidate) -> Int { settling.attempts(candidate) }

    func finish(_ candidate: Candidate, isSaved: Bool) { settling.finish(candidate, isSaved: isSaved) }

    /// - Parameter seconds: nil: the longer the more often that was so.
    func postpone(_ candidate: Candidate, by seconds: Double? = nil) {
        settling.postpone(candidate, at: Clock.monotonic, by: seconds)
    }

    // MARK: Which candidates there are

    private func listIfNeeded() throws {
        let now = Clock.monotonic
        if changes == nil || now >= nextSweep {
            nextSweep = now + Self.sweep
            changes = nil
            return try list(now)
        }
        if try haveNamesChanged(now) {
            nextListing = min(nextListing ?? .infinity, max(now, lastListing + Self.listing))
        }
        if let nextListing, now >= nextListing { try list(now) }
    }

    private func haveNamesChanged(_ now: Double) throws -> Bool {
        if events != nil { return changes.map { !$0.listings.isEmpty } ?? true }
        let isSlow = now >= nextSlowPoll
        if isSlow { nextSlowPoll = now + Self.slowPolling }
        let changed = try listed.filter { folder, before in
            guard isSlow || folder == path else { return false }
            let status = try FileSystem.status(folder, followLinks: true)
            return status.map { $0.differsInContent(from: before) } ?? true
        }
        changes?.folders.formUnion(changed.keys)
        return !changed.isEmpty
    }

    private func list(_ now: Double) throws {
        if mayUseEvents, output == nil, events == nil, FolderEvents.works(on: path) {
            events = try? FolderEvents()
        }
        let before = listed
        // A folder that is first watched after it was listed may have changed in between.
        repeat { try listOnce() } while watchListed()
        lastListing = now
        nextListing = nil
        let changed = listed.filter { folder, status in
            before[folder].map { status.differsInContent(from: $0) } ?? true
        }
        changes?.folders.formUnion(changed.keys)
        // What changed twice within a tick of its file system's clock looks as if it had changed once.
        if events == nil, !changed.isEmpty { nextListing = now + Self.slowPolling }
    }

    private func listOnce() throws {
        let visited = Monitor<[Path: FileStatus]>([:])
        let output = try OutputFolder(path) { folder in
            let status = try? FileSystem.status(folder, followLinks: true)
            visited.change { $0[folder] = status ?? nil }
        }
        candidates = try output.candidates()
        for (name, status) in output.entries where status.kind == .folder {
            // Candidates may appear in it.
            visited.change { if $0[path.appending(name)] == nil { $0[path.appending(name)] = status } }
        }
        files = Set(try candidates.filter { try isFile($0, output) })
        listed = visited.change { $0 }
        self.output = output
    }

    private func isFile(_ candidate: Candidate, _ output: OutputFolder) throws -> Bool {
        if candidate.files != nil || output.hasFile(candidate.path) { return true }
        if output.hasFolder(candidate.path) { return false }
        return try FileSystem.status(path.appending(candidate.path), followLinks: true)?.kind == .file
    }

    /// - Returns: whether there are folders that were not watched before.
    private func watchListed() -> Bool {
        guard let events else { return false }
        let before = events.count
        // Where there are too many for events, looking now and then has to do.
        if !listed.keys.allSatisfy({ events.watch($0) }) { self.events = nil }
        return events.count > before
    }

    // MARK: What they are like

    private func update() {
        guard let output else { return }
        let recent = events == nil ? Set(candidates.suffix(Self.recent)) : []
        let before = settling
        settling.update(candidates, at: Clock.monotonic) { candidate in
            let isWanted =
                before.isOpen(candidate) || recent.contains(candidate)
                || hasChanged(candidate, isSaved: before.isSaved(candidate))
            return isWanted ? state(of: candidate, in: output) : nil
        }
        changes = FolderEvents.Changes()
    }

    private func hasChanged(_ candidate: Candidate, isSaved: Bool) -> Bool {
        guard let changes else { return true }
        if changes.folders.isEmpty { return false }
        guard files.contains(candidate) else {
            let folder = path.appending(candidate.path)
            return changes.folders.contains { folder.contains($0) }
        }
        let concerned = isSaved ? candidate.own : candidate.own + candidate.others
        return concerned.map { path.appending($0) }.contains { file in
            // Without events, only the folder is known.
            events == nil ? changes.folders.contains(file.parent) : changes.files.contains(file)
        }
    }

    /// What the files of a candidate are like; watches the folders that it looks into.
    private func state(of candidate: Candidate, in output: OutputFolder) -> Settling.State {
        do {
            let view: CheckpointView
            if candidate.files == nil {
                view = try output.view(of: candidate)
                if !files.contains(candidate) { watch(view, path.appending(candidate.path)) }
            } else {
                view = try CheckpointView(path, files: candidate.own)
            }
            return Settling.State(
                view,
                beside: try candidate.others.map { name in
                    try FileSystem.status(path.appending(name), followLinks: true)
                })
        } catch {
            // Gone meanwhile, or not to be read, which whoever deals with it finds out.
            return Settling.State(digest: "\(error)".hashValue, oldest: .max, newest: .min)
        }
    }

    private func watch(_ view: CheckpointView, _ folder: Path) {
        guard let events else { return }
        let folders = [folder] + view.folders.map { folder.appending($0) }
        if !folders.allSatisfy({ events.watch($0) }) { self.events = nil }
    }

    // MARK: Waiting

    /// Waits until there may be something to look at.
    func wait(atMost seconds: Double = .infinity, unless isOver: () -> Bool) {
        let start = Clock.monotonic
        var end =
            output == nil
            ? .infinity : min(settling.nextDue ?? .infinity, nextListing ?? .infinity, nextSweep)
        if events == nil || output == nil || changes == nil { end = min(end, start + Self.polling) }
        end = min(end, start + seconds)
        while !isOver() {
            let left = max(0.01, min(end - Clock.monotonic, Self.patience))
            if let events, output != nil {
                guard take(events.wait(seconds: left)) else {
                    // More is to follow, as a rule.
                    return Clock.sleep(seconds: min(Self.shortest, seconds))
                }
            } else {
                Clock.sleep(seconds: left)
            }
            if Clock.monotonic >= end { return }
        }
    }

    /// - Returns: whether nothing happened, so that waiting can go on.
    private func take(_ happened: FolderEvents.Changes?) -> Bool {
        if let happened, happened.folders.isEmpty { return true }
        if let happened { changes?.formUnion(happened) } else { changes = nil }
        return false
    }
}

extension Candidate {
    /// The files that are not its own alone.
    fileprivate var others: [String] { shared + beside }
}

extension Settling.State {
    fileprivate init(_ view: CheckpointView, beside: [FileStatus?]) {
        var hasher = Hasher()
        hasher.combine(view.files)
        hasher.combine(view.folders)
        let times = view.files.map(\.time)
        self.init(
            digest: hasher.finalize(), beside: beside.hashValue, oldest: times.min() ?? .max,
            newest: times.max() ?? .min)
    }
}

extension CheckpointView.File {
    /// Nanoseconds since 1970 UTC; the nearest that there is for years that have none.
    fileprivate var time: Int64 {
        let (whole, isBeyond) = seconds.multipliedReportingOverflow(by: 1_000_000_000)
        return isBeyond ? (seconds < 0 ? .min : .max) : whole &+ Int64(nanoseconds)
    }
}
