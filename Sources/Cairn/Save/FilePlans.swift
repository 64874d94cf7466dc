internal import ChunkStore
internal import Platform

/// The plans of all files of a tree, in the order of their paths.
struct FilePlans {
    private(set) var plans: [FilePlan] = []
    private(set) var sources: [Ingest.Source] = []
    /// What they are about.
    private(set) var files: [SourceTree.Entry] = []
    private(set) var bytes: UInt64 = 0
    private(set) var tensors = 0
    private(set) var warnings: [String] = []
    /// The files of which `warnings` says something.
    private(set) var keptWhole: [String] = []

    init(_ tree: SourceTree) throws {
        for entry in tree.entries where entry.target == nil && entry.status.kind == .file {
            let plan = try Self.plan(entry)
            if let warning = plan.warning {
                keptWhole.append(Path.text(of: entry.path))
                warnings.append("\(Path.text(of: entry.path)) \(warning)")
            }
            tensors += plan.schema?.tensors.count ?? 0
            bytes += entry.status.size
            sources.append(
                Ingest.Source(
                    content: .file(entry.source, entry.status), place: entry.path, extents: plan.extents,
                    names: plan.schema?.blobNames ?? [[]]))
            plans.append(plan)
            files.append(entry)
        }
    }

    private static func plan(_ entry: SourceTree.Entry) throws -> FilePlan {
        do {
            let file = try File(entry.source, .read)
            return try FilePlan(name: entry.path, file: file, size: entry.status.size)
        } catch let error as CairnError where error.code == .notFound {
            throw SourceTree.changed(entry.source, "vanished")
        } catch let error as CairnError where error.code == .changed {
            throw SourceTree.changed(entry.source, "became shorter")
        }
    }

    /// Everything in the tree, with what became of it.
    func entries(_ tree: SourceTree, _ outcome: Ingest.Outcome) -> [StoredEntry] {
        var next = 0
        return tree.entries.map { entry in
            var content = StoredEntry.Content.folder
            if let target = entry.target {
                content = .link(target: target)
            } else if entry.status.kind == .file {
                content = .file(
                    StoredFile(
                        plan: plans[next], ids: outcome.ids[next],
                        fingerprints: outcome.fingerprints.isEmpty ? [] : outcome.fingerprints[next]))
                next += 1
            }
            return StoredEntry(
                path: entry.path, content: content, mode: entry.status.mode, seconds: entry.status.seconds,
                nanoseconds: entry.status.nanoseconds)
        }
    }
}
