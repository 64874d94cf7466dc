internal import ChunkStore
internal import Synchronization

/// The chunks of blobs, kept for when they are asked for again: pieces of one blob follow each other, and those of many come by turns.
final class ChunkLists: Sendable {
    private struct State {
        var lists: [BlobRef: (ids: [ChunkID], lastUse: Int)] = [:]
        var uses = 0
        var bytes = 0
    }

    private let chunks: ChunkStore
    private let limit: Int
    private let state = Mutex(State())

    /// - Parameter limit: bytes of memory for what is kept.
    init(_ chunks: ChunkStore, limit: Int) {
        self.chunks = chunks
        self.limit = limit
    }

    /// The ids of a blob's chunks, in order.
    /// - Throws: `.damage` where they can't be read.
    func ids(of blob: BlobRef) throws -> [ChunkID] {
        // Of one chunk, the blob's id is the chunk's.
        if blob.length <= UInt64(chunks.chunkSize) { return try chunks.chunkIDs(of: blob) }
        let known = state.withLock { state in
            state.uses += 1
            state.lists[blob]?.lastUse = state.uses
            return state.lists[blob]?.ids
        }
        if let known { return known }
        let ids = try chunks.chunkIDs(of: blob)
        state.withLock { state in
            if state.lists.updateValue((ids, state.uses), forKey: blob) == nil {
                state.bytes += Self.size(ids)
            }
            if state.bytes > limit { Self.dropOldest(&state) }
        }
        return ids
    }

    private static func size(_ ids: [ChunkID]) -> Int { 128 + 32 * ids.count }

    /// The half that was not used for the longest time.
    private static func dropOldest(_ state: inout State) {
        let byUse = state.lists.sorted { $0.value.lastUse < $1.value.lastUse }
        for (blob, list) in byUse.prefix((byUse.count + 1) / 2) {
            state.lists[blob] = nil
            state.bytes -= size(list.ids)
        }
    }
}
