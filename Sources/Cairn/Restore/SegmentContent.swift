internal import ChunkStore
internal import Platform

/// What a segment is put together from: chunks, which a reader brings meanwhile, and bytes that are at hand.
struct SegmentContent {
    private var plan: SegmentPlan
    private var literals: [(to: Int, bytes: ArraySlice<UInt8>)] = []
    private var computed: [(to: Range<Int>, from: UInt64, bytes: any ComputedBytes)] = []

    init(_ tree: BlobTree) { plan = SegmentPlan(tree) }

    /// Adds a range of a part.
    /// - Parameters:
    ///   - number: of the part, for whoever is told of damage.
    ///   - to: where in the segment it goes.
    ///   - ids: gives the chunks of a blob; nil where they can't be had, and its bytes are left as they are.
    mutating func add(
        _ part: OutputFile.Part, _ range: Range<UInt64>, number: Int, to: Int,
        ids: (SegmentPlan.Owner) throws -> [ChunkID]?
    ) throws {
        switch part {
        case .literal(let bytes):
            literals.append((to, bytes[Int(range.lowerBound)..<Int(range.upperBound)]))
        case .blob(let blob): try add(blob, range, number, to, ids)
        case .gather(let gather): try add(gather, range, number, to, ids)
        case .computed(let bytes): computed.append((to..<to + range.count, range.lowerBound, bytes))
        case .checksum: literals.append((to, [UInt8](repeating: 0, count: range.count)[...]))
        }
    }

    /// The chunks that a range of a blob needs.
    private mutating func add(
        _ blob: BlobRef, _ range: Range<UInt64>, _ number: Int, _ to: Int,
        _ ids: (SegmentPlan.Owner) throws -> [ChunkID]?
    ) throws {
        let owner = SegmentPlan.Owner(part: number, blob: blob)
        guard let ids = try ids(owner) else { return }
        var recent = SegmentPlan.Recent()
        plan.add(
            owner, offset: range.lowerBound, count: range.upperBound - range.lowerBound, to: to, ids: ids,
            &recent)
    }

    /// The chunks that a range of a tensor needs which is put together.
    private mutating func add(
        _ gather: Gather, _ range: Range<UInt64>, _ number: Int, _ to: Int,
        _ ids: (SegmentPlan.Owner) throws -> [ChunkID]?
    ) throws {
        var to = to
        // Of each source what was looked up for it: its runs come by turns.
        var known: [Int: (ids: [ChunkID]?, recent: SegmentPlan.Recent)] = [:]
        try gather.forEachRun(in: range) { source, offset, count in
            defer { to += Int(count) }
            let owner = SegmentPlan.Owner(part: number, blob: gather.sources[source].blob)
            if known[source] == nil { known[source] = (try ids(owner), SegmentPlan.Recent()) }
            guard let ids = known[source]!.ids else { return }
            plan.add(owner, offset: offset, count: count, to: to, ids: ids, &known[source]!.recent)
        }
    }

    /// Begins to read what it needs.
    func begin(_ reader: ChunkReader, _ errands: Errands) throws {
        try reader.begin(plan.chunks.map(\.id), errands)
    }

    /// Puts the bytes together.
    /// - Parameters:
    ///   - reader: that of `begin`.
    ///   - damaged: told of each chunk that can't be had; without an error where it has another length than it should.
    func fill(
        _ target: SegmentMemory, with reader: ChunkReader,
        damaged: (SegmentPlan.Chunk, CairnError?) throws -> Void
    ) throws {
        for (to, bytes) in literals { target[to..<to + bytes.count].copyBytes(from: bytes) }
        for (to, from, bytes) in computed { try bytes.fill(target[to], from: from) }
        let needed = plan.chunks
        try reader.finish(
            room: { index in needed[index].room.map { target[$0] } },
            deliver: { index, bytes in
                let chunk = needed[index]
                guard bytes.count == chunk.length else { return try damaged(chunk, nil) }
                // Where it had a room, the first copy is there.
                let room = chunk.room.flatMap { UnsafeRawPointer(target[$0].baseAddress) }
                for copy in chunk.copies.dropFirst(bytes.baseAddress == room ? 1 : 0) { copy(bytes, target) }
            }, failed: { index, error in try damaged(needed[index], error) })
    }
}
