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

    /// What one thread puts together in one go: a stretch of an output in its place, or several small outputs.
    private struct Segment {
        var outputs: Range<Int>
        /// Of the only output; nil: all of several.
        var range: Range<UInt64>?
        var size: Int
    }

    private static let segmentSize = 4 << 20
    /// Outputs below this are put together several at a time.
    private static let smallSize = 64 << 10

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
        segments = Self.cut(outputs)
    }

    private static func cut(_ outputs: [Output]) -> [Segment] {
        var segments: [Segment] = []
        var small: Segment?
        func flush() {
            if let small { segments.append(small) }
            small = nil
        }
        for (index, output) in outputs.enumerated() where !output.range.isEmpty {
            let size = output.target.count
            guard size >= smallSize else {
                if small == nil || small!.size + size > segmentSize || small!.outputs.upperBound != index {
                    flush()
                    small = Segment(outputs: index..<index, size: 0)
                }
                small!.outputs = small!.outputs.lowerBound..<index + 1
                small!.size += size
                continue
            }
            flush()
            for start in stride(from: 0, to: size, by: segmentSize) {
                let end = min(start + segmentSize, size)
                let range = output.range.lowerBound + UInt64(start)..<output.range.lowerBound + UInt64(end)
                segments.append(Segment(outputs: index..<index + 1, range: range, size: end - start))
            }
        }
        flush()
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
                return (segments[index], try begin(segments[index], slot))
            },
            finish: { [self] (begun: (segment: Segment, content: SegmentContent), slot: Slot) in
                try finish(begun.segment, begun.content, slot)
                progress.advance(bytes: UInt64(begun.segment.size))
            })
        let (jobs, slots) = settings.jobs(eachSlot: Self.segmentSize + reader)
        try turns.run(segments.count, jobs: jobs, slots: slots, errands)
        return damaged.change { $0 }
    }

    private static func spareChunks(_ chunks: ChunkStore) -> Int {
        min(16, max(2, segmentSize / chunks.chunkSize))
    }

    /// What one segment needs.
    private final class Slot {
        let reader: ChunkReader
        /// For several small outputs.
        private(set) lazy var scratch = Result { try Buffer(size: segmentSize) }

        init(_ chunks: ChunkStore) throws {
            reader = try ChunkReader(chunks, spareChunks: spareChunks(chunks))
        }
    }

    private func begin(_ segment: Segment, _ slot: Slot) throws -> SegmentContent {
        var content = SegmentContent(tree)
        var to = 0
        for index in segment.outputs where !outputs[index].range.isEmpty {
            let range = segment.range ?? outputs[index].range
            try content.add(outputs[index].part, range, number: index, to: to) { owner in
                do {
                    return try lists.ids(of: owner.blob)
                } catch let error as CairnError where error.code == .damage {
                    note(owner, error)
                    return nil
                }
            }
            to += range.count
        }
        try content.begin(slot.reader, errands)
        return content
    }

    private func finish(_ segment: Segment, _ content: SegmentContent, _ slot: Slot) throws {
        let noteChunk = { (chunk: SegmentPlan.Chunk, error: CairnError?) in
            for owner in chunk.owners { self.note(owner, error ?? BlobTree.otherLength(owner.blob)) }
        }
        if let range = segment.range {
            let output = outputs[segment.outputs.lowerBound]
            let start = Int(range.lowerBound - output.range.lowerBound)
            let target = UnsafeMutableRawBufferPointer(rebasing: output.target[start..<start + range.count])
            return try content.fill(target, with: slot.reader, damaged: noteChunk)
        }
        let scratch = try slot.scratch.get().bytes
        try content.fill(scratch, with: slot.reader, damaged: noteChunk)
        var from = 0
        for index in segment.outputs where !outputs[index].range.isEmpty {
            let target = outputs[index].target
            target.copyMemory(
                from: UnsafeRawBufferPointer(rebasing: scratch[from..<from + target.count]))
            from += target.count
        }
    }

    private func note(_ owner: SegmentPlan.Owner, _ error: CairnError) {
        var damage = FolderWriter.Damage(blob: owner.blob, error: error)
        if case .gather(let gather) = outputs[owner.part].part { damage.tensor = gather.name }
        damaged.change { $0.append(damage) }
    }
}
