internal import TensorFormats

/// The values of a map's parameters: what it says itself, or the model's configuration does.
final class RenameParameters {
    private let parameters: [String: Rename.Parameter]
    private let config: JSON?
    private var values: [String: UInt64] = [:]
    /// What is being looked up: one within the other.
    private var open: Set<String> = []

    init(_ parameters: [String: Rename.Parameter], config: JSON?) {
        self.parameters = parameters
        self.config = config
    }

    func value(_ expression: Expression) throws -> UInt64 { try expression.value(value) }

    private func value(_ name: String) throws -> UInt64 {
        if let known = values[name] { return known }
        guard let parameter = parameters[name] else { throw Rename.Fault("there is no parameter \(name)") }
        guard open.insert(name).inserted else {
            throw Rename.Fault("the parameter \(name) depends on itself")
        }
        defer { open.remove(name) }
        let value =
            switch parameter {
            case .expression(let expression): try value(expression)
            case .config(let key, let fallback): try value(name, key, fallback)
            }
        values[name] = value
        return value
    }

    private func value(_ name: String, _ key: String, _ fallback: Expression?) throws -> UInt64 {
        // A null is what transformers writes for what follows from the rest.
        if let found = config?[key], !found.isNull {
            guard let number = found.uint64 else {
                throw Rename.Fault("\"\(key)\" in the model's config.json is no number")
            }
            return number
        }
        if let fallback { return try value(fallback) }
        throw Rename.Fault(
            config == nil
                ? "the parameter \(name) comes from the model's config.json, which is not there; pass it with --config"
                : "the parameter \(name) comes from \"\(key)\" in the model's config.json, which does not have it"
        )
    }
}
