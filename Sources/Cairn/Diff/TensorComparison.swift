internal import ChunkStore
internal import Platform
internal import Synchronization
internal import TensorFormats

/// Compares tensors of two iterations, element by element where their bytes are not known to be the same. Several threads do it, each a
/// stretch of a tensor at a time.
final class TensorComparison: Sendable {
    /// A tensor that both sides have, of one dtype and shape.
    struct Pair: Sendable {
        var before: Gather
        var after: Gather
        var dtype: DType?
        /// Bytes of an element; 1 where elements are smaller, or come in blocks.
        var width: Int
    }

    private struct Stretch {
        var pair: Int
        var range: Range<UInt64>
    }

    /// Bytes that one thread compares before it looks for more.
    private static let stretch: UInt64 = 64 << 20
    /// Bytes of memory that a thread takes.
    private static let threadMemory = 32 << 20

    private let pairs: [Pair]
    private let tasks: [Stretch]
    private let comparison: ByteComparison
    private let next = Atomic<Int>(0)
    private let found: Monitor<[ElementDifference]>

    init(_ chunks: ChunkStore, _ pairs: [Pair], settings: Settings) {
        self.pairs = pairs
        tasks = pairs.indices.flatMap { index in
            let length = pairs[index].after.length
            let step = Self.stretch / UInt64(pairs[index].width) * UInt64(pairs[index].width)
            return stride(from: 0, to: length, by: UInt64.Stride(step)).map { start in
                Stretch(pair: index, range: start..<min(start + step, length))
            }
        }
        comparison = ByteComparison(chunks, memory: settings.memory / 4)
        found = Monitor([ElementDifference](repeating: ElementDifference(), count: pairs.count))
    }

    /// How each pair differs.
    /// - Throws: `.damage` where bytes that have to be read can't be.
    func run(_ settings: Settings, _ progress: Progress) throws -> [ElementDifference] {
        let jobs = min(settings.jobs(each: Self.threadMemory), max(tasks.count, 1))
        try WorkerPool.shared.run(jobs) { [self] _ in
            while true {
                let index = next.wrappingAdd(1, ordering: .relaxed).oldValue
                guard index < tasks.count else { return }
                try compare(tasks[index], progress)
            }
        }
        return found.change { $0 }
    }

    private func compare(_ task: Stretch, _ progress: Progress) throws {
        try progress.checkInterruption()
        let pair = pairs[task.pair]
        var difference = ElementDifference()
        try comparison.forEachDifference(pair.before, pair.after, in: task.range, width: pair.width) {
            difference.add($0, $1, dtype: pair.dtype, width: pair.width)
            return true
        }
        found.change { $0[task.pair].add(difference) }
        progress.advance(bytes: task.range.upperBound - task.range.lowerBound)
    }
}
