public import Platform

extension ChunkStore {
    /// Bytes that one bulk read takes at most, besides a chunk.
    public static let readSize = 4 << 20

    /// Bytes that the scratch buffer of a bulk read needs.
    public static let scratchSize = readSize + (4 << 20) + 3 * PackFormat.blockSize

    /// Reads chunks past the page cache, neighbours in one go, checks each and hands it on: in any order, the place in `ids` with it.
    /// - Parameter failed: told of each chunk that is damaged or missing; throws to stop.
    /// - Throws: `.newerVersion` for a chunk in a codec that is not known here, which is no damage.
    public func readChunks(
        _ ids: [ChunkID], scratch: Buffer, hasher: borrowing SHA256Hasher,
        deliver: (Int, UnsafeRawBufferPointer) throws -> Void, failed: (Int, CairnError) throws -> Void
    ) throws {
        let found = try locate(ids)
        var present: [Int] = []
        for index in ids.indices {
            if found[index] == nil { try failed(index, missing(ids[index])) } else { present.append(index) }
        }
        present.sort { a, b in
            let (left, right) = (found[a]!, found[b]!)
            if left.location.pack != right.location.pack { return left.location.pack < right.location.pack }
            return left.location.offset < right.location.offset
        }
        var start = 0
        while start < present.count {
            let first = found[present[start]]!
            var end = start + 1
            var upper = first.location.range.upperBound
            while end < present.count, let next = found[present[end]], next.pack == first.pack,
                next.location.offset <= upper + UInt64(PackFormat.blockSize),
                next.location.range.upperBound - first.location.offset <= UInt64(Self.readSize)
            {
                upper = max(upper, next.location.range.upperBound)
                end += 1
            }
            try readRun(
                present[start..<end], ids, found, first.pack, first.location.offset..<upper, scratch, hasher,
                deliver,
                failed)
            start = end
        }
    }

    private func readRun(
        _ run: ArraySlice<Int>, _ ids: [ChunkID], _ found: [(pack: PackName, location: ChunkLocation)?],
        _ pack: PackName, _ range: Range<UInt64>, _ scratch: Buffer, _ hasher: borrowing SHA256Hasher,
        _ deliver: (Int, UnsafeRawBufferPointer) throws -> Void, _ failed: (Int, CairnError) throws -> Void
    ) throws {
        let block = UInt64(PackFormat.blockSize)
        let start = range.lowerBound / block * block
        let length = Int((range.upperBound - start + block - 1) / block * block)
        var count = 0
        if length <= scratch.bytes.count, let file = try? packs.open(pack).direct {
            let target = UnsafeMutableRawBufferPointer(rebasing: scratch.bytes[..<length])
            count = (try? file.read(into: target, at: start)) ?? 0
        }
        for index in run {
            let location = found[index]!.location
            let from = Int(location.offset - start)
            let to = Int(location.range.upperBound - start)
            if to <= count {
                let record = UnsafeRawBufferPointer(rebasing: scratch.bytes[from..<to])
                if (try? check(record, ids[index], location, packs.path(pack), hasher)) != nil {
                    try deliver(
                        index, UnsafeRawBufferPointer(rebasing: record[PackFormat.recordHeaderSize...]))
                    continue
                }
            }
            try retry(index, ids[index], deliver, failed)
        }
    }

    /// One chunk by itself: it may have moved since, and a failure gets its sentence here.
    private func retry(
        _ index: Int, _ id: ChunkID, _ deliver: (Int, UnsafeRawBufferPointer) throws -> Void,
        _ failed: (Int, CairnError) throws -> Void
    ) throws {
        let bytes: [UInt8]
        do {
            bytes = try chunk(id)
        } catch let error as CairnError where error.code != .newerVersion {
            return try failed(index, error)
        }
        try bytes.withUnsafeBytes { try deliver(index, $0) }
    }
}
