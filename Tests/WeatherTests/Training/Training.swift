import Foundation
import Glibc
import Synchronization

/// A store, and beside it the output folder of a training, in which the tests write as a Trainer of transformers does.
final class Training: Sendable {
    let folder: String
    /// Programs that may be running still.
    private let running = Mutex<Set<pid_t>>([])

    var store: String { folder + "/store" }
    var out: String { folder + "/out" }

    init() throws {
        folder = Weather.folder + "/training-" + UUID().uuidString
        try FileManager.default.createDirectory(atPath: out, withIntermediateDirectories: true)
        try cairn(["init", "--chunk-size", "4KiB"]).mustSucceed()
    }

    deinit {
        for pid in running.withLock({ $0 }) { kill(pid, SIGKILL) }
        _ = try? Child.run(["rm", "-rf", folder])
    }

    // MARK: What a training writes

    /// In the order in which they are written.
    static func files(_ step: Int, content: Int, best: Int? = nil) -> [(name: String, bytes: [UInt8])] {
        var generator = SeededGenerator(UInt64(content))
        let best = best.map { ", \"best_global_step\": \($0)" } ?? ""
        var header = #"{"w":{"dtype":"U8","shape":[20000],"data_offsets":[0,20000]}}"#
        while !header.utf8.count.isMultiple(of: 8) { header += " " }
        let length = withUnsafeBytes(of: UInt64(header.utf8.count).littleEndian) { [UInt8]($0) }
        return [
            ("config.json", [UInt8]("{\"content\": \(content)}".utf8)),
            ("model.safetensors", length + [UInt8](header.utf8) + generator.bytes(20000)),
            ("trainer_state.json", [UInt8]("{\"global_step\": \(step), \"log_history\": []\(best)}".utf8)),
        ]
    }

    func path(_ name: String) -> String { out + "/" + name }

    /// Writes an iteration, in place where it is there.
    /// - Parameter missing: a file that is not written.
    func write(
        _ step: Int, content: Int? = nil, best: Int? = nil, name: String? = nil,
        without missing: String? = nil
    ) throws {
        for file in Self.files(step, content: content ?? step, best: best) where file.name != missing {
            try write(file.bytes, (name ?? "checkpoint-\(step)") + "/" + file.name)
        }
    }

    func write(_ bytes: [UInt8], _ name: String) throws {
        let url = URL(fileURLWithPath: path(name))
        try FileManager.default.createDirectory(
            at: url.deletingLastPathComponent(), withIntermediateDirectories: true)
        try Data(bytes).write(to: url)
    }

    func remove(_ name: String) throws { try FileManager.default.removeItem(atPath: path(name)) }

    func names() throws -> [String] { try FileManager.default.contentsOfDirectory(atPath: out).sorted() }

    // MARK: The program

    func start(_ arguments: [String], faults: Faults? = nil, store: String? = nil) throws -> Child {
        let child = try Child(
            [Weather.program] + arguments + ["--store", store ?? self.store],
            environment: faults?.environment ?? [:])
        let pid = child.pid
        running.withLock { _ = $0.insert(pid) }
        return child
    }

    func watch(_ options: [String] = [], faults: Faults? = nil) throws -> Child {
        try start(["watch", out] + options, faults: faults)
    }

    func cairn(_ arguments: [String], faults: Faults? = nil, seconds: Double = 60) throws -> Child.Ending {
        let child = try start(arguments, faults: faults)
        let pid = child.pid
        defer { running.withLock { _ = $0.remove(pid) } }
        return try child.wait(seconds: seconds)
    }

    // MARK: What the store has

    func listed() throws -> [[String: Any]] {
        let ending = try cairn(["list", "--json"])
        try ending.mustSucceed("list")
        guard let rows = try ending.json() as? [[String: Any]] else { throw Trouble("list printed no array") }
        return rows
    }

    func steps(superseded: Bool = false) throws -> [Int] {
        try listed().filter { $0["superseded"] as? Bool == superseded }.compactMap { $0["step"] as? Int }
            .sorted()
    }

    /// The store has these bytes at a step, and is whole.
    func checkHas(_ step: Int, content: Int, best: Int? = nil) throws {
        let place = folder + "/restored-" + UUID().uuidString
        defer { _ = try? Child.run(["rm", "-rf", place]) }
        try cairn(["restore", "\(step)", place]).mustSucceed("restore \(step)")
        for file in Self.files(step, content: content, best: best) {
            let found = FileManager.default.contents(atPath: place + "/" + file.name)
            try require(found == Data(file.bytes), "\(file.name) of step \(step) has other bytes")
        }
    }

    /// The store verifies, and nothing is left that no commit names.
    func checkIntact() throws {
        try cairn(["verify"]).mustSucceed("verify")
        let packs = try FileManager.default.contentsOfDirectory(atPath: store + "/packs").count
        let known = (try cairn(["stats", "--json"]).json() as? [String: Any])?["packs"] as? Int
        try require(packs == known, "\(packs) pack files, but the store knows \(known ?? -1)")
    }
}

extension Child {
    /// The lines that it has finished so far.
    var lines: [String] { outputSoFar.split(separator: "\n").map(String.init) }

    /// Asks it to end, and checks that this is how it ends.
    func stop(_ signal: Int32 = SIGTERM, seconds: Double = 20) throws -> Ending {
        send(signal)
        let ending = try wait(seconds: seconds)
        try require(ending.status == 130, "did not end as it was asked to: \(ending.summary)")
        return ending
    }
}

/// Runs a test's body beside the threads that tests share, which may all be busy for long.
func onOwnThread(_ body: @escaping @Sendable () throws -> Void) async throws {
    try await withCheckedThrowingContinuation { continuation in
        Thread.detachNewThread { continuation.resume(with: Result(catching: body)) }
    }
}

/// Waits for something to happen.
func eventually(
    _ what: String, of child: Child? = nil, seconds: Double = 60, _ condition: () throws -> Bool
) throws {
    let end = Date(timeIntervalSinceNow: seconds)
    while try !condition() {
        guard Date() < end else {
            let said = child.map { ": it said \($0.outputSoFar) and \($0.errorSoFar)" } ?? ""
            throw Trouble("\(what) did not happen within \(seconds) s\(said)")
        }
        usleep(10_000)
    }
}

/// - Throws: where the condition does not hold. Unlike `#expect` it may be used on any thread.
func expect(
    _ condition: @autoclosure () throws -> Bool, _ sentence: @autoclosure () -> String = "", line: Int = #line
) throws {
    try require(try condition(), "what line \(line) expects does not hold: \(sentence())")
}
