import Foundation
import Platform
import Testing

@testable import Cairn

/// What several nodes, which share a folder and no lock, make in it at once.
@Suite struct SeveralNodesTests {
    let bench: Workbench
    let output: Path

    init() throws {
        bench = try Workbench()
        output = try Path(bench.write("out", ["other": [0]]))
    }

    @Test("Where all set the same aside while it is brought back again, each has it, or another was faster")
    func setAside() throws {
        #expect(
            failures { node in
                if node == 0 {
                    let staged = output.appending("staged")
                    try Data().write(to: URL(fileURLWithPath: staged.text))
                    try FileSystem.rename(staged, to: output.appending("rank_0"))
                } else if let new = try AsideFolder(in: output).take("rank_0") {
                    // Removed, so that looking for a free name stays quick.
                    return try FileSystem.removeFile(new)
                }
                return true
            }.isEmpty)
    }

    @Test("No one takes the folder that another one is just making for what a killed process left")
    func staging() throws {
        #expect(
            failures { node in
                if node == 0 {
                    try Staging.removeStale(in: output)
                    return true
                }
                let staging = try Staging(in: output)
                defer { staging.remove() }
                usleep(50)
                return try FileSystem.status(staging.path.appending("lock")) != nil
            }.isEmpty)
    }

    /// Runs `body` over and over on each of four nodes, for a second. Returns what it threw, and for what it returned false.
    private func failures(_ body: @escaping @Sendable (_ node: Int) throws -> Bool) -> [String] {
        let failures = Failures()
        let end = Date(timeIntervalSinceNow: 1)
        DispatchQueue.concurrentPerform(iterations: 4) { node in
            while Date() < end {
                do {
                    if try !body(node) { failures.add("it was gone") }
                } catch {
                    failures.add("\(error)")
                }
            }
        }
        return failures.all
    }

    private final class Failures: @unchecked Sendable {
        private let lock = NSLock()
        private(set) var all: [String] = []
        func add(_ one: String) { lock.withLock { all.append(one) } }
    }
}
