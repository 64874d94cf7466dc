internal import ChunkStore
internal import Platform

extension Store {
    /// Brings the newest valid iteration of a folder and this store together to where the training looks for it, saving it first where
    /// only the folder has it.
    ///
    /// Every step can be repeated: several nodes may do so at once, and a killed one is simply run again. Nothing is deleted.
    /// - Throws: `.notFound` where the run is not known; `.damage` where there are iterations, but none to go on from.
    public func resume(
        _ path: String, options: ResumeOptions = ResumeOptions(), progress: Progress = .silent
    ) throws -> ResumeResult {
        defer { progress.end() }
        let path = Path(path)
        let place = try FileSystem.expected(path)
        if chunks.folder.contains(place) {
            throw CairnError(
                .usage, "\(path) is in the store \(chunks.folder); pass the folder that a training writes to",
                path: path.text)
        }
        // The others find what the first one has done.
        let right = try chunks.resuming(place) {
            try progress.checkInterruption("nothing was changed")
        }
        defer { withExtendedLifetime(right) {} }
        var resumption = try Resumption(self, path, options, progress)
        resumption.right = right
        defer { resumption.staging?.remove() }
        let result = try resumption.perform()
        resumption.vouch()
        return result
    }
}

/// One search for what a training goes on from.
struct Resumption {
    let store: Store
    let path: Path
    let options: ResumeOptions
    let progress: Progress
    var result = ResumeResult()
    /// Made when it is first needed.
    var staging: Staging?
    /// nil where nothing can be written to the store.
    var right: ResumeLock?
    /// All of it was read, or written, just now: it is in the folder as it was saved.
    var read: ChunkID?

    /// What is in the folder, by step.
    var found: [Found] = []
    /// Those among it from which the training went back.
    var left: Set<Candidate> = []
    /// Those among it that can't be read.
    var unreadable: [Candidate: CairnError] = [:]
    let output: OutputFolder?
    let run: String
    /// Of the run, by step.
    var all: [IterationInfo] = []

    init(_ store: Store, _ path: Path, _ options: ResumeOptions, _ progress: Progress) throws {
        (self.store, self.path, self.options, self.progress) = (store, path, options, progress)
        if let layout = options.layout, Layouts.named(layout) == nil {
            throw CairnError(.usage, "there is no layout \(layout); see `cairn layouts`")
        }
        if try FileSystem.status(path, followLinks: true) != nil {
            let output = try OutputFolder(path)
            try Intake.check(path, store: store.chunks.folder)
            try Staging.removeStale(in: path)
            let (all, unreadable) = try Self.look(into: output)
            found = all.filter {
                options.layout == nil || $0.layout?.name == options.layout || unreadable[$0.candidate] != nil
            }
            self.unreadable = unreadable
            self.output = output
        } else {
            output = nil
        }
        run = try Self.run(store, options, path)
        if try store.chunks.read({ try $0.run(run) }) != nil { all = try store.iterations(run: run) }
        try findLeft()
    }

    /// - Throws: `.notFound` for a run that the store does not have, though it has others.
    private static func run(_ store: Store, _ options: ResumeOptions, _ path: Path) throws -> String {
        let name = try store.run(options.run, forOutput: path)
        guard options.run != nil else { return name }
        let scope = try store.chunks.read { try store.scope($0) }
        guard scope.iterations.isEmpty || scope.runs.contains(name) || options.firstRun else {
            throw scope.noRun(name)
        }
        return name
    }

    private mutating func findLeft() throws {
        guard let output else { return }
        for one in found where one.isValid {
            guard let info = all.last(where: { $0.step == one.step }), info.superseded else { continue }
            let subject = try SaveSubject(one.candidate, in: output)
            if try store.likeness(of: subject, to: info).isKnown { left.insert(one.candidate) }
        }
    }

    /// Complete, healthy, of a known step, and the training did not go back from it.
    func isValid(_ one: Found) -> Bool { one.isValid && !left.contains(one.candidate) }

    mutating func perform() throws -> ResumeResult {
        result.run = run
        if let reference = options.reference {
            try goBack(to: reference)
        } else {
            try goOn()
        }
        return result
    }

    // MARK: The newest

    /// What there is to go on from. Nothing of the store is held where it is the folder's: that may have to take the place of it.
    enum Choice {
        case found(Found)
        case saved(Brought)
        case nothing
    }

    private mutating func goOn() throws {
        let newest = newestFound()
        var tried = [IterationInfo](all.filter { !$0.superseded }.reversed())[...]
        while true {
            let choice = try choose(newest, &tried)
            try checkReadable(choice)
            switch choice {
            case .found(let newest):
                try mentionPointer(newest.layout, newest.candidate, newest.step!)
                return try take(newest)
            case .saved(let brought):
                do {
                    return try goOn(from: brought)
                } catch let error as CairnError where error.code == .damage {
                    result.notes.append(error.message)
                }
            case .nothing: return try goOnFromNothing()
            }
        }
    }

    private mutating func choose(_ newest: Found?, _ tried: inout ArraySlice<IterationInfo>) throws -> Choice
    {
        guard var saved = try newestSaved(&tried) else { return newest.map { .found($0) } ?? .nothing }
        if let newest, newest.step! > saved.info.step { return .found(newest) }
        try findDamage(&saved)
        guard let newest, newest.step! == saved.info.step else { return .saved(saved) }
        // Of one step, the folder's counts, unless it is a part of the store's, was the same before it was damaged, or has just vanished.
        let presence = try saved.presence()
        let isPlace = saved.isPlace(of: newest.candidate)
        let isLost = isPlace && (!saved.damaged.isEmpty || presence.isEmpty)
        return isLost || presence.isPart ? .saved(saved) : .found(newest)
    }

    private mutating func goOn(from saved: Brought) throws {
        var brought = saved
        try prepare(&brought)
        let step = brought.info.step
        try mentionPointer(brought.layout, brought.candidate, step)
        try setAside { !$0.isValid($1) && ($1.step ?? .max) > step }
        try bringBack(brought)
    }

    private mutating func goOnFromNothing() throws {
        guard all.isEmpty else {
            throw CairnError(
                .damage,
                "run \(run) has \(all.count) iterations, but none to go on from: "
                    + result.notes.joined(separator: "; "), path: path.text)
        }
        // What is not complete would be taken by the framework all the same.
        try setAside { !$0.isValid($1) }
    }

    private mutating func newestFound() -> Found? {
        for one in found.reversed() {
            if isValid(one) { return one }
            if let unhealthy = one.inspection.unhealthy {
                result.notes.append("\(one.candidate.name) is not healthy: \(unhealthy)")
            }
        }
        return nil
    }

    /// The newest of those that were not tried that is complete and healthy.
    private mutating func newestSaved(_ tried: inout ArraySlice<IterationInfo>) throws -> Brought? {
        while let info = tried.popFirst() {
            do {
                let view = try store.view(of: info)
                guard let layout = try Layouts.layout(of: view),
                    options.layout == nil || layout.name == options.layout
                else { continue }
                let inspection = try layout.inspect(view)
                let why = inspection.unhealthy ?? inspection.faults.first
                if why == nil, try store.incomplete([info]).isEmpty {
                    return try Brought(store, info, view, layout, inspection, options, path)
                }
                result.notes.append(
                    "\(run)@\(info.step) is skipped: \(why ?? "some of its bytes are damaged")")
            } catch let error as CairnError where error.code == .damage {
                result.notes.append("\(run)@\(info.step) is skipped: \(error.message)")
            }
        }
        return nil
    }

    /// The folder has the newest: it is saved where the store has not got it, and what would be taken instead gets out of the way.
    private mutating func take(_ newest: Found) throws {
        guard let layout = newest.layout, let step = newest.step else { return }
        switch try save(newest) {
        case .failed(let error):
            try checkThere(newest.candidate)
            result.notes.append("\(newest.candidate.name) could not be saved: \(error.message)")
        case .saved(let saved):
            guard let old = saved.replaced else { break }
            result.replaced = old
            result.notes.append(
                "\(newest.candidate.name) took the place of \(run)@\(step) (#\(old.prefix(12))) in the store, which was "
                    + "another: of one step the folder's counts")
        default: break
        }
        try setAside { !$0.isValid($1) && ($1.step ?? .max) > step }
        try finish(newest.candidate, layout, newest.inspection, step, .folder)
    }

    mutating func save(_ one: Found) throws -> SavedIteration.Outcome? {
        guard let output, let step = one.step else { return nil }
        let outcome = try store.save(one, in: output, run, SaveAllOptions(run: run), progress).outcome
        let info = try store.iteration(run: run, step: step)
        result.id = info?.id.hex
        if case .saved = outcome { read = info?.id }
        return outcome
    }

    // MARK: Getting things out of the way

    /// Gives iterations names that no framework looks for.
    mutating func setAside(_ isInTheWay: (Self, Found) -> Bool) throws {
        for one in found where isInTheWay(self, one) {
            var reasons = one.inspection.faults
            if let unhealthy = one.inspection.unhealthy { reasons.append(unhealthy) }
            if left.contains(one.candidate) { reasons.append("the training went back from it") }
            if reasons.isEmpty { reasons = ["it is newer than what is gone back to"] }
            for file in one.candidate.own { try setAside(file, reasons) }
        }
    }

    /// - Parameter relative: below the output folder.
    mutating func setAside(_ relative: String, _ reasons: [String]) throws {
        guard let new = try AsideFolder(in: path).take(relative) else { return }
        result.setAside.append(
            .init(path: path.appending(relative).text, newPath: new.text, reasons: reasons))
    }
}

extension Found {
    /// Complete, healthy, and of a known step.
    var isValid: Bool { inspection.isComplete && inspection.unhealthy == nil && step != nil }
}
