internal import Platform
internal import TensorFormats

/// Applies the rules of a `Rename` to tensors.
final class Renaming {
    /// A tensor that is one of those that make another.
    struct Part {
        var tensor: GatheredTensor
        /// Which of them it is, along an axis and on a new one.
        var join: String?
        var stack: String?
    }

    private struct Whole {
        var name: String
        var rule: Rename.Rule
        /// What it is made of, the first in front.
        var sources: [String]
        var parts: [Part]
    }

    private let rename: Rename
    private let parameters: RenameParameters
    /// What stands before the names of the tensors, for messages.
    private let label: String
    /// In the order of the first of what each is made of.
    private var wholes: [Whole] = []
    /// By the bytes of the new names.
    private var places: [ExactText: Int] = [:]

    /// - Parameter config: the model's `config.json`.
    init(_ rename: Rename, config: JSON?) {
        self.rename = rename
        parameters = RenameParameters(rename.parameters, config: config)
        label = ""
    }

    /// For what is kept for the parameters whose names come behind the label.
    init(_ other: Renaming, label: String) {
        (rename, parameters, self.label) = (other.rename, other.parameters, label)
    }

    /// Whether what becomes of a tensor has its shape.
    func keepsShape(of name: String) throws -> Bool { try !rule(for: name).0.changesShape }

    /// What was made of which tensors.
    var origins: [(name: String, sources: [String])] { wholes.map { ($0.name, $0.sources) } }

    /// The tensors that the rules make of these.
    /// - Parameter assemble: puts one together; not called for those that a rule leaves out.
    /// - Throws: `.usage`, naming the tensor, where no rule matches it, its shape doesn't divide, or two make the same name.
    func apply<Tensor>(
        _ tensors: [(name: String, tensor: Tensor)], assemble: (Tensor) throws -> GatheredTensor
    ) throws -> [GatheredTensor] {
        for (name, tensor) in tensors {
            let (rule, match) = try rule(for: name)
            guard !rule.targets.isEmpty else { continue }
            let assembled = try assemble(tensor)
            try naming(rule, name) { try place(assembled, name, rule, match) }
        }
        return try wholes.map { whole in
            try naming(whole.rule, whole.sources[0]) { try self.whole(whole) }
        }
    }

    /// What is wrong is told with the rule and the tensor.
    private func naming<R>(_ rule: Rename.Rule, _ tensor: String, _ body: () throws -> R) throws -> R {
        do {
            return try body()
        } catch {
            throw CairnError(
                .usage,
                "rule \(rule.number) of \(rename.path) can't be applied to the tensor \(label)\(tensor): \(Rename.sentence(error))",
                path: rename.path)
        }
    }

    private func rule(for name: String) throws -> (Rename.Rule, Regex<AnyRegexOutput>.Match) {
        for rule in rename.rules {
            if let match = try rule.pattern.wholeMatch(in: name) { return (rule, match) }
        }
        throw CairnError(
            .usage,
            "no rule of \(rename.path) matches the tensor \(label)\(name); add one, which may say \"drop\": true",
            path: rename.path)
    }

    private func place(
        _ tensor: GatheredTensor, _ source: String, _ rule: Rename.Rule, _ match: Regex<AnyRegexOutput>.Match
    ) throws {
        let seen = try rule.first.map { tensor.seen(0, as: try factors(.init(factors: $0), of: tensor)) }
        for (counted, step) in try steps(seen ?? tensor, rule.each[...], [:]) {
            let parts = try rule.split.map { try split(step, $0, rule.targets.count) } ?? [step]
            for (part, target) in zip(parts, rule.targets) {
                guard let name = try target?.filled(match, counted) else { continue }
                let part = Part(
                    tensor: part, join: try rule.join?.part.filled(match, counted),
                    stack: try rule.stack?.part.filled(match, counted))
                try place(part, rule, name, from: source)
            }
        }
    }

    private func place(_ part: Part, _ rule: Rename.Rule, _ name: String, from source: String) throws {
        guard let place = places[ExactText(name)] else {
            places[ExactText(name)] = wholes.count
            return wholes.append(Whole(name: name, rule: rule, sources: [source], parts: [part]))
        }
        guard rule.joins, wholes[place].rule.number == rule.number else {
            throw Rename.Fault("it would become \(name), which \(wholes[place].sources[0]) becomes already")
        }
        wholes[place].parts.append(part)
        if wholes[place].sources.last != source { wholes[place].sources.append(source) }
    }

    // MARK: Splitting

    /// Each step along the first axes by itself, with its numbers.
    private func steps(
        _ tensor: GatheredTensor, _ names: ArraySlice<String>, _ counted: [String: UInt64]
    ) throws -> [([String: UInt64], GatheredTensor)] {
        guard let name = names.first else { return [(counted, tensor)] }
        guard let count = tensor.shape.first, count <= 1 << 20 else {
            throw Rename.Fault("its shape \(tensor.shape.text) has no axis that counts \"\(name)\"")
        }
        return try (0..<count).flatMap { index in
            var step = try tensor.sliced(axis: 0, index..<index + 1)
            step.shape.removeFirst()
            return try steps(step, names.dropFirst(), counted.merging([name: index]) { $1 })
        }
    }

    private func split(
        _ tensor: GatheredTensor, _ split: Rename.Split, _ count: Int
    ) throws -> [GatheredTensor] {
        let factors = try factors(split.view, of: tensor)
        let seen = tensor.seen(split.view.axis, as: factors)
        let length = factors[split.view.along]
        var start: UInt64 = 0
        return try sizes(split.sizes, count, of: length, tensor).map { size in
            defer { start += size }
            return try seen.sliced(axis: split.view.axis + split.view.along, start..<start + size)
                .merged(split.view.axis, factors.count)
        }
    }

    private func sizes(
        _ wanted: [Expression?]?, _ count: Int, of length: UInt64, _ tensor: GatheredTensor
    ) throws -> [UInt64] {
        let parts = UInt64(count)
        guard let wanted else {
            guard length.isMultiple(of: parts) else {
                throw Rename.Fault(
                    "of its shape \(tensor.shape.text), \(length) can't be cut into \(count) equal parts")
            }
            return [UInt64](repeating: length / parts, count: count)
        }
        let known = try wanted.map { try $0.map(parameters.value) }
        var left: UInt64? = length
        for size in known.compactMap(\.self) { left = left.flatMap { $0 >= size ? $0 - size : nil } }
        guard let left, left == 0 || known.contains(nil) else {
            let sum = known.map { $0.map(String.init) ?? "*" }.joined(separator: " + ")
            throw Rename.Fault("of its shape \(tensor.shape.text), \(length) is not \(sum)")
        }
        return known.map { $0 ?? left }
    }

    /// How long the axes are that an axis is seen as.
    private func factors(_ view: Rename.View, of tensor: GatheredTensor) throws -> [UInt64] {
        guard tensor.shape.indices.contains(view.axis) else {
            throw Rename.Fault("its shape \(tensor.shape.text) has no axis \(view.axis)")
        }
        let length = tensor.shape[view.axis]
        let known = try view.factors.map { try $0.map(parameters.value) }
        var product: UInt64? = 1
        for factor in known.compactMap(\.self) {
            product = product.flatMap { $0.multipliedReportingOverflow(by: factor) }.flatMap {
                $0.overflow ? nil : $0.partialValue
            }
        }
        if let product {
            if !known.contains(nil), product == length { return known.compactMap(\.self) }
            if known.contains(nil), product > 0, length.isMultiple(of: product) {
                return known.map { $0 ?? length / product }
            }
        }
        let text = known.map { $0.map(String.init) ?? "*" }.joined(separator: " x ")
        throw Rename.Fault(
            "its shape \(tensor.shape.text) has \(length) along axis \(view.axis), which is not \(text)")
    }

    // MARK: Joining

    private func whole(_ whole: Whole) throws -> GatheredTensor {
        var parts = whole.parts
        if let join = whole.rule.join {
            var groups: [String?: [Part]] = [:]
            for part in parts { groups[part.stack, default: []].append(part) }
            parts = try groups.map { stack, group in
                let ordered = try ordered(group, by: \.join, join, whole.name)
                return Part(tensor: try joined(ordered, join.view), stack: stack)
            }
        }
        if let stack = whole.rule.stack {
            let axis = stack.view.axis
            let ordered = try ordered(parts, by: \.stack, stack, whole.name).map { tensor in
                guard axis <= tensor.shape.count else {
                    throw Rename.Fault("its shape \(tensor.shape.text) has no place for a new axis \(axis)")
                }
                var tensor = tensor
                tensor.shape.insert(1, at: axis)
                return tensor
            }
            parts = [Part(tensor: try joined(ordered, Rename.View(axis: axis)))]
        }
        var tensor = parts[0].tensor
        if whole.rule.transposes {
            guard tensor.shape.count > 1 else {
                throw Rename.Fault("its shape \(tensor.shape.text) has no two axes that could change places")
            }
            tensor = try tensor.transposed()
        }
        tensor.name = whole.name
        return tensor
    }

    /// The parts in their order, each once and none missing.
    private func ordered(
        _ parts: [Part], by key: KeyPath<Part, String?>, _ join: Rename.Join, _ name: String
    ) throws -> [GatheredTensor] {
        let order = join.order ?? (0..<parts.count).map(String.init)
        var tensors: [String: GatheredTensor] = [:]
        for part in parts {
            let which = part[keyPath: key]!
            guard order.contains(which) || join.order == nil else {
                throw Rename.Fault("it would be the part \(which) of \(name), which has \(listed(order))")
            }
            guard tensors.updateValue(part.tensor, forKey: which) == nil else {
                throw Rename.Fault("\(name) would have the part \(which) twice")
            }
        }
        return try order.map { which in
            guard let tensor = tensors[which] else {
                throw Rename.Fault("\(name) would lack the part \(which)")
            }
            return tensor
        }
    }

    private func joined(_ tensors: [GatheredTensor], _ view: Rename.View) throws -> GatheredTensor {
        let axis = view.axis + view.along
        var seen: [GatheredTensor] = []
        for tensor in tensors {
            let factors = try factors(view, of: tensor)
            var next = tensor.seen(view.axis, as: factors)
            let length = next.shape[axis]
            if let first = seen.first {
                next.shape[axis] = first.shape[axis]
                guard next.shape == first.shape, next.dtype == first.dtype else {
                    throw Rename.Fault(
                        "\(tensors[0].dtype) \(tensors[0].shape.text) and \(tensor.dtype) \(tensor.shape.text) can't be joined there"
                    )
                }
                next.shape[axis] = length
            }
            seen.append(next)
        }
        return try GatheredTensor.joined(seen, axis: axis).merged(view.axis, view.factors.count)
    }
}

extension Rename.Rule {
    fileprivate var joins: Bool { join != nil || stack != nil }
}

extension GatheredTensor {
    /// With an axis seen as several.
    fileprivate func seen(_ axis: Int, as factors: [UInt64]) -> GatheredTensor {
        reshaped(shape[..<axis] + factors + shape[(axis + 1)...])
    }

    /// With axes seen as one.
    fileprivate func merged(_ axis: Int, _ count: Int) -> GatheredTensor {
        reshaped(shape[..<axis] + [shape[axis..<axis + count].reduce(1, *)] + shape[(axis + count)...])
    }
}
