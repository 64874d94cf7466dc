internal import ChunkStore
internal import Platform

/// The bytes of a tensor whose last two axes change places while it is written.
struct TransposedTensor: ComputedBytes {
    /// Bytes of chunks that are kept for the next row.
    private static let memory = 16 << 20

    let length: UInt64
    private let stored: Gather
    /// Of the matrices that are stored.
    private let rows: UInt64
    private let columns: UInt64
    /// Bytes of an element.
    private let size: UInt64
    private let chunks: ChunkStore
    private let lists: ChunkLists

    /// - Precondition: it is transposed.
    init(_ tensor: GatheredTensor, _ sources: [Gather.Source], _ chunks: ChunkStore) {
        precondition(tensor.isTransposed)
        stored = tensor.gather(sources)
        length = stored.length
        rows = tensor.shape[tensor.shape.count - 1]
        columns = tensor.shape[tensor.shape.count - 2]
        size = tensor.bits / 8
        self.chunks = chunks
        lists = ChunkLists(chunks, limit: Self.memory / 16)
    }

    func fill(_ target: UnsafeMutableRawBufferPointer, from offset: UInt64) throws {
        // A row of what is written is a column of what is stored.
        let (width, end) = (rows * size, offset + UInt64(target.count))
        var row = offset / width
        var cache = ChunkCache(chunks, lists, limit: Self.memory)
        while row * width < end {
            let first = row % columns
            let count = min(columns - first, (end - row * width + width - 1) / width)
            let block = try read(matrix: row / columns, first..<first + count, &cache)
            let written = transposed(block, count: Int(count))
            let (lower, upper) = (max(offset, row * width), min(end, (row + count) * width))
            UnsafeMutableRawBufferPointer(rebasing: target[Int(lower - offset)..<Int(upper - offset)])
                .copyBytes(from: written[Int(lower - row * width)..<Int(upper - row * width)])
            row += count
        }
    }

    /// These columns of a stored matrix, row by row.
    private func read(
        matrix: UInt64, _ wanted: Range<UInt64>, _ cache: inout ChunkCache
    ) throws -> [UInt8] {
        let count = wanted.upperBound - wanted.lowerBound
        var bytes: [UInt8] = []
        bytes.reserveCapacity(Int(rows * count * size))
        func add(_ start: UInt64, _ count: UInt64) throws {
            try stored.forEachRun(in: start * size..<(start + count) * size) { source, offset, length in
                try cache.append(stored.sources[source].blob, offset..<offset + length, to: &bytes)
            }
        }
        do {
            let start = matrix * rows * columns
            if count == columns {
                try add(start, rows * columns)
            } else {
                for row in 0..<rows { try add(start + row * columns + wanted.lowerBound, count) }
            }
        } catch let error as CairnError where error.code == .damage {
            throw CairnError(
                .damage, "the tensor \(stored.name) can't be read: \(error.message)", path: error.path)
        }
        return bytes
    }

    private func transposed(_ block: [UInt8], count: Int) -> [UInt8] {
        [UInt8](unsafeUninitializedCapacity: block.count) { target, filled in
            let target = UnsafeMutableRawBufferPointer(target)
            block.withUnsafeBytes { block in
                switch size {
                case 1: Self.transpose(block.bindMemory(to: UInt8.self), target, Int(rows), count)
                case 2: Self.transpose(block.bindMemory(to: UInt16.self), target, Int(rows), count)
                case 4: Self.transpose(block.bindMemory(to: UInt32.self), target, Int(rows), count)
                case 8: Self.transpose(block.bindMemory(to: UInt64.self), target, Int(rows), count)
                default: Self.transpose(block, target, Int(rows), count, Int(size))
                }
            }
            filled = block.count
        }
    }

    /// By stretches of a row, so that what is written lies together.
    private static func transpose<Element>(
        _ block: UnsafeBufferPointer<Element>, _ target: UnsafeMutableRawBufferPointer, _ rows: Int,
        _ columns: Int
    ) {
        let target = target.bindMemory(to: Element.self)
        for start in stride(from: 0, to: columns, by: 32) {
            for row in 0..<rows {
                for column in start..<min(start + 32, columns) {
                    target[column * rows + row] = block[row * columns + column]
                }
            }
        }
    }

    private static func transpose(
        _ block: UnsafeRawBufferPointer, _ target: UnsafeMutableRawBufferPointer, _ rows: Int, _ columns: Int,
        _ size: Int
    ) {
        for row in 0..<rows {
            for column in 0..<columns {
                let (from, to) = ((row * columns + column) * size, (column * rows + row) * size)
                UnsafeMutableRawBufferPointer(rebasing: target[to..<to + size])
                    .copyMemory(from: UnsafeRawBufferPointer(rebasing: block[from..<from + size]))
            }
        }
    }
}

/// Reads stretches of blobs, with the last chunk of each blob at hand: neighbouring stretches come by turns.
private struct ChunkCache {
    private let chunks: ChunkStore
    private let lists: ChunkLists
    private let limit: Int
    private var known: [BlobRef: (index: UInt64, bytes: [UInt8])] = [:]
    private var held = 0

    init(_ chunks: ChunkStore, _ lists: ChunkLists, limit: Int) {
        (self.chunks, self.lists, self.limit) = (chunks, lists, limit)
    }

    mutating func append(_ blob: BlobRef, _ range: Range<UInt64>, to bytes: inout [UInt8]) throws {
        let size = UInt64(chunks.chunkSize)
        var start = range.lowerBound
        while start < range.upperBound {
            let index = start / size
            let end = min(range.upperBound, (index + 1) * size)
            if known[blob]?.index != index { try read(blob, index) }
            let (from, to) = (Int(start - index * size), Int(end - index * size))
            guard known[blob]!.bytes.count >= to else { throw BlobTree.otherLength(blob) }
            bytes += known[blob]!.bytes[from..<to]
            start = end
        }
    }

    private mutating func read(_ blob: BlobRef, _ index: UInt64) throws {
        if held > limit { (known, held) = ([:], 0) }
        let bytes = try chunks.chunk(try lists.ids(of: blob)[Int(index)])
        held += bytes.count - (known[blob]?.bytes.count ?? 0)
        known[blob] = (index, bytes)
    }
}
