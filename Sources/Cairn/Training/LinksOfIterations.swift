internal import Platform

/// Where the symbolic links of iterations lead to, each looked up once: there may be thousands of iterations.
struct LinksOfIterations {
    /// No framework nests its links deeper.
    private static let depthLimit = 4

    private struct Link {
        var name: String
        var end: Path
    }

    private var known: [Candidate: [Link]] = [:]

    /// It may have changed.
    mutating func forget(_ candidate: Candidate) { known[candidate] = nil }

    /// A symbolic link in an output folder, or in another one of its iterations, that leads into one; nil where there is none.
    mutating func link(
        into candidate: Candidate, besides others: [Candidate], in output: OutputFolder
    ) throws -> String? {
        let targets = try candidate.own.map { try FileSystem.resolved(output.path.appending($0)) }
        let leads = { (end: Path) in targets.contains { $0.contains(end) } }
        for name in output.names where try output.isLink(name) {
            if let end = try? FileSystem.resolved(output.path.appending(name)), leads(end) { return name }
        }
        for other in others.sorted() where other != candidate {
            if known[other] == nil {
                known[other] = other.own.flatMap { Self.links(in: output.path.appending($0), $0, 0) }
            }
            if let link = known[other]!.first(where: { leads($0.end) }) { return link.name }
        }
        return nil
    }

    /// What vanishes meanwhile, can't be read or leads nowhere is passed over.
    private static func links(in folder: Path, _ name: String, _ depth: Int) -> [Link] {
        guard depth < depthLimit, (try? FileSystem.status(folder))??.kind == .folder else { return [] }
        return ((try? FileSystem.names(in: folder)) ?? []).flatMap { bytes -> [Link] in
            let (inner, name) = (folder.appending(bytes), name + "/" + Path.text(of: bytes))
            switch (try? FileSystem.status(inner))??.kind {
            case .link: return (try? FileSystem.resolved(inner)).map { [Link(name: name, end: $0)] } ?? []
            case .folder: return links(in: inner, name, depth + 1)
            default: return []
            }
        }
    }
}
