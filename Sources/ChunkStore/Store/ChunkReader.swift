public import Platform

/// Reads many chunks past the page cache, neighbours in one go, decodes and checks them. Each thread has its own.
public final class ChunkReader {
    /// Bytes that one reading takes at most, besides what a single chunk needs.
    private static let readSize = 4 << 20

    /// A stretch of a pack that is read in one go, and where in `scratch` it goes.
    private struct Run {
        var pack: PackName
        /// Whole blocks.
        var range: Range<UInt64>
        var start: Int
        /// Bytes that came.
        var count = 0
    }

    private struct Loaded {
        var runs: [Run]
        /// In which of them the record of a chunk lies.
        var runOf: [ChunkID: Int]
    }

    private let store: ChunkStore
    private let scratch: Buffer
    /// A chunk that is being put together.
    private let chunk: Buffer
    private let hasher = SHA256Hasher()
    private let coder: PlaneCoder

    public init(_ store: ChunkStore) throws {
        self.store = store
        let block = PackFormat.blockSize
        // Room for all records of any chunk that this store may have, each with the rest of its first block and of its last.
        let most = max(2, store.recovery.factor) * store.chunkSize
        scratch = try Buffer(size: Self.readSize + most + 3 * PackFormat.chainLimit * block)
        chunk = try Buffer(size: store.chunkSize)
        coder = try PlaneCoder(chunkSize: store.chunkSize)
    }

    /// Reads chunks, checks each and hands it on: in any order, the place in `ids` with it.
    /// - Parameters:
    ///   - room: where the chunk may be put together, exactly as long as it is: `deliver` then mostly finds it there.
    ///   - failed: told of each chunk that is damaged or missing; throws to stop.
    /// - Throws: `.newerVersion` for a chunk in a codec that is not known here, which is no damage.
    public func read(
        _ ids: [ChunkID], room: (Int) -> UnsafeMutableRawBufferPointer? = { _ in nil },
        deliver: (Int, UnsafeRawBufferPointer) throws -> Void,
        failed: (Int, CairnError) throws -> Void
    ) throws {
        let chains = try store.chains(ids)
        var chunks: [Wanted] = []
        for (index, chain) in chains.enumerated() {
            switch chain {
            case .success(let chain): chunks.append(Wanted(index: index, chain: chain))
            case .failure(let error): try failed(index, error)
            }
        }
        try read(
            chunks, room: room,
            isWhole: { wanted, bytes in ChunkID(self.hasher.digest(bytes)) == wanted.chain[0].id },
            deliver: deliver,
            failed: { wanted in
                // By itself: it may have moved since, and a failure gets its sentence here.
                let bytes: [UInt8]
                do {
                    bytes = try self.store.chunk(ids[wanted.index])
                } catch let error as CairnError where error.code != .newerVersion {
                    return try failed(wanted.index, error)
                }
                try bytes.withUnsafeBytes { try deliver(wanted.index, $0) }
            })
    }

    /// A chunk that is to be read.
    struct Wanted {
        /// For the caller.
        var index: Int
        /// Its record, its base's, and so on to one without a base.
        var chain: [ChunkPlace]
    }

    /// Reads chunks by their chains.
    /// - Parameters:
    ///   - isWhole: whether these bytes are the chunk.
    ///   - failed: told of each chunk that could not be read, or is not whole.
    func read(
        _ chunks: [Wanted], room: (Int) -> UnsafeMutableRawBufferPointer? = { _ in nil },
        isWhole: (Wanted, UnsafeRawBufferPointer) -> Bool,
        deliver: (Int, UnsafeRawBufferPointer) throws -> Void, failed: (Wanted) throws -> Void
    ) throws {
        var rest = chunks.sorted { Self.precedes($0.chain[0], $1.chain[0]) }[...]
        while !rest.isEmpty {
            let batch = rest.prefix(batchSize(rest))
            rest = rest.dropFirst(batch.count)
            let loaded = load(batch)
            var rejected: [Wanted] = []
            for wanted in batch {
                if let bytes = decode(wanted.chain, loaded, into: room(wanted.index)), isWhole(wanted, bytes)
                {
                    try deliver(wanted.index, bytes)
                } else {
                    rejected.append(wanted)
                }
            }
            // By itself: among many, its records may have found no room.
            for wanted in rejected {
                if let bytes = decode(wanted.chain, load([wanted]), into: room(wanted.index)),
                    isWhole(wanted, bytes)
                {
                    try deliver(wanted.index, bytes)
                } else {
                    try failed(wanted)
                }
            }
        }
    }

    private static func precedes(_ a: ChunkPlace, _ b: ChunkPlace) -> Bool {
        a.pack == b.pack ? a.location.offset < b.location.offset : a.location.pack < b.location.pack
    }

    /// How many of the chunks fit into `scratch` with all their records; at least 1.
    private func batchSize(_ chunks: ArraySlice<Wanted>) -> Int {
        var size = 0
        var count = 0
        /// Where the records at each depth ended: those of neighbours mostly are neighbours as well.
        var ends: [(pack: PackName, end: UInt64)?] = []
        for wanted in chunks {
            for (depth, place) in wanted.chain.enumerated() {
                if depth == ends.count { ends.append(nil) }
                size += place.location.range.count
                if let last = ends[depth], last.pack == place.pack, last.end == place.location.offset {
                    ends[depth]!.end = place.location.range.upperBound
                } else {
                    size += 2 * PackFormat.blockSize
                    ends[depth] = (place.pack, place.location.range.upperBound)
                }
            }
            if count > 0, size > Self.readSize { break }
            count += 1
        }
        return count
    }

    /// Reads all records of these chunks that `scratch` has room for.
    private func load(_ chunks: ArraySlice<Wanted>) -> Loaded {
        let block = UInt64(PackFormat.blockSize)
        var runs: [Run] = []
        var runOf: [ChunkID: Int] = [:]
        for place in Set(chunks.flatMap(\.chain)).sorted(by: Self.precedes) {
            let range = place.location.range
            let lower = range.lowerBound / block * block
            let upper = (range.upperBound + block - 1) / block * block
            if let last = runs.last, last.pack == place.pack, lower <= last.range.upperBound + block {
                runs[runs.count - 1].range = last.range.lowerBound..<max(upper, last.range.upperBound)
            } else {
                runs.append(Run(pack: place.pack, range: lower..<upper, start: 0))
            }
            runOf[place.id] = runs.count - 1
        }
        var start = 0
        for index in runs.indices where start + runs[index].range.count <= scratch.bytes.count {
            runs[index].start = start
            fill(&runs[index])
            start += runs[index].range.count
        }
        return Loaded(runs: runs, runOf: runOf)
    }

    private func fill(_ run: inout Run) {
        guard let file = try? store.packs.open(run.pack).direct else { return }
        let target = UnsafeMutableRawBufferPointer(
            rebasing: scratch.bytes[run.start..<run.start + run.range.count])
        run.count = (try? file.read(into: target, at: run.range.lowerBound)) ?? 0
    }

    /// The chunk at the beginning of a chain; nil where a record did not come or is none. Good until the next one.
    private func decode(
        _ chain: [ChunkPlace], _ loaded: Loaded, into room: UnsafeMutableRawBufferPointer?
    ) -> UnsafeRawBufferPointer? {
        let own = UnsafeMutableRawBufferPointer(
            rebasing: chunk.bytes[..<min(Int(chain[0].location.rawLength), store.chunkSize)])
        let target = room?.count == own.count ? room! : own
        var bytes: UnsafeRawBufferPointer?
        for place in chain.reversed() {
            guard let payload = payload(place, loaded), place.location.rawLength == target.count else {
                return nil
            }
            if place.location.codec == .raw {
                guard payload.count == target.count else { return nil }
                bytes = payload
                // Only a chunk that others lean on is copied.
                if chain.count > 1 { target.copyMemory(from: payload) }
            } else {
                guard coder.decode(payload, hasBase: place.location.codec.hasBase, into: target) else {
                    return nil
                }
                bytes = UnsafeRawBufferPointer(target)
            }
        }
        return bytes
    }

    /// The payload of a record that was loaded, if its header says what the index says.
    private func payload(_ place: ChunkPlace, _ loaded: Loaded) -> UnsafeRawBufferPointer? {
        guard let run = loaded.runOf[place.id].map({ loaded.runs[$0] }) else { return nil }
        let from = Int(place.location.offset - run.range.lowerBound)
        let to = from + place.location.range.count
        guard to <= run.count else { return nil }
        let record = UnsafeRawBufferPointer(rebasing: scratch.bytes[run.start + from..<run.start + to])
        return try? store.payload(of: record, place, store.packs.path(place.pack))
    }
}

extension ChunkStore {
    /// The chains of chunks; `.damage` for those that the store does not have whole.
    func chains(_ ids: [ChunkID]) throws -> [Result<[ChunkPlace], CairnError>] {
        try read { transaction in
            let locate = locator(transaction)
            return try ids.map { id in
                do {
                    guard let place = try locate(id) else { return .failure(missing(id)) }
                    return .success(try chain(place, locate))
                } catch let error as CairnError where error.code == .damage {
                    return .failure(error)
                }
            }
        }
    }
}
