/// Calls that would keep a thread waiting, mostly for the disk: other threads make them meanwhile.
public final class Errands: Sendable {
    /// One such call.
    public final class Errand: Sendable {
        private enum Stage {
            case waiting(@Sendable () throws -> Void)
            case running
            case done(Result<Void, any Error>)
        }

        private let stage: Monitor<Stage>

        fileprivate init(_ body: @escaping @Sendable () throws -> Void) { stage = Monitor(.waiting(body)) }

        /// Returns when the call has been made; makes it where nobody has begun to.
        /// - Throws: what the call threw.
        public func wait() throws {
            run()
            let result: Result<Void, any Error> = stage.wait { stage in
                if case .done(let result) = stage { result } else { nil }
            }
            try result.get()
        }

        fileprivate func run() {
            let body: (@Sendable () throws -> Void)? = stage.change { stage in
                guard case .waiting(let body) = stage else { return nil }
                stage = .running
                return body
            }
            guard let body else { return }
            let result = Result { try body() }
            stage.change { $0 = .done(result) }
        }
    }

    private let state = Monitor<(waiting: [Errand], isClosed: Bool)>(([], false))

    public init() {}

    /// Has a call made by a thread in `serve()`, or by whoever waits for it first.
    public func send(_ body: @escaping @Sendable () throws -> Void) -> Errand {
        let errand = Errand(body)
        state.change { if !$0.isClosed { $0.waiting.append(errand) } }
        return errand
    }

    /// After `close()`: lets threads serve again.
    public func open() { state.change { $0.isClosed = false } }

    /// Makes calls, until `close()`.
    public func serve() {
        while true {
            let next = state.wait { state -> (errand: Errand?, isClosed: Bool)? in
                if !state.waiting.isEmpty { return (state.waiting.removeFirst(), false) }
                return state.isClosed ? (nil, true) : nil
            }
            guard let errand = next.errand else { return }
            errand.run()
        }
    }

    /// Lets the threads in `serve()` return. What nobody has begun is left to those who wait for it.
    public func close() {
        state.change { state in
            state.isClosed = true
            state.waiting = []
        }
    }
}
