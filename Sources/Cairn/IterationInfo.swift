public import ChunkStore

/// What `list` shows of an iteration: its head, and what the journal has said about it since.
public struct IterationInfo: Sendable {
    /// The sequence number of its commit record; never reused.
    public var number: UInt64
    public var run: String
    public var step: UInt64
    /// The manifest id.
    public var id: ChunkID
    /// Nanoseconds since 1970 UTC.
    public var createdAt: Int64
    /// The manifest id of the iteration before.
    public var parent: ChunkID?
    public var layout: String
    public var tensors: Int
    public var files: Int
    /// The sum of the files' sizes, in bytes.
    public var logicalBytes: UInt64
    /// What its save added to the store, in bytes.
    public var storedBytes: UInt64
    /// Those of the head and those of later annotations; of the same name the latest.
    public var metrics: [String: Double]
    /// JSON texts.
    public var metadata: [String: String]
    public var notes: [String]
    /// The names of its pins.
    public var pins: [String]
    /// A rewind went back to before it.
    public var superseded: Bool

    public init(
        number: UInt64, run: String, step: UInt64, id: ChunkID, createdAt: Int64, parent: ChunkID? = nil,
        layout: String = "", tensors: Int = 0, files: Int = 0, logicalBytes: UInt64 = 0,
        storedBytes: UInt64 = 0,
        metrics: [String: Double] = [:], metadata: [String: String] = [:], notes: [String] = [],
        pins: [String] = [], superseded: Bool = false
    ) {
        self.number = number
        self.run = run
        self.step = step
        self.id = id
        self.createdAt = createdAt
        self.parent = parent
        self.layout = layout
        self.tensors = tensors
        self.files = files
        self.logicalBytes = logicalBytes
        self.storedBytes = storedBytes
        self.metrics = metrics
        self.metadata = metadata
        self.notes = notes
        self.pins = pins
        self.superseded = superseded
    }
}
