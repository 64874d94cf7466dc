/// The tokens of JSON, one after the other. `JSON` builds trees with it; the readers of headers with a hundred
/// thousand entries read straight from it.
///
/// It owns the array (a reference), so that no pointer escapes; bounds checks cost less than the strings it makes.
struct JSONLexer {
    enum Number {
        case unsigned(UInt64)
        /// Below zero. `-0` is a double, as in serde_json, since no integer has that sign.
        case negative(Int64)
        case double(Double)
    }

    let bytes: [UInt8]
    private(set) var position: Int
    private let allowNonFinite: Bool
    /// As in serde_json: the container that brings this to 0 is one too many.
    private var remainingDepth = 128

    /// Checks that everything from `start` is UTF-8, so that no later step needs to.
    init(_ bytes: [UInt8], from start: Int = 0, allowNonFinite: Bool = false) throws(JSONError) {
        self.bytes = bytes
        self.allowNonFinite = allowNonFinite
        position = start
        do {
            _ = try UTF8Span(validating: bytes.span.extracting(start..<bytes.count))
        } catch {
            throw JSONError(offset: start + error.byteOffsets.lowerBound, message: "the text is not UTF-8")
        }
    }

    func fail(_ message: String) -> JSONError { JSONError(offset: position, message: message) }

    private var current: UInt8? { position < bytes.count ? bytes[position] : nil }

    // MARK: Structure

    private mutating func skipWhitespace() {
        while position < bytes.count {
            switch bytes[position] {
            case UInt8(ascii: " "), UInt8(ascii: "\n"), UInt8(ascii: "\t"), UInt8(ascii: "\r"): position += 1
            default: return
            }
        }
    }

    /// The first byte of the next token, which stays unread.
    mutating func peek() throws(JSONError) -> UInt8 {
        skipWhitespace()
        guard let byte = current else { throw fail("the text ends where a value should be") }
        return byte
    }

    /// Reads the `{` or `[` that `peek` saw.
    mutating func open() throws(JSONError) {
        remainingDepth -= 1
        guard remainingDepth > 0 else { throw fail("objects and arrays are nested more than 127 deep") }
        position += 1
    }

    /// The next key of an object with its colon, or nil behind the closing brace.
    mutating func nextKey(first: Bool) throws(JSONError) -> String? {
        guard try nextItem(first: first, close: UInt8(ascii: "}")) else { return nil }
        guard current == UInt8(ascii: "\"") else { throw fail("expected a key in quotes") }
        let key = try string()
        skipWhitespace()
        guard current == UInt8(ascii: ":") else { throw fail("expected a colon after the key") }
        position += 1
        return key
    }

    /// Whether another element follows in an array; false behind the closing bracket.
    mutating func nextElement(first: Bool) throws(JSONError) -> Bool {
        try nextItem(first: first, close: UInt8(ascii: "]"))
    }

    private mutating func nextItem(first: Bool, close: UInt8) throws(JSONError) -> Bool {
        skipWhitespace()
        if current == close {
            position += 1
            remainingDepth += 1
            return false
        }
        if !first {
            guard current == UInt8(ascii: ",") else {
                throw fail(
                    current == nil ? "the text ends inside a container" : "expected a comma or the end")
            }
            position += 1
            skipWhitespace()
            if current == close { throw fail("a comma follows the last item") }
        }
        guard current != nil else { throw fail("the text ends inside a container") }
        return true
    }

    mutating func expectEnd() throws(JSONError) {
        skipWhitespace()
        guard position == bytes.count else { throw fail("something follows the value") }
    }

    mutating func literal(_ word: StaticString) throws(JSONError) {
        let count = word.utf8CodeUnitCount
        let matches =
            bytes.count - position >= count
            && word.withUTF8Buffer { $0.elementsEqual(bytes[position..<position + count]) }
        guard matches else { throw fail("expected \(word)") }
        position += count
    }

    // MARK: Numbers

    mutating func number() throws(JSONError) -> Number {
        let start = position
        let isNegative = current == UInt8(ascii: "-")
        if isNegative { position += 1 }
        if allowNonFinite {
            if current == UInt8(ascii: "I") {
                try literal("Infinity")
                return .double(isNegative ? -.infinity : .infinity)
            }
            if !isNegative, current == UInt8(ascii: "N") {
                try literal("NaN")
                return .double(.nan)
            }
        }
        var magnitude: UInt64 = 0
        var isInteger = true
        let firstDigit = position
        while let digit = currentDigit {
            let (product, overflow) = magnitude.multipliedReportingOverflow(by: 10)
            let (sum, carry) = product.addingReportingOverflow(digit)
            if overflow || carry { isInteger = false }
            magnitude = sum
            position += 1
        }
        guard position > firstDigit else {
            throw fail(isNegative ? "expected a digit after the minus sign" : "expected a value")
        }
        guard position == firstDigit + 1 || bytes[firstDigit] != UInt8(ascii: "0") else {
            throw fail("a number begins with a needless 0")
        }
        if current == UInt8(ascii: ".") {
            isInteger = false
            position += 1
            try digits("the decimal point")
        }
        if current == UInt8(ascii: "e") || current == UInt8(ascii: "E") {
            isInteger = false
            position += 1
            if current == UInt8(ascii: "+") || current == UInt8(ascii: "-") { position += 1 }
            try digits("the exponent")
        }
        if isInteger {
            if !isNegative { return .unsigned(magnitude) }
            if magnitude > 0, magnitude <= UInt64(Int64.max) + 1 {
                return .negative(Int64(truncatingIfNeeded: 0 &- magnitude))
            }
        }
        guard let value = Double(String(decoding: bytes[start..<position], as: UTF8.self)) else {
            throw fail("expected a number")
        }
        guard value.isFinite || allowNonFinite else {
            throw JSONError(offset: start, message: "a number is beyond the range of a double")
        }
        return .double(value)
    }

    private var currentDigit: UInt64? {
        guard let byte = current, byte &- UInt8(ascii: "0") <= 9 else { return nil }
        return UInt64(byte &- UInt8(ascii: "0"))
    }

    private mutating func digits(_ what: StaticString) throws(JSONError) {
        guard currentDigit != nil else { throw fail("expected a digit after \(what)") }
        while currentDigit != nil { position += 1 }
    }

    // MARK: Moving, for the strings in JSONLexer+Strings.swift

    mutating func advance(to position: Int) { self.position = position }
}
