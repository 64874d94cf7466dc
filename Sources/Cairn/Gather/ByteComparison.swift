internal import ChunkStore
internal import Platform

/// Whether stored bytes are equal: told by their chunks where these lie alike, else by reading them.
struct ByteComparison {
    /// Bytes of both that are looked at in one go.
    private static let window: UInt64 = 4 << 20
    /// Bytes of memory for lists of chunks.
    private static let listLimit = 32 << 20

    private let chunks: ChunkStore
    private let lists: ChunkLists

    init(_ chunks: ChunkStore) {
        self.chunks = chunks
        lists = ChunkLists(chunks, limit: Self.listLimit)
    }

    /// - Throws: `.damage` where bytes that have to be read can't be.
    func areEqual(_ a: Gather, _ b: Gather) throws -> Bool {
        guard a.length == b.length else { return false }
        var start: UInt64 = 0
        while start < a.length {
            let end = min(start + Self.window, a.length)
            let (some, others) = (try stretches(a, start..<end), try stretches(b, start..<end))
            if some != others, try !haveSameBytes(some, others) { return false }
            start = end
        }
        return true
    }

    /// Bytes of a chunk.
    private struct Stretch: Equatable {
        var id: ChunkID
        var from: Int
        var count: Int
    }

    private func stretches(_ gather: Gather, _ range: Range<UInt64>) throws -> [Stretch] {
        let size = UInt64(chunks.chunkSize)
        var stretches: [Stretch] = []
        try gather.forEachRun(in: range) { source, offset, count in
            let ids = try lists.ids(of: gather.sources[source].blob)
            var (offset, left) = (offset, count)
            while left > 0 {
                let step = min(left, size - offset % size)
                stretches.append(
                    Stretch(id: ids[Int(offset / size)], from: Int(offset % size), count: Int(step)))
                offset += step
                left -= step
            }
        }
        return stretches
    }

    private func haveSameBytes(_ a: [Stretch], _ b: [Stretch]) throws -> Bool {
        var (a, b) = (Reading(chunks, a), Reading(chunks, b))
        while let count = a.left, let other = b.left {
            let step = min(count, other)
            if !a.isAt(b), try a.next(step) != b.next(step) { return false }
            a.pass(step)
            b.pass(step)
        }
        return true
    }

    /// Goes through stretches, with the last chunk that was read.
    private struct Reading {
        private let chunks: ChunkStore
        private let stretches: [Stretch]
        private var index = 0
        private var passed = 0
        private var last: (id: ChunkID, bytes: [UInt8])?

        init(_ chunks: ChunkStore, _ stretches: [Stretch]) {
            self.chunks = chunks
            self.stretches = stretches
        }

        /// Bytes of the stretch that it is in; nil at the end.
        var left: Int? { index < stretches.count ? stretches[index].count - passed : nil }

        /// Whether both stand at the same byte of the same chunk.
        func isAt(_ other: Reading) -> Bool {
            stretches[index].id == other.stretches[other.index].id
                && stretches[index].from + passed == other.stretches[other.index].from + other.passed
        }

        mutating func next(_ count: Int) throws -> ArraySlice<UInt8> {
            let stretch = stretches[index]
            if last?.id != stretch.id { last = (stretch.id, try chunks.chunk(stretch.id)) }
            let from = stretch.from + passed
            guard last!.bytes.count >= from + count else {
                throw CairnError(
                    .damage, "the chunk \(stretch.id.hex.prefix(16)) is shorter than the blob that it is in")
            }
            return last!.bytes[from..<from + count]
        }

        mutating func pass(_ count: Int) {
            passed += count
            if passed == stretches[index].count { (index, passed) = (index + 1, 0) }
        }
    }
}
