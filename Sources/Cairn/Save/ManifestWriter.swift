internal import ChunkStore
internal import Platform

/// Puts what is not a file's own bytes into a save: chunk lists, schemas, roots, metadata. Many in one go: `flush` puts the last ones.
final class ManifestWriter {
    private let session: SaveSession
    private let tree: BlobTree
    private var pending: [(id: ChunkID, bytes: [UInt8])] = []
    private var pendingBytes = 0

    /// Bytes and pieces that wait at most.
    private static let batch = (bytes: 4 << 20, pieces: 1024)

    init(session: SaveSession, tree: BlobTree) {
        self.session = session
        self.tree = tree
    }

    private func put(_ id: ChunkID, _ bytes: [UInt8]) throws {
        pending.append((id, bytes))
        pendingBytes += bytes.count
        if pending.count == Self.batch.pieces || pendingBytes >= Self.batch.bytes { try flush() }
    }

    func flush() throws {
        let pieces = pending
        (pending, pendingBytes) = ([], 0)
        // One buffer for all, as pointers into an array are only good for a call.
        let joined = pieces.flatMap(\.bytes)
        try joined.withUnsafeBytes { buffer in
            var start = 0
            let chunks = pieces.map { id, bytes in
                defer { start += bytes.count }
                return (id: id, bytes: UnsafeRawBufferPointer(rebasing: buffer[start..<start + bytes.count]))
            }
            try session.put(chunks, isContent: false)
        }
    }

    /// The blob over chunks that the save has already.
    func blob(length: UInt64, over ids: [ChunkID]) throws -> BlobRef {
        guard length > 0 else { return .empty }
        let root = try tree.root(over: ids) { try put($0, $1) }
        return BlobRef(length: length, id: root)
    }

    /// A blob with these bytes.
    func blob(_ bytes: [UInt8]) throws -> BlobRef {
        var ids: [ChunkID] = []
        for start in stride(from: 0, to: bytes.count, by: tree.chunkSize) {
            let piece = [UInt8](bytes[start..<min(start + tree.chunkSize, bytes.count)])
            ids.append(.of(piece))
            try put(ids.last!, piece)
        }
        return try blob(length: UInt64(bytes.count), over: ids)
    }

    /// A file's content, its chunks given by extent.
    func content(_ plan: FilePlan, _ ids: [[ChunkID]]) throws -> Roots.FileContent {
        let blobs = try zip(plan.extents, ids).map { try blob(length: $0.length, over: $1) }
        guard let schema = plan.schema else { return .opaque(blobs.first ?? .empty) }
        return .split(schema: try blob(schema.encoded()), blobs: blobs.map(\.id))
    }
}
