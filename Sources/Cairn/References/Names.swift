public import Platform

/// The rule for the names of runs and pins: 1 to 128 of `[A-Za-z0-9._-]`, not all digits (that is a step, and
/// so is a `-` and digits, which is refused as a negative one), neither `latest` nor `best`, neither `.` nor
/// `..` (a run's name is also the name of a file).
enum StoreName {
    static let maximumBytes = 128

    /// What is wrong with it, as the end of a sentence, or nil.
    static func fault(of name: String) -> String? {
        let bytes = [UInt8](name.utf8)
        guard (1...maximumBytes).contains(bytes.count) else {
            return "must have 1 to \(maximumBytes) characters"
        }
        guard bytes.allSatisfy(isAllowed) else {
            return "may only hold letters, digits, dots, underscores and dashes, all of them ASCII"
        }
        if bytes.allSatisfy(isDigit) { return "must not be a number, which would be a step" }
        if bytes[0] == UInt8(ascii: "-"), bytes[1...].allSatisfy(isDigit) {
            return "must not look like a negative number or be a lone dash"
        }
        if name == "latest" || name == "best" { return "must not be one of the words latest and best" }
        if name == "." || name == ".." { return "must not be . or .." }
        return nil
    }

    static func isDigit(_ byte: UInt8) -> Bool { (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) }

    private static func isAllowed(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"): true
        case UInt8(ascii: "."), UInt8(ascii: "_"), UInt8(ascii: "-"): true
        default: isDigit(byte)
        }
    }
}

/// The name of a run: one training run or model line.
public struct RunName: Hashable, Sendable, CustomStringConvertible {
    public let text: String

    /// Where nobody names a run.
    public static let main = RunName(unchecked: "main")

    /// - Throws: a usage error that says what is wrong with the name.
    public init(_ text: String) throws(CairnError) {
        if let fault = StoreName.fault(of: text) {
            throw CairnError(.usage, "the run name \(quoted(text)) is not valid: it \(fault)")
        }
        if PartRun.isPart(text) {
            throw CairnError(
                .usage,
                "the run name \(quoted(text)) is not valid: names that begin with \(PartRun.prefix) are for parts of "
                    + "iterations")
        }
        self.text = text
    }

    public static func isValid(_ text: String) -> Bool { StoreName.fault(of: text) == nil }

    public var description: String { text }

    private init(unchecked text: String) { self.text = text }
}

/// The name of a pin, which protects an iteration from every deletion.
public struct PinName: Hashable, Sendable, CustomStringConvertible {
    public let text: String

    /// - Throws: a usage error that says what is wrong with the name.
    public init(_ text: String) throws(CairnError) {
        if let fault = StoreName.fault(of: text) {
            throw CairnError(.usage, "the pin name \(quoted(text)) is not valid: it \(fault)")
        }
        self.text = text
    }

    /// The pin of a policy's milestone.
    public static func milestone(step: UInt64) -> PinName { PinName(unchecked: "milestone-\(step)") }

    public static func isValid(_ text: String) -> Bool { StoreName.fault(of: text) == nil }

    public var description: String { text }

    private init(unchecked text: String) { self.text = text }
}

/// A word of the user inside a sentence: in quotes, control characters escaped, shortened where it is
/// absurdly long.
func quoted(_ text: String) -> String {
    let isLong = text.utf8.count > 200
    let shown = isLong ? String(decoding: text.utf8.prefix(100), as: UTF8.self) + "…" : text
    return "'\(Path.text(of: [UInt8](shown.utf8)))'"
}
