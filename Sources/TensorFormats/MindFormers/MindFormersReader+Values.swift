/// What the members of the file are, token by token.
extension MindFormersReader {
    mutating func object(_ member: (inout Self, String) throws -> Void) throws {
        guard try lexer.peek() == UInt8(ascii: "{") else { throw lexer.fail("expected an object") }
        try lexer.open()
        var isFirst = true
        while let key = try lexer.nextKey(first: isFirst) {
            isFirst = false
            _ = try lexer.peek()
            try member(&self, key)
        }
    }

    /// - Parameter maximum: how many elements there may be: one for each rank, or for each axis of something.
    mutating func array(
        atMost maximum: Int = MindFormersLayout.maximumRankCount, _ element: (inout Self) throws -> Void
    ) throws {
        guard try lexer.peek() == UInt8(ascii: "[") else { throw lexer.fail("expected a list") }
        try lexer.open()
        var count = 0
        while try lexer.nextElement(first: count == 0) {
            count += 1
            guard count <= maximum else { throw lexer.fail("expected a list of no more than \(maximum)") }
            _ = try lexer.peek()
            try element(&self)
        }
    }

    mutating func string() throws -> String {
        guard try lexer.peek() == UInt8(ascii: "\"") else { throw lexer.fail("expected a text") }
        return try lexer.string()
    }

    mutating func bool() throws -> Bool {
        let isTrue = try lexer.peek() == UInt8(ascii: "t")
        try lexer.literal(isTrue ? "true" : "false")
        return isTrue
    }

    mutating func integer(from minimum: Int = 0) throws -> Int {
        switch try lexer.number() {
        case .unsigned(let value) where value <= UInt64(Int.max): return Int(value)
        case .negative(let value) where Int(value) >= minimum: return Int(value)
        default: throw lexer.fail("expected an integer of no less than \(minimum)")
        }
    }

    mutating func integers(
        from minimum: Int = 0, atMost maximum: Int = MindFormersLayout.maximumAxisCount
    ) throws -> [Int] {
        var integers: [Int] = []
        try array(atMost: maximum) { integers.append(try $0.integer(from: minimum)) }
        return integers
    }

    mutating func shape() throws -> [UInt64] { try integers().map { UInt64($0) } }
}
