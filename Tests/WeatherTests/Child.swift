import Foundation
import Glibc

/// A program run as a child process, its output in files, so that no pipe can fill up.
final class Child {
    /// How a child ended.
    struct Ending {
        /// The exit status; nil where a signal ended it.
        var status: Int32?
        var signal: Int32?
        var output: String
        var error: String

        var summary: String {
            let how = status.map { "status \($0)" } ?? "signal \(signal ?? 0)"
            return "\(how), stderr: \(error.isEmpty ? "nothing" : error)"
        }

        /// The JSON document on standard output.
        func json() throws -> Any {
            try JSONSerialization.jsonObject(with: Data(output.utf8))
        }
    }

    /// A call of glibc that Swift does not see.
    private static let closeFrom:
        @convention(c) (UnsafeMutablePointer<posix_spawn_file_actions_t>, Int32) -> Int32 =
            unsafeBitCast(
                dlsym(nil, "posix_spawn_file_actions_addclosefrom_np"),
                to: (@convention(c) (UnsafeMutablePointer<posix_spawn_file_actions_t>, Int32) -> Int32).self)

    let pid: pid_t
    private let outputPath: String
    private let errorPath: String

    /// - Parameters:
    ///   - arguments: as bytes, since names need not be UTF-8; the first is the program.
    ///   - environment: beside what this process has.
    init(_ arguments: [[UInt8]], environment: [String: String] = [:]) throws {
        let stem = Weather.folder + "/child-" + UUID().uuidString
        (outputPath, errorPath) = (stem + ".out", stem + ".err")
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0)
        posix_spawn_file_actions_addopen(&actions, 1, outputPath, O_WRONLY | O_CREAT | O_TRUNC, 0o666)
        posix_spawn_file_actions_addopen(&actions, 2, errorPath, O_WRONLY | O_CREAT | O_TRUNC, 0o666)
        // Nothing else: it would keep files open that are written at this moment.
        _ = Self.closeFrom(&actions, 3)
        // Whatever this process ignores or blocks, the child gets its signals.
        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        var signals = sigset_t()
        sigemptyset(&signals)
        posix_spawnattr_setsigmask(&attributes, &signals)
        for number in [SIGINT, SIGTERM, SIGHUP, SIGPIPE] { sigaddset(&signals, number) }
        posix_spawnattr_setsigdefault(&attributes, &signals)
        posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK))
        var variables = ProcessInfo.processInfo.environment.filter { !$0.key.hasPrefix("CAIRN") }
        variables.merge(environment) { $1 }
        var argv: [UnsafeMutablePointer<CChar>?] = arguments.map { bytes in
            (bytes + [0]).withUnsafeBytes { strdup($0.bindMemory(to: CChar.self).baseAddress!) }
        }
        var envp: [UnsafeMutablePointer<CChar>?] = variables.map { strdup("\($0.key)=\($0.value)") }
        defer { for text in argv + envp { free(text) } }
        argv.append(nil)
        envp.append(nil)
        var started = pid_t()
        let code = posix_spawnp(&started, argv[0]!, &actions, &attributes, argv, envp)
        guard code == 0 else {
            throw Trouble("cannot start \(String(cString: argv[0]!)): \(String(cString: strerror(code)))")
        }
        pid = started
    }

    convenience init(_ arguments: [String], environment: [String: String] = [:]) throws {
        try self.init(arguments.map { [UInt8]($0.utf8) }, environment: environment)
    }

    deinit {
        unlink(outputPath)
        unlink(errorPath)
    }

    /// The most KiB of memory that it has had so far; nil once it has ended. What `wait4` says begins with its parent's.
    var peakMemory: Int? {
        let status = try? String(contentsOfFile: "/proc/\(pid)/status", encoding: .utf8)
        let line = status?.split(separator: "\n").first { $0.hasPrefix("VmHWM:") }
        return line.flatMap { Int($0.split(whereSeparator: \.isWhitespace)[1]) }
    }

    func send(_ signal: Int32) { kill(pid, signal) }

    /// What it has written so far.
    var outputSoFar: String { Self.text(outputPath) }
    var errorSoFar: String { Self.text(errorPath) }

    private static func text(_ path: String) -> String {
        String(decoding: FileManager.default.contents(atPath: path) ?? Data(), as: UTF8.self)
    }

    /// Seconds of a processor that it has used so far; nil once it has ended.
    var processorTime: Double? {
        let fields = Self.text("/proc/\(pid)/stat").split(separator: ")").last?.split(separator: " ")
        guard let fields, fields.count > 13, let user = Double(fields[11]), let system = Double(fields[12])
        else {
            return nil
        }
        return (user + system) / Double(sysconf(Int32(_SC_CLK_TCK)))
    }

    /// Waits for its end, and kills it when that takes too long.
    func wait(seconds: Double = 60) throws -> Ending {
        let status = try change(seconds: seconds, options: 0)
        let signal = status & 0x7f
        return Ending(
            status: signal == 0 ? (status >> 8) & 0xff : nil, signal: signal == 0 ? nil : signal,
            output: outputSoFar, error: errorSoFar)
    }

    /// Waits until it has stopped itself. Returns false where it has ended instead.
    func waitUntilStopped(seconds: Double = 60) throws -> Bool {
        var info = siginfo_t()
        let end = Date(timeIntervalSinceNow: seconds)
        while Date() < end {
            // Leaves the child to be waited for.
            if waitid(P_PID, id_t(pid), &info, WSTOPPED | WEXITED | WNOHANG | WNOWAIT) == 0,
                info.si_signo == SIGCHLD
            {
                return info.si_code == Int32(CLD_STOPPED)
            }
            usleep(1000)
        }
        send(SIGKILL)
        throw Trouble("process \(pid) neither stopped nor ended within \(seconds) s")
    }

    private func change(seconds: Double, options: Int32) throws -> Int32 {
        let end = Date(timeIntervalSinceNow: seconds)
        var status: Int32 = 0
        var pause: UInt32 = 200
        while true {
            let found = waitpid(pid, &status, options | WNOHANG)
            if found == pid { return status }
            if found < 0, errno != EINTR {
                throw Trouble("nobody to wait for: \(String(cString: strerror(errno)))")
            }
            if Date() > end {
                send(SIGKILL)
                waitpid(pid, &status, 0)
                throw Trouble("process \(pid) took longer than \(seconds) s and was killed")
            }
            usleep(pause)
            pause = min(pause * 2, 4000)
        }
    }

    /// Runs a program to its end.
    static func run(
        _ arguments: [String], environment: [String: String] = [:], seconds: Double = 60
    ) throws -> Ending {
        try Child(arguments, environment: environment).wait(seconds: seconds)
    }
}

/// What went wrong in a test, as a sentence.
struct Trouble: Error, CustomStringConvertible {
    var description: String
    init(_ description: String) { self.description = description }
}

/// - Throws: a sentence where the condition does not hold. Unlike `#expect` it may be used on any thread.
func require(_ condition: Bool, _ sentence: @autoclosure () -> String) throws {
    if !condition { throw Trouble(sentence()) }
}
