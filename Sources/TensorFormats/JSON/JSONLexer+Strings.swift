extension JSONLexer {
    /// The string whose opening quote `peek` saw, with its escapes resolved.
    mutating func string() throws(JSONError) -> String {
        let start = position + 1
        let end = try plainRun(from: start)
        // Nearly every string of a header has no escape, and is copied once.
        if bytes[end] == UInt8(ascii: "\"") {
            advance(to: end + 1)
            return String(decoding: bytes[start..<end], as: UTF8.self)
        }
        return try escapedString(from: start, firstEscape: end)
    }

    /// The place of the first quote or backslash at or behind `start`.
    private mutating func plainRun(from start: Int) throws(JSONError) -> Int {
        var index = start
        while index < bytes.count {
            let byte = bytes[index]
            if byte == UInt8(ascii: "\"") || byte == UInt8(ascii: "\\") { return index }
            if byte < 0x20 {
                advance(to: index)
                throw fail("a string holds a control character that is not escaped")
            }
            index += 1
        }
        advance(to: index)
        throw fail("the text ends inside a string")
    }

    private mutating func escapedString(from start: Int, firstEscape: Int) throws(JSONError) -> String {
        var text = [UInt8](bytes[start..<firstEscape])
        advance(to: firstEscape)
        while true {
            if bytes[position] == UInt8(ascii: "\"") {
                advance(to: position + 1)
                return String(decoding: text, as: UTF8.self)
            }
            try appendEscape(to: &text)
            let end = try plainRun(from: position)
            text += bytes[position..<end]
            advance(to: end)
        }
    }

    /// Reads one escape, whose backslash is at `position`.
    private mutating func appendEscape(to text: inout [UInt8]) throws(JSONError) {
        guard position + 1 < bytes.count else { throw fail("the text ends inside a string") }
        let kind = bytes[position + 1]
        switch kind {
        case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): text.append(kind)
        case UInt8(ascii: "b"): text.append(0x08)
        case UInt8(ascii: "f"): text.append(0x0C)
        case UInt8(ascii: "n"): text.append(0x0A)
        case UInt8(ascii: "r"): text.append(0x0D)
        case UInt8(ascii: "t"): text.append(0x09)
        case UInt8(ascii: "u"):
            text += Array(String(Character(try unicodeEscape())).utf8)
            return
        default: throw fail("a string holds an unknown escape")
        }
        advance(to: position + 2)
    }

    /// `\uXXXX`, or two of them that make a surrogate pair.
    private mutating func unicodeEscape() throws(JSONError) -> Unicode.Scalar {
        let start = position
        let first = try hexUnit()
        if let scalar = Unicode.Scalar(first) { return scalar }
        if first <= 0xDBFF, position < bytes.count, bytes[position] == UInt8(ascii: "\\") {
            let second = try hexUnit()
            if (0xDC00...0xDFFF).contains(second),
                let scalar = Unicode.Scalar(
                    0x1_0000 + (UInt32(first - 0xD800) << 10) + UInt32(second - 0xDC00))
            {
                return scalar
            }
        }
        throw JSONError(offset: start, message: "a string holds half of a surrogate pair")
    }

    /// The four digits of the `\uXXXX` at `position`.
    private mutating func hexUnit() throws(JSONError) -> UInt16 {
        guard position + 6 <= bytes.count, bytes[position + 1] == UInt8(ascii: "u") else {
            throw fail("a string holds an incomplete \\u escape")
        }
        var unit: UInt16 = 0
        for byte in bytes[position + 2..<position + 6] {
            let digit: UInt8
            switch byte {
            case UInt8(ascii: "0")...UInt8(ascii: "9"): digit = byte - UInt8(ascii: "0")
            case UInt8(ascii: "a")...UInt8(ascii: "f"): digit = byte - UInt8(ascii: "a") + 10
            case UInt8(ascii: "A")...UInt8(ascii: "F"): digit = byte - UInt8(ascii: "A") + 10
            default: throw fail("a string holds a \\u escape without four hex digits")
            }
            unit = unit << 4 | UInt16(digit)
        }
        advance(to: position + 6)
        return unit
    }
}
