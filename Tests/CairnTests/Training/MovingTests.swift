import Platform
import Testing

@testable import Cairn

/// Which originals may go, by what is known of them alone.
@Suite struct MovingTests {
    /// A framework with a pointer.
    private struct Pointing: Layout {
        var name: String { "pointing" }
        var abilities: LayoutAbilities {
            LayoutAbilities(
                title: "", splits: false, resumes: false, exportsTo: nil, exportsToHuggingFace: false)
        }
        var allowsMoving = true
        func candidates(in output: OutputFolder) throws -> [Candidate] { [] }
        func recognises(_ view: CheckpointView) throws -> Bool { false }
        func inspect(_ view: CheckpointView) throws -> Inspection { Inspection() }
        func pointers(to iteration: Candidate) -> [Pointer] {
            [Pointer(path: "latest", text: iteration.name)]
        }
    }

    private var moving = Moving()

    private func candidate(_ step: UInt64) -> Candidate {
        Candidate(name: "checkpoint-\(step)", path: "checkpoint-\(step)", step: step)
    }

    /// - Parameter time: nil: the step.
    private mutating func note(
        _ step: UInt64, time: Int64? = nil, best: UInt64? = nil, stored: Bool = true, faults: [String] = [],
        unhealthy: String? = nil, _ layout: any Layout = Pointing()
    ) {
        let inspection = Inspection(step: step, bestStep: best, faults: faults, unhealthy: unhealthy)
        let found = Found(candidate: candidate(step), layout: layout, inspection: inspection)
        moving.note(found, time: time ?? Int64(step))
        if stored { moving.stored(found.candidate) }
    }

    private func movable(_ named: String? = nil) -> [UInt64] {
        moving.movable(pointers(named)).map(\.step)
    }

    private func pointers(_ named: String?) -> [(layout: any Layout, pointer: Pointer)] {
        named.map { [(Pointing(), Pointer(path: "latest", text: $0))] } ?? []
    }

    private func reason(_ step: UInt64, named: String? = nil) -> String? {
        moving.reason(toKeep: candidate(step), pointers(named))
    }

    @Test mutating func allButTheNewestMayGoTheOldestFirst() {
        for step: UInt64 in [10, 9, 100] { note(step) }
        #expect(movable() == [9, 10])
        #expect(reason(100) == "the newest" && reason(9) == nil)
    }

    @Test mutating func theOnlyOneStays() {
        note(1)
        #expect(movable().isEmpty)
    }

    @Test mutating func whatChangedLastStaysAsWell() {
        note(1, time: 500)
        for step: UInt64 in [2, 3] { note(step) }
        #expect(movable() == [2] && reason(1) == "the newest")
    }

    @Test mutating func theBestThatTheNewestNamesStays() {
        note(1)
        note(2, best: 1)
        note(3, best: 2)
        #expect(movable() == [1], "what an earlier one called the best was so then")
        #expect(reason(2) == "the best")
    }

    @Test mutating func theBestStaysThatTheLastWrittenNames() {
        // The training went back to 2, and 9 is of before.
        note(1)
        note(2, time: 50, best: 1)
        note(9, best: 4)
        note(4)
        #expect(movable().isEmpty && reason(4) == "the best" && reason(1) == "the best")
    }

    @Test mutating func whatAPointerNamesStays() {
        for step: UInt64 in [1, 2, 3] { note(step) }
        #expect(movable("checkpoint-1") == [2])
        #expect(reason(1, named: "checkpoint-1") == "named by latest")
        #expect(movable("nothing") == [1, 2])
        let elsewhere = [
            (layout: Pointing() as any Layout, pointer: Pointer(path: "other", text: "checkpoint-1"))
        ]
        #expect(moving.movable(elsewhere).map(\.step) == [1, 2])
    }

    @Test mutating func theNewestThatIsHealthyStaysAsWell() {
        for step: UInt64 in [1, 2, 3] { note(step) }
        note(4, unhealthy: "the loss was not a number")
        #expect(movable() == [1, 2] && reason(3) == "the newest" && reason(4) == "the newest")
    }

    @Test mutating func aTimeThatSomebodySetsCounts() {
        for step: UInt64 in [1, 2, 3] { note(step) }
        moving.setTime(candidate(1), 77)
        #expect(movable() == [2])
    }

    @Test mutating func whatTheStoreDoesNotHaveStays() {
        note(1, stored: false)
        for step: UInt64 in [2, 3] { note(step) }
        #expect(movable() == [2] && reason(1) == "the store does not have it")
        // Another content than the one that is stored.
        note(2, stored: false)
        #expect(movable().isEmpty)
    }

    @Test mutating func anIncompleteOneNeitherGoesNorCounts() {
        for step: UInt64 in [1, 2] { note(step) }
        note(3, best: 1, faults: ["half of it is missing"])
        #expect(movable() == [1] && reason(2) == "the newest" && reason(3) != nil)
        // One that was complete.
        note(2, faults: ["half of it is missing"])
        #expect(movable().isEmpty && reason(1) == "the newest")
    }

    @Test mutating func aLayoutThatWouldMissItKeepsAll() {
        for step: UInt64 in [1, 2, 3] { note(step, Pointing(allowsMoving: false)) }
        #expect(movable().isEmpty && reason(1) == "its framework would miss it")
    }

    @Test mutating func whatCouldNotBeDeletedIsNotTriedAgainUntilItChanges() {
        for step: UInt64 in [1, 2, 3] { note(step) }
        moving.failed(candidate(1), "no permission")
        #expect(movable() == [2] && reason(1) == "no permission")
        note(1)
        #expect(movable() == [1, 2])
    }

    @Test mutating func whatIsGoneCountsNoLonger() {
        for step: UInt64 in [1, 2, 3] { note(step) }
        moving.forget(candidate(3))
        #expect(movable() == [1])
        moving.keepOnly([candidate(1)])
        #expect(movable().isEmpty && reason(1) == "the newest" && reason(2) != nil)
    }
}
