extension Pickle {
    /// The text that a node is, with what is not UTF-8 replaced; nil for anything else, and where it is longer.
    func text(_ index: Index, maximumLength: Int = PyTorchLimits.nameLength) -> String? {
        switch self[index] {
        case .text(let start, let count) where count <= maximumLength:
            return String(decoding: bytes[Int(start)..<Int(start) + Int(count)], as: UTF8.self)
        case .escapedText(let start, let count, let isQuoted) where count <= maximumLength:
            let text = bytes[Int(start)..<Int(start) + Int(count)]
            return isQuoted ? Self.unquoted(text) : Self.unescaped(text)
        default: return nil
        }
    }

    /// Whether the node is this text, byte for byte.
    func isText(_ index: Index, _ text: String) -> Bool {
        switch self[index] {
        case .text(let start, let count):
            count == text.utf8.count && bytes[Int(start)..<Int(start) + Int(count)].elementsEqual(text.utf8)
        case .escapedText(_, let count, _):
            self.text(index, maximumLength: Int(count))?.hasSameBytes(as: text) ?? false
        default: false
        }
    }

    /// The contents of bytes or a bytearray; nil for anything else.
    func bytes(_ index: Index) -> ArraySlice<UInt8>? {
        guard case .bytes(let start, let count) = self[index] else { return nil }
        return bytes[Int(start)..<Int(start) + Int(count)]
    }

    /// The bytes that a text stands for in an encoding: how protocols below 3 write bytes, always in Latin-1.
    ///
    /// - Parameter arguments: the text and the name of the encoding.
    /// - Returns: nil for anything else, and where a character is beyond the encoding.
    func encoded(_ arguments: ArraySlice<Index>) -> [UInt8]? {
        guard arguments.count == 2,
            let text = text(arguments[arguments.startIndex], maximumLength: bytes.count),
            let encoding = self.text(arguments[arguments.startIndex + 1], maximumLength: 16),
            encoding == "latin1" || encoding == "latin-1"
        else { return nil }
        var bytes: [UInt8] = []
        bytes.reserveCapacity(text.utf8.count)
        for scalar in text.unicodeScalars {
            guard scalar.value < 256 else { return nil }
            bytes.append(UInt8(scalar.value))
        }
        return bytes
    }

    // MARK: Protocol 0

    /// What Python calls raw Unicode escapes: Latin-1 but for `\u` with four digits and `\U` with eight.
    private static func unescaped(_ bytes: ArraySlice<UInt8>) -> String {
        var scalars = String.UnicodeScalarView()
        var rest = bytes
        while let byte = rest.popFirst() {
            var scalar = Unicode.Scalar(byte)
            let count = rest.first == UInt8(ascii: "u") ? 4 : rest.first == UInt8(ascii: "U") ? 8 : 0
            if byte == UInt8(ascii: "\\"), count > 0,
                let escaped = number(rest.dropFirst().prefix(count), digits: count, radix: 16)
            {
                // Half of a surrogate pair is no character of its own.
                scalar = Unicode.Scalar(escaped) ?? "\u{FFFD}"
                rest = rest.dropFirst(1 + count)
            }
            scalars.append(scalar)
        }
        return String(scalars)
    }

    /// The inside of a literal of Python's, as Python 2 wrote byte strings.
    private static func unquoted(_ bytes: ArraySlice<UInt8>) -> String {
        var text: [UInt8] = []
        var rest = bytes
        while let byte = rest.popFirst() {
            guard byte == UInt8(ascii: "\\"), let kind = rest.first else {
                text.append(byte)
                continue
            }
            if let plain = Self.escapes[kind] {
                text.append(plain)
                rest.removeFirst()
            } else if kind == UInt8(ascii: "x"),
                let value = number(rest.dropFirst().prefix(2), digits: 2, radix: 16)
            {
                text.append(UInt8(value))
                rest = rest.dropFirst(3)
            } else if let value = number(rest.prefix(3), digits: 3, radix: 8), value < 256 {
                text.append(UInt8(value))
                rest = rest.dropFirst(3)
            } else {
                text.append(byte)
            }
        }
        return String(decoding: text, as: UTF8.self)
    }

    private static let escapes: [UInt8: UInt8] = [
        UInt8(ascii: "\\"): UInt8(ascii: "\\"), UInt8(ascii: "'"): UInt8(ascii: "'"),
        UInt8(ascii: "\""): UInt8(ascii: "\""), UInt8(ascii: "n"): 10, UInt8(ascii: "r"): 13,
        UInt8(ascii: "t"): 9,
    ]

    /// So many digits and nothing else; nil for anything else.
    private static func number(_ bytes: ArraySlice<UInt8>, digits: Int, radix: UInt32) -> UInt32? {
        guard bytes.count == digits else { return nil }
        var number: UInt32 = 0
        for byte in bytes {
            guard let digit = Character(Unicode.Scalar(byte)).hexDigitValue, digit < radix else { return nil }
            number = number << (radix == 16 ? 4 : 3) | UInt32(digit)
        }
        return number
    }
}
