import Foundation
import Testing

/// A store that an earlier program made, unpacked into a folder of its own; gone with the value.
final class GoldenStore {
    static let project = URL(fileURLWithPath: #filePath)
        .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent().path
    let folder: String
    private let name: String

    /// - Parameter name: of the archive among the fixtures.
    init(_ name: String) throws {
        self.name = name
        folder = NSTemporaryDirectory() + "cairn-golden-" + UUID().uuidString
        try FileManager.default.createDirectory(atPath: folder, withIntermediateDirectories: true)
        #expect(try run("tar", "-xpzf", Self.project + "/Tests/Fixtures/\(name).tar.gz") == 0)
    }

    deinit { _ = try? FileManager.default.removeItem(atPath: folder) }

    /// Runs a program in the folder; returns its exit status.
    func run(_ arguments: String...) throws -> Int32 {
        let process = Foundation.Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments = arguments
        process.currentDirectoryURL = URL(fileURLWithPath: folder)
        process.standardOutput = FileHandle.nullDevice
        try process.run()
        process.waitUntilExit()
        return process.terminationStatus
    }

    /// Runs the reader that was written from the page alone on a store in the folder; returns its exit status.
    func read(_ store: String, _ command: String, _ more: String...) throws -> Int32 {
        let arguments = ([Self.project + "/tools/reader.py", store, command] + more).map { "'\($0)'" }
        return try run("bash", "-c", "python3 " + arguments.joined(separator: " "))
    }

    /// Whether the restored files are those that were saved.
    func hasRestored() throws -> Bool {
        try run("sha256sum", "--quiet", "-c", Self.project + "/Tests/Fixtures/\(name).sums") == 0
    }

    /// Whether two trees have the same files, modes, times and links.
    func areSame(_ one: String, _ other: String) throws -> Bool {
        let list = "find . -printf '%p %y %m %T@ %l\\n' | sort"
        let script =
            "diff -r --no-dereference \(one) \(other) && diff <(cd \(one); \(list)) <(cd \(other); \(list))"
        return try run("bash", "-c", script) == 0
    }
}
