/// What the journal says when it is read from its beginning: the truth that the index must agree with.
struct JournalFold {
    struct Iteration {
        var run: String
        var step: UInt64
        var head: [UInt8]
        var isSuperseded = false
        var annotations: [JournalEvent.Annotation] = []
    }

    private(set) var iterations: [UInt64: Iteration] = [:]
    private(set) var pins: [String: UInt64] = [:]
    private(set) var runs: [String: (origin: String, policy: [UInt8])] = [:]
    /// In the order in which they came; those that a sweep removed are gone.
    private(set) var packs: [CommittedPack] = []
    /// The last record that says which version of the program wrote it.
    private(set) var version = ""

    init(_ records: [Journal.Stored]) {
        var removed: Set<PackName> = []
        for stored in records { apply(stored.record, &removed) }
        packs.removeAll { removed.contains($0.summary.name) }
    }

    private mutating func apply(_ record: JournalRecord, _ removed: inout Set<PackName>) {
        switch record.event {
        case .initialized(let version): self.version = version
        case .commit(let commit):
            if let replaced = commit.replaces { remove(replaced) }
            iterations[record.sequence] = Iteration(run: commit.run, step: commit.step, head: commit.head)
            let (origin, policy) = runs[commit.run] ?? ("", [])
            runs[commit.run] = (origin.isEmpty ? commit.origin : origin, policy)
            for pin in commit.pins { pins[pin] = record.sequence }
            packs += commit.packs
            version = commit.version
        case .delete(let deletions): for deletion in deletions { remove(deletion.iteration) }
        case .pin(let name, let iteration): pins[name] = iteration
        case .unpin(let name): pins[name] = nil
        case .policy(let run, let policy): runs[run] = (runs[run]?.origin ?? "", policy)
        case .sweep(_, let names): removed.formUnion(names)
        case .repair(let repaired): packs += repaired
        case .annotate(let annotation): iterations[annotation.iteration]?.annotations.append(annotation)
        case .rewind(let numbers): for number in numbers { iterations[number]?.isSuperseded = true }
        }
    }

    private mutating func remove(_ number: UInt64) {
        iterations[number] = nil
        pins = pins.filter { $0.value != number }
    }
}
