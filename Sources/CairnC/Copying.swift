internal import CCopy
internal import Cairn
internal import Platform
internal import Synchronization

/// Copies stretches of memory on several threads. They are taken as one stream, one behind the other, that is cut into pieces of a fixed
/// size: a large one is dealt out to many threads, and a thousand small ones are one piece.
struct Copying: @unchecked Sendable {
    // Unchecked: the pointers are the caller's, who keeps what they point to; no byte is in two pieces.
    private static let pieceBytes = 4 << 20

    private let targets: UnsafeBufferPointer<UnsafeMutableRawPointer?>
    private let sources: UnsafeBufferPointer<UnsafeRawPointer?>
    /// Where each stretch begins in the stream, and at last where the stream ends.
    private let starts: [Int]

    init(
        _ targets: UnsafeBufferPointer<UnsafeMutableRawPointer?>,
        _ sources: UnsafeBufferPointer<UnsafeRawPointer?>, _ bytes: UnsafeBufferPointer<Int>
    ) throws(CairnError) {
        var starts = [0]
        starts.reserveCapacity(bytes.count + 1)
        for (index, count) in bytes.enumerated() {
            if count != 0, targets[index] == nil || sources[index] == nil {
                throw CairnError(
                    .usage, "\(targets[index] == nil ? "targets" : "sources")[\(index)] is NULL")
            }
            let (end, overflow) = starts[index].addingReportingOverflow(count)
            guard count >= 0, !overflow else {
                throw CairnError(.usage, "bytes[\(index)] is more than any memory holds")
            }
            starts.append(end)
        }
        self.targets = targets
        self.sources = sources
        self.starts = starts
    }

    func run(jobs: Int) throws {
        let pieces = (starts.last! + Self.pieceBytes - 1) / Self.pieceBytes
        let jobs = min(jobs, pieces)
        guard jobs > 1 else { return copy(0..<starts.last!) }
        let next = Counter()
        try WorkerPool.shared.run(jobs) { _ in
            while let piece = next.take(below: pieces) {
                let start = piece * Self.pieceBytes
                copy(start..<min(start + Self.pieceBytes, starts.last!))
            }
        }
    }

    /// A part of the stream.
    private func copy(_ part: Range<Int>) {
        var index = stretch(at: part.lowerBound)
        var position = part.lowerBound
        while position < part.upperBound {
            let end = min(starts[index + 1], part.upperBound)
            if end > position {
                let offset = position - starts[index]
                cc_copy(targets[index]! + offset, sources[index]! + offset, end - position)
            }
            position = end
            index += 1
        }
    }

    /// The last stretch that begins at or before a position of the stream.
    private func stretch(at position: Int) -> Int {
        starts.indices.dropLast().partitioningIndex { starts[$0] > position } - 1
    }
}

/// Numbers from 0 on, each to one thread.
private final class Counter: Sendable {
    private let next = Atomic<Int>(0)

    func take(below end: Int) -> Int? {
        let number = next.wrappingAdd(1, ordering: .relaxed).oldValue
        return number < end ? number : nil
    }
}
