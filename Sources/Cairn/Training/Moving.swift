internal import Platform

/// Which originals may go once the store has them. A pure value: it decides, and others delete.
struct Moving {
    /// A complete iteration in the output folder.
    private struct Original {
        var step: UInt64
        var layout: any Layout
        /// The step that was best so far when it was written.
        var best: UInt64?
        /// Nanoseconds since 1970 UTC at which it changed, as frameworks look at it.
        var time: Int64
        /// Its framework does not call it unhealthy.
        var isHealthy: Bool
        /// The store has it.
        var isStored = false
        /// Why it was not deleted when it could have been.
        var failure: String?
    }

    private var originals: [Candidate: Original] = [:]

    /// Takes note of an iteration as it is now.
    mutating func note(_ found: Found, time: Int64) {
        guard found.inspection.isComplete, let step = found.step, let layout = found.layout else {
            originals[found.candidate] = nil
            return
        }
        originals[found.candidate] = Original(
            step: step, layout: layout, best: found.inspection.bestStep, time: time,
            isHealthy: found.inspection.unhealthy == nil)
    }

    /// Somebody may have set another time since it was noted.
    mutating func setTime(_ candidate: Candidate, _ time: Int64) { originals[candidate]?.time = time }

    /// The store has it as it was noted.
    mutating func stored(_ candidate: Candidate) { originals[candidate]?.isStored = true }

    /// It could not be deleted, and is not to be tried again unless it changes.
    mutating func failed(_ candidate: Candidate, _ why: String) { originals[candidate]?.failure = why }

    /// It is gone.
    mutating func forget(_ candidate: Candidate) { originals[candidate] = nil }

    /// Those that were noted.
    var candidates: [Candidate] { Array(originals.keys) }

    /// All others are gone.
    mutating func keepOnly(_ present: [Candidate]) {
        guard originals.count > 0 else { return }
        let present = Set(present)
        originals = originals.filter { present.contains($0.key) }
    }

    /// Those that may go, the oldest first.
    /// - Parameter pointers: what each layout's pointer says, where there is one.
    func movable(
        _ pointers: [(layout: any Layout, pointer: Pointer)]
    ) -> [(candidate: Candidate, step: UInt64, layout: String)] {
        guard originals.values.contains(where: { $0.isStored && $0.layout.allowsMoving }) else { return [] }
        let needed = Needed(originals, pointers)
        return originals.filter { $0.value.isStored && needed.reason($0.key, $0.value) == nil }
            .map { ($0.key, $0.value.step, $0.value.layout.name) }
            .sorted { ($0.step, $0.candidate) < ($1.step, $1.candidate) }
    }

    /// Why an original has to stay; nil where it may go.
    func reason(toKeep candidate: Candidate, _ pointers: [(layout: any Layout, pointer: Pointer)]) -> String?
    {
        guard let own = originals[candidate] else { return "it is not known to be complete" }
        guard own.isStored else { return "the store does not have it" }
        return Needed(originals, pointers).reason(candidate, own)
    }

    /// What a training that goes on looks for.
    private struct Needed {
        private var iterations: [Candidate: String] = [:]
        private var steps: [UInt64: String] = [:]
        /// Those that several iterations call theirs: the store has one of these.
        private var doubles: Set<UInt64> = []

        init(_ originals: [Candidate: Original], _ pointers: [(layout: any Layout, pointer: Pointer)]) {
            for choice in [originals, originals.filter(\.value.isHealthy)] {
                // Some frameworks go on from the greatest step, and some from what changed last.
                let newest = [
                    choice.max { ($0.value.step, $0.key) < ($1.value.step, $1.key) },
                    choice.max { ($0.value.time, $0.value.step) < ($1.value.time, $1.value.step) },
                ]
                for case let (candidate, original)? in newest {
                    // What an earlier one called the best was so then.
                    if let best = original.best { steps[best] = "the best" }
                    iterations[candidate] = "the newest"
                }
            }
            let counts = Dictionary(originals.values.map { ($0.step, 1) }, uniquingKeysWith: +)
            doubles = Set(counts.filter { $0.value > 1 }.keys)
            for (layout, pointer) in pointers {
                for candidate in originals.keys
                where layout.pointers(to: candidate).contains(where: pointer.agrees) {
                    iterations[candidate] = "named by \(pointer.path)"
                }
            }
        }

        func reason(_ candidate: Candidate, _ original: Original) -> String? {
            if let why = iterations[candidate] ?? steps[original.step] { return why }
            if doubles.contains(original.step) { return "another one is of step \(original.step) as well" }
            if !original.layout.allowsMoving { return "its framework would miss it" }
            return original.failure
        }
    }
}

extension Candidate {
    /// The folder or the files that no other iteration needs, below the output folder.
    var own: [String] { files.map { $0.filter { !shared.contains($0) } } ?? [path] }
}

extension OutputFolder {
    /// Nanoseconds since 1970 UTC at which a candidate changed last, as frameworks look at it.
    func time(of candidate: Candidate) -> Int64 {
        candidate.own.map { time(of: path.appending($0)) }.max() ?? .min
    }

    private func time(of path: Path) -> Int64 {
        guard let status = try? FileSystem.status(path, followLinks: true) else { return .min }
        return status.seconds.multipliedReportingOverflow(by: 1_000_000_000).partialValue
            &+ Int64(status.nanoseconds)
    }

    /// What the pointers in it say.
    func pointers() throws -> [(layout: any Layout, pointer: Pointer)] {
        try Layouts.all.compactMap { layout in try layout.pointed(in: self).map { (layout, $0) } }
    }
}
