/// Texts as Python's `repr` writes them.
enum PythonText {
    /// In single quotes, or in double ones where single ones are in it alone.
    static func literal(of value: String) -> String {
        let quote: Unicode.Scalar =
            value.utf8.contains(UInt8(ascii: "'")) && !value.utf8.contains(UInt8(ascii: "\"")) ? "\"" : "'"
        var text = String.UnicodeScalarView([quote])
        for scalar in value.unicodeScalars {
            switch scalar {
            case quote, "\\":
                text.append("\\")
                text.append(scalar)
            case "\n": text.append(contentsOf: "\\n".unicodeScalars)
            case "\r": text.append(contentsOf: "\\r".unicodeScalars)
            case "\t": text.append(contentsOf: "\\t".unicodeScalars)
            default:
                if isPrintable(scalar) {
                    text.append(scalar)
                } else {
                    text.append(contentsOf: escape(scalar).unicodeScalars)
                }
            }
        }
        text.append(quote)
        return String(text)
    }

    private static func isPrintable(_ scalar: Unicode.Scalar) -> Bool {
        if scalar.isASCII { return 0x20..<0x7F ~= scalar.value }
        switch scalar.properties.generalCategory {
        case .control, .format, .surrogate, .privateUse, .unassigned, .lineSeparator, .paragraphSeparator,
            .spaceSeparator:
            return false
        default: return true
        }
    }

    private static func escape(_ scalar: Unicode.Scalar) -> String {
        let digits = String(scalar.value, radix: 16)
        let (letter, count) = scalar.value < 0x100 ? ("x", 2) : scalar.value < 0x1_0000 ? ("u", 4) : ("U", 8)
        return "\\" + letter + String(repeating: "0", count: count - digits.count) + digits
    }

    /// Reads a text from the front.
    /// - Returns: the text and what follows it; nil where none is there.
    static func read(_ source: Substring.UnicodeScalarView) -> (String, rest: Substring.UnicodeScalarView)? {
        var rest = source
        guard let quote = rest.popFirst(), quote == "'" || quote == "\"" else { return nil }
        var value = String.UnicodeScalarView()
        while let scalar = rest.popFirst() {
            if scalar == quote { return (String(value), rest) }
            guard scalar == "\\" else {
                value.append(scalar)
                continue
            }
            guard let escaped = unescape(&rest) else { return nil }
            value.append(escaped)
        }
        return nil
    }

    /// What stands behind a backslash.
    private static func unescape(_ rest: inout Substring.UnicodeScalarView) -> Unicode.Scalar? {
        guard let letter = rest.popFirst() else { return nil }
        let count: Int
        switch letter {
        case "'", "\"", "\\": return letter
        case "n": return "\n"
        case "r": return "\r"
        case "t": return "\t"
        case "x": count = 2
        case "u": count = 4
        case "U": count = 8
        default: return nil
        }
        let digits = String(rest.prefix(count))
        rest = rest.dropFirst(count)
        guard digits.utf8.count == count, digits.utf8.first != UInt8(ascii: "+"),
            let value = UInt32(digits, radix: 16)
        else { return nil }
        return Unicode.Scalar(value)
    }
}
