internal import Platform

/// One save: takes chunks from any number of threads, writes those that are new, and commits them with a manifest.
///
/// Until `commit` has returned, nothing that it wrote counts; a session that goes away leaves no file behind, and what a killed
/// process leaves is removed by the next save or collection.
public final class SaveSession: Sendable {
    /// Bytes after which a save goes on in another pack.
    private let packLimit: UInt64

    private struct State {
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
        /// Chunks that were looked up and not found.
        var misses = 0
        /// Some thread makes the filter, or has made it.
        var hasFilter = false
        /// Of a state of the index among `views`.
        var filter: ChunkFilter?
        var writer: PackWriter?
        /// All packs of this save, whatever became of them.
        var writers: [PackWriter] = []
        /// How many threads are appending to each pack.
        var appending: [ObjectIdentifier: Int] = [:]
        var finished: [(summary: PackSummary, entries: [PackEntry])] = []
        var newChunks = 0
        var newBytes: UInt64 = 0
        var isDone = false
    }

    /// What tells whether the index has changed since a look.
    private struct View: Hashable {
        /// Another one: entries were removed or moved.
        var sweepToken: [UInt8]
        /// A greater one: entries were added.
        var sequence: UInt64

        init(_ state: IndexState) { (sweepToken, sequence) = (state.sweepToken, state.journal.sequence) }
    }

    let store: ChunkStore
    private let isDryRun: Bool
    private let state = Monitor(State())

    /// - Parameter dryRun: looks up what would be new and writes nothing.
    public convenience init(_ store: ChunkStore, dryRun: Bool) throws {
        try self.init(store, dryRun: dryRun, packLimit: 4 << 30)
    }

    init(_ store: ChunkStore, dryRun: Bool, packLimit: UInt64) throws {
        self.store = store
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

    /// Runs `body` on `jobs` threads, beside threads that write what is full.
    public func run(jobs: Int, _ body: @escaping @Sendable (Int) throws -> Void) throws {
        let running = Monitor(jobs)
        try WorkerPool.shared.run(jobs + (isDryRun ? 0 : 2)) { [self] index in
            if index >= jobs { return try writeBlocks(while: running) }
            defer {
                let left = running.change { left in
                    left -= 1
                    return left
                }
                if left == 0 { state.change { $0.writer?.close() } }
            }
            try body(index)
        }
    }

    private func writeBlocks(while running: Monitor<Int>) throws {
        while running.change({ $0 > 0 }) {
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

    /// Keeps chunks: writes those that neither the store nor this save has. The bytes are copied.
    /// - Parameter isContent: whether they count as the checkpoint's own bytes, rather than as its manifest's.
    public func put(_ chunks: [(id: ChunkID, bytes: UnsafeRawBufferPointer)], isContent: Bool) throws {
        let (unknown, filter) = state.change { state in
            let unknown = chunks.indices.filter {
                !state.written.contains(chunks[$0].id) && !state.relied.contains(chunks[$0].id)
            }
            return (unknown, state.filter)
        }
        guard !unknown.isEmpty else { return }
        let found = try lookUp(chunks, unknown.filter { filter?.mayContain(chunks[$0].id) ?? true })
        var fresh: [Int] = []
        state.change { state in
            for index in unknown {
                let id = chunks[index].id
                if found[index]?.isDamaged == true { state.foundDamaged = true }
                if found[index]?.isDamaged == false {
                    state.relied.insert(id)
                } else if state.written.insert(id).inserted {
                    fresh.append(index)
                    if isContent {
                        state.newChunks += 1
                        state.newBytes += UInt64(chunks[index].bytes.count)
                    }
                }
            }
        }
        guard !isDryRun else { return }
        try append(fresh.map { chunks[$0] })
    }

    /// Where those of the chunks are that the store has.
    private func lookUp(
        _ chunks: [(id: ChunkID, bytes: UnsafeRawBufferPointer)], _ places: [Int]
    ) throws -> [Int: ChunkLocation] {
        guard !places.isEmpty else { return [:] }
        return try store.read { transaction in
            var found: [Int: ChunkLocation] = [:]
            for place in places {
                found[place] = try transaction.chunk(chunks[place].id, count: chunks[place].bytes.count)
            }
            let view = View(try transaction.state())
            // From so many on, a pass over all ids costs less than the look-ups that are to come.
            let most = max(store.settings.filterThreshold, try transaction.chunkCount() / 64)
            let needsFilter = state.change { state in
                state.views.insert(view)
                state.misses += places.count - found.count
                guard state.misses > most, !state.hasFilter else { return false }
                state.hasFilter = true
                return true
            }
            if needsFilter {
                let filter = try transaction.chunkFilter()
                state.change { $0.filter = filter }
            }
            return found
        }
    }

    private func append(_ chunks: [(id: ChunkID, bytes: UnsafeRawBufferPointer)]) throws {
        guard !chunks.isEmpty else { return }
        let records = chunks.map { id, bytes in
            let length = UInt32(bytes.count)
            return (PackEntry(id: id, offset: 0, rawLength: length, storedLength: length, codec: .raw), bytes)
        }
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
        try append(state.change { state in chunks.filter { state.written.insert($0.id).inserted } })
    }

    /// What the transaction of a commit decides on the newest state of the catalog.
    public enum Decision: Sendable {
        case commit(replacing: UInt64?)
        /// The store has the same iteration already.
        case cancel
    }

    public enum Outcome: Sendable {
        case committed(number: UInt64, storedBytes: UInt64)
        case cancelled
        /// A collection removed chunks that this save relied on: put everything again, then commit again.
        case mustRepeat
    }

    public struct Manifest: Sendable {
        public var run: String
        public var step: UInt64
        public var head: [UInt8]
        public var origin: String
        public var pins: [String]

        public init(run: String, step: UInt64, head: [UInt8], origin: String, pins: [String]) {
            self.run = run
            self.step = step
            self.head = head
            self.origin = origin
            self.pins = pins
        }
    }

    /// Makes everything durable and visible at once. When it returns `.committed`, the iteration survives a power cut.
    /// - Parameter decide: called under the commit lock; may throw to refuse.
    public func commit(
        _ manifest: Manifest, decide: (IndexTransaction) throws -> Decision
    ) throws -> Outcome {
        let head = manifest.head
        try head.withUnsafeBytes { try put([(.of(head), $0)], isContent: false) }
        _ = try finishPacks()
        try FileSystem.syncFolder(store.folder.appending("packs"))
        var removal: ReaderLock?
        defer { withExtendedLifetime(removal) {} }
        let outcome: Outcome = try store.transact { transaction, indexState, position in
            switch try decide(transaction) {
            case .cancel: return .init(event: nil, result: .cancelled)
            case .commit(let replaced):
                removal = try removalLock(replaced)
                guard try !hasLost(transaction, indexState) else {
                    return .init(event: nil, result: .mustRepeat)
                }
                let event = try put(manifest, replaced, into: transaction, &indexState, position)
                return .init(
                    event: .commit(event),
                    result: .committed(number: position.sequence, storedBytes: event.storedBytes))
            }
        }
        switch outcome {
        case .committed: state.change { $0.isDone = true }
        case .cancelled: break
        case .mustRepeat:
            state.change { state in
                state.relied = []
                state.views = []
                state.isRepeated = true
                (state.hasFilter, state.filter) = (false, nil)
            }
        }
        return outcome
    }

    private func removalLock(_ replaced: UInt64?) throws -> ReaderLock? {
        guard let replaced else { return nil }
        let lock = try store.locks.removalLock()
        guard try lock.tryRemoving(replaced) else {
            throw CairnError(
                .busy, "someone is reading the iteration that is to be replaced; try again later")
        }
        return lock
    }

    /// Whether anything that this save relies on has gone since it looked.
    private func hasLost(_ transaction: IndexTransaction, _ indexState: IndexState) throws -> Bool {
        let (relied, views) = state.change { ($0.relied, $0.views) }
        guard views.contains(where: { $0.sweepToken != indexState.sweepToken }) else { return false }
        return try relied.contains { id in
            guard let location = try transaction.chunk(id) else { return true }
            return location.isDamaged
        }
    }

    private func put(
        _ manifest: Manifest, _ replaced: UInt64?, into transaction: IndexTransaction,
        _ indexState: inout IndexState,
        _ position: Journal.Position
    ) throws -> JournalEvent.Commit {
        let before = try transaction.usedBytes()
        var committed: [CommittedPack] = []
        let (packs, areNew) = state.change { state in
            (state.finished, state.views == [View(indexState)] && !state.foundDamaged && !state.isRepeated)
        }
        for pack in packs {
            let voids = areNew ? [] : try voids(pack.entries, transaction)
            let entry = CommittedPack(summary: pack.summary, voids: Self.ranges(voids))
            try store.putChunks(entry, pack.entries, areNew: areNew, into: transaction, &indexState)
            committed.append(entry)
        }
        try transaction.checkWrites()
        var event = JournalEvent.Commit(
            run: manifest.run, step: manifest.step, head: manifest.head, origin: manifest.origin,
            replaces: replaced,
            packs: committed, storedBytes: 0, pins: manifest.pins, version: store.settings.version)
        let record = JournalRecord(
            sequence: position.sequence, time: 0, previous: position.previous, event: .commit(event))
        let growth = try transaction.usedBytes() - min(before, transaction.usedBytes())
        event.storedBytes =
            committed.reduce(0) { $0 + $1.summary.fileLength } + growth
            + UInt64(JournalRecord.padded(record.encoded(store: store.id).bytes.count))
        return event
    }

    /// The places of entries whose chunks another save has committed first.
    private func voids(_ entries: [PackEntry], _ transaction: IndexTransaction) throws -> [Int] {
        try entries.indices.filter { index in
            guard let other = try transaction.chunk(entries[index].id) else { return false }
            return !other.isDamaged
        }
    }

    private static func ranges(_ indices: [Int]) -> [Range<Int>] {
        var ranges: [Range<Int>] = []
        for index in indices {
            if ranges.last?.upperBound == index {
                ranges[ranges.count - 1] = ranges.last!.lowerBound..<index + 1
            } else {
                ranges.append(index..<index + 1)
            }
        }
        return ranges
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
