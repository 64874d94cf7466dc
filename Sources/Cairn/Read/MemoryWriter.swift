internal import ChunkStore
internal import Platform

/// Reads stretches of tensors and files into memory: on all jobs, every chunk checked.
final class MemoryWriter: Sendable {
    /// A range of a part, and where it goes.
    struct Output: @unchecked Sendable {
        // Unchecked: no two write to the same memory, and nobody looks at it meanwhile.
        var part: OutputFile.Part
        var range: Range<UInt64>
        /// As long as the range.
        var target: UnsafeMutableRawBufferPointer
    }

    /// A stretch of an output.
    private struct Piece {
        var output: Int
        /// Of the output's part.
        var range: Range<UInt64>
    }

    /// What one thread puts together in one go: as many chunks as are best hashed at once, of one output or of several.
    private struct Segment {
        var pieces: [Piece] = []
        var size = 0
    }

    private static let segmentSize = 4 << 20
    /// Where all of them are small, what is looked up for each takes more than reading them does.
    private static let mostPieces = 1024

    private let chunks: ChunkStore
    private let outputs: [Output]
    private let segments: [Segment]
    private let tree: BlobTree
    private let lists: ChunkLists
    private let settings: Settings
    private let damaged = Monitor<[FolderWriter.Damage]>([])
    private let errands = Errands()

    init(_ chunks: ChunkStore, _ outputs: [Output], settings: Settings) {
        self.chunks = chunks
        self.outputs = outputs
        self.settings = settings
        tree = BlobTree(chunkSize: chunks.chunkSize)
        lists = ChunkLists(chunks, limit: settings.memory / 8)
        segments = Self.cut(outputs, chunks.chunkSize)
    }

    private static func cut(_ outputs: [Output], _ chunkSize: Int) -> [Segment] {
        var segments: [Segment] = []
        var segment = Segment()
        for (index, output) in outputs.enumerated() {
            var rest = output.range
            while !rest.isEmpty {
                let room = UInt64(segmentSize - segment.size)
                var end = rest.upperBound
                if end - rest.lowerBound > room {
                    // Between two chunks, so that none is read twice. No chunk is larger than an empty segment.
                    end = rest.lowerBound + room
                    end = max(rest.lowerBound, end - end % UInt64(chunkSize))
                }
                if end == rest.lowerBound || segment.pieces.count == mostPieces {
                    segments.append(segment)
                    segment = Segment()
                    continue
                }
                segment.pieces.append(Piece(output: index, range: rest.lowerBound..<end))
                segment.size += Int(end - rest.lowerBound)
                rest = end..<rest.upperBound
            }
        }
        if segment.size > 0 { segments.append(segment) }
        return segments
    }

    /// Reads everything.
    /// - Returns: what is damaged; the rest is there.
    func run(_ progress: Progress) throws -> [FolderWriter.Damage] {
        let reader = ChunkReader.memory(chunks, spareChunks: Self.spareChunks(chunks))
        let turns = SlotTurns(
            slot: { [self] in try Slot(chunks) },
            begin: { [self] index, slot in
                try progress.checkInterruption("what was to be read may hold anything")
                return try begin(segments[index], slot)
            },
            finish: { [self] (begun: Begun, slot: Slot) in
                try begun.content.fill(begun.memory, with: slot.reader) { note($0, $1) }
                progress.advance(bytes: UInt64(begun.size))
            })
        let (jobs, slots) = settings.jobs(eachSlot: reader)
        try turns.run(segments.count, jobs: jobs, slots: slots, errands)
        return damaged.change { $0 }
    }

    private static func spareChunks(_ chunks: ChunkStore) -> Int {
        min(16, max(2, segmentSize / chunks.chunkSize))
    }

    /// What one segment needs.
    private struct Slot {
        let reader: ChunkReader

        init(_ chunks: ChunkStore) throws {
            reader = try ChunkReader(chunks, spareChunks: spareChunks(chunks))
        }
    }

    /// A segment whose chunks are being read.
    private struct Begun {
        var content: SegmentContent
        var memory = SegmentMemory()
        var size: Int
    }

    private func begin(_ segment: Segment, _ slot: Slot) throws -> Begun {
        var begun = Begun(content: SegmentContent(tree), size: segment.size)
        for piece in segment.pieces {
            let output = outputs[piece.output]
            let start = Int(piece.range.lowerBound - output.range.lowerBound)
            let to = begun.memory.add(
                UnsafeMutableRawBufferPointer(rebasing: output.target[start..<start + piece.range.count]))
            try begun.content.add(output.part, piece.range, number: piece.output, to: to) { owner in
                do {
                    return try lists.ids(of: owner.blob)
                } catch let error as CairnError where error.code == .damage {
                    note(owner, error)
                    return nil
                }
            }
        }
        try begun.content.begin(slot.reader, errands)
        return begun
    }

    private func note(_ chunk: SegmentPlan.Chunk, _ error: CairnError?) {
        for owner in chunk.owners { note(owner, error ?? BlobTree.otherLength(owner.blob)) }
    }

    private func note(_ owner: SegmentPlan.Owner, _ error: CairnError) {
        var damage = FolderWriter.Damage(blob: owner.blob, error: error)
        if case .gather(let gather) = outputs[owner.part].part { damage.tensor = gather.name }
        damaged.change { $0.append(damage) }
    }
}
