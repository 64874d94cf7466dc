/// A whole number, as sums, differences, products and exact quotients of numbers and parameters: `heads / groups + 2`.
struct Expression: Sendable {
    struct Fault: Error {
        /// As the middle of a sentence.
        var message: String
    }

    private indirect enum Node: Sendable {
        case number(UInt64)
        case parameter(String)
        case operation(Character, Node, Node)
    }

    /// As it was written.
    let text: String
    private let root: Node

    init(_ number: UInt64) {
        text = String(number)
        root = .number(number)
    }

    init(_ text: String) throws(Fault) {
        self.text = text
        var parser = Parser(rest: text[...])
        root = try parser.sum(0)
        guard parser.next == nil else { throw parser.fault }
    }

    /// - Parameter parameter: gives the value of one by its name.
    func value(_ parameter: (String) throws -> UInt64) throws -> UInt64 {
        try value(root, parameter)
    }

    private func value(_ node: Node, _ parameter: (String) throws -> UInt64) throws -> UInt64 {
        switch node {
        case .number(let number): return number
        case .parameter(let name): return try parameter(name)
        case .operation(let sign, let a, let b):
            let (a, b) = (try value(a, parameter), try value(b, parameter))
            if sign == "/" {
                guard b > 0, a.isMultiple(of: b) else {
                    throw Fault(message: "\(text) divides \(a) by \(b), which gives no whole number")
                }
                return a / b
            }
            let (result, overflow) =
                switch sign {
                case "+": a.addingReportingOverflow(b)
                case "-": a.subtractingReportingOverflow(b)
                default: a.multipliedReportingOverflow(by: b)
                }
            guard !overflow else { throw Fault(message: "\(text) is negative, or too large") }
            return result
        }
    }

    /// Recursive descent over sums of products.
    private struct Parser {
        private static let depthLimit = 64
        var rest: Substring

        var next: Character? {
            mutating get {
                rest = rest.drop { $0 == " " }
                return rest.first
            }
        }

        var fault: Fault {
            Fault(message: "'\(rest)' is no part of an expression such as heads / groups + 2")
        }

        mutating func sum(_ depth: Int) throws(Fault) -> Node {
            guard depth < Self.depthLimit else { throw Fault(message: "it has too many parentheses") }
            var node = try product(depth)
            while let sign = next, sign == "+" || sign == "-" {
                rest.removeFirst()
                node = .operation(sign, node, try product(depth))
            }
            return node
        }

        private mutating func product(_ depth: Int) throws(Fault) -> Node {
            var node = try factor(depth)
            while let sign = next, sign == "*" || sign == "/" {
                rest.removeFirst()
                node = .operation(sign, node, try factor(depth))
            }
            return node
        }

        private mutating func factor(_ depth: Int) throws(Fault) -> Node {
            guard let first = next else { throw Fault(message: "an expression ends too early") }
            if first == "(" {
                rest.removeFirst()
                let node = try sum(depth + 1)
                guard next == ")" else { throw Fault(message: "a parenthesis is not closed") }
                rest.removeFirst()
                return node
            }
            let word = rest.prefix { $0.isASCII && ($0.isLetter || $0.isNumber || $0 == "_") }
            guard let start = word.first else { throw fault }
            if start.isNumber {
                guard let number = UInt64(word) else { throw fault }
                rest = rest[word.endIndex...]
                return .number(number)
            }
            rest = rest[word.endIndex...]
            return .parameter(String(word))
        }
    }
}
