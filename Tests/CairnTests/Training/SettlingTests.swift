import Testing

@testable import Cairn

/// When iterations are due, told what they are like at which second.
@Suite struct SettlingTests {
    private let first = Candidate(name: "checkpoint-1", path: "checkpoint-1", step: 1)
    private let second = Candidate(name: "checkpoint-2", path: "checkpoint-2", step: 2)
    private var settling = Settling()

    /// - Parameter times: when the files changed, in seconds.
    private func state(_ digest: Int, _ times: ClosedRange<Int64> = 0...0) -> Settling.State {
        .init(digest: digest, oldest: times.lowerBound, newest: times.upperBound)
    }

    private mutating func see(_ states: [Candidate: Settling.State], at now: Double) {
        settling.update(Array(states.keys), at: now) { states[$0] }
    }

    @Test mutating func itIsDueOnceNothingHasChangedForTwoSeconds() {
        see([first: state(1)], at: 10)
        #expect(settling.due(at: 11.9).isEmpty && settling.nextDue == 12)
        #expect(settling.due(at: 12) == [first])
        see([first: state(2)], at: 11.9)
        #expect(settling.due(at: 13.8).isEmpty)
        #expect(settling.due(at: 13.9) == [first])
    }

    @Test mutating func whatIsFinishedIsDueAgainOnlyWhenItChanges() {
        see([first: state(1)], at: 0)
        #expect(!settling.isIdle && settling.isOpen(first))
        settling.finish(first, isSaved: true)
        #expect(settling.isIdle && !settling.isOpen(first) && settling.nextDue == nil)
        see([first: state(1)], at: 100)
        #expect(settling.due(at: 1000).isEmpty)
        see([first: state(2, 1...1)], at: 200)
        #expect(settling.isOpen(first) && settling.due(at: 202) == [first])
    }

    @Test mutating func theLongestQuietComesFirstAndThenTheLeastStep() {
        let alias = Candidate(name: "best.pt", path: "best.pt", step: nil)
        see([second: state(1), first: state(1), alias: state(1)], at: 0)
        #expect(settling.due(at: 2) == [first, second, alias])
        see([second: state(1), first: state(2), alias: state(1)], at: 1)
        #expect(settling.due(at: 3) == [second, alias, first])
    }

    @Test mutating func nilMeansAsBefore() {
        see([first: state(1)], at: 0)
        settling.update([first], at: 1) { _ in nil }
        #expect(settling.due(at: 2) == [first])
        // Of one that was never seen there is no before.
        settling.update([first, second], at: 1) { _ in nil }
        #expect(settling.due(at: 9) == [first])
    }

    @Test mutating func whatVanishedIsForgotten() {
        see([first: state(1), second: state(1)], at: 0)
        settling.finish(first, isSaved: true)
        see([second: state(1)], at: 1)
        see([first: state(1), second: state(1)], at: 2)
        #expect(settling.due(at: 3.9) == [second] && settling.due(at: 4) == [second, first])
    }

    @Test mutating func whatIsWrittenOverInPartHasToBeQuietForLonger() {
        see([first: state(1, 100...103)], at: 0)
        settling.finish(first, isSaved: true)
        // The model is new, and the trainer's state not yet.
        see([first: state(2, 103...200)], at: 10)
        #expect(settling.due(at: 39.9).isEmpty && settling.due(at: 40) == [first])
        see([first: state(3, 104...201)], at: 12)
        #expect(settling.due(at: 14) == [first])
    }

    @Test mutating func whatWasNotSavedNeedsNoLongerQuiet() {
        see([first: state(1, 100...103)], at: 0)
        settling.postpone(first, at: 2, by: 30)
        see([first: state(2, 100...110)], at: 3)
        #expect(settling.due(at: 5) == [first])
        settling.finish(first, isSaved: false)
        see([first: state(3, 100...120)], at: 6)
        #expect(settling.due(at: 8) == [first])
    }

    @Test mutating func whatIsBesideItCountsUntilItIsSaved() {
        let (before, after) = (Settling.State(digest: 1, beside: 1, oldest: 0, newest: 0), 2)
        var changed = before
        changed.beside = after
        see([first: before, second: before], at: 0)
        settling.finish(first, isSaved: true)
        settling.finish(second, isSaved: false)
        see([first: changed, second: changed], at: 10)
        #expect(!settling.isOpen(first) && settling.isOpen(second) && settling.isSaved(first))
        #expect(settling.due(at: 12) == [second])
    }

    @Test mutating func whatFailsIsTriedAgainAfterTwiceTheTimeUpToFiveMinutes() {
        see([first: state(1)], at: 0)
        var pauses: [Double] = []
        for _ in 0..<12 {
            settling.postpone(first, at: 1000)
            #expect(settling.isIdle && !settling.isOpen(first))
            pauses.append(settling.nextDue! - 1000)
        }
        #expect(pauses == [2, 4, 8, 16, 32, 64, 128, 256, 300, 300, 300, 300])
        #expect(settling.attempts(first) == 12)
        see([first: state(2)], at: 2000)
        #expect(settling.attempts(first) == 0 && settling.nextDue == 2002)
    }

    @Test mutating func aChangeSeenAtTheLastMomentPutsItOff() {
        see([first: state(1)], at: 0)
        let isSame = settling.update(first, at: 2, state: state(1))
        #expect(isSame && settling.due(at: 2) == [first])
        let isStillSame = settling.update(first, at: 2, state: state(2))
        #expect(!isStillSame)
        #expect(settling.due(at: 3.9).isEmpty && settling.due(at: 4) == [first])
    }

    @Test mutating func whatIsUnknownIsIgnored() {
        settling.finish(first, isSaved: true)
        settling.postpone(first, at: 0)
        #expect(settling.nextDue == nil && settling.isIdle && settling.attempts(first) == 0)
    }
}
