internal import ChunkStore
public import Platform

extension Reference {
    /// What a reference is looked up in: a store at one moment.
    public struct Scope: Sendable {
        /// Of all runs, in any order.
        public var iterations: [IterationInfo]
        /// Names to the numbers of their iterations.
        public var pins: [String: UInt64]
        /// By run.
        public var policies: [String: Policy]
        /// All runs, also those that have no iteration any more.
        public var runs: [String]

        public init(
            iterations: [IterationInfo], pins: [String: UInt64], policies: [String: Policy] = [:],
            runs: [String]
        ) {
            self.iterations = iterations
            self.pins = pins
            self.policies = policies
            self.runs = runs
        }
    }

    /// The iteration it names. O(iterations)
    ///
    /// Pins and ids are looked up in all runs, everything else in the run that `RUN@` names, else in the
    /// store's only run, else in `main`.
    ///
    /// - Throws: `notFound`, or `ambiguous` with the candidates; the sentence says what there is instead.
    public func resolve(in scope: Scope) throws(CairnError) -> IterationInfo {
        if let run, !scope.runs.contains(run) { throw scope.noRun(run) }
        switch selector {
        case .pin(let name): return try scope.pinned(name, in: run)
        case .id(let digits): return try scope.identified(digits, in: run)
        case .latest: return try scope.latest(in: try scope.run(run))
        case .step(let step): return try scope.iteration(at: step, in: try scope.run(run))
        case .best(let metric, let direction):
            return try scope.best(metric, direction, in: try scope.run(run))
        }
    }
}

extension Reference.Scope {
    /// The run that is meant: the given one, else the only one, else `main`. Runs without iterations, such as one that only has
    /// a policy yet, count where there are no others.
    ///
    /// - Throws: `notFound` where there is no such run, `ambiguous` with the candidates where there are
    ///   several.
    public func run(_ given: String?) throws(CairnError) -> String {
        if let given {
            guard runs.contains(given) else { throw noRun(given) }
            return given
        }
        let saved = Set(iterations.map(\.run))
        let candidates = saved.isEmpty ? runs : runs.filter(saved.contains)
        if candidates.count == 1 { return candidates[0] }
        if candidates.contains(RunName.main.text) { return RunName.main.text }
        if runs.isEmpty { throw CairnError(.notFound, "the store holds no iteration yet; save one first") }
        throw CairnError(
            .ambiguous,
            "the store holds the runs \(listed(candidates.sorted())); say which one, with RUN@ or --run")
    }

    func latest(in run: String) throws(CairnError) -> IterationInfo {
        let all = iterations(of: run)
        if let latest = all.last(where: { !$0.superseded }) { return latest }
        guard let last = all.last else { throw empty(run) }
        throw CairnError(
            .notFound,
            "every iteration of run \(run) is superseded; name one by its step, such as \(last.step)")
    }

    func iteration(at step: UInt64, in run: String) throws(CairnError) -> IterationInfo {
        let all = iterations(of: run)
        if let found = all.last(where: { $0.step == step }) { return found }
        guard !all.isEmpty else { throw empty(run) }
        let nearest = [all.last { $0.step < step }, all.first { $0.step > step }].compactMap(\.self)
        let steps = nearest.map { String($0.step) }.joined(separator: " or ")
        throw CairnError(
            .notFound, "run \(run) has no iteration at step \(step); the nearest is at \(steps)")
    }

    func pinned(_ name: String, in run: String?) throws(CairnError) -> IterationInfo {
        guard let number = pins[name], let found = iterations.first(where: { $0.number == number }) else {
            let known = pins.keys.sorted()
            let hint = known.isEmpty ? "there are no pins" : "the pins are \(listed(known))"
            throw CairnError(
                .notFound, "no pin is called \(quoted(name)); \(hint), and a step is a number")
        }
        if let run, found.run != run {
            throw CairnError(
                .notFound, "the pin \(name) is on run \(found.run), not on \(run); write \(name) alone")
        }
        return found
    }

    func identified(_ digits: String, in run: String?) throws(CairnError) -> IterationInfo {
        let found = iterations.filter { (run == nil || $0.run == run) && $0.id.hex.hasPrefix(digits) }
        if found.count == 1 { return found[0] }
        if found.isEmpty {
            let place = run.map { "in run \($0)" } ?? "in any run"
            throw CairnError(
                .notFound,
                "no iteration \(place) has an id that begins with \(digits); see `cairn list --json`")
        }
        let candidates = found.map {
            "\($0.run)@\($0.step) (#\($0.id.hex.prefix(max(12, digits.count + 4))))"
        }
        throw CairnError(
            .ambiguous,
            "several iterations have ids that begin with \(digits): \(listed(candidates)); "
                + "give more digits")
    }

    /// By step; of equal steps the superseded first and the newest commit last.
    func iterations(of run: String) -> [IterationInfo] {
        iterations.filter { $0.run == run }.sorted { a, b in
            if a.step != b.step { return a.step < b.step }
            if a.superseded != b.superseded { return a.superseded }
            return a.number < b.number
        }
    }

    func empty(_ run: String) -> CairnError {
        CairnError(.notFound, "run \(run) holds no iteration; save one first, or name another run with RUN@")
    }

    func noRun(_ run: String) -> CairnError {
        let hint = runs.isEmpty ? "the store holds no iteration yet" : "the runs are \(listed(runs.sorted()))"
        return CairnError(.notFound, "there is no run called \(quoted(run)); \(hint)")
    }
}

/// Names inside a sentence, the first twenty of them.
func listed(_ names: [String]) -> String {
    names.prefix(20).joined(separator: ", ") + (names.count > 20 ? " and \(names.count - 20) more" : "")
}
