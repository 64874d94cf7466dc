internal import ChunkStore
internal import Platform

/// Going back where somebody says so, and saying so where somebody may have meant to.
extension Resumption {
    mutating func goBack(to reference: String) throws {
        if reference == "pointer" { return try goBackToPointer() }
        let step = UInt64(reference)
        let own = found.last { $0.isValid && $0.step == step && !left.contains($0.candidate) }
        let info: IterationInfo
        do {
            info = try store.resolve(reference.contains("@") ? reference : "\(run)@\(reference)")
        } catch let error as CairnError where error.code == .notFound {
            // The store has not got it, and the folder may have.
            guard step != nil, let own else { throw error }
            return try goBack(to: own)
        }
        // Of a step that was gone back from, the folder may have what the training wrote when it came by again.
        if info.superseded, step != nil, let own { return try goBack(to: own) }
        try goBack(to: info)
        if info.superseded { try count(info) }
    }

    /// To an iteration of the store, of which nothing is held any more when this returns.
    private mutating func goBack(to info: IterationInfo) throws {
        var brought = try brought(info)
        // What can't be read changes nothing.
        try prepare(&brought)
        _ = try store.rewind(to: "#\(info.id.hex)")
        try setAside { ($1.step ?? .max) > info.step }
        try bringBack(brought)
    }

    private mutating func brought(_ info: IterationInfo) throws -> Brought {
        let view = try store.view(of: info)
        guard let layout = try Layouts.layout(of: view) else {
            throw CairnError(
                .usage,
                "\(info.run)@\(info.step) is in no layout that can be gone on from; use `cairn restore`")
        }
        var brought = try Brought(store, info, view, layout, try layout.inspect(view), options, path)
        try findDamage(&brought)
        return brought
    }

    /// Makes an iteration count again that the training had gone back from.
    private mutating func count(_ info: IterationInfo) throws {
        guard let output = try? OutputFolder(path),
            let one = try output.iterations().last(where: { $0.step == info.step && $0.isValid }),
            options.ranks == nil, !options.withoutOptimizer
        else {
            return result.notes.append(
                "\(info.run)@\(info.step) stays superseded, since only a part of it was brought back")
        }
        let saving = SaveOptions(run: info.run, step: info.step, replace: true)
        let saved = try store.save(SaveSubject(one.candidate, in: output), saving, progress)
        result.id = saved.id
        if saved.unchanged, !info.pins.isEmpty {
            result.notes.append(
                "\(info.run)@\(info.step) stays superseded, as it is pinned: unpin it and resume once more")
        }
    }

    private mutating func goBackToPointer() throws {
        guard let output else { throw noPointer() }
        for layout in Layouts.all where options.layout == nil || layout.name == options.layout {
            guard let set = try layout.pointed(in: output) else { continue }
            let named = found.last {
                isValid($0) && layout.pointers(to: $0.candidate).contains(where: set.agrees)
            }
            if let named {
                let saved = all.last { $0.step == named.step && !$0.superseded }
                if let saved, try isDamaged(named, saved) { return try goBack(to: saved) }
                return try goBack(to: named)
            }
            if let step = UInt64(set.says), all.contains(where: { $0.step == step && !$0.superseded }) {
                return try goBack(to: "\(step)")
            }
            throw CairnError(
                .notFound, "\(set.path) says \(set.says), which neither the folder nor the store has whole",
                path: path.appending(set.path).text)
        }
        throw noPointer()
    }

    /// Whether an iteration of the folder was what the store has, before some of its bytes became others.
    private mutating func isDamaged(_ one: Found, _ saved: IterationInfo) throws -> Bool {
        let brought = try brought(saved)
        return !brought.damaged.isEmpty && brought.isPlace(of: one.candidate)
    }

    private func noPointer() -> CairnError {
        CairnError(
            .notFound, "\(path) has no pointer to an iteration; pass --ref with a step or another reference",
            path: path.text)
    }

    /// To an iteration of the folder: what came after is superseded, in the store too.
    private mutating func goBack(to one: Found) throws {
        guard let layout = one.layout, let step = one.step else { return }
        if case .failed(let error) = try save(one) { throw error }
        if let id = result.id { _ = try store.rewind(to: "#\(id)") }
        try setAside { ($1.step ?? .max) > step }
        try finish(one.candidate, layout, one.inspection, step, .folder)
    }

    // MARK: The framework's own pointer

    /// Says so where somebody set the framework's pointer to another iteration than the one that is taken.
    mutating func mentionPointer(
        _ layout: (any Layout)?, _ candidate: Candidate, _ step: UInt64
    ) throws {
        guard let output, let layout, let set = try layout.pointed(in: output),
            !layout.pointers(to: candidate).contains(where: set.agrees)
        else { return }
        let known = pointed(set, layout)
        // Of the ranks that were brought back before, one that is called otherwise.
        if known == step { return }
        let older =
            known ?? UInt64(set.says).flatMap { said in all.contains { $0.step == said } ? said : nil }
        guard let older, older < step else {
            // Where other ranks' files are not there yet, it names a part of what is taken.
            if options.ranks != nil { return }
            return result.notes.append(
                "\(set.path) said \(set.says), which is not there whole: it names \(candidate.name) now")
        }
        result.notes.append(
            "\(set.path) said \(set.says), which is older than \(candidate.name), the newest valid iteration that it names now; "
                + "to go back, pass --ref \(older), or set it again and pass --ref pointer")
    }

    /// The step of what a pointer names in the folder; nil where that is not valid, or not there.
    private func pointed(_ set: Pointer, _ layout: any Layout) -> UInt64? {
        found.last { isValid($0) && layout.pointers(to: $0.candidate).contains(where: set.agrees) }?.step
    }
}
