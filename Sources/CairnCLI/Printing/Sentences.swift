import Cairn

/// Sentences and lines that several commands print.
enum Sentences {
    /// Facts in one line.
    static func joined(_ parts: [String?]) -> String { parts.compactMap { $0 }.joined(separator: " · ") }

    /// `loss 0.123, accuracy 0.9`
    static func metrics(_ metrics: [String: Double]) -> String {
        metrics.sorted { $0.key < $1.key }.map { "\($0.key) \(Units.value($0.value))" }.joined(
            separator: ", ")
    }

    /// `384.2 MiB in 9 files, 230 tensors`
    static func contents(bytes: UInt64, files: Int, tensors: Int? = nil) -> String {
        var text = "\(Units.size(bytes)) in \(Units.count(files, "file"))"
        if let tensors, tensors > 0 { text += ", \(Units.count(tensors, "tensor"))" }
        return text
    }

    /// Steps that a line names before it says how many more there are.
    private static let stepsInALine = 8

    /// A line for all iterations of a run that go for the same reason.
    static func deleted(_ iterations: [DeletedIteration], _ verb: String, withReasons: Bool = true)
        -> [String]
    {
        var groups: [(first: DeletedIteration, steps: [UInt64])] = []
        for iteration in iterations {
            if let last = groups.last?.first, last.run == iteration.run, last.reason == iteration.reason {
                groups[groups.count - 1].steps.append(iteration.step)
            } else {
                groups.append((iteration, [iteration.step]))
            }
        }
        return groups.map { first, steps in
            let reason = first.reason.isEmpty || !withReasons ? "" : ": \(first.reason)"
            guard steps.count > 1 else { return "\(verb) \(first.run)@\(first.step)\(reason)".printable }
            var named = steps.prefix(stepsInALine).map(String.init).joined(separator: ", ")
            if steps.count > stepsInALine { named += " and \(steps.count - stepsInALine) more" }
            return "\(verb) \(steps.count) iterations of \(first.run) (\(named))\(reason)".printable
        }
    }

    static func skipped(_ iterations: [DeletedIteration]) -> [String] {
        iterations.map { "kept for now \($0.run)@\($0.step): someone is reading it".printable }
    }

    /// A line for the iteration and one for each thing in it that is lost.
    static func damage(_ damaged: [DamagedIteration]) -> [String] {
        damaged.flatMap { iteration in
            ["damaged \(iteration.run)@\(iteration.step)".printable]
                + iteration.files.map { "  file    \($0.printable)" }
                + iteration.tensors.map { "  tensor  \($0.printable)" }
        }
    }

    static func lines(_ lines: [String]) -> String { lines.joined(separator: "\n") }
}
