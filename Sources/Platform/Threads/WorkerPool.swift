import Glibc

/// A few threads that are kept between jobs. Made when first used, and made anew in the child of a fork, where the parent's
/// threads do not exist.
public final class WorkerPool: @unchecked Sendable {
    // Unchecked: `current` is only touched while `guardian` is held.
    public static let shared = WorkerPool()

    private struct State {
        var jobs: [@Sendable () -> Void] = []
        /// Threads that no job has a claim on, those that are just starting among them.
        var free = 0
    }

    private let guardian = Monitor<(generation: UInt32, state: Monitor<State>)?>(nil)

    private struct Run {
        var left: Int
        var failure: (any Error)?
        /// Here, and not in each job: threads let go of a job some time after it has ended, and what `body` holds, files and locks,
        /// must not outlive the run.
        var body: (@Sendable (Int) throws -> Void)?
    }

    /// Runs `body(0)`, ..., `body(count - 1)`, each on a thread of its own, and returns when all have ended. None of the threads
    /// holds `body` then.
    /// - Throws: the first error that one of them threw; `.system`, having run nothing, where there are not so many threads.
    public func run(_ count: Int, _ body: @escaping @Sendable (Int) throws -> Void) throws {
        let run = Monitor(Run(left: count, body: body))
        try submit((0..<count).map { index in { Self.work(index, run) } })
        let failure = run.wait { $0.left == 0 ? .some($0.failure) : nil }
        if let failure { throw failure }
    }

    private static func work(_ index: Int, _ run: Monitor<Run>) {
        var failure: (any Error)?
        do { try perform(index, run) } catch { failure = error }
        run.change {
            $0.left -= 1
            if $0.left == 0 { $0.body = nil }
            if $0.failure == nil { $0.failure = failure }
        }
    }

    /// A function of its own, so that its reference to `body` ends with it.
    @inline(never)
    private static func perform(_ index: Int, _ run: Monitor<Run>) throws {
        let body = run.change(\.body)
        try body?(index)
    }

    /// Runs jobs beside threads that help them, as above.
    /// - Parameters:
    ///   - help: what each helper does, until `release` lets it return.
    ///   - release: called once, when the last job has ended, however it did.
    public func run(
        jobs: Int, _ job: @escaping @Sendable (Int) throws -> Void, helpers: Int,
        help: @escaping @Sendable (Int) throws -> Void, release: @escaping @Sendable () -> Void
    ) throws {
        let running = Monitor(jobs)
        try run(jobs + helpers) { index in
            if index >= jobs { return try help(index - jobs) }
            defer {
                let left = running.change { left in
                    left -= 1
                    return left
                }
                if left == 0 { release() }
            }
            try job(index)
        }
    }

    /// All or none: jobs may wait for one another, so each must have a thread.
    private func submit(_ jobs: [@Sendable () -> Void]) throws {
        let state = currentState()
        let code = state.change { current in
            while current.free < jobs.count {
                let code = Self.start(state)
                guard code == 0 else { return code }
                current.free += 1
            }
            current.free -= jobs.count
            current.jobs += jobs
            return 0
        }
        guard code == 0 else {
            throw CairnError(
                .system,
                "there is no room for \(jobs.count) threads (\(String(cString: strerror(code)))); give fewer with --jobs, "
                    + "or raise the limits of this shell (ulimit -u, ulimit -v)", errno: code)
        }
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

    /// Returns 0, or what is wrong.
    private static func start(_ state: Monitor<State>) -> Int32 {
        let context = Unmanaged.passRetained(state)
        var thread = pthread_t()
        let code = pthread_create(&thread, nil, threadMain, context.toOpaque())
        if code == 0 { pthread_detach(thread) } else { context.release() }
        return code
    }

    private static let threadMain: @convention(c) (UnsafeMutableRawPointer?) -> UnsafeMutableRawPointer? = {
        context in
        let state = Unmanaged<Monitor<State>>.fromOpaque(context!).takeRetainedValue()
        while true {
            let job: @Sendable () -> Void = state.wait { $0.jobs.isEmpty ? nil : $0.jobs.removeFirst() }
            job()
            state.change { $0.free += 1 }
        }
    }
}
