/// How to find what a training goes on from.
public struct ResumeOptions: Sendable {
    /// The run; nil: the one that was saved from this folder, else the store's only one, else `main`.
    public var run: String?
    /// Goes back to this iteration, and what came after is superseded; `pointer`: to the one that the framework's own pointer
    /// names. Nil: the newest that is valid.
    public var reference: String?
    /// Only iterations of this layout.
    public var layout: String?
    /// Brings back the files of these ranks alone, and those that are no rank's own.
    public var ranks: ClosedRange<Int>?
    /// Leaves the optimizer's state in the store.
    public var withoutOptimizer: Bool
    /// Writes paths inside state files anew that point to where the training was before.
    public var relocate: Bool
    /// A run that the store does not know starts from scratch, instead of being an error.
    public var firstRun: Bool
    /// Takes files of the size and the time that were saved for what was saved, without reading them.
    public var quick: Bool

    public init(
        run: String? = nil, reference: String? = nil, layout: String? = nil, ranks: ClosedRange<Int>? = nil,
        withoutOptimizer: Bool = false, relocate: Bool = false, firstRun: Bool = false,
        quick: Bool = false
    ) {
        self.run = run
        self.reference = reference
        self.layout = layout
        self.ranks = ranks
        self.withoutOptimizer = withoutOptimizer
        self.relocate = relocate
        self.firstRun = firstRun
        self.quick = quick
    }
}

/// What a training goes on from.
public struct ResumeResult: Sendable {
    /// Where the iteration was found.
    public enum Source: String, Sendable {
        case folder, store
    }

    /// Something that stood in the way of the framework, and what it is called now.
    public struct SetAside: Sendable, Hashable {
        public var path: String
        public var newPath: String
        /// Why it was no iteration to go on from.
        public var reasons: [String]
    }

    /// What to give to the trainer; nil: it starts from scratch.
    public var path: String?
    public var run: String?
    public var step: UInt64?
    /// The manifest id in hex; nil where no store has it.
    public var id: String?
    public var source: Source?
    /// The id of what the store had of this step, where the folder's was written later and took its place.
    public var replaced: String?
    public var setAside: [SetAside] = []
    /// Sentences for people: what was skipped, what is stale, what will be missing.
    public var notes: [String] = []

    public init() {}
}
