internal import ChunkStore
internal import Platform

/// The chunks that a segment of a file needs, each once, and which of their bytes go where.
struct SegmentPlan {
    /// Stretches of a chunk, at equal distances in the chunk and in the segment.
    struct Copy {
        var from: Int
        var to: Int
        /// Bytes of each.
        var count: Int
        var times = 1
        /// From one to the next.
        var fromStep = 0
        var toStep = 0
    }

    /// What a damaged chunk takes with it.
    struct Owner: Hashable {
        /// Of the file's parts.
        var part: Int
        var blob: BlobRef
    }

    struct Chunk {
        var id: ChunkID
        /// Bytes that it has.
        var length: Int
        var copies: [Copy] = []
        var owners: [Owner] = []
    }

    private struct Key: Hashable {
        var id: ChunkID
        var length: Int
    }

    private(set) var chunks: [Chunk] = []
    private var places: [Key: Int] = [:]
    private let tree: BlobTree

    init(_ tree: BlobTree) { self.tree = tree }

    /// The chunk of a blob that was asked for last, which is mostly the one that is asked for next.
    struct Recent {
        var index = -1
        var place = -1
    }

    /// Adds a run of a blob.
    /// - Parameters:
    ///   - offset: bytes of the blob before it.
    ///   - to: where in the segment it goes.
    ///   - ids: of the blob's chunks.
    mutating func add(
        _ owner: Owner, offset: UInt64, count: UInt64, to: Int, ids: [ChunkID], _ recent: inout Recent
    ) {
        let size = UInt64(tree.chunkSize)
        var (offset, left, to) = (offset, Int(count), to)
        while left > 0 {
            let index = Int(offset / size)
            let from = Int(offset % size)
            let step = min(left, tree.chunkSize - from)
            if index != recent.index { recent = Recent(index: index, place: place(owner, index, ids)) }
            chunks[recent.place].add(from: from, to: to, count: step)
            offset += UInt64(step)
            to += step
            left -= step
        }
    }

    /// The place in `chunks` of one of a blob's.
    private mutating func place(_ owner: Owner, _ index: Int, _ ids: [ChunkID]) -> Int {
        let key = Key(id: ids[index], length: tree.chunkLength(index, of: owner.blob.length))
        let place = places[key] ?? chunks.count
        if place == chunks.count {
            places[key] = place
            chunks.append(Chunk(id: key.id, length: key.length))
        }
        if chunks[place].owners.last != owner { chunks[place].owners.append(owner) }
        return place
    }
}

extension SegmentPlan.Chunk {
    fileprivate mutating func add(from: Int, to: Int, count: Int) {
        if !copies.isEmpty, copies[copies.count - 1].extend(from: from, to: to, count: count) { return }
        copies.append(.init(from: from, to: to, count: count))
    }

    /// Where in the segment all of it goes, as it is.
    var room: Range<Int>? {
        guard let first = copies.first, first.times == 1, first.from == 0, first.count == length else {
            return nil
        }
        return first.to..<first.to + length
    }
}

extension SegmentPlan.Copy {
    /// Takes in a stretch that goes on where this ends, or that is as far from the last one as that from the one before.
    fileprivate mutating func extend(from: Int, to: Int, count: Int) -> Bool {
        if times == 1, from == self.from + self.count, to == self.to + self.count {
            self.count += count
            return true
        }
        guard count == self.count else { return false }
        if times == 1 {
            (fromStep, toStep) = (from - self.from, to - self.to)
        } else if from != self.from + times * fromStep || to != self.to + times * toStep {
            return false
        }
        times += 1
        return true
    }

    /// Copies them.
    func callAsFunction(_ chunk: UnsafeRawBufferPointer, _ segment: SegmentMemory) {
        var (from, to) = (from, to)
        for _ in 0..<times {
            segment[to..<to + count].copyMemory(
                from: UnsafeRawBufferPointer(rebasing: chunk[from..<from + count]))
            from += fromStep
            to += toStep
        }
    }
}
