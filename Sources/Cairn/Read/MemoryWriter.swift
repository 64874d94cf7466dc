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

    private struct State {
        var next = 0
        var failed = false
        var damaged: [FolderWriter.Damage] = []
    }

    private let chunks: ChunkStore
    private let outputs: [Output]
    private let segments: [Segment]
    private let tree: BlobTree
    private let lists: ChunkLists
    private let settings: Settings
    private let state = Monitor(State())
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
        guard !segments.isEmpty else { return [] }
        let reader = ChunkReader.memory(chunks, spareChunks: Self.spareChunks(chunks))
        let (most, slots) = settings.jobs(eachSlot: Self.segmentSize + reader)
        let jobs = min(most, segments.count)
        try WorkerPool.shared.run(
            jobs: jobs,
            { [self] _ in
                do {
                    try readAll(slots, progress)
                } catch {
                    state.change { $0.failed = true }
                    throw error
                }
            }, helpers: jobs, help: { [self] _ in errands.serve() }, release: { [self] in errands.close() })
        return state.change { $0.damaged }
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

    /// Puts segments together: while one is decoded, the disk brings the chunks of the next.
    private func readAll(_ slotCount: Int, _ progress: Progress) throws {
        var slots: [Slot] = []
        var before: (segment: Segment, content: SegmentContent, slot: Slot)?
        func finishBefore() throws {
            guard let (segment, content, slot) = before else { return }
            before = nil
            try finish(segment, content, slot)
            progress.advance(bytes: UInt64(segment.size))
        }
        while let segment = next() {
            try progress.checkInterruption("what was to be read may hold anything")
            if slotCount == 1 { try finishBefore() }
            if slots.count < slotCount { slots.append(try Slot(chunks)) }
            slots.reverse()
            let content = try begin(segment, slots[0])
            try finishBefore()
            before = (segment, content, slots[0])
        }
        try finishBefore()
    }

    private func next() -> Segment? {
        state.change { state in
            guard !state.failed, state.next < segments.count else { return nil }
            state.next += 1
            return segments[state.next - 1]
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
        let damaged = { (chunk: SegmentPlan.Chunk, error: CairnError?) in
            for owner in chunk.owners { self.note(owner, error ?? BlobTree.otherLength(owner.blob)) }
        }
        if let range = segment.range {
            let output = outputs[segment.outputs.lowerBound]
            let start = Int(range.lowerBound - output.range.lowerBound)
            let target = UnsafeMutableRawBufferPointer(rebasing: output.target[start..<start + range.count])
            return try content.fill(target, with: slot.reader, damaged: damaged)
        }
        let scratch = try slot.scratch.get().bytes
        try content.fill(scratch, with: slot.reader, damaged: damaged)
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
        state.change { $0.damaged.append(damage) }
    }
}
