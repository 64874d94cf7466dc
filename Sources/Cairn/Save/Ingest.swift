internal import ChunkStore
internal import Platform

/// Reads files or memory once, cuts their blobs into chunks, tells those that have not changed since an earlier iteration by their
/// bytes or fingerprints, hashes the others and hands them to a save: on all jobs, in memory that does not grow with the checkpoint.
final class Ingest: Sendable {
    /// A file with its plan, or what is to be one.
    struct Source: Sendable {
        enum Content: Sendable {
            case file(Path, FileStatus)
            case memory(MemorySource)
        }

        var content: Content
        /// Below the checkpoint's folder.
        var place: [UInt8]
        /// In order, none reaching into the next.
        var extents: [FilePlan.Extent]
        /// What the blobs are called, in the order of the extents.
        var names: [[UInt8]]
    }

    /// What became of the files.
    struct Outcome {
        /// By source, extent and chunk.
        var ids: [[[ChunkID]]]
        /// In the same order; empty where no fingerprints are made.
        var fingerprints: [[[FingerprintTable.Entry]]]
        var chunks = 0
    }

    /// Bytes of a file that are taken in one go, and chunks that are looked up in one go: as many of the usual size as are hashed side
    /// by side.
    private static let unitSize: UInt64 = 4 << 20
    private static let unitChunks = 1024
    /// Bytes that are read at a time: they are still in the nearest cache when they are hashed.
    private static let readSize = 256 << 10

    /// A stretch of one file, and the pieces of blobs in it: whole chunks but for a blob's last.
    private struct Unit: Sendable {
        var source: Int
        var range: Range<UInt64>
        var pieces: [Piece]
        struct Piece: Sendable {
            var extent: Int
            var range: Range<UInt64>
        }
    }

    /// What stood where an extent stands now.
    private struct Earlier: Sendable {
        var blob: EarlierIteration.Blob
        var ids: [ChunkID]
    }

    private struct State {
        var files: [Int: (file: SourceBytes, left: Int)] = [:]
        /// By tensor; nil where there was none.
        var earlier: [Int: Earlier?] = [:]
        var outcome: Outcome
    }

    private let sources: [Source]
    private let units: [Unit]
    private let unitsOfSource: [Int]
    /// The number of each source's first extent, counted over all that the save takes.
    private let firstTensor: [Int]
    private let step: UInt64
    private let earlier: EarlierIteration?
    private let key: [UInt8]?
    private let tree: BlobTree
    private let chunkSize: UInt64
    private let state: Monitor<State>

    /// - Parameters:
    ///   - step: of the save.
    ///   - earlier: what the files are compared with.
    ///   - key: of fingerprints; nil: none are made.
    ///   - tensors: how many extents the save has taken before.
    init(
        _ sources: [Source], step: UInt64, earlier: EarlierIteration?, key: [UInt8]?, chunkSize: Int,
        after tensors: Int = 0
    ) {
        self.sources = sources
        self.step = step
        self.earlier = earlier
        self.key = key
        self.chunkSize = UInt64(chunkSize)
        tree = BlobTree(chunkSize: chunkSize)
        var units: [Unit] = []
        for index in sources.indices { Self.cut(sources[index], index, UInt64(chunkSize), into: &units) }
        self.units = units
        unitsOfSource = units.reduce(into: [Int](repeating: 0, count: sources.count)) { $0[$1.source] += 1 }
        var count = tensors
        firstTensor = sources.map { source in
            defer { count += source.extents.count }
            return count
        }
        let tree = tree
        let counts = sources.map { $0.extents.map { tree.chunkCount($0.length) } }
        state = Monitor(
            State(
                outcome: Outcome(
                    ids: counts.map { $0.map { [ChunkID](repeating: .zero, count: $0) } },
                    fingerprints: key == nil
                        ? [] : counts.map { $0.map { .init(repeating: (.none, .none), count: $0) } })))
    }

    /// Fills units one after the other: a blob that does not fit goes on in the next, at a chunk.
    private static func cut(_ source: Source, _ index: Int, _ chunkSize: UInt64, into units: inout [Unit]) {
        var unit: Unit?
        var chunks = 0
        for (extentIndex, extent) in source.extents.enumerated() where extent.length > 0 {
            var start = extent.offset
            let end = extent.offset + extent.length
            while start < end {
                let taken = start - (unit?.range.lowerBound ?? start)
                let room = taken < unitSize ? unitSize - taken : 0
                let left = end - start
                let length = left <= room ? left : room / chunkSize * chunkSize
                let count = Int((length + chunkSize - 1) / chunkSize)
                guard length > 0, chunks + count <= unitChunks else {
                    units.append(unit!)
                    (unit, chunks) = (nil, 0)
                    continue
                }
                let piece = start..<start + length
                if unit == nil { unit = Unit(source: index, range: piece, pieces: []) }
                unit!.range = unit!.range.lowerBound..<piece.upperBound
                unit!.pieces.append(.init(extent: extentIndex, range: piece))
                chunks += count
                start = piece.upperBound
            }
        }
        if let unit { units.append(unit) }
    }

    /// Reads everything and puts it into `session`.
    func run(_ session: SaveSession, _ settings: Settings, progress: Progress) throws -> Outcome {
        guard !units.isEmpty else { return state.change { $0.outcome } }
        let (jobs, slots) = settings.jobs(
            eachSlot: Int(Self.unitSize) + session.workerMemory(hasEarlier: earlier != nil))
        // The chunks of each unit are looked at and hashed before those of the one before are encoded: meanwhile the disk brings what
        // these lean on.
        let turns = SlotTurns(
            slot: { [key] in
                Slot(buffer: try Buffer(size: Int(Self.unitSize)), worker: try session.worker(key: key))
            },
            begin: { [self] index, slot in
                try progress.checkInterruption()
                return try take(units[index], slot, session)
            },
            finish: { [self] taken, slot in
                try finish(taken, try session.finish(taken.begun, with: slot.worker))
                progress.advance(bytes: UInt64(taken.unit.range.count))
            })
        try turns.run(units.count, slots: slots) { try session.run(jobs: min(jobs, units.count), $0) }
        return state.change { $0.outcome }
    }

    /// What one unit needs.
    private struct Slot {
        var buffer: Buffer
        var worker: SaveWorker
    }

    /// A unit whose new chunks are to be written yet.
    private struct Taken {
        var unit: Unit
        var file: SourceBytes
        var ids: [ChunkID]
        var fingerprints: [FingerprintTable.Entry]
        var begun: SaveSession.Begun
    }

    private func take(_ unit: Unit, _ slot: Slot, _ session: SaveSession) throws -> Taken {
        let worker = slot.worker
        let source = sources[unit.source]
        let file = try open(unit.source)
        var reading = UnitReading(
            file: file, start: unit.range.lowerBound,
            bytes: UnsafeMutableRawBufferPointer(rebasing: slot.buffer.bytes[..<unit.range.count]))
        var chunks: [SaveChunk] = []
        var fingerprints: [FingerprintTable.Entry] = []
        var changed: [Int] = []
        for piece in unit.pieces {
            let extent = source.extents[piece.extent]
            let tensor = firstTensor[unit.source] + piece.extent
            let before = earlier(tensor, unit.source, piece.extent)
            var start = piece.range.lowerBound
            while start < piece.range.upperBound {
                let end = min(start + chunkSize, piece.range.upperBound)
                let bytes =
                    try file.inPlace(piece.extent, start - extent.offset, Int(end - start))
                    ?? reading.bytes(start..<end, step: Self.readSize)
                var chunk = SaveChunk(.zero, bytes, tensor: tensor, elementSize: extent.elementSize)
                find(&chunk, at: Int((start - extent.offset) / chunkSize), before)
                if chunk.earlier != .zero {
                    chunk.earlierBytes = file.earlier(piece.extent, start - extent.offset, bytes.count)
                }
                let (isKnown, entry) = recognize(&chunk, worker)
                if !isKnown { changed.append(chunks.count) }
                fingerprints.append(entry)
                chunks.append(chunk)
                start = end
            }
        }
        identify(&chunks, &fingerprints, changed, worker)
        return Taken(
            unit: unit, file: file, ids: chunks.map(\.id), fingerprints: fingerprints,
            begun: try session.begin(chunks, with: worker))
    }

    /// What is known of the chunk that stood at the same place.
    private func find(_ chunk: inout SaveChunk, at index: Int, _ before: Earlier?) {
        guard let before, before.ids.indices.contains(index),
            tree.chunkLength(index, of: before.blob.ref.length) == chunk.bytes.count
        else { return }
        chunk.earlier = before.ids[index]
        chunk.earlierFingerprints = earlier!.fingerprints(of: before.blob, chunk: index)
    }

    /// Gives a chunk its id where the bytes that it had, or the fingerprints, say that nothing has changed.
    ///
    /// What changed since the last save mostly changes until the next one as well, so it gets no fingerprint: that would be of no use.
    /// The SHA-256 says when it stops to change, and then it gets one.
    private func recognize(
        _ chunk: inout SaveChunk, _ worker: SaveWorker
    ) -> (isKnown: Bool, FingerprintTable.Entry) {
        let known = chunk.earlierFingerprints
        if let before = chunk.earlierBytes {
            guard chunk.bytes.isEqual(to: before) else { return (false, (.none, .none)) }
            chunk.id = chunk.earlier
            return (true, known)
        }
        guard key != nil, chunk.earlier == .zero || known.own != .none else { return (false, (.none, .none)) }
        let own = worker.fingerprinter.fingerprint(chunk.bytes)
        if own == known.own {
            chunk.id = chunk.earlier
            return (true, known)
        }
        return (false, (chunk.earlier == .zero ? own : .none, .none))
    }

    /// Gives chunks their ids by their SHA-256.
    private func identify(
        _ chunks: inout [SaveChunk], _ fingerprints: inout [FingerprintTable.Entry], _ places: [Int],
        _ worker: SaveWorker
    ) {
        let digests = worker.hasher.digests(places.map { chunks[$0].bytes })
        for (place, digest) in zip(places, digests) {
            chunks[place].id = ChunkID(digest)
            guard key != nil, chunks[place].id == chunks[place].earlier else { continue }
            let own = worker.fingerprinter.fingerprint(chunks[place].bytes)
            fingerprints[place] = (own, chunks[place].earlierFingerprints.base)
        }
    }

    /// What stood where an extent stands now. Looked up once; by several threads at the same time where they come together.
    private func earlier(_ tensor: Int, _ source: Int, _ extent: Int) -> Earlier? {
        guard let earlier else { return nil }
        if let known = state.change({ $0.earlier[tensor] }) { return known }
        let blob = earlier.blob(file: sources[source].place, name: sources[source].names[extent], step: step)
        let found = blob.map { Earlier(blob: $0, ids: earlier.chunkIDs(of: $0)) }
        state.change { $0.earlier[tensor] = .some(found) }
        return found
    }

    /// A source's bytes: a file is opened for its first unit.
    private func open(_ index: Int) throws -> SourceBytes {
        try state.change { state in
            if let known = state.files[index] { return known.file }
            let file = try SourceBytes(sources[index].content)
            state.files[index] = (file, unitsOfSource[index])
            return file
        }
    }

    /// Notes a unit's ids; after a file's last unit looks whether the file is what it was.
    /// - Parameter bases: the fingerprints of what its chunks were written against.
    private func finish(_ taken: Taken, _ bases: [Fingerprint]) throws {
        let (unit, source, ids) = (taken.unit, sources[taken.unit.source], taken.ids)
        var fingerprints = taken.fingerprints
        for (index, base) in bases.enumerated() where base != .none { fingerprints[index].base = base }
        let isLast = state.change { state in
            var place = 0
            for piece in unit.pieces {
                let first = Int((piece.range.lowerBound - source.extents[piece.extent].offset) / chunkSize)
                let count = Int((UInt64(piece.range.count) + chunkSize - 1) / chunkSize)
                for offset in 0..<count {
                    state.outcome.ids[unit.source][piece.extent][first + offset] = ids[place + offset]
                    if key != nil {
                        state.outcome.fingerprints[unit.source][piece.extent][first + offset] =
                            fingerprints[place + offset]
                    }
                }
                place += count
            }
            state.outcome.chunks += ids.count
            state.files[unit.source]!.left -= 1
            guard state.files[unit.source]!.left == 0 else { return false }
            state.files[unit.source] = nil
            return true
        }
        if isLast { try taken.file.checkUnchanged() }
    }
}

/// Reads a unit bit by bit, as its chunks are looked at.
private struct UnitReading {
    let file: SourceBytes
    /// Where the unit begins in the source.
    let start: UInt64
    let bytes: UnsafeMutableRawBufferPointer
    private var filled = 0

    init(file: SourceBytes, start: UInt64, bytes: UnsafeMutableRawBufferPointer) {
        self.file = file
        self.start = start
        self.bytes = bytes
    }

    /// A range of the source that lies in the unit.
    mutating func bytes(_ range: Range<UInt64>, step: Int) throws -> UnsafeRawBufferPointer {
        let lower = Int(range.lowerBound - start)
        let upper = Int(range.upperBound - start)
        if upper > filled {
            let end = min(bytes.count, max(upper, filled + step))
            let target = UnsafeMutableRawBufferPointer(rebasing: bytes[filled..<end])
            try file.read(into: target, at: start + UInt64(filled))
            filled = end
        }
        return UnsafeRawBufferPointer(rebasing: bytes[lower..<upper])
    }
}
