extension JSON {
    /// Reads one JSON text, as strictly as serde_json: UTF-8 without a byte order mark, no trailing comma, no lone
    /// surrogate, containers at most 127 deep, nothing but white space behind the value.
    ///
    /// - Parameter allowNonFinite: also take `NaN`, `Infinity` and `-Infinity`, which Python writes, and read a
    ///   number beyond a double's range as infinity, as Python does; otherwise both are errors.
    /// - Throws: `JSONError` with the byte where it goes wrong.
    public init(parsing bytes: [UInt8], allowNonFinite: Bool = false) throws(JSONError) {
        var lexer = try JSONLexer(bytes, allowNonFinite: allowNonFinite)
        self = try lexer.value()
        try lexer.expectEnd()
    }

    /// The same, of memory that the caller keeps valid for the duration of the call.
    public init(parsing bytes: UnsafeRawBufferPointer, allowNonFinite: Bool = false) throws(JSONError) {
        try self.init(parsing: [UInt8](bytes), allowNonFinite: allowNonFinite)
    }
}

extension JSONLexer {
    /// Any value, as a tree. Recursion is bounded by the nesting limit.
    mutating func value() throws(JSONError) -> JSON {
        switch try peek() {
        case UInt8(ascii: "{"):
            try open()
            var members: [JSON.Member] = []
            while let key = try nextKey(first: members.isEmpty) {
                members.append(JSON.Member(key, try value()))
            }
            return .object(members)
        case UInt8(ascii: "["):
            try open()
            var values: [JSON] = []
            while try nextElement(first: values.isEmpty) { values.append(try value()) }
            return .array(values)
        case UInt8(ascii: "\""):
            return .string(try string())
        case UInt8(ascii: "t"):
            try literal("true")
            return .bool(true)
        case UInt8(ascii: "f"):
            try literal("false")
            return .bool(false)
        case UInt8(ascii: "n"):
            try literal("null")
            return .null
        default:
            switch try number() {
            case .unsigned(let value): return JSON(value)
            case .negative(let value): return .integer(value)
            case .double(let value): return .number(value)
            }
        }
    }

    /// Passes over any value, checking it as fully as `value` does.
    mutating func skipValue() throws(JSONError) {
        switch try peek() {
        case UInt8(ascii: "{"):
            try open()
            var first = true
            while try nextKey(first: first) != nil {
                first = false
                try skipValue()
            }
        case UInt8(ascii: "["):
            try open()
            var first = true
            while try nextElement(first: first) {
                first = false
                try skipValue()
            }
        case UInt8(ascii: "\""): _ = try string()
        case UInt8(ascii: "t"): try literal("true")
        case UInt8(ascii: "f"): try literal("false")
        case UInt8(ascii: "n"): try literal("null")
        default: _ = try number()
        }
    }
}
