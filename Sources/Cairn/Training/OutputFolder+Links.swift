internal import Platform

extension OutputFolder {
    /// A symbolic link in this folder, or in another iteration, that leads into one of these paths; nil where there is none.
    /// - Parameter paths: below this folder.
    func link(into paths: [String], besides iterations: [Candidate]) throws -> String? {
        let targets = try paths.map { try FileSystem.resolved(path.appending($0)) }
        for name in names where try isLink(name) && Self.leads(path.appending(name), into: targets) {
            return name
        }
        for other in Set(iterations.flatMap(\.own)).subtracting(paths).sorted() {
            if let inner = Self.link(in: path.appending(other), into: targets) {
                return "\(other)/\(inner)"
            }
        }
        return nil
    }

    /// No framework nests its links deeper.
    private static let depthLimit = 4

    private static func link(in folder: Path, into targets: [Path], depth: Int = 0) -> String? {
        guard depth < depthLimit, (try? FileSystem.status(folder))??.kind == .folder else { return nil }
        // What vanishes meanwhile, or can't be read, is passed over.
        for bytes in (try? FileSystem.names(in: folder)) ?? [] {
            let (inner, name) = (folder.appending(bytes), Path.text(of: bytes))
            switch (try? FileSystem.status(inner))??.kind {
            case .link: if leads(inner, into: targets) { return name }
            case .folder:
                if let found = link(in: inner, into: targets, depth: depth + 1) {
                    return "\(name)/\(found)"
                }
            default: break
            }
        }
        return nil
    }

    private static func leads(_ link: Path, into targets: [Path]) -> Bool {
        // One that leads nowhere, or in a circle, needs nothing.
        guard let end = try? FileSystem.resolved(link) else { return false }
        return targets.contains { $0.contains(end) }
    }
}
