/// Names and tokens that nobody else has.
public enum Random {
    public static func bytes(_ count: Int) -> [UInt8] {
        var generator = SystemRandomNumberGenerator()
        return (0..<count).map { _ in UInt8.random(in: .min ... .max, using: &generator) }
    }

    /// `count` random bytes as hex digits.
    public static func hex(_ count: Int) -> String { bytes(count).hex }
}
