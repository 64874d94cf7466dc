public import Platform

/// Sizes as people write them.
public enum ByteSize {
    private static let units: [(String, UInt64)] = [
        ("b", 1), ("kb", 1000), ("mb", 1_000_000), ("gb", 1_000_000_000), ("tb", 1_000_000_000_000),
        ("pb", 1_000_000_000_000_000), ("kib", 1 << 10), ("mib", 1 << 20), ("gib", 1 << 30), ("tib", 1 << 40),
        ("pib", 1 << 50),
    ]

    /// Bytes of `500GB` (decimal), `500GiB` (binary) or `500` (bytes). Whole numbers; the case of the unit is
    /// free.
    ///
    /// - Throws: a usage error where it is no size or beyond 2^63 bytes.
    public static func parse(_ text: String) throws(CairnError) -> UInt64 {
        let (number, unit) = text.numberAndUnit
        let factor = unit.isEmpty ? 1 : units.first { sameBytes($0.0, unit.lowercased()) }?.1
        guard let number, let factor else {
            throw CairnError(
                .usage,
                "\(quoted(text)) is not a size: write a whole number and a unit, such as 500GB or 500GiB")
        }
        let (bytes, overflow) = number.multipliedReportingOverflow(by: factor)
        guard !overflow, bytes <= UInt64(Int64.max) else {
            throw CairnError(.usage, "\(quoted(text)) is more than any disk holds: give at most 8000PB")
        }
        return bytes
    }
}

/// Durations as people write them.
public enum DurationText {
    /// The longest first, so that `text` finds the one that divides.
    private static let units: [(String, Int64)] = [
        ("w", 604_800), ("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1),
    ]
    private static let nanosecondsPerSecond: Int64 = 1_000_000_000

    /// Nanoseconds of `45s`, `90m`, `36h`, `7d` or `2w`.
    ///
    /// - Throws: a usage error where it is no duration or beyond 292 years.
    public static func parse(_ text: String) throws(CairnError) -> Int64 {
        let (number, unit) = text.numberAndUnit
        guard let number, let seconds = units.first(where: { sameBytes($0.0, unit) })?.1 else {
            throw CairnError(
                .usage,
                "\(quoted(text)) is not a duration: write a whole number and s, m, h, d or w, such as 36h")
        }
        let (nanoseconds, overflow) = number.multipliedReportingOverflow(
            by: UInt64(seconds * nanosecondsPerSecond))
        guard !overflow, let result = Int64(exactly: nanoseconds) else {
            throw CairnError(.usage, "\(quoted(text)) is too long: give at most 292 years")
        }
        return result
    }

    /// In the longest unit that divides it: `36h`, but `2w` for 14 days. Reading it gives the same again,
    /// less the part below a second.
    public static func text(_ nanoseconds: Int64) -> String {
        let seconds = nanoseconds / nanosecondsPerSecond
        if seconds == 0 { return "0s" }
        let unit = units.first { seconds % $0.1 == 0 }!
        return "\(seconds / unit.1)\(unit.0)"
    }
}

extension String {
    /// Decimal digits and what follows them; no number where there are no digits or beyond 64 bits.
    fileprivate var numberAndUnit: (number: UInt64?, unit: String) {
        let digits = utf8.prefix(while: StoreName.isDigit)
        return (UInt64(String(Substring(digits))), String(Substring(utf8.dropFirst(digits.count))))
    }
}
