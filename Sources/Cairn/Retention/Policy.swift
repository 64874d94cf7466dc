public import Platform

/// The retention rules of a run: what is kept is the union of what the rules keep. (design.md 4.6)
public struct Policy: Sendable, Equatable {
    /// `--keep-best N:METRIC[:min|max]`
    public struct Best: Sendable, Hashable {
        public var count: Int
        public var metric: String
        /// Where nil, the metric's name decides.
        public var direction: Direction?

        public init(count: Int, metric: String, direction: Direction? = nil) {
            self.count = count
            self.metric = metric
            self.direction = direction
        }

        /// The direction that holds.
        public var effectiveDirection: Direction { direction ?? .standard(for: metric) }

        public static func == (a: Best, b: Best) -> Bool {
            a.count == b.count && sameBytes(a.metric, b.metric) && a.direction == b.direction
        }
    }

    /// The N iterations with the greatest steps.
    public var keepLast: Int?
    /// The first iteration at or after each multiple of K, 0 included.
    public var keepEvery: UInt64?
    public var keepBest: [Best]
    /// Nanoseconds, counted back from the run's newest iteration; whole seconds.
    public var keepWithin: Int64?
    /// The iteration with the smallest step.
    public var keepFirst: Bool
    /// Steps that are pinned as `milestone-STEP` when they are saved; ascending.
    public var milestones: [UInt64]
    /// The most that the run's saves may have added to the store, in bytes.
    public var maxSize: UInt64?
    /// Of all but the N greatest steps that are kept, only the weights.
    public var keepOptimizerLast: Int?
    /// Every save applies the policy after its commit.
    public var auto: Bool

    public init(
        keepLast: Int? = nil, keepEvery: UInt64? = nil, keepBest: [Best] = [], keepWithin: Int64? = nil,
        keepFirst: Bool = false, milestones: [UInt64] = [], maxSize: UInt64? = nil,
        keepOptimizerLast: Int? = nil, auto: Bool = false
    ) {
        self.keepLast = keepLast
        self.keepEvery = keepEvery
        self.keepBest = keepBest
        self.keepWithin = keepWithin
        self.keepFirst = keepFirst
        self.milestones = Set(milestones).sorted()
        self.maxSize = maxSize
        self.keepOptimizerLast = keepOptimizerLast
        self.auto = auto
    }

    /// Whether it says nothing at all, which is how a policy is cleared.
    public var isEmpty: Bool { self == Policy() }

    /// - Throws: a usage error for a rule that could only be a mistake, such as keeping the last 0.
    public func check() throws(CairnError) {
        if let keepLast, keepLast < 1 { throw Self.tooSmall("--keep-last", keepLast) }
        if let keepEvery, keepEvery < 1 { throw Self.tooSmall("--keep-every", keepEvery) }
        if let keepWithin, keepWithin < 1 || keepWithin % 1_000_000_000 != 0 {
            throw CairnError(.usage, "--keep-within needs whole seconds, and at least one")
        }
        if let keepOptimizerLast, keepOptimizerLast < 1 {
            throw Self.tooSmall("--keep-optimizer-last", keepOptimizerLast)
        }
        if let maxSize, maxSize < 1 { throw Self.tooSmall("--max-size", maxSize) }
        if let step = milestones.last, step > Step.maximum {
            throw CairnError(.usage, "the milestone \(step) is not a step: steps end at \(Step.maximum)")
        }
        for best in keepBest {
            if best.count < 1 { throw Self.tooSmall("--keep-best", best.count) }
            if best.metric.isEmpty {
                throw CairnError(
                    .usage, "--keep-best needs the name of a metric: write N:METRIC, such as 3:eval_loss")
            }
        }
    }

    private static func tooSmall(_ flag: String, _ value: some BinaryInteger) -> CairnError {
        CairnError(.usage, "\(flag) \(value) keeps nothing: give at least 1, or leave it out")
    }
}

extension Policy.Best: CustomStringConvertible {
    /// Reads what `--keep-best` takes: `N:METRIC[:min|max]`.
    ///
    /// - Throws: a usage error that shows the form.
    public init(parsing text: String) throws(CairnError) {
        let bytes = text.utf8
        guard let colon = bytes.firstIndex(of: UInt8(ascii: ":")), let count = Step.decimal(bytes[..<colon]),
            case .best(let metric?, let direction) =
                (try? Reference("best:" + text[bytes.index(after: colon)...]))?.selector
        else {
            throw CairnError(
                .usage,
                "\(quoted(text)) is not N:METRIC or N:METRIC:min or N:METRIC:max: write it like 3:eval_loss")
        }
        self.init(count: Int(count), metric: metric, direction: direction)
    }

    public var description: String {
        "\(count):\(metric)" + (direction.map { ":\($0.rawValue)" } ?? "")
    }
}
