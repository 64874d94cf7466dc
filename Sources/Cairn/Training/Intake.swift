internal import ChunkStore
internal import Platform

/// Takes iterations of an output folder into the store, and knows which originals may go then.
struct Intake {
    private let store: Store
    private let run: String
    private let dryRun: Bool
    private let progress: Progress
    private var moving = Moving()
    private var links = LinksOfIterations()
    /// What a dry run would have saved, by step.
    private var foreseen: [UInt64: Candidate] = [:]

    init(_ store: Store, run: String, dryRun: Bool = false, _ progress: Progress) {
        (self.store, self.run, self.dryRun, self.progress) = (store, run, dryRun, progress)
    }

    /// - Throws: `.usage` where the folder is no training's output folder, but an iteration, or of a store.
    static func check(_ path: Path, store: Path) throws {
        let resolved = try FileSystem.resolved(path)
        if store.contains(resolved) {
            throw CairnError(
                .usage, "\(path) is in the store \(store); pass the folder that a training writes to",
                path: path.text)
        }
        guard StepNames.step(of: resolved.name) != nil,
            try Layouts.layout(of: try CheckpointView(resolved)) != nil
        else { return }
        throw CairnError(
            .usage,
            "\(path) is an iteration; pass the folder that it lies in, or save it alone with `cairn save`",
            path: path.text)
    }

    // MARK: Looking

    enum Look {
        /// Looked at.
        case found(Found)
        /// It can't be read.
        case failed(SavedIteration)
        /// It has vanished.
        case gone
    }

    /// Looks at a candidate, and takes note of it as an original that others may depend on.
    mutating func look(at candidate: Candidate, in output: OutputFolder) throws -> Look {
        links.forget(candidate)
        do {
            guard let found = try output.found(candidate) else {
                moving.forget(candidate)
                return .gone
            }
            moving.note(found, time: output.time(of: candidate))
            return .found(found)
        } catch {
            let outcome = SavedIteration.Outcome.failed(try Self.failure(error))
            return .failed(
                SavedIteration(name: candidate.name, layout: nil, step: candidate.step, outcome: outcome))
        }
    }

    /// What went wrong with one iteration, which is no reason to give up the others.
    /// - Throws: the error where it is an interruption.
    private static func failure(_ error: any Error) throws -> CairnError {
        guard let error = error as? CairnError else {
            return CairnError(CairnError.Code(rawValue: "internal"), "\(error)")
        }
        if error.code == .interrupted { throw error }
        return error
    }

    /// Whether the store has a candidate, as far as its name says its step and its content need not be read.
    func knows(_ candidate: Candidate, in output: OutputFolder) -> Bool {
        guard let step = candidate.step, let subject = try? SaveSubject(candidate, in: output) else {
            return false
        }
        return (try? store.iteration(run: run, step: step).map { try store.isUnchanged(subject, since: $0) })
            ?? false
    }

    /// Whether a pin keeps what the store has at a step from being replaced.
    func isPinned(_ step: UInt64) -> Bool {
        (try? store.iteration(run: run, step: step).map { !$0.pins.isEmpty }) ?? false
    }

    // MARK: Saving

    /// Saves an iteration that was looked at, unless the store has it.
    /// - Returns: nil where it has vanished meanwhile.
    mutating func take(
        _ found: Found, in output: OutputFolder, evenIfOpen: Bool = false
    ) throws -> SavedIteration? {
        var result = SavedIteration(found, .known)
        do {
            if try !isKnown(found, output) {
                if !evenIfOpen, let reason = reasonToWait(found, in: output) {
                    result.outcome = .refused([reason])
                } else {
                    result.outcome = try outcome(found, output)
                }
            }
        } catch {
            result.outcome = .failed(try Self.failure(error))
        }
        switch result.outcome {
        case .saved, .known: moving.stored(found.candidate)
        case .failed(let error) where error.code == .changed || error.code == .notFound:
            // A framework deletes what it likes.
            if isGone(found.candidate, output) { return nil }
        case .failed, .left, .refused: break
        }
        return result
    }

    /// That somebody has a file of a complete iteration open for writing: its length may be its last, and what is in it not. Logs
    /// don't count, which stay open.
    func reasonToWait(_ found: Found, in output: OutputFolder) -> String? {
        guard found.inspection.isComplete, let layout = found.layout,
            let files = try? output.view(of: found.candidate).files.map(\.path)
        else { return nil }
        let root = output.path.appending(found.candidate.path)
        let isFile = (try? FileSystem.status(root, followLinks: true))??.kind == .file
        return files.first { path in
            let part = layout.part(of: path, tensor: nil)
            return part != .other && part != .marker
                && Self.isOpen(isFile ? root : root.appending(path))
        }.map { $0 + Self.isOpenForWriting }
    }

    private static let isOpenForWriting = " is open for writing"

    /// Whether a file stays open for writing: a process that is just being started has what its parent has, for a moment.
    private static func isOpen(_ path: Path) -> Bool {
        for _ in 0..<5 {
            guard FileSystem.isOpenForWriting(path) else { return false }
            Clock.sleep(seconds: 0.1)
        }
        return true
    }

    private func isKnown(_ found: Found, _ output: OutputFolder) throws -> Bool {
        guard found.inspection.isComplete, let step = found.step,
            let existing = try store.iteration(run: run, step: step)
        else { return false }
        return try store.likeness(of: SaveSubject(found.candidate, in: output), to: existing).isKnown
    }

    private mutating func outcome(_ found: Found, _ output: OutputFolder) throws -> SavedIteration.Outcome {
        if found.inspection.isComplete, let step = found.step {
            if let other = try other(at: step, than: found.candidate, output) {
                return .refused(["step \(step) is \(other) already"])
            }
            let time = output.time(of: found.candidate)
            if let reason = try store.reasonToDelete(step, of: run, time, found.inspection.metrics) {
                return .refused(["the policy of run \(run) would delete it: \(reason)"])
            }
            if dryRun { foreseen[step] = found.candidate }
        }
        let options = SaveAllOptions(run: run, dryRun: dryRun)
        return try store.save(found, in: output, run, options, progress).outcome
    }

    /// What else in the folder is the iteration that the store has at a step, by its name.
    private func other(at step: UInt64, than candidate: Candidate, _ output: OutputFolder) throws -> String? {
        if let other = foreseen[step], other != candidate { return other.name }
        guard let existing = try store.iteration(run: run, step: step) else { return nil }
        let saved = try store.paths(of: existing)
        guard saved.isDisjoint(with: candidate.own),
            let other = try output.candidates().first(where: { !saved.isDisjoint(with: $0.own) })
        else { return nil }
        // One whose name says a step comes before one that is written over again and again.
        if candidate.step != nil, other.step == nil { return nil }
        return try store.isUnchanged(SaveSubject(other, in: output), since: existing) ? other.name : nil
    }

    private func isGone(_ candidate: Candidate, _ output: OutputFolder) -> Bool {
        candidate.own.contains { path in
            do { return try FileSystem.status(output.path.appending(path), followLinks: true) == nil } catch {
                return false
            }
        }
    }

    // MARK: Moving

    /// Deletes an original that was saved, once it was read back; or says why it stays.
    mutating func move(_ candidate: Candidate, in output: OutputFolder, _ result: inout SavedIteration) throws
    {
        switch result.outcome {
        case .saved, .known: break
        case .refused, .failed, .left: return
        }
        guard let step = result.step else { return }
        do {
            result.kept = try remove(candidate, step, output)
            result.isMoved = result.kept == nil
        } catch {
            let error = try Self.failure(error)
            if isGone(candidate, output) {
                // Another one was faster.
                return moving.forget(candidate)
            }
            moving.failed(candidate, error.message)
            result.outcome = .failed(error)
        }
    }

    /// Deletes the oldest original that may go by now, of those that are present.
    /// - Returns: nil where none may.
    mutating func moveNext(of present: [Candidate], in path: Path) throws -> SavedIteration? {
        moving.keepOnly(present)
        guard !moving.movable([]).isEmpty else { return nil }
        let output = try OutputFolder(path)
        for (candidate, step, layout) in moving.movable(try output.pointers()) {
            var result = SavedIteration(name: candidate.name, layout: layout, step: step, outcome: .known)
            try move(candidate, in: output, &result)
            if result.isMoved { return result }
            if case .failed = result.outcome { return result }
            if let kept = result.kept, !kept.hasSuffix(Self.isOpenForWriting) {
                moving.failed(candidate, kept)
            }
        }
        return nil
    }

    /// - Returns: why it stays; nil where it is gone.
    private mutating func remove(_ candidate: Candidate, _ step: UInt64, _ output: OutputFolder) throws
        -> String?
    {
        moving.setTime(candidate, output.time(of: candidate))
        if let why = moving.reason(toKeep: candidate, try output.pointers()) { return why }
        guard let info = try store.iteration(run: run, step: step) else {
            return "the store has it no longer"
        }
        for path in candidate.own where try FileSystem.status(output.path.appending(path))?.kind == .link {
            return "\(path) is a link"
        }
        if let link = try links.link(into: candidate, besides: moving.candidates, in: output) {
            return "\(link) points to it"
        }
        let subject = try SaveSubject(candidate, in: output)
        let changed = "it is not what was saved"
        guard try store.isUnchanged(subject, since: info) else { return changed }
        if let file = try openFile(of: candidate, output) { return file + Self.isOpenForWriting }
        try store.readBack(info, progress)
        // That may have taken long.
        if let why = moving.reason(toKeep: candidate, try output.pointers()) { return why }
        guard try store.isUnchanged(subject, since: info) else { return changed }
        if let file = try openFile(of: candidate, output) { return file + Self.isOpenForWriting }
        try OriginalRemoval.delete(candidate.own, in: output.path)
        moving.forget(candidate)
        return nil
    }

    /// Any file that somebody has open for writing.
    private func openFile(of candidate: Candidate, _ output: OutputFolder) throws -> String? {
        for own in candidate.own {
            let root = output.path.appending(own)
            let view = try CheckpointView(root)
            let isFile = try FileSystem.status(root)?.kind == .file
            for file in view.files
            where Self.isOpen(isFile ? root : root.appending(file.path)) {
                return isFile ? own : own + "/" + file.path
            }
        }
        return nil
    }
}

extension Store {
    /// Where an iteration was when it was saved, below the output folder: its folder, or its files.
    fileprivate func paths(of info: IterationInfo) throws -> Set<String> {
        guard let place = try place(of: info) else { return [] }
        if place.isWhole { return [place.path] }
        let (manifest, lock) = try manifest(of: info)
        defer { withExtendedLifetime(lock) {} }
        let prefix = place.path.isEmpty ? "" : place.path + "/"
        let files = manifest.roots.entries.filter { $0.kind != .folder }
        return Set(files.map { prefix + String(decoding: $0.path, as: UTF8.self) })
    }

    /// Reads every byte of an iteration back.
    /// - Throws: `.damage` where one is not what was saved. It is marked, so that the next save of the same bytes writes them again.
    fileprivate func readBack(_ info: IterationInfo, _ progress: Progress) throws {
        let survey = try survey([info], quick: false, progress: progress)
        progress.end()
        if !survey.chunks.isEmpty { try chunks.markDamaged(survey.chunks) }
        guard let damaged = try survey.damage(info, self) else { return }
        let file = damaged.files.first.map { " (\($0))" } ?? ""
        throw CairnError(
            .damage,
            "\(info.run)@\(info.step) can't be read back as it was saved\(file); the original stays: "
                + "`cairn repair --from` it, then `cairn verify`")
    }

    /// Why the run's policy would delete an iteration as soon as it was saved, as it has done before; nil where it would not.
    /// - Parameter time: nanoseconds since 1970 UTC at which it was written.
    fileprivate func reasonToDelete(
        _ step: UInt64, of run: String, _ time: Int64, _ metrics: [String: Double]
    ) throws -> String? {
        guard let policy = try policy(run: run) else { return nil }
        let infos = try chunks.read { try scope($0) }.iterations.filter { $0.run == run }
        // One that is younger than those of the store is of a training that went back, and news.
        guard let newest = infos.map(\.createdAt).max(), time < newest,
            !infos.contains(where: { $0.step == step })
        else { return nil }
        let usual = infos.reduce(0) { $0 + $1.storedBytes / UInt64(infos.count) }
        let new = Retention.Candidate(
            number: .max, step: step, createdAt: Clock.now, storedBytes: usual, metrics: metrics)
        let decisions = Retention.decide(infos.map { .init($0, complete: true) } + [new], policy: policy)
        guard case .delete(let reason)? = decisions.first(where: { $0.number == .max })?.verdict else {
            return nil
        }
        return reason
    }
}
