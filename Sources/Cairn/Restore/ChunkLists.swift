internal import ChunkStore

/// The chunks of blobs, kept for when they are asked for again: pieces of one blob follow each other, and those of many come by turns.
final class ChunkLists: Sendable {
    private let chunks: ChunkStore
    private let recent: Recent<BlobRef, [ChunkID]>

    /// - Parameter limit: bytes of memory for what is kept.
    init(_ chunks: ChunkStore, limit: Int) {
        self.chunks = chunks
        recent = Recent(limit: limit) { 128 + 32 * $0.count }
    }

    /// The ids of a blob's chunks, in order.
    /// - Throws: `.damage` where they can't be read.
    func ids(of blob: BlobRef) throws -> [ChunkID] {
        // Of one chunk, the blob's id is the chunk's.
        if blob.length <= UInt64(chunks.chunkSize) { return try chunks.chunkIDs(of: blob) }
        return try recent.value(for: blob) { try chunks.chunkIDs(of: blob) }
    }
}
