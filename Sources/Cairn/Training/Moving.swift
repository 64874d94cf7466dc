internal import ChunkStore
internal import Platform

/// Which originals may go once the store has them.
struct Moving {
    let output: OutputFolder
    /// What has to stay whatever the store has, by the candidate's path and files.
    private let kept: [Candidate: String]
    private let keptSteps: [UInt64: String]

    /// - Parameter found: all iterations in the folder.
    init(_ output: OutputFolder, _ found: [Found]) throws {
        self.output = output
        var kept: [Candidate: String] = [:]
        var steps: [UInt64: String] = [:]
        let whole = found.filter(\.inspection.isComplete)
        // Some frameworks go on from the greatest step, and some from the newest time.
        if let newest = whole.last { kept[newest.candidate.key] = "the newest" }
        if let latest = whole.max(by: { output.time(of: $0.candidate) < output.time(of: $1.candidate) }) {
            kept[latest.candidate.key] = "the newest"
        }
        // What an earlier one called the best was so then.
        if let best = whole.last?.inspection.bestStep { steps[best] = "the best" }
        for layout in Layouts.all {
            guard let pointer = try layout.pointed(in: output) else { continue }
            for one in found where layout.pointers(to: one.candidate).contains(where: pointer.agrees) {
                kept[one.candidate.key] = "named by \(pointer.path)"
            }
        }
        (self.kept, keptSteps) = (kept, steps)
    }

    /// Why an original has to stay; nil where it may go.
    func reason(toKeep found: Found) -> String? {
        guard let layout = found.layout, layout.allowsMoving else {
            return "a training that goes on would miss it"
        }
        return kept[found.candidate.key] ?? found.step.flatMap { keptSteps[$0] }
    }
}

extension OutputFolder {
    /// Nanoseconds since 1970 UTC at which a candidate changed last, as frameworks look at it.
    func time(of candidate: Candidate) -> Int64 {
        let files = candidate.files?.filter { !candidate.shared.contains($0) } ?? [candidate.path]
        return files.map { file in
            let status = try? FileSystem.status(file.isEmpty ? path : path.appending(file), followLinks: true)
            guard let status else { return .min }
            return status.seconds.multipliedReportingOverflow(by: 1_000_000_000).partialValue
                &+ Int64(status.nanoseconds)
        }.max() ?? .min
    }
}

extension Store {
    /// Deletes an original that the store has, after reading its iteration back.
    /// - Returns: whether it is gone.
    func move(
        _ found: Found, _ result: SavedIteration, _ run: String, _ moving: inout Moving, _ progress: Progress
    ) throws -> Bool {
        switch result.outcome {
        case .refused, .failed: return false
        case .saved, .known: break
        }
        guard moving.reason(toKeep: found) == nil, let step = found.step,
            let info = try iteration(run: run, step: step)
        else { return false }
        let subject = try SaveSubject(found.candidate, in: moving.output)
        let tree = try SourceTree(
            subject.path, followsLinks: false, store: chunks.folder, isIncluded: subject.includes)
        guard try verify(["#\(info.id.hex)"], progress: progress).ok, try isUnchanged(subject, since: info)
        else {
            return false
        }
        try remove(tree, isWhole: found.candidate.files == nil, except: subject.shared)
        return true
    }

    /// Removes what a tree holds: a folder first gets a name that no framework takes for an iteration's.
    /// - Parameters:
    ///   - isWhole: the folder holds nothing else.
    ///   - shared: files that other iterations need as well.
    private func remove(_ tree: SourceTree, isWhole: Bool, except shared: Set<[UInt8]>) throws {
        guard isWhole, tree.entries.first?.path.isEmpty == true else {
            for entry in tree.entries where entry.status.kind != .folder || entry.target != nil {
                if !shared.contains(entry.path) { try FileSystem.removeFile(entry.source) }
            }
            return
        }
        let aside = tree.root.parent.appending(".cairn-moved-" + Random.hex(8))
        try FileSystem.rename(tree.root, to: aside)
        try FileSystem.removeTree(aside)
    }
}
