internal import Platform

/// How to save the iterations of a training's output folder.
public struct SaveAllOptions: Sendable {
    /// As in `SaveOptions`.
    public var run: String?
    /// Deletes an original once its iteration is committed and was read back: never the newest, the best, the one that a pointer
    /// names, or where the framework would fail for it.
    public var move: Bool
    public var dryRun: Bool

    public init(run: String? = nil, move: Bool = false, dryRun: Bool = false) {
        self.run = run
        self.move = move
        self.dryRun = dryRun
    }
}

/// What became of one iteration of an output folder.
public struct SavedIteration: Sendable {
    public enum Outcome: Sendable {
        case saved(SaveResult)
        /// The store had it.
        case known
        /// It is not complete: why, each a sentence without its full stop.
        case refused([String])
        /// It is complete, and could not be saved, or not be read back.
        case failed(CairnError)
        /// It is complete, but newer ones wait, and only the newest was asked for.
        case left
    }

    /// What people know it by: mostly the name of its folder or file.
    public var name: String
    public var layout: String?
    public var step: UInt64?
    public var outcome: Outcome
    /// The original is gone.
    public var isMoved = false
    /// Why the original stays that was to be deleted, as a part of a sentence; nil where it was not to be, or is gone.
    public var kept: String?
}
