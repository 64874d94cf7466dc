internal import ChunkStore
internal import Platform

/// Writes files from chunks into a folder: on all jobs, every chunk checked, in memory that does not grow with the files.
final class FolderWriter: Sendable {
    /// Bytes of a file that are put together and written in one go.
    private static let segmentSize = 4 << 20
    /// From this size on, files are written past the page cache.
    private static let directSize: UInt64 = 1 << 20

    /// A blob that can't be read whole.
    struct Damage: Sendable {
        var blob: BlobRef
        /// What was to be put together from it; nil where that is a saved file.
        var tensor: String?
        var error: CairnError
    }

    private struct Segment: Sendable {
        var file: Int
        var range: Range<UInt64>
    }

    private struct State {
        var open: [Int: File] = [:]
        var left: [Int]
        var damaged: [Int: [Damage]] = [:]
    }

    private let chunks: ChunkStore
    private let folder: Path
    private let files: [OutputFile]
    /// By file: where each part begins, and where the last ends.
    private let bounds: [[UInt64]]
    private let segments: [Segment]
    private let checksums: PartChecksums
    private let tree: BlobTree
    private let lists: ChunkLists
    private let settings: Settings
    /// The largest segment.
    private let segmentSize: Int
    /// Chunks of which parts are wanted, that are checked side by side.
    private let spareChunks: Int
    private let state: Monitor<State>
    private let errands = Errands()

    init(_ chunks: ChunkStore, folder: Path, files: [OutputFile], settings: Settings) {
        self.chunks = chunks
        self.folder = folder
        self.files = files
        self.settings = settings
        bounds = files.map { file in
            file.parts.reduce(into: [0]) { $0.append($0.last! + $1.length) }
        }
        checksums = PartChecksums(files, bounds)
        tree = BlobTree(chunkSize: chunks.chunkSize)
        lists = ChunkLists(chunks, limit: settings.memory / 8)
        var segments: [Segment] = []
        var left: [Int] = []
        var largest = Self.segmentSize
        for (index, file) in files.enumerated() {
            let before = segments.count
            let step = Self.segmentSize(file, chunks.chunkSize, settings)
            largest = max(largest, step)
            var start: UInt64 = 0
            repeat {
                let end = min(start + UInt64(step), bounds[index].last!)
                segments.append(Segment(file: index, range: start..<end))
                start = end
            } while start < bounds[index].last!
            left.append(segments.count - before)
        }
        self.segments = segments
        segmentSize = largest
        let hasGathers = files.contains { $0.parts.contains { $0.streams > 0 } }
        spareChunks = hasGathers ? min(16, max(2, Self.segmentSize / chunks.chunkSize)) : 2
        state = Monitor(State(left: left))
    }

    /// Of tensors that are put together from many stretches by turns, larger ones: the first and the last chunk of each stretch is
    /// decoded for the segment before or after as well.
    private static func segmentSize(_ file: OutputFile, _ chunkSize: Int, _ settings: Settings) -> Int {
        let streams = file.parts.reduce(1) { max($0, $1.streams) }
        guard streams > 1 else { return segmentSize }
        let wanted = min(streams, 1 << 20) * 4 * chunkSize
        return max(1, min(wanted, settings.memory / 16) / segmentSize) * segmentSize
    }

    /// Writes all files and makes them durable, but for their names, modes and times.
    /// - Returns: by file, the blobs that are damaged; such a file is incomplete.
    func run(progress: Progress) throws -> [Int: [Damage]] {
        let reader = ChunkReader.memory(chunks, spareChunks: spareChunks)
        let turns = SlotTurns(
            slot: { [self] in try Slot(chunks, segmentSize: segmentSize, spareChunks: spareChunks) },
            begin: { [self] index, slot in
                try progress.checkInterruption("nothing was written")
                return try begin(segments[index], slot)
            },
            finish: { [self] begun, slot in
                try finish(begun, slot)
                progress.advance(bytes: UInt64(begun.segment.range.count))
            },
            end: { try $0.writing?.wait() })
        let (jobs, slots) = settings.jobs(eachSlot: segmentSize + reader)
        try turns.run(segments.count, jobs: jobs, slots: slots, errands)
        return state.change { $0.damaged }
    }

    /// What one segment needs.
    private final class Slot {
        let output: Buffer
        let reader: ChunkReader
        /// Of what `output` holds.
        var writing: Errands.Errand?

        init(_ chunks: ChunkStore, segmentSize: Int, spareChunks: Int) throws {
            output = try Buffer(size: segmentSize)
            reader = try ChunkReader(chunks, spareChunks: spareChunks)
        }
    }

    /// A segment whose chunks are being read.
    private struct Begun {
        var segment: Segment
        var file: File
        var content: SegmentContent
    }

    /// Puts a segment together and has it written.
    private func finish(_ begun: Begun, _ slot: Slot) throws {
        try slot.writing?.wait()
        let (segment, bytes) = (begun.segment, slot.output.bytes)
        try begun.content.fill(SegmentMemory(bytes), with: slot.reader) { note(segment.file, $0, $1) }
        checksums.add(
            UnsafeRawBufferPointer(rebasing: bytes[..<segment.range.count]), at: segment.range.lowerBound,
            of: segment.file)
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
        if file.isDirect { try file.truncate(to: bounds[segment.file].last!) }
        try writeChecksums(segment.file, file)
        try file.sync()
    }

    /// Writes what could not be known before all of the file was put together.
    private func writeChecksums(_ index: Int, _ file: File) throws {
        let fields = checksums.fields(of: index)
        guard !fields.isEmpty else { return }
        // Nothing so small can be written past the page cache.
        let other = file.isDirect ? try File(folder.appending(files[index].path), .write) : file
        for field in fields { try other.write(field.bytes, at: field.offset) }
        if file.isDirect { try other.sync() }
    }

    private func open(_ index: Int) throws -> File {
        try state.change { state in
            if let file = state.open[index] { return file }
            let size = bounds[index].last!
            let isLarge = size >= Self.directSize
            let file = try File(
                folder.appending(files[index].path), .create, direct: isLarge, followLinks: false, mode: 0o600
            )
            // A full disk is better noticed before anything is written.
            if isLarge, !file.isInMemory { try file.allocate(to: size) }
            state.open[index] = file
            return file
        }
    }

    /// Looks up what a segment is made of, and begins to read it.
    private func begin(_ segment: Segment, _ slot: Slot) throws -> Begun {
        let file = try open(segment.file)
        var content = SegmentContent(tree)
        let (parts, bounds) = (files[segment.file].parts, bounds[segment.file])
        // The part in which the segment begins; a file may have none.
        let first = parts.indices.partitioningIndex { bounds[$0] > segment.range.lowerBound } - 1
        for index in max(first, 0)..<parts.count {
            guard bounds[index] < segment.range.upperBound else { break }
            let lower = max(bounds[index], segment.range.lowerBound)
            let upper = min(bounds[index + 1], segment.range.upperBound)
            guard lower < upper else { continue }
            let to = Int(lower - segment.range.lowerBound)
            let inside = lower - bounds[index]..<upper - bounds[index]
            try content.add(parts[index], inside, number: index, to: to) { try ids(of: $0, segment.file) }
        }
        try content.begin(slot.reader, errands)
        return Begun(segment: segment, file: file, content: content)
    }

    /// The chunks of a blob; nil where these are damaged.
    private func ids(of owner: SegmentPlan.Owner, _ file: Int) throws -> [ChunkID]? {
        do {
            return try lists.ids(of: owner.blob)
        } catch let error as CairnError where error.code == .damage {
            note(file, owner, error)
            return nil
        }
    }

    // MARK: Damage

    /// - Parameter error: nil where it has another length than it should.
    private func note(_ file: Int, _ chunk: SegmentPlan.Chunk, _ error: CairnError?) {
        for owner in chunk.owners { note(file, owner, error ?? BlobTree.otherLength(owner.blob)) }
    }

    private func note(_ file: Int, _ owner: SegmentPlan.Owner, _ error: CairnError) {
        var damage = Damage(blob: owner.blob, error: error)
        if case .gather(let gather) = files[file].parts[owner.part] { damage.tensor = gather.name }
        state.change { $0.damaged[file, default: []].append(damage) }
    }
}
