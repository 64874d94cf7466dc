internal import Platform

/// The memory that a segment is put together in: one stretch, or several, by one count of their bytes. The count goes on with a gap from one
/// stretch to the next, so that nothing runs from the one into the other.
struct SegmentMemory {
    private var stretches: [(start: Int, bytes: UnsafeMutableRawBufferPointer)] = []

    init() {}

    init(_ bytes: UnsafeMutableRawBufferPointer) { stretches = [(0, bytes)] }

    /// Adds a stretch.
    /// - Returns: where it begins.
    mutating func add(_ bytes: UnsafeMutableRawBufferPointer) -> Int {
        let start = stretches.last.map { $0.start + $0.bytes.count + 1 } ?? 0
        stretches.append((start, bytes))
        return start
    }

    /// Bytes of a single stretch.
    subscript(range: Range<Int>) -> UnsafeMutableRawBufferPointer {
        let index = stretches.indices.partitioningIndex { stretches[$0].start > range.lowerBound } - 1
        let (start, bytes) = stretches[index]
        return UnsafeMutableRawBufferPointer(
            rebasing: bytes[range.lowerBound - start..<range.upperBound - start])
    }
}
