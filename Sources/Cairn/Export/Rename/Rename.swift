internal import Platform
internal import TensorFormats

/// How tensors get other names, and are split and joined on the way: what `--rename` reads. (Docs/rename.md)
struct Rename {
    /// An axis, seen as several: along one of these it is cut or joined.
    struct View {
        var axis = 0
        /// Nil stands for what is left.
        var factors: [Expression?] = [nil]
        var along = 0
    }

    struct Split {
        var view: View
        /// Nil: equal ones. Of one that is nil, what is left.
        var sizes: [Expression?]?
    }

    /// Several tensors that make one.
    struct Join {
        var view: View
        /// Which of them a tensor is.
        var part: NameTemplate
        /// The parts in their order; nil: they are numbered from 0 on.
        var order: [String]?
    }

    struct Rule {
        /// From 1 on.
        var number: Int
        var pattern: Regex<AnyRegexOutput>
        /// The first axis, seen as several; nil where it is taken as it is. Nil in it stands for what is left.
        var first: [Expression?]?
        /// Axes that are taken apart, from the first on, by the names that their numbers have.
        var each: [String] = []
        var split: Split?
        /// Nil stands for what is left out.
        var targets: [NameTemplate?] = []
        /// Along an axis, and on a new one.
        var join: Join?
        var stack: Join?
        /// Whether the last two axes of what comes out change places.
        var transposes = false

        /// Whether what comes out may have another shape than what goes in.
        var changesShape: Bool {
            first != nil || !each.isEmpty || split != nil || join != nil || stack != nil || transposes
        }
    }

    enum Parameter {
        case expression(Expression)
        /// Of the model's configuration, and what stands where that does not say it.
        case config(String, Expression?)
    }

    /// The file's, for messages.
    let path: String
    let parameters: [String: Parameter]
    let rules: [Rule]

    /// - Throws: `.usage`, with where and why, where the file is not what Docs/rename.md says.
    init(parsing bytes: [UInt8], path: String) throws(CairnError) {
        self.path = path
        do {
            let json = try JSON(parsing: bytes)
            let file = try Fields(json, ["about", "parameters", "rules"])
            parameters = try Self.parameters(file["parameters"])
            guard let list = file["rules"]?.array else { throw Fault("\"rules\" is no list") }
            rules = try list.enumerated().map { index, rule in
                do {
                    return try Self.rule(rule, index + 1)
                } catch {
                    throw Fault("rule \(index + 1): \(Self.sentence(error))")
                }
            }
        } catch {
            throw CairnError(.usage, "\(path): \(Self.sentence(error)); see Docs/rename.md", path: path)
        }
    }
}

// MARK: Reading

extension Rename {
    /// What is wrong, as the middle of a sentence.
    struct Fault: Error {
        var message: String
        init(_ message: String) { self.message = message }
    }

    static func sentence(_ error: any Error) -> String {
        switch error {
        case let error as Fault: error.message
        case let error as Expression.Fault: error.message
        case let error as NameTemplate.Fault: error.message
        case is GatheredTensor.WithinByte: "it would be cut within a byte, as its elements are smaller"
        case let error as JSONError: "it is not JSON: \(error)"
        default: "\(error)"
        }
    }

    /// The members of an object, of which each is known.
    private struct Fields {
        private let json: JSON

        init(_ json: JSON, _ known: Set<String>) throws {
            guard let members = json.members else {
                throw Fault("an object is wanted, with \(Self.list(known))")
            }
            for member in members where !known.contains(member.key) {
                throw Fault("\"\(member.key)\" is not known; known are \(Self.list(known))")
            }
            self.json = json
        }

        private static func list(_ known: Set<String>) -> String {
            known.sorted().map { "\"\($0)\"" }.joined(separator: ", ")
        }

        subscript(key: String) -> JSON? { json[key] }

        func text(_ key: String) throws -> String {
            guard let text = json[key]?.stringValue else { throw Fault("\"\(key)\" is no text") }
            return text
        }

        func texts(_ key: String) throws -> [String]? {
            guard let value = json[key] else { return nil }
            guard let texts = value.array?.map(\.stringValue), !texts.contains(nil) else {
                throw Fault("\"\(key)\" is no list of texts")
            }
            return texts.compactMap(\.self)
        }

        func number(_ key: String) throws -> Int? {
            guard let value = json[key] else { return nil }
            guard let number = value.int, number >= 0, number < 1 << 16 else {
                throw Fault("\"\(key)\" is no number from 0 on")
            }
            return number
        }

        /// A list of expressions, of which `"*"` is what is left.
        func expressions(_ key: String) throws -> [Expression?]? {
            guard let value = json[key] else { return nil }
            guard let values = value.array, !values.isEmpty else {
                throw Fault("\"\(key)\" is no list of numbers")
            }
            let expressions = try values.map { $0.stringValue == "*" ? nil : try Rename.expression($0, key) }
            guard expressions.filter({ $0 == nil }).count <= 1 else {
                throw Fault("\"\(key)\" has several \"*\", so what is left is not known")
            }
            return expressions
        }
    }

    private static func expression(_ json: JSON, _ key: String) throws -> Expression {
        if let number = json.uint64 { return Expression(number) }
        guard let text = json.stringValue else { throw Fault("\"\(key)\" is no number and no expression") }
        return try Expression(text)
    }

    private static func parameters(_ json: JSON?) throws -> [String: Parameter] {
        guard let json else { return [:] }
        guard let members = json.members else { throw Fault("\"parameters\" is no object") }
        var parameters: [String: Parameter] = [:]
        for member in members {
            guard case .object = member.value else {
                parameters[member.key] = .expression(try expression(member.value, member.key))
                continue
            }
            let fields = try Fields(member.value, ["config", "default"])
            let fallback = try fields["default"].map { try expression($0, member.key) }
            parameters[member.key] = .config(try fields.text("config"), fallback)
        }
        return parameters
    }

    private static func rule(_ json: JSON, _ number: Int) throws -> Rule {
        let fields = try Fields(
            json, ["about", "match", "to", "drop", "as", "each", "split", "join", "stack", "transpose"])
        let pattern = try fields.text("match")
        guard let regex = try? Regex(pattern) else { throw Fault("'\(pattern)' is not a regular expression") }
        var rule = Rule(number: number, pattern: regex)
        if let drop = fields["drop"] {
            guard drop.bool == true, fields["to"] == nil else {
                throw Fault("\"drop\" is true where there is no \"to\", and nothing else")
            }
            return rule
        }
        rule.first = try fields.expressions("as")
        rule.each = try fields.texts("each") ?? []
        rule.targets = try targets(fields["to"])
        rule.split = try fields["split"].map { try split($0, rule.targets.count) }
        rule.join = try fields["join"].map { try join($0, isNew: false) }
        rule.stack = try fields["stack"].map { try join($0, isNew: true) }
        guard rule.targets.count == 1 || rule.split != nil else {
            throw Fault("\"to\" has \(rule.targets.count) names, but there is no \"split\"")
        }
        if let transpose = fields["transpose"] {
            guard let transposes = transpose.bool else {
                throw Fault("\"transpose\" is neither true nor false")
            }
            rule.transposes = transposes
        }
        return rule
    }

    private static func targets(_ json: JSON?) throws -> [NameTemplate?] {
        if let text = json?.stringValue { return [try NameTemplate(text)] }
        guard let list = json?.array, list.contains(where: { !$0.isNull }) else {
            throw Fault("\"to\" is no name and no list of names; there may be \"drop\": true instead")
        }
        return try list.map { name in
            if name.isNull { return nil }
            guard let text = name.stringValue else { throw Fault("\"to\" has something that is no name") }
            return try NameTemplate(text)
        }
    }

    private static func view(_ fields: Fields) throws -> View {
        var view = View(axis: try fields.number("axis") ?? 0)
        view.factors = try fields.expressions("as") ?? view.factors
        view.along = try fields.number("along") ?? 0
        guard view.along < view.factors.count else {
            throw Fault(
                "\"along\" is \(view.along), but \"as\" has \(view.factors.count) numbers, counted from 0")
        }
        return view
    }

    private static func split(_ json: JSON, _ count: Int) throws -> Split {
        let fields = try Fields(json, ["axis", "as", "along", "sizes"])
        let split = Split(view: try view(fields), sizes: try fields.expressions("sizes"))
        guard (split.sizes?.count ?? count) == count else {
            throw Fault("\"sizes\" has \(split.sizes!.count) numbers, but \"to\" has \(count) names")
        }
        return split
    }

    private static func join(_ json: JSON, isNew: Bool) throws -> Join {
        let fields = try Fields(
            json, isNew ? ["axis", "by", "order"] : ["axis", "as", "along", "by", "order"])
        let join = Join(
            view: try view(fields), part: try NameTemplate(try fields.text("by")),
            order: try fields.texts("order"))
        // Of each part, the length along the axis where they are joined is its own.
        guard isNew || join.view.factors[join.view.along] == nil else {
            throw Fault("\"as\" has no \"*\" in the place that \"along\" says")
        }
        if let order = join.order, Set(order).count < order.count || order.isEmpty {
            throw Fault("\"order\" is empty, or names a part twice")
        }
        return join
    }
}
