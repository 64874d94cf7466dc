/// A regular expression of Python's, as far as names of parameters need one: literals, `.`, `\d`, `\w`, `[abc]`, each followed by `*`, `+`
/// or `?` or none of them; without groups. It comes out of a file, so no text can make it take long.
struct PythonPattern: Sendable {
    private enum Atom {
        case any
        case one(of: [ClosedRange<Unicode.Scalar>], isNegated: Bool)

        func matches(_ scalar: Unicode.Scalar) -> Bool {
            switch self {
            case .any: scalar != "\n"
            case .one(let ranges, let isNegated): ranges.contains { $0.contains(scalar) } != isNegated
            }
        }
    }

    private struct Step {
        var atom: Atom
        var isOptional = false
        var isRepeated = false
    }

    /// The only name that it matches, where that is so.
    let literal: String?
    private let steps: [Step]
    /// Whether the name has to end with it.
    private let isWhole: Bool

    private static let lengthLimit = 4096

    /// - Returns: nil where it is not understood.
    init?(_ pattern: String) {
        guard pattern.utf8.count <= Self.lengthLimit else { return nil }
        var rest = pattern.unicodeScalars[...]
        // It is held against a name's beginning in any case.
        if rest.first == "^" { rest.removeFirst() }
        var (steps, isWhole): ([Step], Bool) = ([], false)
        while let scalar = rest.popFirst() {
            switch scalar {
            case "$" where rest.isEmpty: isWhole = true
            case "$", "^", "(", ")", "|", "{", "}", "]": return nil
            case "*", "+", "?":
                guard let last = steps.last, !last.isOptional, !last.isRepeated else { return nil }
                steps[steps.count - 1].isOptional = scalar != "+"
                steps[steps.count - 1].isRepeated = scalar != "?"
            default:
                guard let atom = Self.atom(scalar, &rest) else { return nil }
                steps.append(Step(atom: atom))
            }
        }
        (self.steps, self.isWhole) = (steps, isWhole)
        literal = isWhole ? Self.literal(steps) : nil
    }

    private static func atom(_ scalar: Unicode.Scalar, _ rest: inout Substring.UnicodeScalarView) -> Atom? {
        switch scalar {
        case ".": return .any
        case "\\": return rest.popFirst().flatMap(escaped).map { .one(of: $0, isNegated: false) }
        case "[":
            let isNegated = rest.first == "^"
            if isNegated { rest.removeFirst() }
            return ranges(&rest).map { .one(of: $0, isNegated: isNegated) }
        default: return .one(of: [scalar...scalar], isNegated: false)
        }
    }

    /// What stands between brackets, up to the one that closes them; the first may be one of these itself.
    private static func ranges(_ rest: inout Substring.UnicodeScalarView) -> [ClosedRange<Unicode.Scalar>]? {
        var ranges: [ClosedRange<Unicode.Scalar>] = []
        while let scalar = rest.popFirst() {
            if scalar == "]", !ranges.isEmpty { return ranges }
            if scalar == "[" { return nil }
            if scalar == "\\" {
                guard let own = rest.popFirst().flatMap(escaped) else { return nil }
                ranges += own
            } else if rest.first == "-", let end = rest.dropFirst().first, end != "]" {
                guard scalar <= end, end != "\\" else { return nil }
                ranges.append(scalar...end)
                rest.removeFirst(2)
            } else {
                ranges.append(scalar...scalar)
            }
        }
        return nil
    }

    /// What stands for itself behind a backslash, or for several; letters mostly mean something else.
    private static func escaped(_ scalar: Unicode.Scalar) -> [ClosedRange<Unicode.Scalar>]? {
        switch scalar {
        case "d": ["0"..."9"]
        case "w": ["0"..."9", "A"..."Z", "_"..."_", "a"..."z"]
        case "0"..."9", "A"..."Z", "a"..."z": nil
        default: [scalar...scalar]
        }
    }

    private static func literal(_ steps: [Step]) -> String? {
        var text = String.UnicodeScalarView()
        for step in steps {
            guard !step.isOptional, !step.isRepeated, case .one(let ranges, false) = step.atom,
                ranges.count == 1, ranges[0].lowerBound == ranges[0].upperBound
            else { return nil }
            text.append(ranges[0].lowerBound)
        }
        return String(text)
    }

    /// Whether a name begins with it.
    func matches(_ name: String) -> Bool {
        // After each scalar, the steps that may come next.
        var places = [Bool](repeating: false, count: steps.count + 1)
        places[0] = true
        skip(&places)
        for scalar in name.unicodeScalars {
            if !isWhole, places[steps.count] { return true }
            var next = [Bool](repeating: false, count: steps.count + 1)
            for (index, step) in steps.enumerated() where places[index] && step.atom.matches(scalar) {
                next[index + 1] = true
                if step.isRepeated { next[index] = true }
            }
            skip(&next)
            places = next
            if !places.contains(true) { return false }
        }
        return places[steps.count]
    }

    /// Passes over steps that need not be there.
    private func skip(_ places: inout [Bool]) {
        for (index, step) in steps.enumerated() where places[index] && step.isOptional {
            places[index + 1] = true
        }
    }
}

/// Values by patterns, of which a name matches one at most.
struct PythonPatterns<Value> {
    private var literals: [String: (pattern: String, value: Value)] = [:]
    private var others: [(pattern: PythonPattern, text: String, value: Value)] = []

    /// Others than literals are tried one by one.
    private static var limit: Int { 256 }

    /// - Throws: `.inconsistent` where one is not understood.
    mutating func add(_ text: String, _ value: Value) throws {
        guard let pattern = PythonPattern(text) else {
            throw Assembly.refused("the pattern \(text) for names of parameters is not understood")
        }
        if let literal = pattern.literal {
            literals[literal] = (text, value)
        } else {
            guard others.count < Self.limit else {
                throw Assembly.refused("there are more than \(Self.limit) patterns for names of parameters")
            }
            others.append((pattern, text, value))
        }
    }

    /// - Throws: `.inconsistent` where several patterns match.
    func value(of name: String) throws -> Value? {
        let found: [(pattern: String, value: Value)] =
            [literals[name]].compactMap { $0 }
            + others.filter { $0.pattern.matches(name) }.map { (pattern: $0.text, value: $0.value) }
        guard found.count <= 1 else {
            throw Assembly.refused(
                "for \(name) there are several patterns: \(found.map(\.pattern).joined(separator: ", "))")
        }
        return found.first?.value
    }

    /// A pattern that matches none of these names; nil where each matches one.
    func unused(among names: Set<String>) -> String? {
        literals.filter { !names.contains($0.key) }.map(\.value.pattern).min()
            ?? others.first { other in !names.contains(where: other.pattern.matches) }?.text
    }
}
