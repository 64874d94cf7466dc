internal import Cairn
internal import Platform

/// The options of a call: a JSON object of which each member is known, and of the right kind.
struct Options {
    /// Those that nobody has asked for yet.
    private var members: [String: JSON] = [:]

    /// - Throws: `usage` for what is no JSON object. NULL is none.
    init(_ argument: UnsafePointer<CChar>?, _ name: String = "options") throws(CairnError) {
        guard argument != nil else { return }
        guard let members = try argument.json(name).members else {
            throw CairnError(.usage, "\(name) is JSON, but no object: write {\"name\": value}")
        }
        self.members = Dictionary(members.map { ($0.key, $0.value) }) { _, last in last }
    }

    /// The value of an option; nil where it is not given, or null.
    private mutating func json(_ name: String) -> JSON? {
        guard let value = members.removeValue(forKey: name), !value.isNull else { return nil }
        return value
    }

    mutating func bool(_ name: String, unlessGiven usual: Bool = false) throws(CairnError) -> Bool {
        try value(name, "true or false") { $0.bool } ?? usual
    }

    mutating func object(_ name: String) throws(CairnError) -> [JSON.Member] {
        try value(name, "an object") { $0.members } ?? []
    }

    mutating func int(_ name: String, in range: ClosedRange<Int>) throws(CairnError) -> Int? {
        try value(name, "a whole number from \(range.lowerBound) to \(range.upperBound)") { value in
            value.int.flatMap { range.contains($0) ? $0 : nil }
        }
    }

    mutating func uint64(_ name: String) throws(CairnError) -> UInt64? {
        try value(name, "a whole number, 0 or more") { $0.uint64 }
    }

    /// Text, of which a part could become a name for the system: those know no zero byte.
    mutating func text(_ name: String) throws(CairnError) -> String? {
        try value(name, "text without zero bytes") { value in
            value.stringValue.flatMap { $0.utf8.contains(0) ? nil : $0 }
        }
    }

    /// An object of numbers; null is NaN, as documents have it.
    mutating func metrics(_ name: String) throws(CairnError) -> [String: Double] {
        try value(name, "an object of numbers") { $0.members.flatMap(Self.metrics) } ?? [:]
    }

    /// All that are left, as metrics.
    mutating func metrics() throws(CairnError) -> [String: Double] {
        defer { members = [:] }
        guard let metrics = Self.metrics(members.map { JSON.Member($0.key, $0.value) }) else {
            throw CairnError(.usage, "metrics must be a JSON object of numbers, such as {\"loss\": 0.25}")
        }
        return metrics
    }

    /// To be called last.
    /// - Throws: `usage` where an option is left that nobody has asked for.
    func end() throws(CairnError) {
        if let name = members.keys.min() { throw CairnError(.usage, "there is no option \"\(name)\" here") }
    }

    private mutating func value<T>(
        _ name: String, _ kind: String, _ convert: (JSON) -> T?
    ) throws(CairnError) -> T? {
        guard let value = json(name) else { return nil }
        guard let converted = convert(value) else {
            throw CairnError(.usage, "the option \"\(name)\" must be \(kind)")
        }
        return converted
    }

    private static func metrics(_ members: [JSON.Member]) -> [String: Double]? {
        var metrics: [String: Double] = [:]
        for member in members {
            guard let number = member.value.isNull ? .nan : member.value.double else { return nil }
            metrics[member.key] = number
        }
        return metrics
    }
}
