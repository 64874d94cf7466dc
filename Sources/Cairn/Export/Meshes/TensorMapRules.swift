internal import Platform
internal import TensorFormats
internal import _StringProcessing

/// Which axes of a mesh cut which axes of a tensor, by the tensors' names: what `--maps` reads. (Docs/tensor-maps.md)
struct TensorMapRules {
    private struct Rule {
        var pattern: Regex<AnyRegexOutput>
        /// For each axis of the tensor the names of the mesh's axes, the coarsest first.
        var cuts: [[String]]
    }

    private let rules: [Rule]

    /// - Throws: `.usage`, with where and why, where the file is not what Docs/tensor-maps.md says.
    init(parsing bytes: [UInt8], path: String) throws(CairnError) {
        func fail(_ why: String) -> CairnError { Self.error(path, why) }
        let json: JSON
        do {
            json = try JSON(parsing: bytes)
        } catch {
            throw fail("it is not JSON: \(error)")
        }
        try Self.check(json, ["about", "rules"], fail)
        guard let list = json["rules"]?.array else { throw fail("\"rules\" is no list") }
        var rules: [Rule] = []
        for (index, rule) in list.enumerated() {
            func fail(_ why: String) -> CairnError { Self.error(path, "rule \(index + 1): \(why)") }
            try Self.check(rule, ["about", "match", "cuts"], fail)
            guard let pattern = rule["match"]?.stringValue else { throw fail("\"match\" is no text") }
            guard let regex = try? Regex(pattern) else {
                throw fail("'\(pattern)' is not a regular expression")
            }
            guard let cuts = rule["cuts"]?.array?.map(Self.cut), !cuts.contains(nil) else {
                throw fail("\"cuts\" is no list of names, lists of names and nulls")
            }
            rules.append(Rule(pattern: regex, cuts: cuts.map { $0! }))
        }
        self.rules = rules
    }

    private static func error(_ path: String, _ why: String) -> CairnError {
        CairnError(.usage, "\(path): \(why); see Docs/tensor-maps.md", path: path)
    }

    private static func check(_ json: JSON, _ known: Set<String>, _ fail: (String) -> CairnError)
        throws(CairnError)
    {
        let names = known.sorted().map { "\"\($0)\"" }.joined(separator: ", ")
        guard let members = json.members else { throw fail("an object is wanted, with \(names)") }
        for member in members where !known.contains(member.key) {
            throw fail("\"\(member.key)\" is not known; known are \(names)")
        }
    }

    /// The names that cut one axis; nil where it is something else.
    private static func cut(_ json: JSON) -> [String]? {
        if json.isNull { return [] }
        if let name = json.stringValue { return [name] }
        guard let names = json.array?.map(\.stringValue), !names.contains(nil) else { return nil }
        return names.compactMap(\.self)
    }

    /// What the first rule says that matches all of the name; nil where none does.
    func cuts(_ name: String) -> [[String]]? {
        rules.first { (try? $0.pattern.wholeMatch(in: name)) != nil }?.cuts
    }
}
