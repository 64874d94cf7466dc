public import Platform

/// One save: takes chunks from any number of threads, writes those that are new, and commits them with a manifest.
///
/// Until `commit` has returned, nothing that it wrote counts; a session that goes away leaves no file behind, and what a killed
/// process leaves is removed by the next save or collection.
public final class SaveSession: Sendable {
    /// Bytes after which a save goes on in another pack.
    private let packLimit: UInt64

    struct State {
        /// Chunks that this save has written or begun to write.
        var written: Set<ChunkID> = []
        /// Chunks that were in the store when this save looked, which must still be there when it commits.
        var relied: Set<ChunkID> = []
        /// The states of the index in which this save looked.
        var views: Set<View> = []
        /// A chunk was there and damaged: it is written again.
        var foundDamaged = false
        /// Some chunks were written before a repetition: what `views` has says nothing of them.
        var isRepeated = false
        /// Deltas that were written before a repetition and never count, as what they leaned on has changed.
        var outdated: Set<Written> = []
        /// Chunks that were looked up and not found.
        var misses = 0
        /// Some thread makes the filter, or has made it.
        var hasFilter = false
        /// Of a state of the index among `views`.
        var filter: ChunkFilter?
        var writer: PackWriter?
        /// All packs of this save, whatever became of them.
        var writers: [PackWriter] = []
        /// Jobs of `run` have not ended yet.
        var isRunning = false
        /// How many threads are appending to each pack.
        var appending: [ObjectIdentifier: Int] = [:]
        var finished: [(summary: PackSummary, entries: [PackEntry])] = []
        /// Chunks of the manifest that this save has written.
        var pieces: Set<ChunkID> = []
        var newChunks = 0
        var newBytes: UInt64 = 0
        /// Earlier chunks that could not be read, so that new ones could not lean on them.
        var lostBases: Set<ChunkID> = []
        var isDone = false
    }

    /// A record of this save.
    struct Written: Hashable {
        var pack: PackName
        var entry: PackEntry
    }

    /// What tells whether the index has changed since a look.
    struct View: Hashable {
        /// Another one: entries were removed or moved.
        var sweepToken: [UInt8]
        /// A greater one: entries were added.
        var sequence: UInt64

        init(_ state: IndexState) { (sweepToken, sequence) = (state.sweepToken, state.journal.sequence) }
    }

    let store: ChunkStore
    let encoding: EncodingRules
    private let isDryRun: Bool
    let state = Monitor(State())
    /// How the chunks of each tensor are encoded, as far as that was tried.
    let choices = Monitor<[Int: EncodingChoice]>([:])
    /// Bases that are read for the threads of `run`.
    let errands = Errands()
    /// For what is put without one.
    private let ownWorker = Monitor<SaveWorker?>(nil)

    /// - Parameters:
    ///   - dryRun: looks up what would be new and writes nothing.
    ///   - encoding: whether new chunks may lean on earlier ones, and what that must save.
    public convenience init(
        _ store: ChunkStore, dryRun: Bool, encoding: EncodingRules = EncodingRules(usesDeltas: false)
    ) throws {
        try self.init(store, dryRun: dryRun, encoding: encoding, packLimit: 4 << 30)
    }

    init(
        _ store: ChunkStore, dryRun: Bool, encoding: EncodingRules = EncodingRules(usesDeltas: false),
        packLimit: UInt64
    ) throws {
        self.store = store
        self.encoding = encoding
        self.packLimit = packLimit
        isDryRun = dryRun
        if !dryRun {
            try store.checkWritable()
            try store.removeLeftovers()
        }
    }

    deinit { abandon() }

    /// Content chunks that were new, and their raw bytes.
    public var new: (chunks: Int, bytes: UInt64) { state.change { ($0.newChunks, $0.newBytes) } }

    /// Earlier chunks that new ones were to lean on, and that are damaged or missing.
    public var lostBases: Set<ChunkID> { state.change { $0.lostBases } }

    /// Runs `body` on `jobs` threads, beside threads that write what is full and read what it leans on.
    public func run(jobs: Int, _ body: @escaping @Sendable (Int) throws -> Void) throws {
        errands.open()
        state.change { $0.isRunning = true }
        let writers = isDryRun ? 0 : 2
        let readers = isDryRun || !encoding.usesDeltas || !encoding.readsBases ? 0 : 2
        try WorkerPool.shared.run(
            jobs: jobs, body, helpers: writers + readers,
            help: { [self] index in if index < writers { try writeBlocks() } else { errands.serve() } },
            release: { [self] in
                state.change {
                    $0.isRunning = false
                    $0.writer?.close()
                }
                errands.close()
            })
    }

    /// Writes what is full, of one pack after the other, while jobs run.
    private func writeBlocks() throws {
        while state.change({ $0.isRunning }) {
            guard let writer = state.change({ $0.writer }) else {
                Clock.sleep(seconds: 0.000_5)
                continue
            }
            try writer.writeBlocks()
            // It was closed: for the next pack, or because the jobs have ended.
            let isSame = state.change { $0.writer === writer }
            if isSame { return }
        }
    }

    /// Bytes of memory that a worker takes at most.
    /// - Parameter hasEarlier: whether there are earlier chunks that new ones may lean on.
    public func workerMemory(hasEarlier: Bool) -> Int {
        SaveWorker.memory(store, readsBases: hasEarlier && encoding.usesDeltas && encoding.readsBases)
    }

    /// What one thread needs.
    /// - Parameter key: of the store's fingerprints; nil where none are made.
    public func worker(key: [UInt8]?) throws -> SaveWorker { try SaveWorker(store, key: key) }

    /// Chunks that are kept, of which the new ones are to be written yet.
    public struct Begun {
        fileprivate var count: Int
        /// The new ones, by their places.
        fileprivate var fresh: [Int]
        fileprivate var encoding: ChunkEncoder.Begun?
    }

    /// Keeps chunks: writes those that neither the store nor this save has. The bytes are copied.
    /// - Parameters:
    ///   - chunks: of one tensor behind the other.
    ///   - isContent: whether they count as the checkpoint's own bytes, rather than as its manifest's.
    ///   - worker: of this thread.
    /// - Returns: the fingerprints of the bases that chunks were written against, by their places; `.none` for all others.
    @discardableResult
    public func put(
        _ chunks: [SaveChunk], isContent: Bool = true, with worker: SaveWorker
    ) throws -> [Fingerprint] {
        try finish(begin(chunks, isContent: isContent, with: worker), with: worker)
    }

    /// Looks up chunks, and begins to read what the new ones may lean on. They are good, and the worker does nothing else, until they
    /// are handed to `finish`: a thread with two workers does not wait for the disk.
    public func begin(
        _ chunks: [SaveChunk], isContent: Bool = true, with worker: SaveWorker
    ) throws -> Begun {
        var begun = Begun(count: chunks.count, fresh: [])
        let (unknown, filter) = state.change { state in
            let unknown = chunks.indices.filter {
                !state.written.contains(chunks[$0].id) && !state.relied.contains(chunks[$0].id)
            }
            return (unknown, state.filter)
        }
        guard !unknown.isEmpty else { return begun }
        let found = try lookUp(chunks, unknown.filter { filter?.mayContain(chunks[$0].id) ?? true })
        state.change { state in
            for index in unknown {
                let id = chunks[index].id
                if found[index]?.isDamaged == true { state.foundDamaged = true }
                if found[index]?.isDamaged == false {
                    state.relied.insert(id)
                } else if state.written.insert(id).inserted {
                    begun.fresh.append(index)
                    if isContent {
                        state.newChunks += 1
                        state.newBytes += UInt64(chunks[index].bytes.count)
                    } else {
                        state.pieces.insert(id)
                    }
                }
            }
        }
        guard !isDryRun, !begun.fresh.isEmpty else { return begun }
        var candidates: [Int: [ChunkPlace]] = [:]
        if encoding.usesDeltas {
            // What is written in the place of a damaged record stands on its own: so bases never lean on each other in a circle.
            candidates = try chains(begun.fresh.filter { found[$0] == nil }, of: chunks)
        }
        begun.encoding = try ChunkEncoder(session: self, worker: worker).begin(
            begun.fresh.map { (chunks[$0], candidates[$0] ?? []) })
        return begun
    }

    /// Encodes the new ones of these chunks and appends them to the pack.
    /// - Returns: as `put` does.
    public func finish(_ begun: Begun, with worker: SaveWorker) throws -> [Fingerprint] {
        var fingerprints = [Fingerprint](repeating: .none, count: begun.count)
        guard let encoding = begun.encoding else { return fingerprints }
        try ChunkEncoder(session: self, worker: worker).finish(encoding) { records in
            for record in records { fingerprints[begun.fresh[record.index]] = record.baseFingerprint }
            let bases = records.map(\.entry.base).filter { $0 != .zero }
            if !bases.isEmpty { state.change { $0.relied.formUnion(bases) } }
            try append(records.sorted { $0.index < $1.index }.map { ($0.entry, $0.payload) })
        }
        return fingerprints
    }

    /// Keeps chunks of which nothing is known but their bytes.
    public func put(_ chunks: [(id: ChunkID, bytes: UnsafeRawBufferPointer)], isContent: Bool) throws {
        try ownWorker.change { own in
            let worker = try own ?? SaveWorker(store)
            own = worker
            try put(chunks.map { SaveChunk($0.id, $0.bytes) }, isContent: isContent, with: worker)
        }
    }

    /// Where those of the chunks are that the store has.
    private func lookUp(_ chunks: [SaveChunk], _ places: [Int]) throws -> [Int: ChunkLocation] {
        guard !places.isEmpty else { return [:] }
        return try store.read { transaction in
            var found: [Int: ChunkLocation] = [:]
            for place in places {
                found[place] = try transaction.chunk(chunks[place].id, count: chunks[place].bytes.count)
            }
            try note(transaction, misses: places.count - found.count)
            return found
        }
    }

    /// Notes the state of the index that chunks were looked up in.
    private func note(_ transaction: IndexTransaction, misses: Int) throws {
        let view = View(try transaction.state())
        // From so many on, a pass over all ids costs less than the look-ups that are to come.
        let most = max(store.settings.filterThreshold, try transaction.chunkCount() / 64)
        let needsFilter = state.change { state in
            state.views.insert(view)
            state.misses += misses
            guard state.misses > most, !state.hasFilter else { return false }
            state.hasFilter = true
            return true
        }
        if needsFilter {
            let filter = try transaction.chunkFilter()
            state.change { $0.filter = filter }
        }
    }

    /// The records that the earlier chunks at the same places are made from.
    private func chains(_ places: [Int], of chunks: [SaveChunk]) throws -> [Int: [ChunkPlace]] {
        let places = places.filter { chunks[$0].earlier != .zero }
        guard !places.isEmpty else { return [:] }
        return try store.read { transaction in
            try note(transaction, misses: 0)
            let locate = store.locator(transaction)
            var chains: [Int: [ChunkPlace]] = [:]
            var lost: [ChunkID] = []
            for place in places {
                let earlier = chunks[place].earlier
                // What was damaged or lost at this very place says nothing about others.
                guard earlier != chunks[place].id else { continue }
                if let found = try locate(earlier), let chain = try? store.chain(found, locate) {
                    chains[place] = chain
                    if chain.contains(where: \.location.isDamaged) { lost.append(earlier) }
                } else {
                    lost.append(earlier)
                }
            }
            if !lost.isEmpty { state.change { $0.lostBases.formUnion(lost) } }
            return chains
        }
    }

    private func append(_ records: [(PackEntry, UnsafeRawBufferPointer)]) throws {
        guard !records.isEmpty else { return }
        let writer = try takeWriter()
        defer { state.change { $0.appending[ObjectIdentifier(writer)]! -= 1 } }
        try writer.append(records)
    }

    /// The pack that is written now; another one where the last is full. It is not finished before it is given back.
    private func takeWriter() throws -> PackWriter {
        let (writer, full) = try state.change { state in
            var full: PackWriter?
            if let writer = state.writer, writer.size > packLimit {
                writer.close()
                full = writer
                state.writer = nil
            }
            let writer =
                try state.writer
                ?? PackWriter(
                    folder: store.folder.appending("packs"), store: store.id,
                    memory: store.settings.memory / 4)
            if state.writer == nil { state.writers.append(writer) }
            state.writer = writer
            state.appending[ObjectIdentifier(writer), default: 0] += 1
            return (writer, full)
        }
        do {
            if let full { try finish(full) }
        } catch {
            // Whoever completes this pack would wait for this thread.
            state.change { $0.appending[ObjectIdentifier(writer)]! -= 1 }
            throw error
        }
        return writer
    }

    /// Waits until nobody appends to a pack any more, and completes it.
    private func finish(_ writer: PackWriter) throws {
        let _: Void = state.wait { $0.appending[ObjectIdentifier(writer), default: 0] == 0 ? () : nil }
        let (summary, entries) = try writer.finish()
        state.change { $0.finished.append((summary, entries)) }
    }

    /// Completes the pack that is written now. Returns all that were completed.
    func finishPacks() throws -> [(summary: PackSummary, entries: [PackEntry])] {
        let last = state.change { state in
            defer { state.writer = nil }
            return state.writer
        }
        if let last { try finish(last) }
        return state.change { $0.finished }
    }

    var foundDamaged: Bool { state.change { $0.foundDamaged } }

    func markDone() { state.change { $0.isDone = true } }

    /// Writes chunks that the store has, or had, once more.
    public func rewrite(_ chunks: [(id: ChunkID, bytes: UnsafeRawBufferPointer)]) throws {
        let fresh = state.change { state in chunks.filter { state.written.insert($0.id).inserted } }
        try append(
            fresh.map { id, bytes in
                let length = UInt32(bytes.count)
                let entry = PackEntry(
                    id: id, offset: 0, rawLength: length, storedLength: length, codec: .raw)
                return (entry, bytes)
            })
    }

    /// Writes a record that the store has once more, encoded as it is.
    func copy(_ entry: PackEntry, _ payload: [UInt8]) throws {
        guard state.change({ $0.written.insert(entry.id).inserted }) else { return }
        try payload.withUnsafeBytes { try append([(entry, $0)]) }
    }

    /// Removes what was written and not committed. After a commit that could not be taken back the journal may name it: then the
    /// next save or collection sees what is to be done.
    public func abandon() {
        guard !store.journal.isUncertain else { return }
        let writers = state.change { state in
            guard !state.isDone else { return [PackWriter]() }
            state.isDone = true
            return state.writers
        }
        for writer in writers { writer.abandon() }
    }
}
