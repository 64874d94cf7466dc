package import TensorFormats

// The documents of `cairn COMMAND --json`, which the C interface gives as well. What they hold is a contract: more may be added to it,
// nothing renamed. (Docs/design.md, 5)

extension JSON {
    /// An object with its members in this order.
    package static func fields(_ members: (String, JSON)...) -> JSON {
        .object(members.map { Member($0.0, $0.1) })
    }

    /// An array of what `body` makes of each.
    package static func list<T>(_ values: [T], _ body: (T) -> JSON) -> JSON { .array(values.map(body)) }

    package static func list(_ values: [String]) -> JSON { list(values) { JSON($0) } }

    package init(optional value: String?) { self = value.map { JSON($0) } ?? .null }

    package init(optional value: (some BinaryInteger)?) { self = value.map { JSON($0) } ?? .null }

    package init(optional value: Double?) { self = value.map { JSON($0) } ?? .null }

    /// Metrics by name. NaN and the infinities have no form in JSON: they become null, which readers in
    /// every language understand, where Python's bare `NaN` makes most of them fail. Which of them are infinite, `init(infinite:)` says.
    package init(metrics: [String: Double]) {
        self = .object(metrics.sorted { $0.key < $1.key }.map { Member($0.key, .number($0.value)) })
    }

    /// Infinite metrics by name: `"inf"` or `"-inf"`.
    package init(infinite metrics: [String: Double]) {
        self = .object(
            metrics.sorted { $0.key < $1.key }.map { Member($0.key, .string($0.value < 0 ? "-inf" : "inf")) })
    }

    /// Metadata by name, whose values are JSON texts; one that is not stands there as a string.
    package init(metadata: [String: String]) {
        self = .object(
            metadata.sorted { $0.key < $1.key }.map { name, text in
                Member(name, (try? JSON(parsing: [UInt8](text.utf8))) ?? .string(text))
            })
    }

    /// The document as it goes to standard output.
    package var line: [UInt8] { serialized() + [UInt8(ascii: "\n")] }
}
