/// An iteration that cannot be read whole, and what of it is lost.
public struct DamagedIteration: Sendable, Hashable {
    public var run: String
    public var step: UInt64
    /// The manifest id in hex.
    public var id: String
    /// Names of tensors that hold damaged chunks.
    public var tensors: [String]
    /// Paths of files that hold damaged chunks, in tensors or beside them.
    public var files: [String]

    public init(run: String, step: UInt64, id: String, tensors: [String], files: [String]) {
        self.run = run
        self.step = step
        self.id = id
        self.tensors = tensors
        self.files = files
    }
}

/// What a check found.
public struct VerifyReport: Sendable {
    /// Only the structure was checked: journal, index, tables and manifests.
    public var quick: Bool
    public var iterations: Int
    public var chunks: Int
    /// Bytes read from packs and checked.
    public var checkedBytes: UInt64
    public var damaged: [DamagedIteration]
    /// What is wrong with the store itself, as sentences that say what to do: the index differs from the
    /// journal, say.
    public var problems: [String]
    public var seconds: Double

    /// Nothing is wrong.
    public var ok: Bool { damaged.isEmpty && problems.isEmpty }

    public init(
        quick: Bool = false, iterations: Int = 0, chunks: Int = 0, checkedBytes: UInt64 = 0,
        damaged: [DamagedIteration] = [], problems: [String] = [], seconds: Double = 0
    ) {
        self.quick = quick
        self.iterations = iterations
        self.chunks = chunks
        self.checkedBytes = checkedBytes
        self.damaged = damaged
        self.problems = problems
        self.seconds = seconds
    }
}

/// What a repair did, and what it could not do.
public struct RepairReport: Sendable {
    /// The index was rebuilt, with this many chunks.
    public var indexedChunks: Int
    /// Damaged chunks whose bytes were found again.
    public var repairedChunks: Int
    public var repairedBytes: UInt64
    /// Bytes read in the sources.
    public var searchedBytes: UInt64
    /// What is still damaged.
    public var damaged: [DamagedIteration]
    /// What is still wrong with the store itself, as sentences.
    public var problems: [String]
    public var seconds: Double

    /// Nothing is wrong any more.
    public var ok: Bool { damaged.isEmpty && problems.isEmpty }

    public init(
        indexedChunks: Int = 0, repairedChunks: Int = 0, repairedBytes: UInt64 = 0, searchedBytes: UInt64 = 0,
        damaged: [DamagedIteration] = [], problems: [String] = [], seconds: Double = 0
    ) {
        self.indexedChunks = indexedChunks
        self.repairedChunks = repairedChunks
        self.repairedBytes = repairedBytes
        self.searchedBytes = searchedBytes
        self.damaged = damaged
        self.problems = problems
        self.seconds = seconds
    }
}

/// What a training would miss that goes on from an iteration.
public struct Resumability: Sendable, Hashable {
    public var run: String
    public var step: UInt64
    public var layout: String
    /// Each thing, such as `the optimizer's state`, or why it is not complete; empty where nothing is missing.
    public var lacking: [String]
}
