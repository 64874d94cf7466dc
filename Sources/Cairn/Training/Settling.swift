/// Which iterations of an output folder have been quiet for long enough to be looked at, each once for each content.
///
/// A pure value: whoever watches tells it what the files are like, and when.
struct Settling {
    /// Seconds without a change after which an iteration is looked at.
    static let quiet = 2.0
    /// The same where files of one that was saved have been written over, but not all: the others may be still to come.
    static let longQuiet = 30.0
    /// Seconds after which one is tried again that could not be saved; each time twice as many, up to a limit.
    private static let (firstRetry, lastRetry) = (2.0, 300.0)

    /// What the files of an iteration are like.
    struct State: Hashable {
        /// Of the names, sizes and times of its own files.
        var digest: Int
        /// The same of those that say something of others too: they may make it complete, and change nothing where it is saved.
        var beside = 0
        /// Nanoseconds since 1970 UTC at which the first and the last of them changed.
        var oldest: Int64
        var newest: Int64
    }

    private struct Known {
        var state: State
        /// When it was first seen so.
        var since: Double
        /// The content before this one that is saved.
        var before: State?
        /// How often it was looked at in vain.
        var attempts = 0
        /// What is in it was looked at.
        var isDone = false
        var isSaved = false
        var dueAgain: Double?

        var due: Double? {
            if isDone { return dueAgain }
            // Whoever writes it anew writes all of it: what is older is about to follow.
            let isPartly = before.map { state.oldest <= $0.newest } ?? false
            return since + (isPartly ? Settling.longQuiet : Settling.quiet)
        }

        func isSame(_ state: State) -> Bool {
            self.state.digest == state.digest && (isSaved || self.state.beside == state.beside)
        }

        /// The same candidate with other content.
        func changed(to state: State, at now: Double) -> Known {
            Known(state: state, since: now, before: isSaved ? self.state : before)
        }
    }

    private var known: [Candidate: Known] = [:]

    /// Takes note of what the candidates are like now. Those that are not among them have vanished.
    /// - Parameter state: of a candidate; nil: as before.
    mutating func update(_ candidates: [Candidate], at now: Double, state: (Candidate) -> State?) {
        var next: [Candidate: Known] = [:]
        for candidate in candidates {
            let before = known[candidate]
            guard let state = state(candidate) ?? before?.state else { continue }
            next[candidate] = Self.known(before, state, now)
        }
        known = next
    }

    /// Takes note of what one candidate is like now.
    /// - Returns: whether it is as it was.
    mutating func update(_ candidate: Candidate, at now: Double, state: State) -> Bool {
        let before = known[candidate]
        known[candidate] = Self.known(before, state, now)
        return before?.isSame(state) ?? false
    }

    private static func known(_ before: Known?, _ state: State, _ now: Double) -> Known {
        guard let before else { return Known(state: state, since: now) }
        return before.isSame(state) ? before : before.changed(to: state, at: now)
    }

    /// Those that are to be looked at now, in the order in which they became quiet.
    func due(at now: Double) -> [Candidate] {
        known.filter { $0.value.due.map { $0 <= now } ?? false }
            .sorted { ($0.value.since, $0.key) < ($1.value.since, $1.key) }
            .map(\.key)
    }

    /// When the next one is due, as far as that is known.
    var nextDue: Double? { known.values.compactMap(\.due).min() }

    /// Whether everything was looked at.
    var isIdle: Bool { known.values.allSatisfy(\.isDone) }

    /// Still to be looked at, so that its files have to be looked up again.
    func isOpen(_ candidate: Candidate) -> Bool { known[candidate]?.isDone != true }

    /// What is in it is saved.
    func isSaved(_ candidate: Candidate) -> Bool { known[candidate]?.isSaved == true }

    /// How often it was looked at in vain since it is what it is.
    func attempts(_ candidate: Candidate) -> Int { known[candidate]?.attempts ?? 0 }

    /// It was dealt with; its content does not concern anybody until it changes.
    mutating func finish(_ candidate: Candidate, isSaved: Bool) {
        known[candidate]?.isDone = true
        known[candidate]?.isSaved = isSaved
        known[candidate]?.dueAgain = nil
    }

    /// It was looked at, and shall be again even if it does not change.
    /// - Parameter seconds: nil: the longer the more often that was so.
    mutating func postpone(_ candidate: Candidate, at now: Double, by seconds: Double? = nil) {
        guard var one = known[candidate] else { return }
        let retry = Self.firstRetry * Double(1 << min(one.attempts, 16))
        one.isDone = true
        one.dueAgain = now + (seconds ?? min(retry, Self.lastRetry))
        one.attempts += 1
        known[candidate] = one
    }
}

extension Candidate: Comparable {
    /// By step, and of one step those first whose names say it.
    static func < (a: Candidate, b: Candidate) -> Bool {
        (a.step ?? .max, a.name, a.path) < (b.step ?? .max, b.name, b.path)
    }
}
