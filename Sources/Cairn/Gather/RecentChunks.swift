internal import ChunkStore
internal import Synchronization

/// Chunks that were read, kept for when they are asked for again: of a slice, each is needed for many rows.
final class RecentChunks: Sendable {
    private struct State {
        var chunks: [ChunkID: (bytes: [UInt8], lastUse: Int)] = [:]
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

    /// The bytes of a chunk, checked.
    /// - Throws: `.damage` where the store does not have them any more.
    func chunk(_ id: ChunkID) throws -> [UInt8] {
        let known = state.withLock { state in
            state.uses += 1
            state.chunks[id]?.lastUse = state.uses
            return state.chunks[id]?.bytes
        }
        if let known { return known }
        let bytes = try chunks.chunk(id)
        state.withLock { state in
            if state.chunks.updateValue((bytes, state.uses), forKey: id) == nil { state.bytes += bytes.count }
            if state.bytes > limit { Self.dropOldest(&state) }
        }
        return bytes
    }

    /// The half that was not used for the longest time.
    private static func dropOldest(_ state: inout State) {
        let byUse = state.chunks.sorted { $0.value.lastUse < $1.value.lastUse }
        for (id, chunk) in byUse.prefix((byUse.count + 1) / 2) {
            state.chunks[id] = nil
            state.bytes -= chunk.bytes.count
        }
    }
}
