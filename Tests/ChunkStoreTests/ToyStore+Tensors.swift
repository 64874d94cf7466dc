import Platform

@testable import ChunkStore

/// Tensors whose chunks lean on those of earlier ones.
extension ToyStore {
    static let deltas = EncodingRules(usesDeltas: true)

    /// Random numbers of 4 bytes each.
    static func tensor(chunks: Int, _ generator: inout SeededGenerator) -> [UInt8] {
        (0..<chunks * chunkSize / 8).flatMap { _ in
            withUnsafeBytes(of: generator.next()) { [UInt8]($0) }
        }
    }

    /// The same numbers but for one in a thousand.
    static func changed(_ tensor: [UInt8], _ generator: inout SeededGenerator) -> [UInt8] {
        var tensor = tensor
        for start in stride(from: 0, to: tensor.count, by: chunkSize) {
            let end = min(start + chunkSize, tensor.count)
            tensor[Int.random(in: start..<end, using: &generator)] &+= 1
        }
        return tensor
    }

    static func chunks(of tensor: [UInt8]) -> [[UInt8]] {
        stride(from: 0, to: tensor.count, by: chunkSize).map { start in
            [UInt8](tensor[start..<min(start + chunkSize, tensor.count)])
        }
    }

    /// Puts a tensor, each chunk with the one that stood at the same place of `earlier`.
    static func put(
        tensor: [UInt8], over earlier: [UInt8], elementSize: Int = 4, _ session: SaveSession,
        _ worker: SaveWorker
    ) throws -> BlobRef {
        let old = chunks(of: earlier)
        var ids: [ChunkID] = []
        for (index, chunk) in chunks(of: tensor).enumerated() {
            ids.append(.of(chunk))
            let isSamePlace = old.indices.contains(index) && old[index].count == chunk.count
            let before: ChunkID = isSamePlace ? .of(old[index]) : .zero
            try chunk.withUnsafeBytes { bytes in
                let chunk = SaveChunk(
                    ids[index], bytes, tensor: 0, elementSize: elementSize, earlier: before)
                try session.put([chunk], with: worker)
            }
        }
        let root = try BlobTree(chunkSize: chunkSize).root(over: ids) { id, list in
            try list.withUnsafeBytes { try session.put([(id, $0)], isContent: false) }
        }
        return tensor.isEmpty ? .empty : BlobRef(length: UInt64(tensor.count), id: root)
    }

    /// What is to be committed for a tensor that was put.
    static func manifest(
        run: String = "main", step: UInt64, tensor: [UInt8], over earlier: [UInt8], elementSize: Int = 4,
        _ session: SaveSession
    ) throws -> SaveSession.Manifest {
        let worker = try session.worker(key: nil)
        let blob = try put(tensor: tensor, over: earlier, elementSize: elementSize, session, worker)
        return .init(run: run, step: step, head: head([blob], salt: step), origin: "", pins: [])
    }

    /// Saves an iteration that is one tensor. Returns its number.
    @discardableResult
    static func save(
        _ store: ChunkStore, run: String = "main", step: UInt64, tensor: [UInt8], over earlier: [UInt8] = [],
        elementSize: Int = 4
    ) throws -> UInt64 {
        let session = try SaveSession(store, dryRun: false, encoding: deltas)
        defer { session.abandon() }
        while true {
            let manifest = try manifest(
                run: run, step: step, tensor: tensor, over: earlier, elementSize: elementSize, session)
            let outcome = try session.commit(manifest) { _ in .commit(replacing: nil) }
            if case .committed(let number, _) = outcome { return number }
        }
    }

    /// Where the chunks of a tensor are.
    static func places(_ store: ChunkStore, of tensor: [UInt8]) throws -> [ChunkPlace] {
        try store.locate(chunks(of: tensor).map { .of($0) }).compactMap { $0 }
    }

    /// How many records each chunk of a tensor is made from.
    static func depths(_ store: ChunkStore, of tensor: [UInt8]) throws -> [Int] {
        try store.chains(chunks(of: tensor).map { .of($0) }).map { try $0.get().count }
    }

    /// Flips a bit in the payload of a chunk's record.
    static func damage(_ store: ChunkStore, _ place: ChunkPlace) throws {
        let file = try File(store.packs.path(place.pack), .write)
        let offset = place.location.range.upperBound - 1
        try file.write([try file.read(1, at: offset)[0] ^ 1], at: offset)
    }

    static func delete(_ store: ChunkStore, _ numbers: [UInt64]) throws {
        let (deleted, inUse) = try store.delete { _ in numbers.map { .init(iteration: $0, reason: "test") } }
        precondition(deleted.count == numbers.count && inUse.isEmpty)
    }
}
