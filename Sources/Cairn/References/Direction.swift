/// Whether the smallest or the greatest value of a metric is the best.
public enum Direction: String, Sendable, Hashable, CaseIterable {
    case min
    case max

    /// Where nobody says it: `min` for names that end in `loss`, `max` for all others.
    public static func standard(for metric: String) -> Direction {
        [UInt8](metric.utf8).suffix(4).elementsEqual("loss".utf8) ? .min : .max
    }

    /// Whether `a` is better than `b`. Every number is better than NaN, and NaN is better than nothing.
    public func prefers(_ a: Double, to b: Double) -> Bool {
        if a.isNaN { return false }
        if b.isNaN { return true }
        return self == .min ? a < b : a > b
    }
}
