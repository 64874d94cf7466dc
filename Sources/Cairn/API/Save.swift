public import Platform
internal import TensorFormats

/// How to save a checkpoint.
public struct SaveOptions: Sendable {
    /// The run; nil: the run that this output folder was saved to before, else the store's only run, else
    /// `main`.
    public var run: String?
    /// The step; nil: as the checkpoint itself says.
    public var step: UInt64?
    /// Metrics beside those that the checkpoint records; of the same name these win. NaN is a value.
    public var metrics: [String: Double]
    /// Whatever else is worth knowing; the values are JSON texts.
    public var metadata: [String: String]
    /// The name of a pin that protects the iteration from the moment it exists.
    public var pin: String?
    /// Takes the place of another iteration at the same run and step, unless that one is pinned. A superseded one makes room
    /// without it.
    public var replace: Bool
    /// Saves what symbolic links point to, instead of the links.
    public var followLinks: Bool
    /// Reads and compares everything, and writes nothing.
    public var dryRun: Bool
    /// A reference to the iteration that new chunks may lean on, of any run: a fine-tune's base model. Nil: the run's previous one.
    public var base: String?
    /// Hashes everything, instead of trusting fingerprints for what has not changed.
    public var rehash: Bool
    /// Leaves out what only continuing the training needs: the optimizer's state and the like.
    public var modelOnly: Bool
    /// Other tensors in the place of an iteration's mean that its training went back: what came after is superseded.
    var goesBack = false

    public init(
        run: String? = nil, step: UInt64? = nil, metrics: [String: Double] = [:],
        metadata: [String: String] = [:],
        pin: String? = nil, replace: Bool = false, followLinks: Bool = false, dryRun: Bool = false,
        modelOnly: Bool = false, base: String? = nil, rehash: Bool = false
    ) {
        self.run = run
        self.step = step
        self.metrics = metrics
        self.metadata = metadata
        self.pin = pin
        self.replace = replace
        self.followLinks = followLinks
        self.dryRun = dryRun
        self.modelOnly = modelOnly
        self.base = base
        self.rehash = rehash
    }

    /// Adds the members of a JSON object in a file to `metadata`, over what is there.
    ///
    /// The `NaN` and `Infinity` that Python writes are read, and become `null`, which every JSON reader
    /// understands.
    ///
    /// - Throws: `notFound` or `system` where the file can't be read, `usage` where it holds no JSON object.
    public mutating func addMetadata(fromFile path: String) throws(CairnError) {
        let bytes = try File(Path(path), .read).readToEnd()
        let value: JSON
        do throws(JSONError) {
            value = try JSON(parsing: bytes, allowNonFinite: true)
        } catch {
            throw CairnError(.usage, "\(Path(path)) is not JSON: \(error)", path: path)
        }
        guard let members = value.members else {
            throw CairnError(
                .usage, "\(Path(path)) holds JSON, but no object: write {\"name\": value, …}", path: path)
        }
        for member in members {
            metadata[member.key] = member.value.text
        }
    }
}

/// What a save did.
public struct SaveResult: Sendable {
    public var run: String
    public var step: UInt64
    /// The manifest id in hex; nil for a dry run, which makes none.
    public var id: String?
    /// The name of the layout it was read as, such as `hf`; `files` where it is none that is known.
    public var layout: String
    public var tensors: Int
    public var files: Int
    /// The sum of the files' sizes, in bytes.
    public var logicalBytes: UInt64
    /// Raw bytes of the chunks that the store did not have.
    public var newBytes: UInt64
    /// What the store grew by, in bytes: this save's packs, its journal record, and the index.
    public var storedBytes: UInt64
    public var chunks: Int
    public var newChunks: Int
    public var seconds: Double
    /// The same iteration was there already. At most metrics, metadata and pins were added to it.
    public var unchanged: Bool
    public var dryRun: Bool
    /// What the run's policy deleted after the commit, where it is automatic.
    public var deleted: [DeletedIteration]
    /// The bytes that this gave back.
    public var reclaimedBytes: UInt64
    /// It is one part of an iteration, of which others are still missing.
    public var isPart = false
    /// It is the last part of this iteration to come, by its manifest id; `id` is the part's own.
    public var iteration: String?
    /// The manifest id in hex of what the run had at this step until now, and has no longer.
    public var replaced: String?
    /// The number that the commit has in the journal; nil where there was none.
    var number: UInt64?
    /// Steps that count no longer, as the training went back behind them.
    public var superseded: [UInt64] = []
    /// Sentences for people: what was saved in another way than they may expect, and why a policy was not applied to the end.
    public var warnings: [String]

    public init(
        run: String, step: UInt64, id: String?, layout: String = "", tensors: Int = 0, files: Int = 0,
        logicalBytes: UInt64 = 0, newBytes: UInt64 = 0, storedBytes: UInt64 = 0, chunks: Int = 0,
        newChunks: Int = 0,
        seconds: Double = 0, unchanged: Bool = false, dryRun: Bool = false, deleted: [DeletedIteration] = [],
        reclaimedBytes: UInt64 = 0, warnings: [String] = []
    ) {
        self.run = run
        self.step = step
        self.id = id
        self.layout = layout
        self.tensors = tensors
        self.files = files
        self.logicalBytes = logicalBytes
        self.newBytes = newBytes
        self.storedBytes = storedBytes
        self.chunks = chunks
        self.newChunks = newChunks
        self.seconds = seconds
        self.unchanged = unchanged
        self.dryRun = dryRun
        self.deleted = deleted
        self.reclaimedBytes = reclaimedBytes
        self.warnings = warnings
    }
}
