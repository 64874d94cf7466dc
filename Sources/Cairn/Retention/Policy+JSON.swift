public import Platform
package import TensorFormats

extension Policy {
    /// One JSON object with the rules that are set, named as the flags are, in a fixed order:
    /// `{"keepLast":3,"keepEvery":1000,"keepBest":[{"count":2,"metric":"eval_loss","direction":"min"}],`
    /// `"keepWithin":"36h","keepFirst":true,"milestones":[1000],"maxSize":500000000000,"keepOptimizerLast":2,`
    /// `"auto":true}`.
    ///
    /// The same policy gives the same text; `maxSize` is in bytes.
    ///
    /// - Precondition: `check` passes.
    public var json: String {
        var members: [JSON.Member] = []
        if let keepLast { members.append(.init("keepLast", JSON(keepLast))) }
        if let keepEvery { members.append(.init("keepEvery", JSON(keepEvery))) }
        if !keepBest.isEmpty { members.append(.init("keepBest", .array(keepBest.map(\.json)))) }
        if let keepWithin { members.append(.init("keepWithin", .string(DurationText.text(keepWithin)))) }
        if keepFirst { members.append(.init("keepFirst", .bool(true))) }
        if !milestones.isEmpty { members.append(.init("milestones", .array(milestones.map { JSON($0) }))) }
        if let maxSize { members.append(.init("maxSize", JSON(maxSize))) }
        if let keepOptimizerLast { members.append(.init("keepOptimizerLast", JSON(keepOptimizerLast))) }
        if auto { members.append(.init("auto", .bool(true))) }
        return JSON.object(members).text
    }

    /// Reads what `json` wrote, also with white space and in another order.
    ///
    /// - Throws: `newerVersion` for a rule that is not known: to pass over it could delete what it keeps.
    ///   `damage` for what is no policy.
    public init(json text: String) throws(CairnError) {
        do throws(Malformed) {
            let json: JSON
            do { json = try JSON(parsing: [UInt8](text.utf8)) } catch { throw .other("\(error)") }
            try self.init(json)
        } catch {
            throw error.inStore
        }
    }

    /// Reads what someone gives: the same, where `keepBest` may also hold texts such as `3:eval_loss:min`, and `maxSize` be one such as `500GB`.
    ///
    /// - Throws: `usage` for what is no policy.
    package init(given json: JSON) throws(CairnError) {
        do throws(Malformed) { try self.init(json) } catch { throw error.given }
    }

    private init(_ json: JSON) throws(Malformed) {
        self.init()
        guard let members = json.members else { throw .other("not an object") }
        var seen: Set<String> = []
        for member in members {
            guard seen.insert(member.key).inserted else {
                throw .other("\(quoted(member.key)) stands there twice")
            }
            try set(member.key, to: member.value)
        }
        try Malformed.catching { () throws(CairnError) in try check() }
    }

    private mutating func set(_ key: String, to value: JSON) throws(Malformed) {
        switch key {
        case "keepLast": keepLast = try Self.value(value.int, key)
        case "keepEvery": keepEvery = try Self.value(value.uint64, key)
        case "keepBest":
            keepBest = []
            for rule in try Self.value(value.array, key) { keepBest.append(try Best(json: rule)) }
        case "keepWithin":
            let text = try Self.value(value.stringValue, key)
            keepWithin = try Malformed.catching { () throws(CairnError) in try DurationText.parse(text) }
        case "keepFirst": keepFirst = try Self.value(value.bool, key)
        case "milestones":
            var steps: Set<UInt64> = []
            for step in try Self.value(value.array, key) { steps.insert(try Self.value(step.uint64, key)) }
            milestones = steps.sorted()
        case "maxSize":
            if let text = value.stringValue {
                maxSize = try Malformed.catching { () throws(CairnError) in try ByteSize.parse(text) }
            } else {
                maxSize = try Self.value(value.uint64, key)
            }
        case "keepOptimizerLast": keepOptimizerLast = try Self.value(value.int, key)
        case "auto": auto = try Self.value(value.bool, key)
        default: throw .unknown("the policy holds \(quoted(key))")
        }
    }

    fileprivate static func value<T>(_ value: T?, _ key: String) throws(Malformed) -> T {
        guard let value else { throw .other("\(quoted(key)) has a value of the wrong kind") }
        return value
    }
}

/// What is wrong with a policy, as a part of a sentence.
private enum Malformed: Error {
    /// A rule that this version does not know.
    case unknown(String)
    case other(String)

    /// Of one that a store holds.
    var inStore: CairnError {
        switch self {
        case .unknown(let what):
            CairnError(.newerVersion, "\(what), which this version does not know; use a newer cairn")
        case .other(let what):
            CairnError(.damage, "a stored policy can't be read (\(what)); set it again with `cairn policy`")
        }
    }

    /// Of one that a caller gives.
    var given: CairnError {
        switch self {
        case .unknown(let what): CairnError(.usage, "\(what), which is no rule that this version knows")
        case .other(let what): CairnError(.usage, "this is no policy: \(what)")
        }
    }

    static func catching<T>(_ body: () throws(CairnError) -> T) throws(Malformed) -> T {
        do { return try body() } catch { throw .other(error.message) }
    }
}

extension Policy.Best {
    fileprivate var json: JSON {
        var members: [JSON.Member] = [.init("count", JSON(count)), .init("metric", .string(metric))]
        if let direction { members.append(.init("direction", .string(direction.rawValue))) }
        return .object(members)
    }

    fileprivate init(json: JSON) throws(Malformed) {
        if let text = json.stringValue {
            self = try Malformed.catching { () throws(CairnError) in try Self(parsing: text) }
            return
        }
        let members = try Policy.value(json.members, "keepBest")
        self.init(count: 0, metric: "")
        for member in members {
            switch member.key {
            case "count": count = try Policy.value(member.value.int, "count")
            case "metric": metric = try Policy.value(member.value.stringValue, "metric")
            case "direction":
                direction = Direction(rawValue: try Policy.value(member.value.stringValue, "direction"))
                guard direction != nil else { fallthrough }
            default: throw .unknown("the policy's keepBest holds \(quoted(member.key))")
            }
        }
    }
}
