/// Which iterations of an output folder have been quiet for long enough to be looked at, each once for each content.
///
/// A pure value: whoever watches tells it what the files are like, and when.
struct Settling {
    /// Seconds without a change after which an iteration is looked at.
    static let quiet = 2.0
    /// Seconds after which one is tried again that could not be saved.
    static let pause = 30.0

    private struct Known {
        /// Of the sizes, times and numbers of its files.
        var state: Int
        /// When it was first seen so.
        var since: Double
        /// What is in it was looked at.
        var isDone = false
        var dueAgain: Double?
    }

    private var known: [Candidate: Known] = [:]

    /// Takes note of what the candidates are like now. Those that are not among them have vanished.
    /// - Parameter state: of a candidate; nil: as before.
    mutating func update(_ candidates: [Candidate], at now: Double, state: (Candidate) throws -> Int?)
        rethrows
    {
        var next: [Candidate: Known] = [:]
        for candidate in candidates {
            let before = known[candidate]
            guard let state = try state(candidate) ?? before?.state else { continue }
            if let before, before.state == state {
                next[candidate] = before
            } else {
                next[candidate] = Known(state: state, since: now)
            }
        }
        known = next
    }

    /// Those that are to be looked at now, in the order in which they became quiet.
    func due(at now: Double) -> [Candidate] {
        known.filter { dueTime($0.value).map { $0 <= now } ?? false }
            .sorted {
                ($0.value.since, $0.key.step ?? .max, $0.key.name) < (
                    $1.value.since, $1.key.step ?? .max, $1.key.name
                )
            }
            .map(\.key)
    }

    /// When the next one is due, as far as that is known.
    var nextDue: Double? { known.values.compactMap(dueTime).min() }

    /// Whether everything was looked at.
    var isIdle: Bool { known.values.allSatisfy(\.isDone) }

    /// Still to be looked at, so that their files have to be looked up again.
    func isOpen(_ candidate: Candidate) -> Bool { known[candidate]?.isDone != true }

    /// It was looked at; its content does not concern anybody until it changes.
    mutating func finish(_ candidate: Candidate) {
        known[candidate]?.isDone = true
        known[candidate]?.dueAgain = nil
    }

    /// It was looked at, and shall be again even if it does not change.
    mutating func postpone(_ candidate: Candidate, at now: Double, by seconds: Double = pause) {
        known[candidate]?.isDone = true
        known[candidate]?.dueAgain = now + seconds
    }

    private func dueTime(_ known: Known) -> Double? {
        known.isDone ? known.dueAgain : known.since + Self.quiet
    }
}
