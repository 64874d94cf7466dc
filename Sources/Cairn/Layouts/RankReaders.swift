/// The ranks that read a file which not all of them read: `first`, `first + step` and so on.
struct RankReaders: Sendable, Hashable {
    var first: Int
    var step = 1
    var count = 1

    /// Whether one of them is among some ranks.
    func overlaps(_ ranks: ClosedRange<Int>) -> Bool {
        guard first >= 0, step > 0, ranks.upperBound >= first else { return false }
        // The first of them that is not below the range.
        let index = ranks.lowerBound <= first ? 0 : (ranks.lowerBound - first - 1) / step + 1
        let (offset, isBeyond) = index.multipliedReportingOverflow(by: step)
        return index < count && !isBeyond && offset <= ranks.upperBound - first
    }
}

extension Layout {
    /// As `rank(of:)` tells them.
    func readers(in view: CheckpointView) throws -> [String: RankReaders] {
        let ranks = view.files.compactMap { file in
            rank(of: file.path).map { (file.path, RankReaders(first: $0)) }
        }
        return Dictionary(ranks) { first, _ in first }
    }
}
