/// What reading one chunk back may take: a setting of the store, fixed when it is made.
public struct RecoveryBound: Hashable, Sendable {
    /// Stored bytes of all its records, for each byte of the chunk: 1 to 16.
    public var factor: Int
    /// Records, its own among them: 1 to 64.
    public var records: Int

    public static let factors = 1...16
    public static let recordCounts = 1...PackFormat.chainLimit

    public init(factor: Int = 2, records: Int = 16) {
        self.factor = factor
        self.records = records
    }

    var isValid: Bool { Self.factors.contains(factor) && Self.recordCounts.contains(records) }

    /// Whether a record of so many bytes may lean on a chain.
    func allows(_ storedLength: Int, before chain: [ChunkPlace]) -> Bool {
        let bytes = chain.reduce(storedLength) { $0 + Int($1.location.storedLength) }
        return chain.count < records && bytes <= factor * Int(chain[0].location.rawLength)
    }
}
