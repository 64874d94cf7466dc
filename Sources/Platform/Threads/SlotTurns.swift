/// How jobs work on pieces: each job has two slots that take turns, so that the disk brings what one piece needs while another is worked
/// on.
public struct SlotTurns<Slot, Begun>: Sendable {
    private struct State {
        var next = 0
        var failed = false
    }

    private let slot: @Sendable () throws -> Slot
    private let begin: @Sendable (Int, Slot) throws -> Begun
    private let finish: @Sendable (Begun, Slot) throws -> Void
    private let end: @Sendable (Slot) throws -> Void

    /// - Parameters:
    ///   - slot: what one piece needs; made by the job that uses it.
    ///   - begin: looks a piece up by its number, and begins to read what it needs.
    ///   - finish: does the rest.
    ///   - end: called at the end for each slot.
    public init(
        slot: @escaping @Sendable () throws -> Slot,
        begin: @escaping @Sendable (Int, Slot) throws -> Begun,
        finish: @escaping @Sendable (Begun, Slot) throws -> Void,
        end: @escaping @Sendable (Slot) throws -> Void = { _ in }
    ) {
        self.slot = slot
        self.begin = begin
        self.finish = finish
        self.end = end
    }

    /// Works on pieces beside threads that run errands meanwhile.
    /// - Parameters:
    ///   - count: of the pieces.
    ///   - jobs: at most.
    ///   - slots: of each job; 1 where there is no room for two.
    ///   - errands: of which the pieces make use.
    public func run(_ count: Int, jobs: Int, slots: Int, _ errands: Errands) throws {
        let jobs = min(jobs, count)
        guard jobs > 0 else { return }
        try run(count, slots: slots) { job in
            try WorkerPool.shared.run(
                jobs: jobs, job, helpers: jobs, help: { _ in errands.serve() },
                release: { errands.close() })
        }
    }

    /// Works on pieces. No more are begun after one has failed.
    /// - Parameters:
    ///   - count: of the pieces.
    ///   - slots: as above.
    ///   - jobs: runs on several threads what it is given.
    public func run(
        _ count: Int, slots: Int, jobs: (@escaping @Sendable (Int) throws -> Void) throws -> Void
    ) throws {
        let state = Monitor(State())
        try jobs { _ in
            do {
                try takeTurns(slots) {
                    state.change { state in
                        guard !state.failed, state.next < count else { return nil }
                        state.next += 1
                        return state.next - 1
                    }
                }
            } catch {
                state.change { $0.failed = true }
                throw error
            }
        }
    }

    private func takeTurns(_ slotCount: Int, next: () -> Int?) throws {
        var slots: [Slot] = []
        var before: (begun: Begun, slot: Slot)?
        func finishBefore() throws {
            guard let (begun, slot) = before else { return }
            before = nil
            try finish(begun, slot)
        }
        while let piece = next() {
            if slotCount == 1 { try finishBefore() }
            if slots.count < slotCount { slots.append(try slot()) }
            slots.reverse()
            let begun = try begin(piece, slots[0])
            try finishBefore()
            before = (begun, slots[0])
        }
        try finishBefore()
        for slot in slots { try end(slot) }
    }
}
