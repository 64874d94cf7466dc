public import Platform

/// A chunk that is to be saved.
public struct SaveChunk {
    public var id: ChunkID
    public var bytes: UnsafeRawBufferPointer
    /// Which tensor of the save it belongs to: the chunks of one are encoded alike. Negative: none.
    public var tensor: Int
    /// Bytes of its numbers: 1, 2, 4 or 8.
    public var elementSize: Int
    /// The chunk at the same place in an earlier iteration, as long as this one, committed before this save began and kept until it
    /// ends; `.zero` where there is none.
    public var earlier: ChunkID
    /// The bytes of the earlier chunk, where they are in memory.
    public var earlierBytes: UnsafeRawBufferPointer?
    /// Fingerprints of the earlier chunk, and of the chunk that it leans on, as far as they are known.
    public var earlierFingerprints: (own: Fingerprint, base: Fingerprint)

    public init(
        _ id: ChunkID, _ bytes: UnsafeRawBufferPointer, tensor: Int = -1, elementSize: Int = 1,
        earlier: ChunkID = .zero,
        earlierFingerprints: (own: Fingerprint, base: Fingerprint) = (.none, .none)
    ) {
        self.id = id
        self.bytes = bytes
        self.tensor = tensor
        self.elementSize = elementSize
        self.earlier = earlier
        self.earlierFingerprints = earlierFingerprints
    }
}

/// How new chunks may be encoded.
public struct EncodingRules: Sendable {
    /// Whether they may be encoded at all.
    var usesPlanes = true
    /// Whether they may lean on earlier ones.
    public var usesDeltas: Bool
    /// Whether earlier ones may be read from the store for that, or have to be in memory.
    public var readsBases = true
    /// A delta is only used where it is smaller than this share of the chunk's encoding without a base.
    public var deltaLimit: Double

    /// What reading one more record must at least save.
    private static let worthwhile = 31.0 / 32

    /// Everything as it is.
    static let raw: EncodingRules = {
        var rules = EncodingRules(usesDeltas: false)
        rules.usesPlanes = false
        return rules
    }()

    /// - Parameter keepsLast: how many iterations a policy keeps, N. A base takes space until the last delta on it goes, so at the worst
    ///   moment one chunk beside the N takes space in full, and one of the N is its successor: what the N - 1 others are
    ///   smaller by must make up for it.
    public init(usesDeltas: Bool, keepsLast: Int? = nil) {
        let share = keepsLast.map { $0 > 1 ? 1 - 1 / Double($0 - 1) : 0 } ?? 1
        self.usesDeltas = usesDeltas && share > 0
        deltaLimit = min(Self.worthwhile, share)
    }
}

/// What one thread of a save works with.
public final class SaveWorker {
    public let hasher = SHA256Hasher()
    let coder: PlaneCoder
    let store: ChunkStore
    private var knownReader: ChunkReader?
    private var knownOutput: Buffer?
    private let key: [UInt8]?

    /// - Parameter key: of the store's fingerprints; nil where none are made.
    init(_ store: ChunkStore, key: [UInt8]? = nil) throws {
        self.store = store
        self.key = key
        coder = try PlaneCoder(chunkSize: store.chunkSize)
        fingerprinter = Fingerprinter(key: key ?? [UInt8](repeating: 0, count: Fingerprinter.keySize))
    }

    /// Nothing that it says is of use where the worker has no key.
    public let fingerprinter: Fingerprinter
    var makesFingerprints: Bool { key != nil }

    /// For bases.
    func reader() throws -> ChunkReader {
        if let knownReader { return knownReader }
        let reader = try ChunkReader(store, readSize: Self.readSize)
        knownReader = reader
        return reader
    }

    /// Room for payloads, before they are in the pack: that of the largest chunk at least. What was in it is gone.
    func output() throws -> UnsafeMutableRawBufferPointer {
        if let knownOutput { return knownOutput.bytes }
        let output = try Buffer(size: Self.outputSize(store))
        knownOutput = output
        return output.bytes
    }

    /// Enough that the lock of the pack is taken rarely, and that payloads stay in the caches until then.
    private static func outputSize(_ store: ChunkStore) -> Int {
        (max(1 << 20, PlaneCoder.bound(store.chunkSize)) + 4095) / 4096 * 4096
    }

    /// What 16 chunks of the usual size mostly lean on.
    private static let readSize = 5 << 20

    /// Bytes of memory that a worker takes at most.
    static func memory(_ store: ChunkStore, readsBases: Bool) -> Int {
        (readsBases ? ChunkReader.memory(store, readSize: readSize) : 0) + outputSize(store) + store.chunkSize
    }
}
