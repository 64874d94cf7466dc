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
        var resumption = try Resumption(self, Path(path), options, progress)
        return try resumption.perform()
    }
}

/// One search for what a training goes on from.
struct Resumption {
    let store: Store
    let path: Path
    let options: ResumeOptions
    let progress: Progress
    var result = ResumeResult()

    /// What is in the folder, by step.
    private var found: [Found] = []
    private let output: OutputFolder?
    private let run: String
    /// Of the run, by step, without superseded ones.
    private var saved: [IterationInfo] = []

    init(_ store: Store, _ path: Path, _ options: ResumeOptions, _ progress: Progress) throws {
        (self.store, self.path, self.options, self.progress) = (store, path, options, progress)
        if let layout = options.layout, Layouts.named(layout) == nil {
            throw CairnError(.usage, "there is no layout \(layout); see `cairn layouts`")
        }
        if try FileSystem.status(path, followLinks: true) != nil {
            let output = try OutputFolder(path)
            found = try output.iterations().filter {
                options.layout == nil || $0.layout?.name == options.layout
            }
            self.output = output
            run = try Self.run(store, options, origin: try FileSystem.resolved(path).text)
        } else {
            output = nil
            run = try Self.run(store, options, origin: try Self.absolute(path))
        }
        if try store.chunks.read({ try $0.run(run) }) != nil {
            saved = try store.iterations(run: run).filter { !$0.superseded }
        }
    }

    /// The name that a folder will have which is not there yet.
    private static func absolute(_ path: Path) throws -> String {
        guard try FileSystem.status(path.parent, followLinks: true) != nil else { return path.text }
        return try FileSystem.resolved(path.parent).appending(path.name).text
    }

    /// - Throws: `.notFound` for a run that the store does not have, though it has others.
    private static func run(_ store: Store, _ options: ResumeOptions, origin: String) throws -> String {
        let scope = try store.chunks.read { try store.scope($0) }
        guard let given = options.run else { return try store.run(nil, origin) }
        let name = try RunName(given).text
        guard scope.iterations.isEmpty || scope.runs.contains(name) || options.firstRun else {
            throw scope.noRun(name)
        }
        return name
    }

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

    /// What can be gone on from.
    private enum Choice {
        case found(Found)
        case saved(IterationInfo, CheckpointView, any Layout)
    }

    private mutating func goOn() throws {
        let newest = try newestFound()
        var tried = saved.reversed()[...]
        while true {
            let candidate = try newestSaved(&tried)
            if let newest, candidate == nil || newest.step! >= candidate!.0.step {
                try mentionPointer(newest)
                return try take(newest)
            }
            guard let candidate else { break }
            do {
                return try bringBack(candidate.0, candidate.1, candidate.2)
            } catch let error as CairnError where error.code == .damage {
                result.notes.append(error.message)
            }
        }
        guard saved.isEmpty else {
            throw CairnError(
                .damage,
                "run \(run) has \(saved.count) iterations, but none to go on from: "
                    + result.notes.joined(separator: "; "), path: path.text)
        }
        // What is not complete would be taken by the framework all the same.
        try setAside(found.filter { !$0.isValid })
    }

    private mutating func newestFound() throws -> Found? {
        for one in found.reversed() {
            if one.isValid, one.step != nil { return one }
            if let unhealthy = one.inspection.unhealthy {
                result.notes.append("\(one.candidate.name) is not healthy: \(unhealthy)")
            }
        }
        return nil
    }

    /// The newest of those that were not tried that is complete and healthy.
    private mutating func newestSaved(
        _ tried: inout ReversedCollection<[IterationInfo]>.SubSequence
    ) throws -> (IterationInfo, CheckpointView, any Layout)? {
        while let info = tried.popFirst() {
            do {
                let view = try store.view(of: info)
                guard let layout = try Layouts.layout(of: view),
                    options.layout == nil || layout.name == options.layout
                else { continue }
                let inspection = try layout.inspect(view)
                let why = inspection.unhealthy ?? inspection.faults.first
                if why == nil, try store.incomplete([info]).isEmpty { return (info, view, layout) }
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
        guard let output, let layout = newest.layout, let step = newest.step else { return }
        let outcome = try store.save(newest, in: output, run, SaveAllOptions(run: run), progress).outcome
        if case .failed(let error) = outcome {
            result.notes.append("\(newest.candidate.name) could not be saved: \(error.message)")
        }
        result.id = try store.iteration(run: run, step: step)?.id.hex
        try setAside(found.filter { !$0.isValid && ($0.step ?? .max) > step })
        try finish(newest.candidate, layout, newest.inspection, step, .folder)
    }

    /// Says so where somebody set the framework's pointer to another iteration than the one that is taken.
    private mutating func mentionPointer(_ newest: Found) throws {
        guard let output, let layout = newest.layout, let set = try layout.pointed(in: output),
            !layout.pointers(to: newest.candidate).contains(where: set.agrees)
        else { return }
        result.notes.append(
            "\(set.path) says \(set.says), and the newest valid iteration is \(newest.candidate.name); "
                + "to go back to what it says, pass --ref pointer")
    }

    // MARK: Going back

    private mutating func goBack(to reference: String) throws {
        if reference == "pointer" { return try goBackToPointer() }
        let info: IterationInfo
        do {
            info = try store.resolve(reference.contains("@") ? reference : "\(run)@\(reference)")
        } catch let error as CairnError where error.code == .notFound {
            // The store has not got it, and the folder may have.
            guard let step = UInt64(reference), let one = found.last(where: { $0.step == step && $0.isValid })
            else { throw error }
            return try goBack(to: one)
        }
        let view = try store.view(of: info)
        guard let layout = try Layouts.layout(of: view) else {
            throw CairnError(
                .usage,
                "\(info.run)@\(info.step) is in no layout that can be gone on from; use `cairn restore`")
        }
        _ = try store.rewind(to: "#\(info.id.hex)")
        try setAside(found.filter { ($0.step ?? .max) > info.step })
        try bringBack(info, view, layout)
    }

    private mutating func goBackToPointer() throws {
        guard let output else { throw noPointer() }
        for layout in Layouts.all {
            guard let set = try layout.pointed(in: output) else { continue }
            let named = found.last {
                $0.isValid && layout.pointers(to: $0.candidate).contains(where: set.agrees)
            }
            if let named { return try goBack(to: named) }
            if let step = UInt64(set.says), saved.contains(where: { $0.step == step }) {
                return try goBack(to: "\(step)")
            }
            throw CairnError(
                .notFound, "\(set.path) says \(set.says), which neither the folder nor the store has whole",
                path: path.appending(set.path).text)
        }
        throw noPointer()
    }

    private func noPointer() -> CairnError {
        CairnError(
            .notFound, "\(path) has no pointer to an iteration; pass --ref with a step or another reference",
            path: path.text)
    }

    /// To an iteration of the folder: what came after is superseded, in the store too.
    private mutating func goBack(to one: Found) throws {
        try take(one)
        try setAside(found.filter { ($0.step ?? .max) > one.step! })
        if let id = result.id { _ = try store.rewind(to: "#\(id)") }
    }
}

extension Found {
    /// Complete, healthy, and of a known step.
    var isValid: Bool { inspection.isComplete && inspection.unhealthy == nil && step != nil }
}
