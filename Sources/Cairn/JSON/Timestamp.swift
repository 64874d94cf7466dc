/// A moment in UTC, from nanoseconds since 1970.
package struct Timestamp {
    private let year: Int64
    private let month: Int64
    private let day: Int64
    private let second: Int64
    private let nanosecond: Int64

    package init(_ nanoseconds: Int64) {
        let seconds: Int64
        (seconds, nanosecond) = Self.floorDivide(nanoseconds, 1_000_000_000)
        let days: Int64
        (days, second) = Self.floorDivide(seconds, 86_400)
        // Days to a date in the Gregorian calendar, with years that begin in March (Hinnant,
        // "chrono-Compatible Low-Level Date Algorithms").
        let shifted = days + 719_468
        let (era, dayOfEra) = Self.floorDivide(shifted, 146_097)
        let yearOfEra = (dayOfEra - dayOfEra / 1460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
        let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
        let monthFromMarch = (5 * dayOfYear + 2) / 153
        day = dayOfYear - (153 * monthFromMarch + 2) / 5 + 1
        month = monthFromMarch < 10 ? monthFromMarch + 3 : monthFromMarch - 9
        year = yearOfEra + era * 400 + (month <= 2 ? 1 : 0)
    }

    /// `2025-11-21T03:05:12.123456Z`: ISO 8601 to the microsecond, which every language reads.
    package var iso8601: String { "\(date)T\(time).\(Self.padded(nanosecond / 1000, 6))Z" }

    /// `2025-11-21 03:05:12 UTC`
    package var text: String { "\(date) \(time) UTC" }

    private var date: String { "\(Self.padded(year, 4))-\(Self.padded(month, 2))-\(Self.padded(day, 2))" }

    private var time: String {
        "\(Self.padded(second / 3600, 2)):\(Self.padded(second / 60 % 60, 2)):\(Self.padded(second % 60, 2))"
    }

    private static func padded(_ number: Int64, _ width: Int) -> String {
        let text = String(number)
        return String(repeating: "0", count: max(0, width - text.count)) + text
    }

    /// The remainder is never negative.
    private static func floorDivide(_ a: Int64, _ b: Int64) -> (quotient: Int64, remainder: Int64) {
        let (quotient, remainder) = a.quotientAndRemainder(dividingBy: b)
        return remainder < 0 ? (quotient - 1, remainder + b) : (quotient, remainder)
    }
}
