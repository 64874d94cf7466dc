internal import Platform

/// A layout that is known, and what can be done with its checkpoints: a row of the table of `cairn layouts`.
public struct LayoutInfo: Sendable, Hashable {
    /// Its word in commands, such as `megatron`.
    public var name: String
    public var abilities: LayoutAbilities
}

/// An iteration on disk, as its layout understands it.
public struct FoundIteration: Sendable {
    /// What people know it by: mostly the name of its folder or file.
    public var name: String
    /// Below the folder that was looked at; empty for that folder itself.
    public var path: String
    /// The layout's name; nil where none knows it.
    public var layout: String?
    /// The global step: what the files say, else the number in the name.
    public var step: UInt64?
    public var epoch: Double?
    public var metrics: [String: Double]
    /// Processes that wrote it, where that is known.
    public var worldSize: Int?
    /// Why it is not complete, each a sentence without its full stop; empty where it is.
    public var faults: [String]
    /// What a resumed training would miss without noticing; it is complete nevertheless.
    public var missing: [String]
    /// Why the framework itself calls it unhealthy; nil where it does not.
    public var unhealthy: String?
    /// What else is known, for people.
    public var facts: [(name: String, value: String)]

    public var isComplete: Bool { faults.isEmpty }
}

/// Checkpoints on disk, before any store has them.
public enum Checkpoints {
    /// The layouts that are known.
    public static var layouts: [LayoutInfo] {
        Layouts.all.map { LayoutInfo(name: $0.name, abilities: $0.abilities) }
    }

    /// The iterations in a training's output folder, by step; or the one that `path` is. Nothing is changed.
    /// - Throws: `.notFound` where there is nothing at `path`.
    public static func iterations(at path: String) throws -> [FoundIteration] {
        let path = Path(path)
        guard let status = try FileSystem.status(path, followLinks: true) else {
            throw CairnError(.notFound, "there is nothing at \(path)", path: path.text)
        }
        if status.kind == .folder, StepNames.step(of: try FileSystem.resolved(path).name) == nil {
            let found = try OutputFolder(path).iterations()
            if !found.isEmpty { return found.map { FoundIteration($0) } }
        }
        return [try iteration(at: path)]
    }

    /// Whether a folder holds anything that looks like an iteration; false where there is no folder.
    public static func hasIterations(at path: String) throws -> Bool {
        guard try FileSystem.status(Path(path), followLinks: true)?.kind == .folder else { return false }
        return try !OutputFolder(Path(path)).candidates().isEmpty
    }

    /// The folder in an output folder that holds what `resume` has put out of the way so far, and how many bytes lie in it; nil where
    /// there is none. Nothing ever deletes it: whoever needs nothing in it any more does.
    public static func setAside(at path: String) throws -> (path: String, bytes: UInt64)? {
        let folder = AsideFolder(in: Path(path))
        return try folder.bytes().map { (folder.path.text, $0) }
    }

    private static func iteration(at path: Path) throws -> FoundIteration {
        let resolved = try FileSystem.resolved(path)
        let view = try CheckpointView(resolved)
        let layout = try Layouts.layout(of: view)
        let inspection =
            try layout?.inspect(view)
            ?? Inspection(faults: ["it is in no layout that is known; see `cairn layouts`"])
        let candidate = Candidate(
            name: view.name, path: "",
            step: StepNames.step(of: resolved.name) ?? layout?.step(ofFile: view.name))
        return FoundIteration(Found(candidate: candidate, layout: layout, inspection: inspection))
    }
}

extension FoundIteration {
    init(_ found: Found) {
        let inspection = found.inspection
        self.init(
            name: found.candidate.name, path: found.candidate.path, layout: found.layout?.name,
            step: found.step,
            epoch: inspection.epoch, metrics: inspection.metrics, worldSize: inspection.worldSize,
            faults: inspection.faults, missing: inspection.missing, unhealthy: inspection.unhealthy,
            facts: inspection.facts)
    }
}
