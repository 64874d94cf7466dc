internal import ChunkStore

extension ChunkStore {
    /// The bytes of a range of a blob that is not empty.
    func bytes(of blob: BlobRef, _ range: Range<UInt64>) throws -> [UInt8] {
        let size = UInt64(chunkSize)
        let ids = try chunkIDs(of: blob)
        let tree = BlobTree(chunkSize: chunkSize)
        var bytes: [UInt8] = []
        for index in range.lowerBound / size...(range.upperBound - 1) / size {
            let chunk = try chunk(ids[Int(index)])
            guard chunk.count == tree.chunkLength(Int(index), of: blob.length) else {
                throw BlobTree.otherLength(blob)
            }
            let lower = max(range.lowerBound, index * size) - index * size
            let upper = min(range.upperBound, (index + 1) * size) - index * size
            bytes += chunk[Int(lower)..<Int(upper)]
        }
        return bytes
    }
}
