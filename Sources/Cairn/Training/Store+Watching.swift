internal import Platform

/// How to watch a training's output folder.
public struct WatchOptions: Sendable {
    /// Which iterations are saved where a training writes them faster than they are saved.
    public enum WhenBehind: String, Sendable, CaseIterable {
        /// The newest of those that wait; the others are left.
        case newest
        /// All of them, the oldest first.
        case all
    }

    /// As in `SaveOptions`.
    public var run: String?
    /// As in `SaveAllOptions`.
    public var move: Bool
    /// Ends once everything that is there has been looked at.
    public var once: Bool
    public var whenBehind: WhenBehind

    public init(run: String? = nil, move: Bool = false, once: Bool = false, whenBehind: WhenBehind = .all) {
        self.run = run
        self.move = move
        self.once = once
        self.whenBehind = whenBehind
    }
}

extension Store {
    /// Saves iterations as a training writes them, until it is interrupted: each once it is complete and nothing changed for two
    /// seconds. The folder may come later, and iterations may vanish at any time.
    /// - Parameters:
    ///   - report: told of each iteration that was saved, left or moved, and of each that could not be.
    ///   - note: told in a sentence what is about no iteration: the folder is not there, or can't be read.
    /// - Throws: `.interrupted`; `.usage` where the run is not clear, or the folder is none that a training writes to; with `once`
    ///   `.notFound` where it is not there. What is wrong with an iteration is in its outcome, and it is tried again.
    public func watch(
        _ path: String, options: WatchOptions, progress: Progress, report: @escaping (SavedIteration) -> Void,
        note: @escaping (String) -> Void = { _ in }
    ) throws {
        defer { progress.end() }
        try Watch(self, Path(path), options, progress, report, note).run()
    }
}
