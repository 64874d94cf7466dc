/// A stretch of a file in memory, so that small things which stand near each other take one read, and large things
/// between them none.
struct ReadWindow {
    /// Bytes of a fill.
    private static let (shortest, longest): (UInt64, UInt64) = (4096, 1 << 20)
    /// How far apart two fills may be for both to be of small things.
    private static let nearness: UInt64 = 16 << 10

    private(set) var range: Range<UInt64> = 0..<0
    private var bytes: [UInt8] = []
    /// Bytes of the last fill. The next has twice as many if it is near.
    private var length = shortest

    /// The bytes of a range; nil where they are not all here.
    func bytes(_ range: Range<UInt64>) -> [UInt8]? {
        guard range.lowerBound >= self.range.lowerBound, range.upperBound <= self.range.upperBound else {
            return nil
        }
        let start = Int(range.lowerBound - self.range.lowerBound)
        return Array(bytes[start..<start + Int(range.upperBound - range.lowerBound)])
    }

    /// Reads on from `start`, as far as `end` at most.
    mutating func fill(
        from start: UInt64, end: UInt64, _ read: (Range<UInt64>) throws -> [UInt8]
    ) throws {
        adapt(
            isNear: !bytes.isEmpty && start >= range.lowerBound && start <= range.upperBound + Self.nearness)
        try fill(start..<start + min(length, end - start), read)
    }

    /// Reads what stands before `end`.
    mutating func fill(before end: UInt64, _ read: (Range<UInt64>) throws -> [UInt8]) throws {
        adapt(isNear: !bytes.isEmpty && end <= range.upperBound && end + Self.nearness >= range.lowerBound)
        try fill(end - min(length, end)..<end, read)
    }

    private mutating func adapt(isNear: Bool) {
        length = isNear ? min(2 * length, Self.longest) : Self.shortest
    }

    private mutating func fill(
        _ range: Range<UInt64>, _ read: (Range<UInt64>) throws -> [UInt8]
    ) throws {
        bytes = try readExactly(range, read)
        self.range = range
    }
}
