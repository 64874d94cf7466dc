internal import CLinux
import Glibc

extension Process {
    /// How a child that was to find something out has ended.
    public enum ChildOutcome: Sendable, Equatable {
        case answered([UInt8])
        /// By a signal that a program brings on itself: a wrong address, a failed assertion.
        case crashed(signal: Int32)
    }

    /// What part of the patience each attempt gets: a lock that stays locked is met at once, and seldom twice.
    private static let shares = [6.0, 3, 1]

    /// Runs `body` in a forked child and returns the bytes that it returns: for reading what may crash whoever reads it.
    ///
    /// The child has one thread and a copy of all memory; what it changes there is lost. Of its parent's open files and locks it
    /// must use none: it opens its own. A lock in memory that another thread held at the fork stays locked in the child for good.
    /// For `malloc` the C library sees to that; our own locks are avoided by making new objects in the child; what is left are
    /// the moments in which the Swift runtime or the loader hold one of theirs: that of a generic type's witness tables, say, which
    /// each child makes anew. So a child that is silent for too long is killed, and another one tried. A program of its own,
    /// started by posix_spawn(3), would not have this problem, but a library inside another program has none to start.
    /// - Parameters:
    ///   - patience: seconds that the last child may be silent.
    ///   - body: calls what it is given now and then.
    /// - Throws: `.interrupted` where the user stopped the child; `.system` where it could not be run to its end.
    public static func inChild(
        patience: Double = 60, _ body: (_ isAlive: @escaping () -> Void) -> [UInt8]
    ) throws(CairnError) -> ChildOutcome {
        for share in shares {
            if let outcome = try Child(body).outcome(patience / share) { return outcome }
        }
        throw CairnError(
            .system,
            "\(shares.count) child processes did not answer, the last one for \(patience) s; try again")
    }
}

/// A forked child, and the pipe on which it says one zero byte after another, then a one and its answer.
private struct Child {
    private let pid: Int32
    private let pipe: Int32
    private static let crashes = [SIGSEGV, SIGBUS, SIGABRT, SIGILL, SIGTRAP, SIGFPE]

    init(_ body: (_ isAlive: @escaping () -> Void) -> [UInt8]) throws(CairnError) {
        var ends: [Int32] = [0, 0]
        let code = cl_pipe(&ends)
        guard code == 0 else { throw .system(code, "make", Path("a pipe")) }
        let output = ends[1]
        pid = cl_forkQuietly()
        if pid == 0 {
            let answer = body { Self.write([0], to: output) }
            Self.write([1] + answer, to: output)
            _exit(0)
        }
        let failure = errno
        close(output)
        pipe = ends[0]
        if pid < 0 {
            close(pipe)
            throw .system(failure, "start", Path("a child process"))
        }
    }

    private static func write(_ bytes: [UInt8], to output: Int32) {
        var rest = bytes[...]
        while !rest.isEmpty {
            let count = rest.withUnsafeBytes { Glibc.write(output, $0.baseAddress, $0.count) }
            if count < 0, errno != EINTR { _exit(1) }
            rest = rest.dropFirst(max(0, count))
        }
    }

    /// How it ended; nil where it was silent for too long.
    func outcome(_ patience: Double) throws(CairnError) -> Process.ChildOutcome? {
        let said = read(patience)
        close(pipe)
        if said == nil { kill(pid, SIGKILL) }
        var status: Int32 = 0
        while waitpid(pid, &status, 0) < 0, errno == EINTR {}
        guard let said else { return nil }
        if let start = said.firstIndex(where: { $0 != 0 }) { return .answered([UInt8](said[(start + 1)...])) }
        let signal = status & 0x7F
        if [SIGINT, SIGTERM, SIGHUP].contains(signal) {
            throw CairnError(.interrupted, "interrupted while a child process was at work")
        }
        // Who lets nobody wait for its children is told nothing of their end; it was none that had an answer.
        guard status == 0 || Self.crashes.contains(signal) else {
            throw CairnError(.system, "a child process was ended by signal \(signal), status \(status >> 8)")
        }
        return .crashed(signal: signal)
    }

    /// Everything that it says; nil where it is silent for too long.
    private func read(_ patience: Double) -> [UInt8]? {
        var said: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 1 << 16)
        var lastWord = Clock.monotonic
        while true {
            let left = patience - (Clock.monotonic - lastWord)
            guard left > 0 else { return nil }
            var request = pollfd(fd: pipe, events: Int16(POLLIN), revents: 0)
            guard poll(&request, 1, Int32(min(left, 1e6) * 1000) + 1) > 0 else { continue }
            let count = Glibc.read(pipe, &buffer, buffer.count)
            if count < 0 { continue }
            if count == 0 { return said }
            lastWord = Clock.monotonic
            // Zero bytes before the answer say nothing but that it lives.
            if said.isEmpty {
                said = [UInt8](buffer[..<count].drop { $0 == 0 })
            } else {
                said += buffer[..<count]
            }
        }
    }
}
