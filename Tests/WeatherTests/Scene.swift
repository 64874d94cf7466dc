import Foundation
import Glibc
import Synchronization

/// A store of its own with three committed iterations, `r@10`, `r@20` and `r@30`.
final class Scene: Sendable {
    let folder: String
    /// What the store must hold, by step of the run `r`.
    let committed: Mutex<[Int: Checkpoint]>

    var store: String { folder + "/store" }
    /// The checkpoint of step 40, which the tests save.
    var source: String { folder + "/source" }
    static let next = Checkpoint(run: 1, step: 40)

    private static let template = Result { try makeTemplate() }

    private static func makeTemplate() throws -> String {
        let folder = Weather.folder + "/template"
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        let store = folder + "/store"
        try cairn(["init", "--store", store, "--chunk-size", "4KiB"]).mustSucceed()
        for step in [10, 20, 30] {
            let source = folder + "/source-\(step)"
            try Checkpoint(run: 1, step: step).write(to: source)
            try cairn(["save", source, "--run", "r", "--step", "\(step)", "--store", store]).mustSucceed()
        }
        try next.write(to: folder + "/source")
        return folder
    }

    /// - Parameter deleted: removes `r@10` first, so that a collection has something to do.
    init(deleted: Bool = false) throws {
        folder = Weather.folder + "/scene-" + UUID().uuidString
        let template = try Self.template.get()
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: false)
        try Child.run(["cp", "-a", template + "/store", template + "/source", folder]).mustSucceed()
        committed = Mutex(
            Dictionary(uniqueKeysWithValues: [10, 20, 30].map { ($0, Checkpoint(run: 1, step: $0)) }))
        if deleted {
            try Self.cairn(["delete", "r@10", "--store", store]).mustSucceed()
            committed.withLock { $0[10] = nil }
        }
    }

    deinit { _ = try? Child.run(["rm", "-rf", folder]) }

    static func cairn(_ arguments: [String], seconds: Double = 60) throws -> Child.Ending {
        try Child.run([Weather.program] + arguments, seconds: seconds)
    }

    func cairn(
        _ arguments: [String], faults: Faults? = nil, seconds: Double = 60
    ) throws -> Child.Ending {
        try Child.run(
            [Weather.program] + arguments + ["--store", store], environment: faults?.environment ?? [:],
            seconds: seconds)
    }

    var saveArguments: [String] { ["save", source, "--run", "r", "--step", "40", "--json"] }

    /// Steps of the run that `list` shows.
    func listed(run: String = "r") throws -> Set<Int> {
        let ending = try cairn(["list", "--json"])
        try ending.mustSucceed("list")
        guard let rows = try ending.json() as? [[String: Any]] else { throw Trouble("list printed no array") }
        return Set(rows.filter { $0["run"] as? String == run }.compactMap { $0["step"] as? Int })
    }

    /// Everything that must hold after any weather: all that was committed is there, byte for byte; the store
    /// verifies; the next save works, and after it nothing is left of what failed.
    ///
    /// - Parameter maybe: an iteration that a command was about to commit when it died: there and whole, or not there.
    func checkIntact(maybe: (step: Int, checkpoint: Checkpoint)? = nil) throws {
        try checkVerifies("at once")
        var expected = committed.withLock { $0 }
        let found = try listed()
        if let maybe, found.contains(maybe.step) { expected[maybe.step] = maybe.checkpoint }
        try require(found == Set(expected.keys), "list has \(found.sorted()), not \(expected.keys.sorted())")
        for (step, checkpoint) in expected.sorted(by: { $0.key < $1.key }) {
            try checkRestores("r@\(step)", checkpoint)
        }
        let later = Checkpoint(run: 1, step: 99)
        let place = folder + "/later"
        if !FileManager.default.fileExists(atPath: place) { try later.write(to: place) }
        try cairn(["save", place, "--run", "r", "--step", "99"]).mustSucceed("the next save")
        try checkRestores("r@99", later)
        try checkVerifies("after the next save")
        try checkNothingIsLeft()
    }

    private func checkVerifies(_ when: String) throws {
        let verify = try cairn(["verify", "--json"])
        try require(verify.status == 0, "verify \(when): \(verify.summary) \(verify.output)")
    }

    func checkRestores(_ reference: String, _ checkpoint: Checkpoint) throws {
        let place = folder + "/restored-" + UUID().uuidString
        defer { _ = try? Child.run(["rm", "-rf", place]) }
        try cairn(["restore", reference, place]).mustSucceed("restore \(reference)")
        if let difference = checkpoint.difference(from: try Checkpoint.read(place)) {
            throw Trouble("restored \(reference): \(difference)")
        }
    }

    /// No temporary file and no pack that nothing names.
    func checkNothingIsLeft() throws {
        let left = try temporaryFiles()
        try require(left.isEmpty, "left behind: \(left)")
        let ending = try cairn(["stats", "--json"])
        try ending.mustSucceed("stats")
        let known = (try ending.json() as? [String: Any])?["packs"] as? Int
        let packs = try packFiles()
        try require(packs.count == known, "\(packs.count) pack files, but the store knows \(known ?? -1)")
    }

    func packFiles() throws -> [String] {
        try FileManager.default.contentsOfDirectory(atPath: store + "/packs")
    }

    func temporaryFiles() throws -> [String] {
        let all = try FileManager.default.subpathsOfDirectory(atPath: folder)
        return all.filter { path in
            let name = (path as NSString).lastPathComponent
            return name.hasSuffix(".partial") || name.hasPrefix(".cairn-") || name.hasSuffix(".lock")
        }
    }

    /// The bytes of everything in the store but the note of who holds the lock.
    func contents() throws -> [String: Data] {
        var contents: [String: Data] = [:]
        for path in try FileManager.default.subpathsOfDirectory(atPath: store) where path != "locks/commit" {
            contents[path] = FileManager.default.contents(atPath: store + "/" + path) ?? Data()
        }
        return contents
    }
}

extension Child.Ending {
    func mustSucceed(_ what: String = "the command") throws {
        try require(status == 0, "\(what) failed: \(summary)")
    }

    /// It ended by itself with this status and said why in one sentence.
    func mustFail(_ expected: Int32, mentioning part: String = "") throws {
        try require(status == expected, "expected status \(expected): \(summary) \(output)")
        try mustSayOneSentence()
        try require(part.isEmpty || error.contains(part), "does not mention \(part): \(error)")
    }

    func mustSayOneSentence() throws {
        let lines = error.split(separator: "\n", omittingEmptySubsequences: false)
        try require(
            lines.count == 2 && lines[1].isEmpty && lines[0].hasPrefix("cairn: ") && lines[0].utf8.count > 20,
            "not one sentence on standard error: \(error)")
        for word in ["Fatal error", "Optional(", "CairnError", "Errno", "LMDBError", "rawValue"] {
            try require(!error.contains(word), "standard error holds \(word): \(error)")
        }
    }
}
