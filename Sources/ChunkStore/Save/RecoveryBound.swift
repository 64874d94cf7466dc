/// What reading one chunk back may take: a setting of the store.
struct RecoveryBound: Hashable, Sendable {
    /// Stored bytes of all its records, for each byte of the chunk.
    var factor: Double = 2
    /// Records, its own among them.
    var records: Int = 16

    /// Whether a record of so many bytes may lean on a chain.
    func allows(_ storedLength: Int, before chain: [ChunkPlace]) -> Bool {
        let bytes = chain.reduce(storedLength) { $0 + Int($1.location.storedLength) }
        return chain.count < records && Double(bytes) <= factor * Double(chain[0].location.rawLength)
    }
}
