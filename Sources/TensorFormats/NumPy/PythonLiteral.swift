/// A literal of Python, as the header of a NumPy array is written in.
indirect enum PythonLiteral {
    case none
    case bool(Bool)
    case integer(UInt64)
    case text(String)
    case tuple([PythonLiteral])
    case list([PythonLiteral])
    case dictionary([(key: PythonLiteral, value: PythonLiteral)])

    var text: String? { if case .text(let text) = self { text } else { nil } }

    /// The value of a key, if there is exactly one.
    subscript(key: String) -> PythonLiteral? {
        guard case .dictionary(let items) = self else { return nil }
        let found = items.filter { $0.key.text?.hasSameBytes(as: key) == true }
        return found.count == 1 ? found[0].value : nil
    }

    /// Reads one literal with nothing but white space around it.
    ///
    /// Numbers below zero and floating point ones stand in no header.
    /// - Throws: `.damaged`.
    init(parsing bytes: ArraySlice<UInt8>) throws(TensorFileError) {
        var parser = Parser(bytes: bytes, position: bytes.startIndex)
        self = try parser.value()
        parser.skipSpace()
        guard parser.current == nil else { throw Parser.failure }
    }
}

private struct Parser {
    let bytes: ArraySlice<UInt8>
    var position: Int
    private var depth = 0

    static let failure = TensorFileError(.damaged, "The header of the array is damaged.")
    /// Literals in literals.
    private static let maximumDepth = 32

    init(bytes: ArraySlice<UInt8>, position: Int) {
        self.bytes = bytes
        self.position = position
    }

    var current: UInt8? { position < bytes.endIndex ? bytes[position] : nil }

    mutating func skipSpace() {
        while let byte = current, [0x20, 0x09, 0x0A, 0x0D].contains(byte) { position += 1 }
    }

    mutating func value() throws(TensorFileError) -> PythonLiteral {
        skipSpace()
        switch current {
        case UInt8(ascii: "{"): return .dictionary(try dictionary())
        case UInt8(ascii: "["): return .list(try items(until: UInt8(ascii: "]")).items)
        case UInt8(ascii: "("):
            let (items, hasComma) = try items(until: UInt8(ascii: ")"))
            return items.count == 1 && !hasComma ? items[0] : .tuple(items)
        case UInt8(ascii: "'"), UInt8(ascii: "\""): return .text(try text())
        case (UInt8(ascii: "0")...UInt8(ascii: "9"))?: return .integer(try integer())
        default: return try word()
        }
    }

    /// Whether `byte` comes next; if so it is passed.
    private mutating func passes(_ byte: UInt8) -> Bool {
        skipSpace()
        guard current == byte else { return false }
        position += 1
        return true
    }

    /// Passes the opening bracket.
    private mutating func open() throws(TensorFileError) {
        depth += 1
        guard depth <= Self.maximumDepth else { throw Self.failure }
        position += 1
    }

    /// The items behind an opening bracket, and whether a comma stands behind the last.
    private mutating func items(
        until close: UInt8
    ) throws(TensorFileError) -> (items: [PythonLiteral], hasComma: Bool) {
        try open()
        var items: [PythonLiteral] = []
        var hasComma = true
        while !passes(close) {
            guard hasComma else { throw Self.failure }
            items.append(try value())
            hasComma = passes(UInt8(ascii: ","))
        }
        depth -= 1
        return (items, hasComma)
    }

    private mutating func dictionary() throws(TensorFileError) -> [(key: PythonLiteral, value: PythonLiteral)]
    {
        try open()
        var items: [(key: PythonLiteral, value: PythonLiteral)] = []
        var hasComma = true
        while !passes(UInt8(ascii: "}")) {
            guard hasComma else { throw Self.failure }
            let key = try value()
            guard passes(UInt8(ascii: ":")) else { throw Self.failure }
            items.append((key, try value()))
            hasComma = passes(UInt8(ascii: ","))
        }
        depth -= 1
        return items
    }

    /// A text in quotes. What a backslash stands for is left as it is written: only names of fields have any.
    private mutating func text() throws(TensorFileError) -> String {
        let quote = bytes[position]
        position += 1
        let start = position
        while let byte = current, byte != quote { position += byte == UInt8(ascii: "\\") ? 2 : 1 }
        guard position < bytes.endIndex else { throw Self.failure }
        defer { position += 1 }
        return String(decoding: bytes[start..<position], as: UTF8.self)
    }

    private mutating func integer() throws(TensorFileError) -> UInt64 {
        var value: UInt64 = 0
        while let byte = current, (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) {
            let (product, overflow) = value.multipliedReportingOverflow(by: 10)
            let (sum, carry) = product.addingReportingOverflow(UInt64(byte - UInt8(ascii: "0")))
            guard !overflow, !carry else { throw Self.failure }
            value = sum
            position += 1
        }
        // Python 2 wrote long integers so.
        if current == UInt8(ascii: "L") { position += 1 }
        return value
    }

    private mutating func word() throws(TensorFileError) -> PythonLiteral {
        for (word, literal) in [("True", .bool(true)), ("False", .bool(false)), ("None", PythonLiteral.none)]
        where bytes[position...].starts(with: word.utf8) {
            position += word.utf8.count
            return literal
        }
        // Python 2 marked texts of Unicode so.
        if current == UInt8(ascii: "u") || current == UInt8(ascii: "b"), position + 1 < bytes.endIndex,
            [UInt8(ascii: "'"), UInt8(ascii: "\"")].contains(bytes[position + 1])
        {
            position += 1
            return .text(try text())
        }
        throw Self.failure
    }
}
