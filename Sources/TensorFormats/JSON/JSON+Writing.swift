extension JSON {
    /// How to write JSON down.
    public struct Style: Sendable {
        /// Spaces a level, with every item on a line of its own; nil writes no white space at all.
        public var indent: Int?
        /// Members in the order of their keys' code points instead of their own.
        public var sortKeys: Bool
        /// Escapes everything outside of space to `~`, as Python's `ensure_ascii` does.
        public var asciiOnly: Bool
        /// Writes `NaN`, `Infinity` and `-Infinity`, which only Python reads; otherwise `null` stands for them.
        public var allowNonFinite: Bool

        public init(
            indent: Int? = nil, sortKeys: Bool = false, asciiOnly: Bool = false, allowNonFinite: Bool = false
        ) {
            self.indent = indent
            self.sortKeys = sortKeys
            self.asciiOnly = asciiOnly
            self.allowNonFinite = allowNonFinite
        }

        /// No white space, members in their own order, UTF-8 as it is.
        public static let compact = Style()
        /// Python's `json.dumps(value, indent=2, sort_keys=True)`, byte for byte.
        public static let python = Style(indent: 2, sortKeys: true, asciiOnly: true, allowNonFinite: true)
    }

    /// The text, without a newline at its end.
    public func serialized(_ style: Style = .compact) -> [UInt8] {
        var output: [UInt8] = []
        write(to: &output, style: style)
        return output
    }

    /// The same, compact, as a string.
    public var text: String { String(decoding: serialized(), as: UTF8.self) }

    /// Appends the text to `output`.
    public func write(to output: inout [UInt8], style: Style = .compact) {
        write(to: &output, style, level: 0)
    }

    func write(to output: inout [UInt8], _ style: Style, level: Int) {
        switch self {
        case .null: output += "null".utf8
        case .bool(let value): output += (value ? "true" : "false").utf8
        case .integer(let value):
            if value < 0 { output.append(UInt8(ascii: "-")) }
            output.appendDecimal(value.magnitude)
        case .unsigned(let value): output.appendDecimal(value)
        case .number(let value): Self.write(value, to: &output, style)
        case .string(let value): output.appendJSONString(value, asciiOnly: style.asciiOnly)
        case .array(let values):
            output.append(UInt8(ascii: "["))
            for (index, value) in values.enumerated() {
                Self.separate(index, &output, style, level)
                value.write(to: &output, style, level: level + 1)
            }
            if !values.isEmpty { Self.newline(&output, style, level) }
            output.append(UInt8(ascii: "]"))
        case .object(let members):
            output.append(UInt8(ascii: "{"))
            let ordered = style.sortKeys ? members.sorted { $0.key.precedesByBytes($1.key) } : members
            for (index, member) in ordered.enumerated() {
                Self.separate(index, &output, style, level)
                Self.writeKey(member.key, &output, style)
                member.value.write(to: &output, style, level: level + 1)
            }
            if !members.isEmpty { Self.newline(&output, style, level) }
            output.append(UInt8(ascii: "}"))
        }
    }

    static func writeKey(_ key: String, _ output: inout [UInt8], _ style: Style) {
        output.appendJSONString(key, asciiOnly: style.asciiOnly)
        output.append(UInt8(ascii: ":"))
        if style.indent != nil { output.append(UInt8(ascii: " ")) }
    }

    static func separate(_ index: Int, _ output: inout [UInt8], _ style: Style, _ level: Int) {
        if index > 0 { output.append(UInt8(ascii: ",")) }
        newline(&output, style, level + 1)
    }

    static func newline(_ output: inout [UInt8], _ style: Style, _ level: Int) {
        guard let indent = style.indent else { return }
        output.append(UInt8(ascii: "\n"))
        output.append(contentsOf: repeatElement(UInt8(ascii: " "), count: indent * level))
    }

    /// The shortest digits that read back as the same double, laid out as Python's `repr` does.
    private static func write(_ value: Double, to output: inout [UInt8], _ style: Style) {
        guard value.isFinite else {
            let name = value.isNaN ? "NaN" : value < 0 ? "-Infinity" : "Infinity"
            output += (style.allowNonFinite ? name : "null").utf8
            return
        }
        let text = value.description
        // Swift goes over to an exponent behind 2^53, Python only at 10^16: between them lie 16 digits.
        guard value.magnitude > 0x1p53, value.magnitude < 1e16 else {
            output += text.utf8
            return
        }
        let digits = text.utf8.prefix { $0 != UInt8(ascii: "e") }.filter { $0 != UInt8(ascii: ".") }
        output += digits
        let sign = value < 0 ? 1 : 0
        output.append(contentsOf: repeatElement(UInt8(ascii: "0"), count: max(0, 16 + sign - digits.count)))
        output += ".0".utf8
    }
}

extension [UInt8] {
    /// The digits of `value`.
    mutating func appendDecimal(_ value: UInt64) {
        if value >= 10 { appendDecimal(value / 10) }
        append(UInt8(ascii: "0") + UInt8(value % 10))
    }

    /// `text` in quotes, with the escapes that serde_json and Python agree on: short ones where there are, else
    /// `\u00xx` in lower case.
    mutating func appendJSONString(_ text: String, asciiOnly: Bool) {
        append(UInt8(ascii: "\""))
        if text.utf8.allSatisfy({
            0x20 <= $0 && $0 < 0x7F && $0 != UInt8(ascii: "\"") && $0 != UInt8(ascii: "\\")
        }) {
            append(contentsOf: text.utf8)
        } else if asciiOnly, !text.utf8.allSatisfy({ $0 < 0x7F }) {
            for unit in text.utf16 {
                if unit < 0x7F { appendJSONByte(UInt8(unit)) } else { appendUnicodeEscape(unit) }
            }
        } else {
            for byte in text.utf8 { appendJSONByte(byte) }
        }
        append(UInt8(ascii: "\""))
    }

    private mutating func appendJSONByte(_ byte: UInt8) {
        let short: UInt8
        switch byte {
        case UInt8(ascii: "\""), UInt8(ascii: "\\"): short = byte
        case 0x08: short = UInt8(ascii: "b")
        case 0x09: short = UInt8(ascii: "t")
        case 0x0A: short = UInt8(ascii: "n")
        case 0x0C: short = UInt8(ascii: "f")
        case 0x0D: short = UInt8(ascii: "r")
        case 0..<0x20: return appendUnicodeEscape(UInt16(byte))
        default: return append(byte)
        }
        append(UInt8(ascii: "\\"))
        append(short)
    }

    private mutating func appendUnicodeEscape(_ unit: UInt16) {
        self += "\\u".utf8
        for shift in [12, 8, 4, 0] as [UInt16] {
            let digit = UInt8(unit >> shift & 15)
            append(digit < 10 ? UInt8(ascii: "0") + digit : UInt8(ascii: "a") + digit - 10)
        }
    }
}
