internal import ChunkStore
internal import Platform
internal import TensorFormats

/// A saved iteration, and where a training looks for it.
struct Brought {
    /// As it will be in the output folder, with the files that are wanted.
    var candidate: Candidate
    let info: IterationInfo
    let view: CheckpointView
    let layout: any Layout
    let inspection: Inspection
    /// The folder that its files are below.
    let target: Path
    /// Nothing else lies in that folder.
    let isWhole: Bool
    /// The files and links that are wanted.
    let wanted: [Roots.Entry]
    /// What is written under a name of its own, and not in its place yet; nil where nothing has to be.
    var staged: (path: Path, isAll: Bool)?
    /// Files in its place that hold other bytes than were saved, or none that can be read, by their paths below the folder.
    var damaged: [[UInt8]: DamagedFile] = [:]
    let store: Store
    let manifest: Manifest
    let lock: ReaderLock

    init(
        _ store: Store, _ info: IterationInfo, _ view: CheckpointView, _ layout: any Layout,
        _ inspection: Inspection, _ options: ResumeOptions, _ output: Path
    ) throws {
        guard let place = try store.place(of: info) else {
            throw CairnError(
                .usage,
                "\(info.run)@\(info.step) does not say where the training looks for it; "
                    + (layout is CairnState
                        ? "it was saved from Python, where store.load or cairn.transformers.materialize brings it back"
                        : "use `cairn restore`"))
        }
        (self.store, self.info, self.view, self.layout) = (store, info, view, layout)
        (manifest, lock) = try store.manifest(of: info)
        self.inspection = inspection
        isWhole = place.isWhole
        target = place.path.isEmpty ? output : output.appending(place.path)
        let readers = options.ranks == nil ? [:] : try layout.readers(in: view)
        wanted = manifest.roots.entries.filter { entry in
            guard entry.kind != .folder else { return false }
            let path = String(decoding: entry.path, as: UTF8.self)
            if let ranks = options.ranks, readers[path]?.overlaps(ranks) == false { return false }
            return !(options.withoutOptimizer && layout.part(of: path, tensor: nil) == .optimizer)
        }
        let prefix = place.path.isEmpty ? "" : place.path + "/"
        candidate = Candidate(
            name: place.path.isEmpty ? layout.name : place.path, path: place.path, step: info.step,
            files: place.isWhole ? nil : wanted.map { prefix + String(decoding: $0.path, as: UTF8.self) })
    }

    /// Whether something in the output folder lies where it lies.
    func isPlace(of other: Candidate) -> Bool { !Set(candidate.own).isDisjoint(with: other.own) }

    // MARK: What is there of it

    /// How what lies in its place differs from what was saved.
    struct Presence {
        /// Files that are wanted, and not there.
        var missing: [Roots.Entry] = []
        /// Files that are not what was saved, wanted or not, by their paths below the folder; in a folder of its own, also those that it
        /// does not have.
        var different: [[UInt8]] = []
        /// Files whose times alone are others.
        var touched: [[UInt8]] = []
        /// How many are what was saved.
        var same = 0
        /// Those files among them that are wanted and have the size and the time that were saved.
        var untouched: [Roots.Entry] = []

        /// Something is missing, and what is there is what was saved.
        var isPart: Bool { !missing.isEmpty && different.isEmpty && touched.isEmpty && same > 0 }
        /// Nothing is there.
        var isEmpty: Bool { different.isEmpty && touched.isEmpty && same == 0 }
    }

    func presence() throws -> Presence {
        var presence = Presence()
        guard try FileSystem.status(target, followLinks: true)?.kind == .folder else {
            presence.missing = wanted
            return presence
        }
        let paths = try layout.paths(in: view)
        let wantedPaths = Set(wanted.map(\.path))
        // What other ranks brought back counts as well.
        for entry in manifest.roots.entries where entry.kind != .folder {
            switch try likeness(of: entry, paths) {
            case .absent: if wantedPaths.contains(entry.path) { presence.missing.append(entry) }
            case .same:
                presence.same += 1
                if case .file = entry.kind, wantedPaths.contains(entry.path) {
                    presence.untouched.append(entry)
                }
            case .mended: presence.same += 1
            case .touched: presence.touched.append(entry.path)
            case .different: presence.different.append(entry.path)
            }
        }
        if isWhole {
            guard let found = try CheckpointView.ifThere(target) else {
                // Another node has just set it aside.
                var nothing = Presence()
                nothing.missing = wanted
                return nothing
            }
            presence.different += found.files.map { [UInt8]($0.path.utf8) }.filter {
                manifest.roots[$0] == nil
            }
        }
        return presence
    }

    private enum Likeness {
        case absent, same, touched, different
        /// The same, but for a path in it.
        case mended
    }

    private func likeness(of entry: Roots.Entry, _ paths: [StatePath]) throws -> Likeness {
        let place = target.appending(entry.path)
        guard let status = try FileSystem.status(place) else { return .absent }
        if case .link(let link) = entry.kind {
            return try status.kind == .link && FileSystem.target(ofLink: place) == link ? .same : .different
        }
        guard status.kind == .file else { return .different }
        let hasTime =
            status.seconds == entry.mtime
            // Not all file systems keep more.
            && (status.nanoseconds == entry.nanoseconds || status.nanoseconds == 0)
        if let known = damaged[entry.path]?.status, !status.differsInContent(from: known) {
            return .different
        }
        if status.size == manifest.size(of: entry), hasTime { return .same }
        if try isRewritten(entry, paths) { return .mended }
        return status.size == manifest.size(of: entry) ? .touched : .different
    }

    /// Whether a file on disk is what was saved but for a path in it.
    func isRewritten(_ entry: Roots.Entry, _ paths: [StatePath]) throws -> Bool {
        let file = String(decoding: entry.path, as: UTF8.self)
        return try paths.contains { path in
            guard path.file == file, let key = path.key, let bytes = try view.read(file),
                let now = try contents(entry.path)
            else { return false }
            let said = (try? JSON(parsing: now, allowNonFinite: true))?[key]?.stringValue
            return said.flatMap { path.rewritten(bytes, to: $0) } == now
        }
    }

    /// A file on disk; nil where it has vanished, or its device can't give it.
    private func contents(_ path: [UInt8]) throws -> [UInt8]? {
        do {
            return try File(target.appending(path), .read).readToEnd()
        } catch {
            guard error.code == .notFound || error.isOfContent else { throw error.mayHide(candidate) }
            return nil
        }
    }

    /// Whether files whose times alone differ are what was saved, by their bytes. What the device can't give is something else, and what
    /// changes meanwhile is looked at once more.
    /// - Throws: `.interrupted`, and where one can't be read though its device is well.
    func isSame(_ touched: [[UInt8]], _ progress: Progress) throws -> Bool {
        do {
            return try differing(touched.compactMap { manifest.roots[$0] }, progress).isEmpty
        } catch let error as CairnError where error.code != .interrupted {
            guard error.code == .notFound || error.isOfContent else { throw error.mayHide(candidate) }
            return false
        }
    }

    // MARK: Writing it

    /// Writes files of it to a folder.
    func restore(_ entries: [Roots.Entry], to folder: Path, _ progress: Progress) throws {
        var options = RestoreOptions()
        options.files = Set(entries.map(\.text))
        try store.restore("#\(info.id.hex)", to: folder.text, options: options, progress: progress)
    }

    /// Gives the folders above some files the times that they had: filling them has changed those.
    func setTimes(ofFoldersAbove entries: [Roots.Entry]) throws {
        guard isWhole else { return }
        for folder in manifest.roots.entries.reversed() where folder.kind == .folder {
            let prefix = folder.path.isEmpty ? [] : folder.path + [UInt8(ascii: "/")]
            guard entries.contains(where: { $0.path.starts(with: prefix) }) else { continue }
            try FileSystem.setTime(
                target.appending(folder.path), seconds: folder.mtime, nanoseconds: folder.nanoseconds)
        }
    }
}
