internal import ChunkStore
internal import Platform

/// Whether stored bytes are equal, and where not: told by their chunks where these lie alike, else by reading them.
final class ByteComparison: Sendable {
    /// Bytes of both that are looked at in one go, at most.
    private static let window: UInt64 = 1 << 20

    private let chunks: ChunkStore
    private let lists: ChunkLists
    private let recent: RecentChunks

    /// - Parameter memory: bytes for what may be asked for again, for all threads together; each takes up to 32 MiB besides.
    init(_ chunks: ChunkStore, memory: Int) {
        self.chunks = chunks
        lists = ChunkLists(chunks, limit: memory / 4)
        recent = RecentChunks(chunks, limit: memory / 4 * 3)
    }

    /// - Throws: `.damage` where bytes that have to be read can't be.
    func areEqual(_ a: Gather, _ b: Gather) throws -> Bool {
        guard a.length == b.length else { return false }
        var areEqual = true
        try forEachDifference(a, b, in: 0..<a.length) { _, _ in
            areEqual = false
            return false
        }
        return areEqual
    }

    /// Gives the stretches of a range in which bytes differ, of both sides equally long, until `body` returns false.
    /// - Parameter width: bytes of an element, none of which is cut in two where the range begins with one.
    /// - Precondition: both reach to the range's end.
    func forEachDifference(
        _ a: Gather, _ b: Gather, in range: Range<UInt64>, width: Int = 1,
        _ body: (_ a: [UInt8], _ b: [UInt8]) throws -> Bool
    ) throws {
        let window = min(UInt64(chunks.chunkSize), Self.window)
        // Where both begin with a chunk, each window is one.
        let step = max(window - window % UInt64(width), UInt64(width))
        var start = range.lowerBound
        while start < range.upperBound {
            let end = min(start + step, range.upperBound)
            defer { start = end }
            let (some, others) = (runs(a, start..<end), runs(b, start..<end))
            guard some != others else { continue }
            let (left, right) = (try stretches(some), try stretches(others))
            guard left != right else { continue }
            let (bytes, otherBytes) = (try read(left), try read(right))
            guard try bytes == otherBytes || body(bytes, otherBytes) else { return }
        }
    }

    /// Bytes of a blob.
    private struct Run: Equatable {
        var blob: BlobRef
        var offset: UInt64
        var count: UInt64
    }

    /// Bytes of a chunk.
    private struct Stretch: Equatable {
        var id: ChunkID
        var from: Int
        var count: Int
    }

    private func runs(_ gather: Gather, _ range: Range<UInt64>) -> [Run] {
        var runs: [Run] = []
        gather.forEachRun(in: range) { source, offset, count in
            runs.append(Run(blob: gather.sources[source].blob, offset: offset, count: count))
        }
        return runs
    }

    private func stretches(_ runs: [Run]) throws -> [Stretch] {
        let size = UInt64(chunks.chunkSize)
        var stretches: [Stretch] = []
        var (blob, ids) = (BlobRef.empty, [ChunkID]())
        for run in runs {
            if run.blob != blob { (blob, ids) = (run.blob, try lists.ids(of: run.blob)) }
            var (offset, left) = (run.offset, run.count)
            while left > 0 {
                let step = min(left, size - offset % size)
                let next = Stretch(id: ids[Int(offset / size)], from: Int(offset % size), count: Int(step))
                if let last = stretches.last, last.id == next.id, last.from + last.count == next.from {
                    stretches[stretches.count - 1].count += next.count
                } else {
                    stretches.append(next)
                }
                offset += step
                left -= step
            }
        }
        return stretches
    }

    private func read(_ stretches: [Stretch]) throws -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(stretches.reduce(0) { $0 + $1.count })
        var last: (id: ChunkID, bytes: [UInt8])?
        for stretch in stretches {
            if last?.id != stretch.id { last = (stretch.id, try recent.chunk(stretch.id)) }
            let chunk = last!.bytes
            guard chunk.count >= stretch.from + stretch.count else {
                throw CairnError(
                    .damage, "the chunk \(stretch.id.hex.prefix(16)) is shorter than the blob that it is in")
            }
            bytes += chunk[stretch.from..<stretch.from + stretch.count]
        }
        return bytes
    }
}
