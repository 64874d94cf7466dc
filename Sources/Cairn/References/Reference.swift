public import Platform

/// What people write to name an iteration: `[RUN@]SELECTOR`.
public struct Reference: Sendable, Hashable, CustomStringConvertible {
    public enum Selector: Sendable, Hashable {
        /// `latest`: the greatest step that is not superseded.
        case latest
        /// `best`, or `best:METRIC[:min|max]`.
        case best(metric: String?, direction: Direction?)
        /// A step number.
        case step(UInt64)
        /// The name of a pin.
        case pin(String)
        /// `#` and 6 to 64 hex digits, kept in lower case: how a manifest id begins.
        case id(String)
    }

    /// What stands before `@`.
    public var run: String?
    public var selector: Selector

    public init(run: String? = nil, selector: Selector) {
        self.run = run
        self.selector = selector
    }

    /// Reads the grammar of design.md 2. An `@` behind a `:` belongs to a metric, as in `best:recall@10`.
    ///
    /// - Throws: a usage error that says what is wrong and what would be right.
    public init(_ text: String) throws(CairnError) {
        let bytes = text.utf8
        let colon = bytes.firstIndex(of: UInt8(ascii: ":")) ?? bytes.endIndex
        if let at = bytes[..<colon].firstIndex(of: UInt8(ascii: "@")) {
            run = try RunName(String(text[..<at])).text
            selector = try Self.selector(String(text[bytes.index(after: at)...]), in: text)
        } else {
            selector = try Self.selector(text, in: text)
        }
    }

    /// The grammar again: reading it gives an equal reference.
    public var description: String {
        let prefix = run.map { "\($0)@" } ?? ""
        switch selector {
        case .latest: return prefix + "latest"
        case .best(nil, _): return prefix + "best"
        case .best(let metric?, let direction): return prefix + Self.best(metric, direction)
        case .step(let step): return prefix + String(step)
        case .pin(let name): return prefix + name
        case .id(let digits): return prefix + "#" + digits
        }
    }

    private static func best(_ metric: String, _ direction: Direction?) -> String {
        "best:" + metric + (direction.map { ":\($0.rawValue)" } ?? "")
    }

    private static func selector(_ text: String, in whole: String) throws(CairnError) -> Selector {
        let bytes = [UInt8](text.utf8)
        if text == "latest" { return .latest }
        if text == "best" { return .best(metric: nil, direction: nil) }
        if bytes.starts(with: "best:".utf8) { return try best(String(text.utf8.dropFirst(5))!, in: whole) }
        if bytes.first == UInt8(ascii: "#") { return try id(String(text.utf8.dropFirst())!, in: whole) }
        let digits = bytes.first == UInt8(ascii: "-") ? bytes[1...] : bytes[...]
        if !digits.isEmpty, digits.allSatisfy(StoreName.isDigit) { return .step(try Step.parse(text)) }
        if let fault = StoreName.fault(of: text) {
            throw CairnError(
                .usage,
                "\(quoted(whole)) does not name an iteration: write [RUN@]SELECTOR, where SELECTOR is "
                    + "latest, "
                    + "best, best:METRIC[:min|max], a step, a pin's name (it \(fault)), or # and at least "
                    + "6 hex "
                    + "digits of an id")
        }
        return .pin(text)
    }

    private static func best(_ text: String, in whole: String) throws(CairnError) -> Selector {
        var metric = text
        var direction: Direction?
        for candidate in Direction.allCases
        where text.utf8.suffix(4).elementsEqual(":\(candidate.rawValue)".utf8) {
            metric = String(text.utf8.dropLast(4))!
            direction = candidate
        }
        guard !metric.isEmpty else {
            throw CairnError(
                .usage, "\(quoted(whole)) names no metric; write best:METRIC, or best for the run's own")
        }
        return .best(metric: metric, direction: direction)
    }

    private static func id(_ digits: String, in whole: String) throws(CairnError) -> Selector {
        guard (6...64).contains(digits.utf8.count),
            digits.utf8.allSatisfy({ Character(Unicode.Scalar($0)).isHexDigit })
        else {
            throw CairnError(
                .usage,
                "\(quoted(whole)) is not an id: after # come 6 to 64 hex digits, as `cairn show` says")
        }
        return .id(digits.lowercased())
    }
}
