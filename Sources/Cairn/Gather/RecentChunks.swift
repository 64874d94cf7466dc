internal import ChunkStore

/// Chunks that were read, kept for when they are asked for again: of a slice, each is needed for many rows.
final class RecentChunks: Sendable {
    private let chunks: ChunkStore
    private let recent: Recent<ChunkID, [UInt8]>

    /// - Parameter limit: bytes of memory for what is kept.
    init(_ chunks: ChunkStore, limit: Int) {
        self.chunks = chunks
        recent = Recent(limit: limit) { $0.count }
    }

    /// The bytes of a chunk, checked.
    /// - Throws: `.damage` where the store does not have them any more.
    func chunk(_ id: ChunkID) throws -> [UInt8] {
        try recent.value(for: id) { try chunks.chunk(id) }
    }
}
