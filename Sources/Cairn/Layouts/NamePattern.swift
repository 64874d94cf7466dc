/// A name in which each `#` stands for one or more decimal digits, and `*`, at most once, for any text within a name.
struct NamePattern: Sendable, ExpressibleByStringLiteral {
    /// What stands before the `*`, and after it; nil where there is none.
    private let head: [UInt8]
    private let tail: [UInt8]?

    init(_ pattern: StaticString) {
        let bytes = pattern.withUTF8Buffer { [UInt8]($0) }
        guard let star = bytes.firstIndex(of: UInt8(ascii: "*")) else {
            (head, tail) = (bytes, nil)
            return
        }
        head = [UInt8](bytes[..<star])
        tail = [UInt8](bytes[(star + 1)...])
    }

    init(stringLiteral pattern: StaticString) { self.init(pattern) }

    func matches(_ name: some Collection<UInt8>) -> Bool { numbers(in: name) != nil }

    func matches(_ name: String) -> Bool { matches(name.utf8) }

    /// The numbers that stand for the `#`s; nil where the name does not match, or one is beyond `Step.maximum`.
    func numbers(in name: some Collection<UInt8>) -> [UInt64]? {
        let name = [UInt8](name)
        guard let (numbers, end) = Self.match(head, name[...]) else { return nil }
        guard let tail else { return end == name.endIndex ? numbers : nil }
        let rest = name[end...]
        for start in rest.indices + [rest.endIndex] {
            if let (more, end) = Self.match(tail, rest[start...]), end == name.endIndex {
                return numbers + more
            }
            if start < rest.endIndex, rest[start] == UInt8(ascii: "/") { return nil }
        }
        return nil
    }

    /// The numbers in what matches from the start of a name on, and where that ends.
    private static func match(_ pattern: [UInt8], _ name: ArraySlice<UInt8>) -> ([UInt64], Int)? {
        var numbers: [UInt64] = []
        var position = name.startIndex
        for wanted in pattern {
            guard position < name.endIndex else { return nil }
            if wanted == UInt8(ascii: "#") {
                // No pattern has a digit behind a `#`, so taking all of them is right.
                let digits = name[position...].prefix(while: StoreName.isDigit)
                guard let number = Step.decimal(digits) else { return nil }
                numbers.append(number)
                position = digits.endIndex
            } else {
                guard name[position] == wanted else { return nil }
                position += 1
            }
        }
        return (numbers, position)
    }
}
