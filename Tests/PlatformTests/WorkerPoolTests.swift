import Platform
import Testing

@Suite(.timeLimit(.minutes(5))) struct WorkerPoolTests {
    private final class Held: Sendable {
        func use() {}
    }

    /// Files and locks go when the last reference does: who asks for them next must not find them still held.
    @Test func nothingOfAJobIsHeldOnceAllHaveEnded() throws {
        for _ in 0..<2000 {
            weak var left: Held?
            do {
                let held = Held()
                left = held
                try WorkerPool.shared.run(4) { _ in held.use() }
            }
            #expect(left == nil)
        }
    }
}
