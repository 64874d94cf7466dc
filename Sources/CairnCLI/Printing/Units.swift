/// Numbers with units, for people.
enum Units {
    /// Bytes with at most four digits and a binary unit: `384.2 MiB`.
    static func size(_ bytes: UInt64) -> String {
        if bytes < 1024 { return "\(bytes) B" }
        var value = Double(bytes) / 1024
        var unit = 0
        let units = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"]
        // 1023.95 would round to 1024.0.
        while value >= 1023.95, unit < units.count - 1 {
            value /= 1024
            unit += 1
        }
        return "\(fixed(value, 1)) \(units[unit])"
    }

    /// Bytes in the largest unit that divides them, as people give sizes: `256 KiB`, `500 GB`.
    static func exactSize(_ bytes: UInt64) -> String {
        let units: [(String, UInt64)] = [
            ("TiB", 1 << 40), ("TB", 1_000_000_000_000), ("GiB", 1 << 30), ("GB", 1_000_000_000),
            ("MiB", 1 << 20),
            ("MB", 1_000_000), ("KiB", 1 << 10), ("kB", 1000),
        ]
        let unit = units.first { bytes > 0 && bytes.isMultiple(of: $0.1) } ?? ("B", 1)
        return "\(bytes / unit.1) \(unit.0)"
    }

    /// Bytes a second.
    static func rate(_ bytes: UInt64, seconds: Double) -> String? {
        guard seconds > 0, bytes > 0 else { return nil }
        let rate = Double(bytes) / seconds
        return rate < 1e18 ? size(UInt64(rate)) + "/s" : nil
    }

    /// `17.2 %`; of nothing, nothing.
    static func percent(_ part: UInt64, of whole: UInt64) -> String {
        whole == 0 ? "0 %" : fixed(100 * Double(part) / Double(whole), 1) + " %"
    }

    /// How long something took: `0.31 s`, `42.0 s`, `3 min 20 s`, `2 h 5 min`.
    static func duration(_ seconds: Double) -> String {
        guard seconds.isFinite, seconds >= 0, seconds < 1e15 else { return "?" }
        if seconds < 9.995 { return fixed(seconds, 2) + " s" }
        if seconds < 59.95 { return fixed(seconds, 1) + " s" }
        let whole = Int(seconds.rounded())
        if whole < 3600 { return "\(whole / 60) min \(whole % 60) s" }
        return "\(whole / 3600) h \(whole % 3600 / 60) min"
    }

    /// How long ago something was: `3 h ago`. Clocks differ, so the future is now.
    static func age(of nanoseconds: Int64, now: Int64) -> String {
        let (difference, overflow) = now.subtractingReportingOverflow(nanoseconds)
        let seconds = overflow ? 0 : max(0, difference / 1_000_000_000)
        return switch seconds {
        case 0: "now"
        case ..<60: "\(seconds) s ago"
        case ..<3600: "\(seconds / 60) min ago"
        case ..<(48 * 3600): "\(seconds / 3600) h ago"
        case ..<(60 * 86_400): "\(seconds / 86_400) d ago"
        case ..<(730 * 86_400): "\(seconds / (30 * 86_400)) mo ago"
        default: "\(seconds / (365 * 86_400)) y ago"
        }
    }

    /// `1 file`, `9 files`, `12,345 tensors`.
    static func count(_ number: some BinaryInteger, _ noun: String) -> String {
        "\(grouped(number)) \(noun)\(number == 1 ? "" : "s")"
    }

    /// Digits in groups of three: `12,345`.
    static func grouped(_ number: some BinaryInteger) -> String {
        var digits = Array(String(number.magnitude))
        var index = digits.count - 3
        while index > 0 {
            digits.insert(",", at: index)
            index -= 3
        }
        return (number < 0 ? "-" : "") + String(digits)
    }

    /// A metric or another measured value with at most five digits that matter: `0.12346`, `1024.5`,
    /// `1.2e-07`, `nan`.
    static func value(_ value: Double) -> String {
        if value.isNaN { return "nan" }
        if value.isInfinite { return value < 0 ? "-inf" : "inf" }
        if value == 0 { return "0" }
        let magnitude = value.magnitude
        guard magnitude >= 1e-4, magnitude < 1e9 else { return scientific(value) }
        var digits = 4
        var power = 1.0
        while digits > 0, magnitude >= power * 10 {
            power *= 10
            digits -= 1
        }
        while digits < 8, magnitude < power {
            power /= 10
            digits += 1
        }
        return trimmed(fixed(value, digits))
    }

    /// `value` with so many digits after the point, of a magnitude below 2^63 / 10^digits.
    static func fixed(_ value: Double, _ digits: Int) -> String {
        let scale = (0..<digits).reduce(1.0) { power, _ in power * 10 }
        let scaled = (value.magnitude * scale).rounded()
        guard scaled < 0x1p63 else { return value.description }
        let text = String(UInt64(scaled))
        let padded = String(repeating: "0", count: max(0, digits + 1 - text.count)) + text
        let sign = value < 0 && scaled > 0 ? "-" : ""
        return digits == 0 ? sign + padded : sign + padded.dropLast(digits) + "." + padded.suffix(digits)
    }

    private static func scientific(_ value: Double) -> String {
        var mantissa = value.magnitude
        var exponent = 0
        // Steps by powers of ten are inexact in the last bits, far below the digits that are shown.
        while mantissa >= 9.99995 {
            mantissa /= 10
            exponent += 1
        }
        while mantissa < 0.999995 {
            mantissa *= 10
            exponent -= 1
        }
        let digits = exponent.magnitude < 10 ? "0\(exponent.magnitude)" : "\(exponent.magnitude)"
        return (value < 0 ? "-" : "") + trimmed(fixed(mantissa, 4)) + "e" + (exponent < 0 ? "-" : "+")
            + digits
    }

    /// Without zeros at the end of a fraction.
    private static func trimmed(_ text: String) -> String {
        guard text.contains(".") else { return text }
        var text = text
        while text.hasSuffix("0") { text.removeLast() }
        if text.hasSuffix(".") { text.removeLast() }
        return text
    }
}
