import Glibc
internal import Synchronization

/// Standard output and standard error, and what the terminal behind them tells us.
public enum Terminal {
    /// One of the two streams.
    public enum Stream: Int32, Sendable {
        case output = 1
        case error = 2
    }

    /// Puts /dev/null in the place of what the process was started without, as with `>&-`. Otherwise the next file that is opened
    /// gets the number of a standard stream, and what is printed goes into that file, which may be a journal.
    public static func openMissingStreams() {
        for number: Int32 in 0...2 where fcntl(number, F_GETFD) == -1 && errno == EBADF {
            // Those below are open by now, so this gets exactly this number.
            _ = open("/dev/null", O_RDWR)
        }
    }

    public static func isTerminal(_ stream: Stream) -> Bool { isatty(stream.rawValue) == 1 }

    /// The columns of the terminal behind the stream; nil where there is none or it does not say.
    public static func width(_ stream: Stream) -> Int? {
        guard isTerminal(stream) else { return nil }
        var size = winsize()
        guard ioctl(stream.rawValue, UInt(TIOCGWINSZ), &size) == 0, size.ws_col > 0 else { return nil }
        return Int(size.ws_col)
    }

    /// Writes all of the bytes, however often a signal interrupts it.
    ///
    /// - Returns: false where nobody reads the stream any more (EPIPE); the rest is dropped.
    /// - Throws: `system` for any other failure, such as a full disk behind a redirection.
    public static func write(_ bytes: UnsafeRawBufferPointer, to stream: Stream) throws(CairnError) -> Bool {
        var rest = bytes[...]
        while !rest.isEmpty {
            let written = Glibc.write(stream.rawValue, rest.baseAddress, rest.count)
            if written >= 0 {
                rest = rest.dropFirst(written)
                continue
            }
            switch errno {
            case EINTR: continue
            case EPIPE: return false
            case EAGAIN: waitUntilWritable(stream)
            default:
                throw .system(
                    errno, "write to", Path(stream == .output ? "standard output" : "standard error"))
            }
        }
        return true
    }

    public static func write(_ bytes: [UInt8], to stream: Stream) throws(CairnError) -> Bool {
        // A typed throw does not pass through `withUnsafeBytes`, which rethrows an untyped one.
        let result: Result<Bool, CairnError> = bytes.withUnsafeBytes { bytes in
            do throws(CairnError) { return .success(try write(bytes, to: stream)) } catch {
                return .failure(error)
            }
        }
        return try result.get()
    }

    /// A pipe that its other end made non-blocking is full now and then.
    private static func waitUntilWritable(_ stream: Stream) {
        var request = pollfd(fd: stream.rawValue, events: Int16(POLLOUT), revents: 0)
        poll(&request, 1, -1)
    }
}

extension UnsafeRawBufferPointer.SubSequence {
    fileprivate var baseAddress: UnsafeRawPointer? { UnsafeRawBufferPointer(rebasing: self).baseAddress }
}

/// SIGINT, SIGTERM and SIGHUP as a flag that long work looks at between chunks.
public enum Interruption {
    private static let flag = Atomic<Bool>(false)

    /// Whether the user or the system has asked the process to stop. Always false without `watch()`.
    public static var isRequested: Bool { flag.load(ordering: .relaxed) }

    /// From now on the first SIGINT, SIGTERM or SIGHUP (the terminal was closed) sets the flag, and a second one of any kind
    /// kills the process, as all do without this. A signal that is ignored, as under `nohup` or in a background job,
    /// stays ignored. SIGPIPE and SIGXFSZ are ignored, so that writing to a closed pipe or beyond a limit is an error like any other.
    ///
    /// For programs, not for libraries inside of others: it changes what the whole process does with these
    /// signals.
    public static func watch() {
        // Touched here, so that the handler finds the static value made: making it is not safe in a handler.
        flag.store(false, ordering: .relaxed)
        signal(SIGPIPE, SIG_IGN)
        signal(SIGXFSZ, SIG_IGN)
        for number in [SIGINT, SIGTERM, SIGHUP] {
            var action = sigaction()
            guard sigaction(number, nil, &action) == 0, !isIgnored(action) else { continue }
            action = sigaction()
            action.__sigaction_handler.sa_handler = { _ in
                Interruption.flag.store(true, ordering: .relaxed)
                signal(SIGINT, SIG_DFL)
                signal(SIGTERM, SIG_DFL)
                signal(SIGHUP, SIG_DFL)
            }
            action.sa_flags = SA_RESTART
            sigaction(number, &action, nil)
        }
    }

    private static func isIgnored(_ action: sigaction) -> Bool {
        unsafeBitCast(action.__sigaction_handler.sa_handler, to: Int.self)
            == unsafeBitCast(SIG_IGN, to: Int.self)
    }
}
