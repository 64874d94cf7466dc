import Glibc

/// A few threads that are kept between jobs. Made when first used, and made anew in the child of a fork, where the parent's
/// threads do not exist.
public final class WorkerPool: @unchecked Sendable {
    // Unchecked: `current` is only touched while `guardian` is held.
    public static let shared = WorkerPool()

    private struct State {
        var jobs: [@Sendable () -> Void] = []
        var idle = 0
        var threads = 0
    }

    private let guardian = Monitor<(generation: UInt32, state: Monitor<State>)?>(nil)

    /// Runs `body(0)`, ..., `body(count - 1)`, each on a thread of its own, and returns when all have ended.
    /// - Throws: the first error that one of them threw.
    public func run(_ count: Int, _ body: @escaping @Sendable (Int) throws -> Void) throws {
        let outcome = Monitor<(left: Int, failure: (any Error)?)>((count, nil))
        for index in 0..<count {
            submit {
                var failure: (any Error)?
                do { try body(index) } catch { failure = error }
                outcome.change {
                    $0.left -= 1
                    if $0.failure == nil { $0.failure = failure }
                }
            }
        }
        let failure = outcome.wait { $0.left == 0 ? .some($0.failure) : nil }
        if let failure { throw failure }
    }

    private func submit(_ job: @escaping @Sendable () -> Void) {
        let state = currentState()
        let needsThread = state.change { state in
            state.jobs.append(job)
            guard state.idle < state.jobs.count else { return false }
            state.threads += 1
            return true
        }
        if needsThread { Self.start(state) }
    }

    private func currentState() -> Monitor<State> {
        let generation = Process.forkGeneration
        return guardian.change { current in
            if let current, current.generation == generation { return current.state }
            let state = Monitor(State())
            current = (generation, state)
            return state
        }
    }

    private static func start(_ state: Monitor<State>) {
        let context = Unmanaged.passRetained(state)
        var thread = pthread_t()
        let code = pthread_create(&thread, nil, threadMain, context.toOpaque())
        // Without threads nothing can go on, and a pool that has one already still gets its work done.
        if code != 0 {
            context.release()
            let left = state.change { state in
                state.threads -= 1
                return state.threads
            }
            precondition(left > 0, "cannot start a thread")
            return
        }
        pthread_detach(thread)
    }

    private static let threadMain: @convention(c) (UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? = {
        context in
        let state = Unmanaged<Monitor<State>>.fromOpaque(context!).takeRetainedValue()
        while true {
            state.change { $0.idle += 1 }
            let job: @Sendable () -> Void = state.wait { state in
                guard !state.jobs.isEmpty else { return nil }
                state.idle -= 1
                return state.jobs.removeFirst()
            }
            job()
        }
    }
}
