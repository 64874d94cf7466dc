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
    func run(jobs: Int, progress: Progress) throws -> [Int: [(blob: BlobRef, error: CairnError)]] {
        guard !segments.isEmpty else { return [:] }
        try WorkerPool.shared.run(min(jobs, segments.count)) { [self] _ in
            do {
                let output = try Buffer(size: Self.segmentSize)
                let reader = try ChunkReader(chunks)
                while let segment = next() {
                    try progress.checkInterruption("nothing was written")
                    try write(segment, output, reader)
                    progress.advance(bytes: UInt64(segment.range.count))
                }
            } catch {
                state.change { $0.failed = true }
                throw error
            }
        }
        return state.change { $0.damaged }
    }

    private func next() -> Segment? {
        state.change { state in
            guard !state.failed, state.next < segments.count else { return nil }
            state.next += 1
            return segments[state.next - 1]
        }
    }

    private func write(_ segment: Segment, _ output: Buffer, _ reader: ChunkReader) throws {
        let file = try open(segment.file)
        try fill(segment, output.bytes, reader)
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

    /// Puts the bytes of a segment together.
    private func fill(
        _ segment: Segment, _ target: UnsafeMutableRawBufferPointer, _ reader: ChunkReader
    ) throws {
        var start: UInt64 = 0
        var wanted: [Piece] = []
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
                target[to..<to + inside.count].copyBytes(
                    from: bytes[Int(inside.lowerBound)..<Int(inside.upperBound)])
            case .blob(let blob):
                do {
                    try plan(blob, inside, to, &wanted)
                } catch let error as CairnError where error.code == .damage {
                    note(segment.file, blob, error)
                }
            }
        }
        try reader.read(
            wanted.map(\.id),
            room: { index in
                let one = wanted[index]
                guard one.from == 0 else { return nil }
                return UnsafeMutableRawBufferPointer(rebasing: target[one.to..<one.to + one.count])
            },
            deliver: { index, bytes in
                let one = wanted[index]
                guard bytes.count == one.whole else {
                    return note(segment.file, one.blob, BlobTree.otherLength(one.blob))
                }
                let place = UnsafeMutableRawBufferPointer(rebasing: target[one.to..<one.to + one.count])
                guard bytes.baseAddress != UnsafeRawPointer(place.baseAddress) else { return }
                place.copyMemory(
                    from: UnsafeRawBufferPointer(rebasing: bytes[one.from..<one.from + one.count]))
            }, failed: { index, error in note(segment.file, wanted[index].blob, error) })
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
