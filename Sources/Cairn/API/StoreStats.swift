/// Where a store's bytes are.
public struct StoreStats: Sendable {
    /// The bytes of one dtype or one codec.
    public struct Share: Sendable, Hashable {
        /// `BF16`, or `other` for what is no tensor; or the codec's name.
        public var name: String
        public var chunks: Int
        /// Raw bytes, each chunk once.
        public var uniqueBytes: UInt64
        /// The bytes that they take in packs.
        public var storedBytes: UInt64

        public init(name: String, chunks: Int, uniqueBytes: UInt64, storedBytes: UInt64) {
            self.name = name
            self.chunks = chunks
            self.uniqueBytes = uniqueBytes
            self.storedBytes = storedBytes
        }
    }

    /// The bytes of one run.
    public struct Run: Sendable, Hashable {
        public var name: String
        public var iterations: Int
        /// The sum of the sizes of all its iterations.
        public var logicalBytes: UInt64
        /// What its saves added to the store.
        public var storedBytes: UInt64

        public init(name: String, iterations: Int, logicalBytes: UInt64, storedBytes: UInt64) {
            self.name = name
            self.iterations = iterations
            self.logicalBytes = logicalBytes
            self.storedBytes = storedBytes
        }
    }

    /// The sum of the sizes of all iterations.
    public var logicalBytes: UInt64
    /// Raw bytes, each chunk once.
    public var uniqueBytes: UInt64
    /// What the store takes on disk, the index included.
    public var storedBytes: UInt64
    /// What the index takes on disk.
    public var indexBytes: UInt64
    public var chunks: Int
    public var packs: Int
    public var iterations: Int
    public var dtypes: [Share]
    public var codecs: [Share]
    public var runs: [Run]

    public init(
        logicalBytes: UInt64 = 0, uniqueBytes: UInt64 = 0, storedBytes: UInt64 = 0, indexBytes: UInt64 = 0,
        chunks: Int = 0, packs: Int = 0, iterations: Int = 0, dtypes: [Share] = [], codecs: [Share] = [],
        runs: [Run] = []
    ) {
        self.logicalBytes = logicalBytes
        self.uniqueBytes = uniqueBytes
        self.storedBytes = storedBytes
        self.indexBytes = indexBytes
        self.chunks = chunks
        self.packs = packs
        self.iterations = iterations
        self.dtypes = dtypes
        self.codecs = codecs
        self.runs = runs
    }
}
