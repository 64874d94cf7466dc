internal import ChunkStore
internal import Platform

/// Puts what is not a file's own bytes into a save: chunk lists, schemas, roots, metadata.
struct ManifestWriter {
    let session: SaveSession
    let tree: BlobTree

    /// The blob over chunks that the save has already.
    func blob(length: UInt64, over ids: [ChunkID]) throws -> BlobRef {
        guard length > 0 else { return .empty }
        let root = try tree.root(over: ids) { id, bytes in
            try bytes.withUnsafeBytes { try session.put([(id, $0)], isContent: false) }
        }
        return BlobRef(length: length, id: root)
    }

    /// A blob with these bytes.
    func blob(_ bytes: [UInt8]) throws -> BlobRef {
        var ids: [ChunkID] = []
        for start in stride(from: 0, to: bytes.count, by: tree.chunkSize) {
            try bytes.withUnsafeBytes { buffer in
                let piece = UnsafeRawBufferPointer(
                    rebasing: buffer[start..<min(start + tree.chunkSize, bytes.count)])
                let id = ChunkID.of(piece)
                try session.put([(id, piece)], isContent: false)
                ids.append(id)
            }
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
