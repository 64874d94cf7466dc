public import Platform

extension ChunkStore {
    /// The bytes of one chunk, checked.
    /// - Throws: `.damage` where the store does not have them any more.
    public func chunk(_ id: ChunkID) throws -> [UInt8] {
        let chain = try self.chain(id)
        do {
            return try decode(chain)
        } catch let error as CairnError where error.code == .damage || error.code == .notFound {
            // A collection or repair may have moved it since: look once more before it is damage.
            let newChain = try self.chain(id)
            if newChain == chain { throw error }
            return try decode(newChain)
        }
    }

    func missing(_ id: ChunkID) -> CairnError {
        CairnError(
            .damage,
            "the store \(folder) has lost the chunk \(id.hex.prefix(16)); run `cairn repair --from` a copy")
    }

    /// Where chunks are; nil for those that the store does not have.
    public func locate(_ ids: [ChunkID]) throws -> [ChunkPlace?] {
        try read { transaction in
            let locate = locator(transaction)
            return try ids.map { try locate($0) }
        }
    }

    /// Where a transaction says that chunks are.
    func locator(_ transaction: IndexTransaction) -> ChunkLocator {
        var names: [UInt32: PackName] = [:]
        return { id in
            guard let location = try transaction.chunk(id) else { return nil }
            if let name = names[location.pack] { return ChunkPlace(id, name, location) }
            guard let pack = try transaction.pack(location.pack) else { return nil }
            names[location.pack] = pack.name
            return ChunkPlace(id, pack.name, location)
        }
    }

    func chain(_ id: ChunkID) throws -> [ChunkPlace] {
        try read { transaction in
            let locate = locator(transaction)
            guard let place = try locate(id) else { throw missing(id) }
            return try chain(place, locate)
        }
    }

    func checkCodec(_ codec: Codec, _ path: Path) throws {
        guard codec.isKnown else {
            throw CairnError(
                .newerVersion,
                "\(path) has a chunk in codec \(codec.rawValue), which this version does not know; "
                    + "use Cairn \(newestVersion()) or later", path: path.text)
        }
    }

    /// The version of the program that wrote the newest commit: by the journal and without a lock, as whoever asks may hold it.
    private func newestVersion() -> String {
        (try? JournalFold(journal.records().records).version) ?? ""
    }

    /// All bytes of a blob, for what is known to be small: heads, roots, schemas, lists.
    public func bytes(of blob: BlobRef) throws -> [UInt8] {
        try BlobTree(chunkSize: chunkSize).bytes(of: blob) { try chunk($0) }
    }

    /// The ids of a blob's chunks, in order.
    public func chunkIDs(of blob: BlobRef) throws -> [ChunkID] {
        try BlobTree(chunkSize: chunkSize).chunkIDs(of: blob) { try chunk($0) }
    }
}

/// The tree over a blob's chunks. (Docs/format.md 5)
public struct BlobTree: Sendable {
    public let chunkSize: Int

    public init(chunkSize: Int) { self.chunkSize = chunkSize }

    /// Chunks of a blob of this many bytes.
    public func chunkCount(_ length: UInt64) -> Int {
        Int((length + UInt64(chunkSize) - 1) / UInt64(chunkSize))
    }

    /// Bytes of the chunk at a place.
    public func chunkLength(_ index: Int, of length: UInt64) -> Int {
        min(chunkSize, Int(length - UInt64(index) * UInt64(chunkSize)))
    }

    /// The root over chunks that are stored, and the chunks of the lists in between, which are to be stored.
    public func root(over ids: [ChunkID], store: (ChunkID, [UInt8]) throws -> Void) rethrows -> ChunkID {
        var level = ids
        while level.count > 1 {
            var list: [UInt8] = []
            list.reserveCapacity(level.count * 32)
            for id in level { id.withUnsafeBytes { list.append(contentsOf: $0) } }
            var above: [ChunkID] = []
            for start in stride(from: 0, to: list.count, by: chunkSize) {
                let piece = [UInt8](list[start..<min(start + chunkSize, list.count)])
                let id = ChunkID.of(piece)
                try store(id, piece)
                above.append(id)
            }
            level = above
        }
        return level.first ?? .zero
    }

    /// The ids of a blob's chunks, in order. `list` is told the ids of the lists in between.
    public func chunkIDs(
        of blob: BlobRef, list visit: (ChunkID) throws -> Void = { _ in }, read: (ChunkID) throws -> [UInt8]
    ) throws -> [ChunkID] {
        guard blob.length > 0 else { return [] }
        // From the length alone: how many ids each level has, from the chunks up to the root.
        var counts = [chunkCount(blob.length)]
        while counts.last! > 1 { counts.append(chunkCount(UInt64(counts.last!) * 32)) }
        var level = [blob.id]
        for count in counts.dropLast().reversed() {
            var bytes: [UInt8] = []
            for id in level {
                try visit(id)
                bytes += try read(id)
            }
            guard bytes.count == count * 32 else {
                throw CairnError(
                    .damage, "the chunk list \(blob.id.hex.prefix(16)) has another length than its blob")
            }
            level = bytes.withUnsafeBytes { buffer in
                (0..<count).map { ChunkID(UnsafeRawBufferPointer(rebasing: buffer[$0 * 32..<$0 * 32 + 32])) }
            }
        }
        return level
    }

    public func bytes(of blob: BlobRef, read: (ChunkID) throws -> [UInt8]) throws -> [UInt8] {
        var result: [UInt8] = []
        for id in try chunkIDs(of: blob, read: read) { result += try read(id) }
        guard UInt64(result.count) == blob.length else {
            throw Self.otherLength(blob)
        }
        return result
    }

    /// What is wrong where the chunks of a blob are not as long as it says.
    public static func otherLength(_ blob: BlobRef) -> CairnError {
        CairnError(.damage, "the blob \(blob.id.hex.prefix(16)) has another length than it should")
    }
}
