import Glibc
import Platform
import Testing

/// What a forked child says reaches its parent, and nothing else of it does.
@Suite struct ChildTests {
    @Test func itsAnswerComesBackWhole() throws {
        let answer = (0..<300_000).map { UInt8(truncatingIfNeeded: $0 * 7) }
        let outcome = try Platform.Process.inChild { isAlive in
            for _ in 0..<100_000 { isAlive() }
            return answer
        }
        #expect(outcome == .answered(answer))
        #expect(try Platform.Process.inChild { _ in [] } == .answered([]))
        #expect(try Platform.Process.inChild { _ in [0, 0, 1] } == .answered([0, 0, 1]))
    }

    @Test func itRunsInAProcessOfItsOwn() throws {
        let generation = Platform.Process.forkGeneration
        let outcome = try Platform.Process.inChild { _ in
            [Platform.Process.forkGeneration == generation + 1 ? 1 : 0, getppid() > 1 ? 1 : 0]
        }
        #expect(outcome == .answered([1, 1]))
        #expect(Platform.Process.forkGeneration == generation)
    }

    @Test(arguments: [SIGSEGV, SIGBUS, SIGABRT, SIGFPE])
    func itsCrashIsAnOutcome(signal: Int32) throws {
        let outcome = try Platform.Process.inChild { isAlive in
            isAlive()
            raise(signal)
            return [1]
        }
        #expect(outcome == .crashed(signal: signal))
    }

    @Test func whoKillsItIsNotTakenForItsOwnFault() throws {
        for signal in [SIGKILL, SIGTERM] {
            #expect(throws: CairnError.self) {
                try Platform.Process.inChild { _ in
                    raise(signal)
                    return []
                }
            }
        }
    }

    @Test func aSilentChildIsGivenUp() throws {
        #expect(throws: CairnError.self) {
            try Platform.Process.inChild(patience: 0.1) { _ in
                sleep(60)
                return []
            }
        }
    }
}
