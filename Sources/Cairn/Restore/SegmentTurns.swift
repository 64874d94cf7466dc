internal import Platform

/// How jobs put segments together: each has two slots that take turns, so that the disk brings the chunks of one segment while another is
/// decoded, and threads beside them wait for the disk.
struct SegmentTurns<Slot, Begun>: Sendable {
    private struct State {
        var next = 0
        var failed = false
    }

    /// What one segment needs; made by the job that uses it.
    let slot: @Sendable () throws -> Slot
    /// Looks a segment up by its number, and begins to read it.
    let begin: @Sendable (Int, Slot) throws -> Begun
    /// Puts it together.
    let finish: @Sendable (Begun, Slot) throws -> Void
    /// Called at the end for each slot.
    var end: @Sendable (Slot) throws -> Void = { _ in }

    /// - Parameters:
    ///   - count: of the segments.
    ///   - size: bytes that a slot takes.
    ///   - errands: whose calls are made meanwhile.
    func run(_ count: Int, eachSlot size: Int, _ settings: Settings, _ errands: Errands) throws {
        guard count > 0 else { return }
        let (most, slots) = settings.jobs(eachSlot: size)
        let jobs = min(most, count)
        let state = Monitor(State())
        try WorkerPool.shared.run(
            jobs: jobs,
            { _ in
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
            }, helpers: jobs, help: { _ in errands.serve() }, release: { errands.close() })
    }

    private func takeTurns(_ slotCount: Int, next: () -> Int?) throws {
        var slots: [Slot] = []
        var before: (begun: Begun, slot: Slot)?
        func finishBefore() throws {
            guard let (begun, slot) = before else { return }
            before = nil
            try finish(begun, slot)
        }
        while let segment = next() {
            if slotCount == 1 { try finishBefore() }
            if slots.count < slotCount { slots.append(try slot()) }
            slots.reverse()
            let begun = try begin(segment, slots[0])
            try finishBefore()
            before = (begun, slots[0])
        }
        try finishBefore()
        for slot in slots { try end(slot) }
    }
}
