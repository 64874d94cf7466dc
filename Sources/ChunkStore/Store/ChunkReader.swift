public import Platform

/// Reads many chunks, neighbours in one go, decodes and checks them: past the page cache, but for what happens to lie there. Each thread has
/// its own.
///
/// A thread that has two, and begins with one before it finishes with the other, does not wait for the disk.
public final class ChunkReader {
    /// Bytes that one reading takes at most, besides what a single chunk needs: what 16 chunks of the usual size take that lean on others.
    public static let readSize = 8 << 20

    /// A stretch of a pack that is read in one go, and where in `scratch` it goes.
    private struct Run {
        var pack: PackName
        /// Whole blocks.
        var range: Range<UInt64>
        var start: Int
        /// Bytes that came.
        var count = 0
    }

    /// What is read in one go, one stretch after the other.
    private final class Loading: @unchecked Sendable {
        // Unchecked: one thread fills it, and another looks when that is done.
        let scratch: Buffer
        var runs: [Run] = []
        /// In which of them the record of a chunk lies.
        var runOf: [ChunkID: Int] = [:]

        let usesCache: Bool

        init(_ scratch: Buffer, usesCache: Bool) { (self.scratch, self.usesCache) = (scratch, usesCache) }

        /// Whether all of it comes from the page cache.
        func isCached(_ packs: PackReaders) -> Bool {
            usesCache
                && runs.allSatisfy { run in
                    (try? packs.open(run.pack))?.buffered.isCached(run.range) ?? true
                }
        }

        func fill(_ packs: PackReaders) {
            for index in runs.indices {
                let run = runs[index]
                guard let files = try? packs.open(run.pack) else { continue }
                let file = usesCache && files.buffered.isCached(run.range) ? files.buffered : files.direct
                let target = UnsafeMutableRawBufferPointer(
                    rebasing: scratch.bytes[run.start..<run.start + run.range.count])
                runs[index].count = (try? file.read(into: target, at: run.range.lowerBound)) ?? 0
            }
        }
    }

    /// A chunk that is to be read.
    struct Wanted {
        /// For the caller.
        var index: Int
        /// Its record, its base's, and so on to one without a base.
        var chain: [ChunkPlace]
    }

    /// A chunk that was put together, and not checked yet.
    typealias Decoded = (wanted: Wanted, bytes: UnsafeRawBufferPointer)

    /// What was begun, in the order of the packs, and the reading of the first few.
    private var begun: (chunks: [Wanted], first: Int, reading: Errands.Errand?) = ([], 0, nil)
    /// The chunks that were asked for by their ids, and those of them that the store has not.
    private var asked: (ids: [ChunkID], failures: [(Int, CairnError)]) = ([], [])

    private let store: ChunkStore
    private let readSize: Int
    private let loading: Loading
    /// For chunks that are put together without a room of their own.
    private let spare: Buffer
    private let spareChunks: Int
    private let hasher = SHA256Hasher()
    private let coder: PlaneCoder

    /// - Parameters:
    ///   - readSize: bytes that one reading takes at most.
    ///   - spareChunks: how many are put together without a room of their own before they are checked. Mostly the first and the last
    ///     of a stretch of a file, of which only a part is wanted.
    ///   - usesCache: whether what the page cache has need not come from the disk.
    public init(
        _ store: ChunkStore, readSize: Int = ChunkReader.readSize, spareChunks: Int = 2,
        usesCache: Bool = true
    ) throws {
        self.store = store
        self.readSize = readSize
        self.spareChunks = spareChunks
        loading = Loading(
            try Buffer(size: Self.scratchSize(store, readSize)), usesCache: usesCache)
        spare = try Buffer(size: spareChunks * store.chunkSize)
        coder = try PlaneCoder(chunkSize: store.chunkSize)
    }

    /// Room for one reading, and for all records of any chunk that this store may have, each with the rest of its first block and of
    /// its last.
    private static func scratchSize(_ store: ChunkStore, _ readSize: Int) -> Int {
        readSize + max(2, store.recovery.factor) * store.chunkSize
            + 3 * PackFormat.chainLimit * PackFormat.blockSize
    }

    /// Bytes of memory that a reader takes at most.
    public static func memory(
        _ store: ChunkStore, readSize: Int = ChunkReader.readSize, spareChunks: Int = 2
    ) -> Int {
        scratchSize(store, readSize) + (spareChunks + 1) * store.chunkSize
    }

    /// Reads chunks, checks each and hands it on: in any order, the place in `ids` with it.
    public func read(
        _ ids: [ChunkID], room: (Int) -> UnsafeMutableRawBufferPointer? = { _ in nil },
        deliver: (Int, UnsafeRawBufferPointer) throws -> Void,
        failed: (Int, CairnError) throws -> Void
    ) throws {
        try begin(ids)
        try finish(room: room, deliver: deliver, failed: failed)
    }

    /// Looks chunks up and begins to read them, for `finish`.
    /// - Parameter errands: whose threads read what the page cache has not.
    public func begin(_ ids: [ChunkID], _ errands: Errands? = nil) throws {
        asked = (ids, [])
        var chunks: [Wanted] = []
        for (index, chain) in try store.chains(ids).enumerated() {
            switch chain {
            case .success(let chain): chunks.append(Wanted(index: index, chain: chain))
            case .failure(let error): asked.failures.append((index, error))
            }
        }
        begin(chunks, errands)
    }

    /// Reads what was begun, checks each chunk and hands it on: in any order, its place among the ids with it.
    /// - Parameters:
    ///   - room: where the chunk may be put together, exactly as long as it is: `deliver` then mostly finds it there.
    ///   - failed: told of each chunk that is damaged or missing; throws to stop.
    /// - Throws: `.newerVersion` for a chunk in a codec that is not known here, which is no damage.
    public func finish(
        room: (Int) -> UnsafeMutableRawBufferPointer? = { _ in nil },
        deliver: (Int, UnsafeRawBufferPointer) throws -> Void,
        failed: (Int, CairnError) throws -> Void
    ) throws {
        let (ids, failures) = asked
        try finish(
            room: room,
            areWhole: { chunks in
                zip(chunks, hasher.digests(chunks.map(\.bytes))).map { ChunkID($1) == $0.wanted.chain[0].id }
            },
            deliver: deliver,
            failed: { wanted in
                // By itself: it may have moved since, and a failure gets its sentence here.
                let bytes: [UInt8]
                do {
                    bytes = try store.chunk(ids[wanted.index])
                } catch let error as CairnError where error.code != .newerVersion {
                    return try failed(wanted.index, error)
                }
                try bytes.withUnsafeBytes { try deliver(wanted.index, $0) }
            })
        for (index, error) in failures { try failed(index, error) }
    }

    /// Begins to read chunks by their chains.
    func begin(_ chunks: [Wanted], _ errands: Errands? = nil) {
        precondition(begun.chunks.isEmpty, "what was begun before is still being read")
        let chunks = chunks.sorted { Self.precedes($0.chain[0], $1.chain[0]) }
        begun = (chunks, 0, nil)
        guard !chunks.isEmpty else { return }
        begun.first = batchSize(chunks[...])
        plan(chunks[..<begun.first])
        // What the page cache has takes less time than to have another thread do it.
        guard let errands, !loading.isCached(store.packs) else { return }
        begun.reading = errands.send { [loading, store] in loading.fill(store.packs) }
    }

    /// Reads chunks by their chains.
    /// - Parameters:
    ///   - isNeeded: asked before a chunk is decoded, whether it still is.
    ///   - areWhole: whether these bytes are the chunks.
    ///   - failed: told of each chunk that could not be read, or is not whole.
    func finish(
        isNeeded: (Int) -> Bool = { _ in true },
        room: (Int) -> UnsafeMutableRawBufferPointer? = { _ in nil },
        areWhole: ([Decoded]) -> [Bool],
        deliver: (Int, UnsafeRawBufferPointer) throws -> Void, failed: (Wanted) throws -> Void
    ) throws {
        let (chunks, first, reading) = begun
        begun = ([], 0, nil)
        guard !chunks.isEmpty else { return }
        if let reading { try reading.wait() } else { loading.fill(store.packs) }
        var batch = chunks[..<first]
        while true {
            // By itself: among many, its records may have found no room.
            for wanted in try take(batch, isNeeded, room, areWhole, deliver) {
                plan([wanted])
                loading.fill(store.packs)
                if try !take([wanted], isNeeded, room, areWhole, deliver).isEmpty { try failed(wanted) }
            }
            let rest = chunks[batch.endIndex...]
            guard !rest.isEmpty else { return }
            batch = rest.prefix(batchSize(rest))
            plan(batch)
            loading.fill(store.packs)
        }
    }

    /// Decodes and checks what has been read. Returns those that are not whole.
    private func take(
        _ chunks: ArraySlice<Wanted>, _ isNeeded: (Int) -> Bool,
        _ room: (Int) -> UnsafeMutableRawBufferPointer?,
        _ areWhole: ([Decoded]) -> [Bool], _ deliver: (Int, UnsafeRawBufferPointer) throws -> Void
    ) throws -> [Wanted] {
        var rejected: [Wanted] = []
        var decoded: [Decoded] = []
        var spares = 0
        func handOn() throws {
            for (one, isWhole) in zip(decoded, areWhole(decoded)) {
                if isWhole { try deliver(one.wanted.index, one.bytes) } else { rejected.append(one.wanted) }
            }
            decoded = []
            spares = 0
        }
        for wanted in chunks where isNeeded(wanted.index) {
            let length = min(Int(wanted.chain[0].location.rawLength), store.chunkSize)
            var target = room(wanted.index)
            if target?.count != length {
                if spares == spareChunks { try handOn() }
                let start = spares * store.chunkSize
                target = UnsafeMutableRawBufferPointer(rebasing: spare.bytes[start..<start + length])
                spares += 1
            }
            if let bytes = decode(wanted.chain, into: target!) {
                decoded.append((wanted, bytes))
            } else {
                rejected.append(wanted)
            }
        }
        try handOn()
        return rejected
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
            if count > 0, size > readSize { break }
            count += 1
        }
        return count
    }

    /// Plans to read all records of these chunks that `scratch` has room for.
    private func plan(_ chunks: ArraySlice<Wanted>) {
        let block = UInt64(PackFormat.blockSize)
        var runs: [Run] = []
        loading.runOf = [:]
        for place in Set(chunks.flatMap(\.chain)).sorted(by: Self.precedes) {
            let range = place.location.range
            let lower = range.lowerBound / block * block
            let upper = (range.upperBound + block - 1) / block * block
            if let last = runs.last, last.pack == place.pack, lower <= last.range.upperBound + block {
                runs[runs.count - 1].range = last.range.lowerBound..<max(upper, last.range.upperBound)
            } else {
                runs.append(Run(pack: place.pack, range: lower..<upper, start: 0))
            }
            loading.runOf[place.id] = runs.count - 1
        }
        var start = 0
        for index in runs.indices {
            runs[index].start = start
            start += runs[index].range.count
        }
        loading.runs = runs.filter { $0.start + $0.range.count <= loading.scratch.bytes.count }
    }

    /// The chunk at the beginning of a chain, in `target` or where it was read to; nil where a record did not come or is none.
    private func decode(
        _ chain: [ChunkPlace], into target: UnsafeMutableRawBufferPointer
    ) -> UnsafeRawBufferPointer? {
        var bytes: UnsafeRawBufferPointer?
        for place in chain.reversed() {
            guard let payload = payload(place), place.location.rawLength == target.count else {
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
    private func payload(_ place: ChunkPlace) -> UnsafeRawBufferPointer? {
        guard let index = loading.runOf[place.id], loading.runs.indices.contains(index) else { return nil }
        let run = loading.runs[index]
        let from = Int(place.location.offset - run.range.lowerBound)
        let to = from + place.location.range.count
        guard to <= run.count else { return nil }
        let record = UnsafeRawBufferPointer(
            rebasing: loading.scratch.bytes[run.start + from..<run.start + to])
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
