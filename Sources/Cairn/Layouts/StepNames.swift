/// The names that frameworks give the folder of a step.
public enum StepNames {
    /// A name inside an output folder that looks like an iteration's.
    public struct Match: Sendable, Hashable {
        public var name: [UInt8]
        public var step: UInt64
    }

    /// What stands before the digits, each spelling with the framework that writes it.
    private static let prefixes: [String] = [
        "checkpoint-",  // Hugging Face, LLaMA-Factory
        "iteration_",  // MindFormers
        "iter_",  // Megatron-LM
        "global_step_",  // verl
        "global_step",  // DeepSpeed
        "step-",  // torchtitan
    ]

    /// The step that a folder's or file's name says: one of the prefixes, then decimal digits to the end, at
    /// most `Step.maximum`. Nil for every other name, `checkpoint-500.tmp` and `my-checkpoint-500` too.
    public static func step(of name: some Collection<UInt8>) -> UInt64? {
        for prefix in prefixes where name.starts(with: prefix.utf8) {
            if let step = Step.decimal(name.dropFirst(prefix.utf8.count)) { return step }
        }
        return nil
    }

    public static func step(of name: String) -> UInt64? { step(of: name.utf8) }

    /// The entries of a folder that look like iterations, by step: where there are any, it is an output
    /// folder, and one of them is what should be saved.
    ///
    /// A `global_stepN` beside a `trainer_state.json` doesn't count: there it is the DeepSpeed part of a
    /// Hugging Face checkpoint.
    public static func iterations(entryNames: [[UInt8]]) -> [Match] {
        let isCheckpoint = entryNames.contains { $0.elementsEqual("trainer_state.json".utf8) }
        var matches: [Match] = []
        for name in entryNames {
            guard let step = step(of: name) else { continue }
            if isCheckpoint, name.starts(with: "global_step".utf8) { continue }
            matches.append(Match(name: name, step: step))
        }
        return matches.sorted { a, b in
            a.step != b.step ? a.step < b.step : a.name.lexicographicallyPrecedes(b.name)
        }
    }
}
