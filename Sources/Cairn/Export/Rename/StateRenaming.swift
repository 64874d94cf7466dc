internal import Platform
internal import TensorFormats

/// What an optimizer keeps for parameters, under the names that these get, and cut and joined as they are.
///
/// Layouts call `exp_avg.model.norm.weight` what is kept for `model.norm.weight`; what is kept for no parameter stays as it is.
struct StateRenaming {
    private struct State {
        var word: String
        /// Of the shape of their parameters, or only renamed; by the names of the parameters.
        var alike: [(name: String, tensor: Assembly.Tensor)] = []
        /// Of one element, such as a count of steps.
        var numbers: [ExactText: GatheredTensor] = [:]
    }

    private(set) var tensors: [GatheredTensor] = []

    /// - Parameter renaming: of the model, which it was applied to.
    /// - Throws: `.usage`, naming the tensor, where it can't be cut or joined as its parameter is.
    init(_ renaming: Renaming, _ assembly: Assembly, _ assembler: inout Assembler) throws {
        let shapes = Dictionary(assembly.tensors.map { (ExactText($0.name), $0.shape) }) { first, _ in first }
        var states: [State] = []
        var places: [String: Int] = [:]
        var others: [GatheredTensor] = []
        for tensor in assembly.optimizer {
            let parts = tensor.name.split(separator: ".", maxSplits: 1, omittingEmptySubsequences: false)
            guard parts.count == 2, let shape = shapes[ExactText(String(parts[1]))] else {
                others.append(try assembler.tensor(tensor))
                continue
            }
            let (word, name) = (String(parts[0]), String(parts[1]))
            let place = places[word] ?? states.count
            if place == states.count {
                places[word] = place
                states.append(State(word: word))
            }
            if try tensor.shape == shape || renaming.keepsShape(of: name) {
                states[place].alike.append((name, tensor))
            } else if tensor.shape.allSatisfy({ $0 == 1 }) {
                states[place].numbers[ExactText(name)] = try assembler.tensor(tensor)
            } else {
                throw CairnError(
                    .usage,
                    "the optimizer's tensor \(tensor.name) is \(tensor.shape.text), so it can't be cut or joined as \(name) is, which is "
                        + "\(shape.text); leave the optimizer's state out")
            }
        }
        for state in states {
            let label = state.word + "."
            var renamed = try Renaming(renaming, label: label).apply(state.alike) { try assembler.tensor($0) }
            renamed += try Self.numbers(state, renaming, assembler)
            tensors += renamed.map { tensor in
                var tensor = tensor
                tensor.name = label + tensor.name
                return tensor
            }
        }
        tensors += others
    }

    /// Numbers, for each of the parts that a parameter becomes. Those of parameters that become one must be the same.
    private static func numbers(
        _ state: State, _ renaming: Renaming, _ assembler: Assembler
    ) throws -> [GatheredTensor] {
        guard !state.numbers.isEmpty else { return [] }
        var made: [GatheredTensor] = []
        for (name, sources) in renaming.origins {
            let numbers = sources.compactMap { source in
                state.numbers[ExactText(source)].map { (source: source, number: $0) }
            }
            guard var first = numbers.first?.number else { continue }
            for (source, number) in numbers.dropFirst() {
                guard try assembler.areEqual(first, number) else {
                    throw CairnError(
                        .usage,
                        "the optimizer keeps different numbers in \(state.word).\(numbers[0].source) and \(state.word).\(source), "
                            + "which both become \(name), so it can't have one; leave the optimizer's state out"
                    )
                }
            }
            first.name = name
            made.append(first)
        }
        return made
    }
}
