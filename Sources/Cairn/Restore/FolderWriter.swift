internal import ChunkStore
internal import Platform

/// Writes files from chunks into a folder: on all jobs, every chunk checked, in memory that does not grow with the files.
final class FolderWriter: Sendable {
    /// Bytes of a file that are put together and written in one go.
    private static let segmentSize = 4 << 20
    /// From this size on, files are written past the page cache.
    private static let directSize: UInt64 = 1 << 20

    private struct Segment: Sendable {
        var file: Int
        var range: Range<UInt64>
    }

    /// A part of a chunk, and where in its segment it goes.
    private struct Piece {
        var id: ChunkID
        var blob: BlobRef
        /// Bytes of the chunk.
        var whole: Int
        var from: Int
        var count: Int
        var to: Int
    }

    private struct State {
        var next = 0
        var failed = false
        var open: [Int: File] = [:]
        var left: [Int]
        var damaged: [Int: [(blob: BlobRef, error: CairnError)]] = [:]
        /// The chunks of the blobs that were looked at last: segments of one blob follow each other.
        var lists: [(blob: BlobRef, ids: [ChunkID])] = []
    }

    private let chunks: ChunkStore
    private let folder: Path
    private let files: [OutputFile]
    private let sizes: [UInt64]
    private let segments: [Segment]
    private let tree: BlobTree
    private let state: Monitor<State>
    private let errands = Errands()

    init(_ chunks: ChunkStore, folder: Path, files: [OutputFile]) {
        self.chunks = chunks
        self.folder = folder
        self.files = files
        sizes = files.map(\.size)
        tree = BlobTree(chunkSize: chunks.chunkSize)
        var segments: [Segment] = []
        var left: [Int] = []
        for (index, size) in sizes.enumerated() {
            let before = segments.count
            var start: UInt64 = 0
            repeat {
                let end = min(start + UInt64(Self.segmentSize), size)
                segments.append(Segment(file: index, range: start..<end))
                start = end
            } while start < size
            left.append(segments.count - before)
        }
        self.segments = segments
        state = Monitor(State(left: left))
    }

    /// Writes all files and makes them durable, but for their names, modes and times.
    /// - Returns: by file, the blobs that are damaged, with what is wrong; such a file is incomplete.
    func run(_ settings: Settings, progress: Progress) throws -> [Int: [(blob: BlobRef, error: CairnError)]] {
        guard !segments.isEmpty else { return [:] }
        let (most, slots) = settings.jobs(eachSlot: Self.segmentSize + ChunkReader.memory(chunks))
        let jobs = min(most, segments.count)
        try WorkerPool.shared.run(
            jobs: jobs,
            { [self] _ in
                do {
                    try writeAll(slots, progress)
                } catch {
                    state.change { $0.failed = true }
                    throw error
                }
            }, helpers: jobs, help: { [self] _ in errands.serve() }, release: { [self] in errands.close() })
        return state.change { $0.damaged }
    }

    /// What one segment needs.
    private final class Slot {
        let output: Buffer
        let reader: ChunkReader
        /// Of what `output` holds.
        var writing: Errands.Errand?

        init(_ chunks: ChunkStore) throws {
            output = try Buffer(size: FolderWriter.segmentSize)
            reader = try ChunkReader(chunks)
        }
    }

    /// Writes segments: while one is decoded, the disk brings the chunks of the next and takes the bytes of the last.
    private func writeAll(_ slotCount: Int, _ progress: Progress) throws {
        var slots: [Slot] = []
        var before: (begun: Begun, slot: Slot)?
        func finishBefore() throws {
            guard let (begun, slot) = before else { return }
            before = nil
            try finish(begun, slot)
            progress.advance(bytes: UInt64(begun.segment.range.count))
        }
        while let segment = next() {
            try progress.checkInterruption("nothing was written")
            if slotCount == 1 { try finishBefore() }
            if slots.count < slotCount { slots.append(try Slot(chunks)) }
            slots.reverse()
            let begun = try begin(segment, slots[0])
            try finishBefore()
            before = (begun, slots[0])
        }
        try finishBefore()
        for slot in slots { try slot.writing?.wait() }
    }

    private func next() -> Segment? {
        state.change { state in
            guard !state.failed, state.next < segments.count else { return nil }
            state.next += 1
            return segments[state.next - 1]
        }
    }

    /// A segment whose chunks are being read.
    private struct Begun {
        var segment: Segment
        var file: File
        var pieces: [Piece] = []
        var literals: [(to: Int, bytes: ArraySlice<UInt8>)] = []
    }

    /// Puts a segment together and has it written.
    private func finish(_ begun: Begun, _ slot: Slot) throws {
        try slot.writing?.wait()
        try fill(begun, slot)
        slot.writing = errands.send { [self, output = slot.output] in try write(begun, output) }
    }

    private func write(_ begun: Begun, _ output: Buffer) throws {
        let (segment, file) = (begun.segment, begun.file)
        var count = segment.range.count
        if file.isDirect, !count.isMultiple(of: 4096) {
            let whole = (count + 4095) / 4096 * 4096
            output.bytes[count..<whole].initializeMemory(as: UInt8.self, repeating: 0)
            count = whole
        }
        try file.write(UnsafeRawBufferPointer(rebasing: output.bytes[..<count]), at: segment.range.lowerBound)
        let isLast = state.change { state in
            state.left[segment.file] -= 1
            guard state.left[segment.file] == 0 else { return false }
            state.open[segment.file] = nil
            return true
        }
        guard isLast else { return }
        if file.isDirect { try file.truncate(to: sizes[segment.file]) }
        try file.sync()
    }

    private func open(_ index: Int) throws -> File {
        try state.change { state in
            if let file = state.open[index] { return file }
            let isLarge = sizes[index] >= Self.directSize
            let file = try File(
                folder.appending(files[index].path), .create, direct: isLarge, followLinks: false, mode: 0o600
            )
            // A full disk is better noticed before anything is written.
            if isLarge, !file.isInMemory { try file.allocate(to: sizes[index]) }
            state.open[index] = file
            return file
        }
    }

    /// Looks up what a segment is made of, and begins to read it.
    private func begin(_ segment: Segment, _ slot: Slot) throws -> Begun {
        var begun = Begun(segment: segment, file: try open(segment.file))
        var start: UInt64 = 0
        for part in files[segment.file].parts {
            let end = start + part.length
            defer { start = end }
            let lower = max(start, segment.range.lowerBound)
            let upper = min(end, segment.range.upperBound)
            guard lower < upper else { continue }
            let overlap = lower..<upper
            let to = Int(overlap.lowerBound - segment.range.lowerBound)
            let inside = (overlap.lowerBound - start)..<(overlap.upperBound - start)
            switch part {
            case .literal(let bytes):
                begun.literals.append((to, bytes[Int(inside.lowerBound)..<Int(inside.upperBound)]))
            case .blob(let blob):
                do {
                    try plan(blob, inside, to, &begun.pieces)
                } catch let error as CairnError where error.code == .damage {
                    note(segment.file, blob, error)
                }
            }
        }
        try slot.reader.begin(begun.pieces.map(\.id), errands)
        return begun
    }

    /// Puts the bytes of a segment together.
    private func fill(_ begun: Begun, _ slot: Slot) throws {
        let target = slot.output.bytes
        for (to, bytes) in begun.literals { target[to..<to + bytes.count].copyBytes(from: bytes) }
        try slot.reader.finish(
            room: { index in
                let one = begun.pieces[index]
                guard one.from == 0 else { return nil }
                return UnsafeMutableRawBufferPointer(rebasing: target[one.to..<one.to + one.count])
            },
            deliver: { index, bytes in
                let one = begun.pieces[index]
                guard bytes.count == one.whole else {
                    return note(begun.segment.file, one.blob, BlobTree.otherLength(one.blob))
                }
                let place = UnsafeMutableRawBufferPointer(rebasing: target[one.to..<one.to + one.count])
                guard bytes.baseAddress != UnsafeRawPointer(place.baseAddress) else { return }
                place.copyMemory(
                    from: UnsafeRawBufferPointer(rebasing: bytes[one.from..<one.from + one.count]))
            }, failed: { index, error in note(begun.segment.file, begun.pieces[index].blob, error) })
    }

    /// The chunks that a range of a blob needs.
    private func plan(
        _ blob: BlobRef, _ range: Range<UInt64>, _ to: Int,
        _ wanted: inout [Piece]
    ) throws {
        let size = UInt64(chunks.chunkSize)
        let ids = try chunkIDs(of: blob)
        for index in range.lowerBound / size...(range.upperBound - 1) / size {
            let begin = max(range.lowerBound, index * size)
            let end = min(range.upperBound, (index + 1) * size)
            wanted.append(
                Piece(
                    id: ids[Int(index)], blob: blob, whole: tree.chunkLength(Int(index), of: blob.length),
                    from: Int(begin - index * size), count: Int(end - begin),
                    to: to + Int(begin - range.lowerBound)))
        }
    }

    private func chunkIDs(of blob: BlobRef) throws -> [ChunkID] {
        if let known = state.change({ $0.lists.first { $0.blob == blob } }) { return known.ids }
        let ids = try chunks.chunkIDs(of: blob)
        state.change { state in
            state.lists.append((blob, ids))
            if state.lists.count > 8 { state.lists.removeFirst() }
        }
        return ids
    }

    private func note(_ file: Int, _ blob: BlobRef, _ error: CairnError) {
        state.change { $0.damaged[file, default: []].append((blob, error)) }
    }
}
