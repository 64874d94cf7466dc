public import Platform

/// The rules of step numbers.
public enum Step {
    /// 2^53 - 1. Beyond it a JSON reader that keeps numbers as doubles, which most do, would give another
    /// step back; at a thousand steps a second it lasts 285,000 years.
    public static let maximum: UInt64 = (1 << 53) - 1

    /// A step in decimal digits; leading zeros as in `iteration_00000500` are welcome.
    ///
    /// - Throws: a usage error where it is no number, negative, or beyond `maximum`.
    public static func parse(_ text: some StringProtocol) throws(CairnError) -> UInt64 {
        guard let step = decimal(text.utf8) else {
            throw CairnError(
                .usage, "\(quoted(String(text))) is not a step: give a whole number from 0 to \(maximum)")
        }
        return step
    }

    /// Decimal digits and nothing else, at most `maximum`; or nil.
    static func decimal(_ digits: some Sequence<UInt8>) -> UInt64? {
        var value: UInt64 = 0
        var isEmpty = true
        for digit in digits {
            guard StoreName.isDigit(digit) else { return nil }
            isEmpty = false
            value = value * 10 + UInt64(digit - UInt8(ascii: "0"))
            if value > maximum { return nil }
        }
        return isEmpty ? nil : value
    }
}
