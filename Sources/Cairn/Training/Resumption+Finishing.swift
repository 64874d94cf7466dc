internal import Platform

/// What is the same wherever the iteration came from.
extension Resumption {
    /// The pointer is last.
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
        if source == .folder { try noteOptimizer(candidate, layout) }
        try mendPaths(of: candidate, layout)
        try beNewest(candidate)
        for pointer in layout.pointers(to: candidate) { try write(pointer) }
        let argument = layout.argument(for: candidate)
        result.path = argument.isEmpty ? path.text : path.appending(argument).text
    }

    private mutating func noteOptimizer(_ candidate: Candidate, _ layout: any Layout) throws {
        guard options.withoutOptimizer, let output = try? OutputFolder(path) else { return }
        let view = try output.view(of: candidate)
        guard view.files.contains(where: { layout.part(of: $0.path, tensor: nil) == .optimizer }) else {
            return
        }
        result.notes.append(
            "\(candidate.name) is in the folder with the optimizer's state: tell the training not to load it")
    }

    /// Some frameworks take the one that changed last, or delete the one that did not change for longest: this one is the newest.
    private func beNewest(_ candidate: Candidate) throws {
        guard candidate.files == nil || candidate.files?.count == 1 else { return }
        let own = path.appending(candidate.files?[0] ?? candidate.path)
        guard let status = try FileSystem.status(own) else { return }
        let output = try OutputFolder(path)
        let others = try output.candidates().filter {
            $0.path != candidate.path && $0.path != candidate.files?.first
        }
        let newest = others.map { output.time(of: $0) }.max() ?? .min
        guard newest >= status.time else { return }
        // The clock may have been ahead when that one was written.
        let time = max(Clock.now, newest < .max ? newest + 1 : newest)
        try FileSystem.setTime(own, seconds: time / 1_000_000_000, nanoseconds: UInt32(time % 1_000_000_000))
    }

    private mutating func write(_ pointer: Pointer) throws {
        let place = path.appending(pointer.path)
        if pointer.isLink {
            if let status = try FileSystem.status(place) {
                // A file in its place is an iteration of its own, and stays.
                guard status.kind == .link,
                    try FileSystem.target(ofLink: place) != [UInt8](pointer.text.utf8)
                else { return }
            }
        } else if try OutputFolder(path).text(pointer.path) == pointer.text {
            return
        }
        let staged = try stage().appending("pointer")
        if pointer.isLink {
            try FileSystem.makeLink(staged, target: [UInt8](pointer.text.utf8))
        } else {
            try FileSystem.publish([UInt8](pointer.text.utf8), at: staged, mode: pointer.mode)
        }
        try FileSystem.makeFolders(place.parent)
        try FileSystem.rename(staged, to: place)
        try FileSystem.syncFolder(place.parent)
    }

    // MARK: Stale paths

    /// The paths in the files of an iteration that lead elsewhere, each with where it should lead.
    private func stalePaths(
        of layout: any Layout, _ view: CheckpointView, _ place: Path
    ) throws -> [(path: StatePath, right: Path)] {
        try layout.paths(in: view).compactMap { said in
            let right: Path
            switch said.target {
            case .sibling: right = place.parent.appending(Path(said.path).name)
            case .folder: right = place.parent
            }
            return try Self.leads(Path(said.path), to: right) ? nil : (said, right)
        }
    }

    private mutating func mendPaths(of candidate: Candidate, _ layout: any Layout) throws {
        guard candidate.files == nil || candidate.files?.count == 1 else { return }
        let place = path.appending(candidate.files?[0] ?? candidate.path)
        guard let status = try FileSystem.status(place, followLinks: true),
            let view = try CheckpointView.ifThere(place)
        else { return }
        let folder = status.kind == .folder ? place : place.parent
        try mendPaths(in: folder, of: layout, view, place)
    }

    /// Says which paths in the files of an iteration lead elsewhere, and writes them anew where that is wanted and possible.
    /// - Parameters:
    ///   - folder: where it lies now.
    ///   - place: where it lies in the end.
    mutating func mendPaths(
        in folder: Path, of layout: any Layout, _ view: CheckpointView, _ place: Path
    ) throws {
        for (said, right) in try stalePaths(of: layout, view, place) {
            let file = folder.appending(said.file)
            let new = try said.path.hasPrefix("/") ? Self.absolute(right) : right
            guard said.key != nil else {
                note(
                    "\(said.file) says that \(said.meaning) is \(said.path), which is elsewhere; that stands in a pickle and stays, "
                        + said.consequence)
                continue
            }
            guard options.relocate else {
                note(
                    "\(said.file) names \(said.path) as \(said.meaning), which is elsewhere; pass --relocate to write \(new.text) "
                        + "there instead")
                continue
            }
            guard let status = try FileSystem.status(file, followLinks: true),
                let bytes = said.rewritten(try File(file, .read).readToEnd(), to: new.text)
            else { continue }
            let before = try FileSystem.status(folder)
            try FileSystem.publish(bytes, at: file, mode: status.mode)
            try FileSystem.setTime(file, seconds: status.seconds, nanoseconds: status.nanoseconds)
            if let before {
                try FileSystem.setTime(folder, seconds: before.seconds, nanoseconds: before.nanoseconds)
            }
            result.notes.append(
                "\(said.file) names \(new.text) as \(said.meaning) now, instead of \(said.path)")
        }
    }

    /// The same is said once.
    private mutating func note(_ sentence: String) {
        if !result.notes.contains(sentence) { result.notes.append(sentence) }
    }

    /// Whether a path that a framework wrote leads to a place, as far as can be told without the folder that it was started in.
    private static func leads(_ said: Path, to right: Path) throws -> Bool {
        if said == right { return true }
        let right = try FileSystem.expected(right)
        guard said.bytes.first == UInt8(ascii: "/") else {
            return right.bytes.reversed().starts(
                with: ([UInt8(ascii: "/")] + said.withoutTrailingSlashes).reversed())
        }
        return (try? FileSystem.expected(said)) == right
    }

    private static func absolute(_ path: Path) throws -> Path {
        path.bytes.first == UInt8(ascii: "/") ? path : try FileSystem.expected(path)
    }
}

extension FileStatus {
    /// Nanoseconds since 1970 UTC.
    fileprivate var time: Int64 { seconds &* 1_000_000_000 &+ Int64(nanoseconds) }
}
