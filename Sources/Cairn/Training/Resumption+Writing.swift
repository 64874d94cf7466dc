internal import ChunkStore
internal import Platform
internal import TensorFormats

/// What a resumption changes in the folder.
extension Resumption {
    /// Writes a saved iteration to where the framework looks for it.
    mutating func bringBack(_ info: IterationInfo, _ view: CheckpointView, _ layout: any Layout) throws {
        let inspection = try layout.inspect(view)
        let candidate = try place(of: info, view, layout)
        let target = candidate.path.isEmpty ? path : path.appending(candidate.path)
        let wanted = view.files.map(\.path).filter { isWanted($0, layout) }
        try FileSystem.makeFolders(path)
        if candidate.files == nil {
            try bringBack(folder: info, to: target, wanted, isPart: wanted.count < view.files.count)
        } else {
            try bringBack(files: wanted, of: info, to: target)
        }
        result.id = info.id.hex
        try beNewest(target, candidate)
        try finish(candidate, layout, inspection, info.step, .store)
    }

    /// Where an iteration of the store was when it was saved, below the output folder.
    private func place(of info: IterationInfo, _ view: CheckpointView, _ layout: any Layout) throws
        -> Candidate
    {
        guard let place = try store.place(of: info) else {
            throw CairnError(
                .usage,
                "\(info.run)@\(info.step) does not say where the training looks for it; use `cairn restore`")
        }
        let prefix = place.path.isEmpty ? "" : place.path + "/"
        return Candidate(
            name: place.path.isEmpty ? layout.name : place.path, path: place.path, step: info.step,
            files: place.isWhole ? nil : view.files.map { prefix + $0.path })
    }

    private func isWanted(_ file: String, _ layout: any Layout) -> Bool {
        if let ranks = options.ranks, let rank = layout.rank(of: file), !ranks.contains(rank) { return false }
        return !(options.withoutOptimizer && layout.part(of: file, tensor: nil) == .optimizer)
    }

    private mutating func bringBack(
        folder info: IterationInfo, to target: Path, _ wanted: [String], isPart: Bool
    ) throws {
        if try FileSystem.status(target) != nil {
            // Another node may have been faster, or this one was killed after it was there.
            if try isWhole(info, at: target) { return }
            try setAside(target, ["it is not what the store has"])
        }
        var options = RestoreOptions()
        if isPart { options.files = Set(wanted) }
        do {
            try store.restore("#\(info.id.hex)", to: target.text, options: options, progress: progress)
        } catch let error as CairnError where error.code == .exists {
            guard try isWhole(info, at: target) else { throw error }
        }
    }

    /// Files that lie among others: each gets its name when all are written.
    private func bringBack(files: [String], of info: IterationInfo, to target: Path) throws {
        let aside = target.appending(".cairn-resume-" + Random.hex(8))
        var options = RestoreOptions()
        options.files = Set(files)
        try store.restore("#\(info.id.hex)", to: aside.text, options: options, progress: progress)
        defer { _ = try? FileSystem.removeTree(aside) }
        for file in files {
            try FileSystem.makeFolders(target.appending(file).parent)
            try FileSystem.rename(aside.appending(file), to: target.appending(file))
        }
        for folder in Set(files.map { target.appending($0).parent }) { try FileSystem.syncFolder(folder) }
    }

    /// Whether a folder has the files of a saved iteration, by their sizes and times.
    private func isWhole(_ info: IterationInfo, at target: Path) throws -> Bool {
        guard options.ranks == nil, !options.withoutOptimizer else { return false }
        return try store.isUnchanged(SaveSubject(path: target), since: info)
    }

    /// Some frameworks take the one that changed last: then that is this one.
    private func beNewest(_ target: Path, _ candidate: Candidate) throws {
        guard candidate.files == nil || candidate.files?.count == 1 else { return }
        let own = candidate.files.map { path.appending($0[0]) } ?? target
        guard let status = try FileSystem.status(own) else { return }
        let output = try OutputFolder(path)
        let others = try output.candidates().filter {
            $0.path != candidate.path && $0.path != candidate.files?.first
        }
        let newest = others.map { output.time(of: $0) }.max() ?? .min
        let time = status.seconds &* 1_000_000_000 &+ Int64(status.nanoseconds)
        guard newest >= time else { return }
        let now = Clock.now
        try FileSystem.setTime(own, seconds: now / 1_000_000_000, nanoseconds: UInt32(now % 1_000_000_000))
    }

    /// What is the same wherever the iteration came from; the pointer is last.
    mutating func finish(
        _ candidate: Candidate, _ layout: any Layout, _ inspection: Inspection, _ step: UInt64,
        _ source: ResumeResult.Source
    ) throws {
        result.source = source
        result.step = step
        if !inspection.missing.isEmpty {
            result.notes.append(
                "\(candidate.name) lacks \(inspection.missing.joined(separator: " and ")), which starts anew")
        }
        try mendPaths(candidate, layout)
        for pointer in layout.pointers(to: candidate) { try write(pointer) }
        let argument = layout.argument(for: candidate)
        result.path = argument.isEmpty ? path.text : path.appending(argument).text
    }

    private func write(_ pointer: Pointer) throws {
        let place = path.appending(pointer.path)
        guard pointer.isLink else {
            if try OutputFolder(path).text(pointer.path) != pointer.text {
                try FileSystem.publish([UInt8](pointer.text.utf8), at: place, mode: pointer.mode)
            }
            return
        }
        let target = [UInt8](pointer.text.utf8)
        if let status = try FileSystem.status(place) {
            // A file in its place is an iteration of its own, and stays.
            guard status.kind == .link, try FileSystem.target(ofLink: place) != target else { return }
        }
        let aside = place.parent.appending(".cairn-link-" + Random.hex(8))
        try FileSystem.makeLink(aside, target: target)
        try FileSystem.rename(aside, to: place)
        try FileSystem.syncFolder(place.parent)
    }

    // MARK: Getting things out of the way

    /// Gives iterations names that no framework looks for.
    mutating func setAside(_ iterations: [Found]) throws {
        for one in iterations {
            let files = (one.candidate.files ?? [one.candidate.path]).filter {
                !one.candidate.shared.contains($0)
            }
            var reasons = one.inspection.faults
            if let unhealthy = one.inspection.unhealthy { reasons.append(unhealthy) }
            if reasons.isEmpty { reasons = ["it is newer than what is gone back to"] }
            for file in files { try setAside(path.appending(file), reasons) }
        }
    }

    /// Does nothing where another node has done so.
    private mutating func setAside(_ place: Path, _ reasons: [String]) throws {
        let digits = String(decoding: place.name.filter(StoreName.isDigit).suffix(20), as: UTF8.self)
        var number = 1
        func target() -> Path {
            place.parent.appending(".cairn-set-aside-\(digits.isEmpty ? "0" : digits)-\(number)")
        }
        while try FileSystem.status(target()) != nil { number += 1 }
        guard try FileSystem.status(place) != nil else { return }
        do {
            try FileSystem.rename(place, to: target(), exclusive: true)
        } catch {
            if error.code == .notFound { return }
            throw error
        }
        try FileSystem.syncFolder(place.parent)
        result.setAside.append(.init(path: place.text, newPath: target().text, reasons: reasons))
    }

    // MARK: Stale paths

    /// Paths in the state files that point to where the training was before. (transformers, `TrainerState.best_model_checkpoint`)
    private mutating func mendPaths(_ candidate: Candidate, _ layout: any Layout) throws {
        let folder = path.appending(candidate.path)
        guard candidate.files == nil, try FileSystem.status(folder, followLinks: true)?.kind == .folder else {
            return
        }
        let file = folder.appending("trainer_state.json")
        guard let status = try FileSystem.status(file, followLinks: true),
            let state = try? JSON(parsing: try File(file, .read).readToEnd(), allowNonFinite: true),
            let best = state["best_model_checkpoint"]?.stringValue
        else { return }
        let here = path.appending(Path(best).name)
        guard try FileSystem.status(Path(best), followLinks: true) == nil || Path(best).parent != here.parent,
            Path(best) != here
        else { return }
        guard options.relocate else {
            return result.notes.append(
                "trainer_state.json names \(best) as the best checkpoint, which is elsewhere; pass --relocate to write "
                    + "\(here.text) there instead")
        }
        let bytes = try File(file, .read).readToEnd()
        let old = [UInt8](JSON(best).serialized())
        guard let place = bytes.firstRange(of: old) else { return }
        let new =
            [UInt8](bytes[..<place.lowerBound]) + JSON(here.text).serialized() + bytes[place.upperBound...]
        try FileSystem.publish(new, at: file, mode: status.mode)
        result.notes.append(
            "trainer_state.json names \(here.text) as the best checkpoint now, instead of \(best)")
    }
}
