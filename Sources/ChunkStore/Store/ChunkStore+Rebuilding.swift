internal import Platform

/// The chunks that manifests reach, found by walking from their heads.
struct Reach {
    /// How to read a chunk and to find its base, as one state of the index or of a rebuild has them.
    struct Source {
        var read: (ChunkID) throws -> [UInt8]
        /// The bases of the chunks' encodings, or `.zero`.
        var bases: ([ChunkID]) throws -> [ChunkID]
    }

    private(set) var ids: Set<ChunkID> = []
    /// Blobs whose lists were walked to their end. Not told by `ids`: a file may hold the very bytes of a list.
    private var walked: Set<BlobRef> = []
    private static let lookupBatch = 4096
    private let tree: BlobTree
    private let trace: ChunkStore.Tracer

    init(_ store: ChunkStore) {
        tree = BlobTree(chunkSize: store.chunkSize)
        trace = store.settings.trace
    }

    /// Adds what the manifest with this head reaches.
    mutating func add(_ head: [UInt8], from source: Source) throws {
        try add([.of(head)], source)
        for blob in try trace(head, { try tree.bytes(of: $0, read: source.read) }) { try add(blob, source) }
    }

    private mutating func add(_ blob: BlobRef, _ source: Source) throws {
        guard blob.length > 0, !walked.contains(blob) else { return }
        var lists: [ChunkID] = []
        let chunks = try tree.chunkIDs(of: blob, list: { lists.append($0) }, read: source.read)
        try add(chunks + lists, source)
        walked.insert(blob)
    }

    private mutating func add(_ chunks: [ChunkID], _ source: Source) throws {
        var fresh = chunks
        while true {
            fresh = fresh.filter { $0 != .zero && ids.insert($0).inserted }
            guard !fresh.isEmpty else { return }
            // Many in one go, as each look at the index may wait for committers; not so many that these wait.
            fresh = try stride(from: 0, to: fresh.count, by: Self.lookupBatch).flatMap { start in
                try source.bases([ChunkID](fresh[start..<min(start + Self.lookupBatch, fresh.count)]))
            }
        }
    }
}

extension ChunkStore {
    /// Reads through a transaction that is open already.
    func source(_ transaction: IndexTransaction) -> Reach.Source {
        let locate = locator(transaction)
        return Reach.Source(
            read: { id in
                guard let place = try locate(id) else { throw self.missing(id) }
                return try self.decode(try self.chain(place, locate))
            }, bases: { try $0.map { try transaction.chunk($0)?.base ?? .zero } })
    }
}

extension ChunkStore {
    /// Makes the index anew from the journal and the packs' tables, and puts it in the place of the old one, which is not read.
    /// Under the commit lock.
    ///
    /// What the new index leaves out is given back from now on, so no copy of the old one may count any more: the journal gets a
    /// sweep, across which no index is brought up to date.
    func rebuildIndex(_ opened: inout Opened) throws {
        try checkWritable()
        opened.index = nil
        try FileSystem.makeFolders(folder.appending("index"))
        let temporary = folder.appending("index/.\(Random.hex(8)).partial")
        do {
            let (records, end) = try journal.records()
            let sweep = journal.prepare(.sweep(token: Random.bytes(16), removedPacks: []), at: end)
            try makeIndex(at: temporary, records, sweep)
            let file = try File(temporary, .read)
            try file.sync()
            try journal.append(sweep)
            try FileSystem.rename(temporary, to: indexPath)
            try FileSystem.syncFolder(folder.appending("index"))
        } catch {
            _ = try? FileSystem.removeFile(temporary)
            throw error
        }
        opened.index = try Index(indexPath, readOnly: false)
    }

    /// Writes a new index, made from the journal and the packs' tables.
    /// - Parameter last: a record that is to follow the others.
    func makeIndex(at path: Path, _ records: [Journal.Stored], _ last: Journal.Stored? = nil) throws {
        guard let end = (last ?? records.last)?.next, !records.isEmpty else {
            throw CairnError(
                .damage, "the journal of \(folder) is empty; restore it from a copy",
                path: folder.appending("journal").text)
        }
        let fold = JournalFold(records)
        var located = try locations(fold)
        let (reached, isComplete) = reachable(fold, located)
        // Behind a damaged piece of a manifest may be anything: what can be read stays, so that a repair finds it.
        let locate = locator(located, fold)
        var kept = reached
        if !isComplete {
            for id in located.keys where isWhole(id, locate) {
                kept.formUnion(try chain(locate(id)!, locate).map(\.id))
            }
        }
        located = located.filter { kept.contains($0.key) }
        try writeIndex(path, fold, records + [last].compactMap { $0 }, end, located, isComplete)
    }

    /// Where a rebuild has found that chunks are.
    private func locator(_ located: [ChunkID: ChunkLocation], _ fold: JournalFold) -> ChunkLocator {
        let names = fold.packs.map(\.summary.name)
        return { id in located[id].map { ChunkPlace(id, names[Int($0.pack)], $0) } }
    }

    /// The bytes of a chunk, where a locator finds it.
    private func bytes(_ id: ChunkID, _ locate: ChunkLocator) throws -> [UInt8] {
        guard let place = try locate(id) else { throw missing(id) }
        return try decode(try chain(place, locate))
    }

    /// Whether a chunk can be read, or could be by a later version.
    private func isWhole(_ id: ChunkID, _ locate: ChunkLocator) -> Bool {
        do {
            _ = try bytes(id, locate)
            return true
        } catch {
            return (error as? CairnError)?.code == .newerVersion
        }
    }

    /// Where the tables say that chunks are, the last entry of each winning.
    func locations(_ fold: JournalFold) throws -> [ChunkID: ChunkLocation] {
        var located: [ChunkID: ChunkLocation] = [:]
        /// Of salvaged chunks that lean on others the places to try next, which can be checked once all are found. The last is nil where
        /// nothing else is known of it.
        var unsure: [ChunkID: [ChunkLocation?]] = [:]
        for (number, pack) in fold.packs.enumerated() {
            let (entries, isSalvaged) = try liveEntries(of: pack)
            for entry in entries {
                let location = ChunkLocation(entry, pack: UInt32(number))
                guard isSalvaged, entry.codec.hasBase else {
                    located[entry.id] = location
                    continue
                }
                // It may be a void one, which leans on what leans on the chunk itself: what a table says comes first.
                if let known = located[entry.id] {
                    let last = unsure[entry.id]?.popLast() ?? known
                    unsure[entry.id, default: []] += [location, last]
                } else {
                    located[entry.id] = location
                    unsure[entry.id] = [nil]
                }
            }
        }
        for id in [ChunkID](unsure.keys) { settle(id, &located, &unsure, fold) }
        return located
    }

    /// Checks a chunk that was salvaged, once what it leans on is settled; where it is not whole, its next place is tried.
    private func settle(
        _ first: ChunkID, _ located: inout [ChunkID: ChunkLocation],
        _ unsure: inout [ChunkID: [ChunkLocation?]], _ fold: JournalFold
    ) {
        var waiting = [first]
        while let id = waiting.last {
            let base = located[id]?.base ?? .zero
            if unsure[base] != nil, !waiting.contains(base), waiting.count < PackFormat.chainLimit {
                waiting.append(base)
            } else if let next = unsure[id]?.first, !isWhole(id, locator(located, fold)) {
                located[id] = next
                unsure[id]!.removeFirst()
            } else {
                unsure[id] = nil
                waiting.removeLast()
            }
        }
    }

    /// The entries of a pack's table that count; where the table is damaged, what the headers of the records say, each checked by
    /// its SHA-256 unless it has a base, those that would be void among them: they are as good.
    private func liveEntries(of pack: CommittedPack) throws -> (entries: [PackEntry], isSalvaged: Bool) {
        do {
            let entries = try packs.table(pack.summary)
            return (pack.live(entries.count).map { entries[$0] }, false)
        } catch let error as CairnError where error.code == .damage {
            guard try FileSystem.status(packs.path(pack.summary.name)) != nil else { return ([], true) }
            return (try salvage(pack.summary), true)
        }
    }

    /// What is reached, and whether all manifests could be read: a damaged one reaches less, and a collection refuses to run then.
    func reachable(
        _ fold: JournalFold, _ located: [ChunkID: ChunkLocation]
    ) -> (ids: Set<ChunkID>, isComplete: Bool) {
        let locate = locator(located, fold)
        var reach = Reach(self)
        var isComplete = true
        let source = Reach.Source(
            read: { try self.bytes($0, locate) }, bases: { $0.map { located[$0]?.base ?? .zero } })
        for iteration in fold.iterations.values {
            do { try reach.add(iteration.head, from: source) } catch { isComplete = false }
        }
        return (reach.ids, isComplete)
    }

    private func writeIndex(
        _ path: Path, _ fold: JournalFold, _ records: [Journal.Stored], _ end: Journal.Position,
        _ chunks: [ChunkID: ChunkLocation], _ isComplete: Bool
    ) throws {
        var state = IndexState(store: id)
        state.journal = end
        state.nextPack = UInt32(fold.packs.count)
        try Index.create(path, state: state, first: nil)
        let transaction = try Index(path, readOnly: false).begin()
        for (id, location) in chunks.sorted(by: { $0.key < $1.key }) {
            transaction.insertChunk(id, location, append: true)
        }
        for (number, pack) in fold.packs.enumerated() { transaction.setPack(UInt32(number), pack.summary) }
        // What a sweep had begun to free is not known any more: every pack is looked at again.
        if isComplete { for number in fold.packs.indices { transaction.setPending(UInt32(number), true) } }
        for stored in records { transaction.setRecord(stored) }
        for (number, iteration) in fold.iterations {
            transaction.setIteration(
                number, run: iteration.run, step: iteration.step, isSuperseded: iteration.isSuperseded)
            for annotation in iteration.annotations { try transaction.addNote(annotation) }
        }
        for (name, number) in fold.pins { transaction.setPin(name, number) }
        for (name, run) in fold.runs { transaction.setRun(name, origin: run.origin, policy: run.policy) }
        try transaction.seal(state)
        try transaction.commit()
    }

    /// Walks the records of a pack from its beginning, by their headers.
    private func salvage(_ summary: PackSummary) throws -> [PackEntry] {
        let file = try packs.open(summary.name).buffered
        let end = min(summary.tableOffset, try file.status().size)
        var entries: [PackEntry] = []
        var offset = UInt64(PackFormat.headerSize)
        while offset + UInt64(PackFormat.recordHeaderSize) <= end {
            let header = try file.read(PackFormat.recordHeaderSize, at: offset)
            if let entry = try? PackFormat.entry(fromRecordHeader: header), entry.offset == offset,
                entry.range.upperBound <= end
            {
                let place = ChunkPlace(entry.id, summary.name, ChunkLocation(entry, pack: 0))
                if entry.codec.hasBase || (try? decode([place])) != nil { entries.append(entry) }
                offset = entry.range.upperBound
            } else {
                guard let next = try nextRecord(file, after: offset, end: end) else { break }
                offset = next
            }
        }
        return entries
    }

    /// Where the next record header begins behind a damaged one or a freed range.
    private func nextRecord(_ file: File, after offset: UInt64, end: UInt64) throws -> UInt64? {
        let magic = [UInt8]("CREC".utf8)
        var position = offset + 1
        while position + UInt64(PackFormat.recordHeaderSize) <= end {
            let window = try file.read(Int(min(1 << 20, end - position)), at: position)
            var index = 0
            while let hit = window[index...].firstIndex(of: magic[0]),
                hit + PackFormat.recordHeaderSize <= window.count
            {
                let header = [UInt8](window[hit..<hit + PackFormat.recordHeaderSize])
                if let entry = try? PackFormat.entry(fromRecordHeader: header),
                    entry.offset == position + UInt64(hit)
                {
                    return entry.offset
                }
                index = hit + 1
            }
            if window.count <= PackFormat.recordHeaderSize { return nil }
            position += UInt64(window.count - PackFormat.recordHeaderSize + 1)
        }
        return nil
    }
}
