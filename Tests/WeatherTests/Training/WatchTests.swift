import Foundation
import Glibc
import Testing

/// `cairn watch` beside a training. Mostly waiting, so all of them at once.
@Suite struct WatchTests {
    let training: Training

    init() throws { training = try Training() }

    /// As where files are shared with other machines, so that no event tells of changes.
    var remote: Faults { Faults(kind: "kill", number: 0, under: [training.out], fileSystem: "6969") }

    /// Waits until it has said so many lines.
    func lines(_ count: Int, _ child: Child) throws -> [String] {
        try eventually("line \(count)", of: child) { child.lines.count >= count }
        return child.lines
    }

    // MARK: When it saves

    @Test("A checkpoint is saved within a second after it was quiet for two", arguments: [false, true])
    func soon(isRemote: Bool) async throws {
        try await onOwnThread {
            let watch = try training.watch(faults: isRemote ? remote : nil)
            usleep(300_000)
            var latencies: [Double] = []
            for step in 1...3 {
                let begun = Date()
                try training.write(step)
                let written = Date()
                let line = try lines(step, watch)[step - 1]
                latencies.append(Date().timeIntervalSince(written))
                try expect(Date().timeIntervalSince(begun) >= 2)
                try expect(line.hasPrefix("saved main@\(step) · "))
            }
            // A second more than it takes, as other tests keep it from running for a while.
            try expect(latencies.min()! <= 4, "\(latencies)")
            try expect(watch.stop().error.isEmpty)
            for step in 1...3 { try training.checkHas(step, content: step) }
            try training.checkIntact()
        }
    }

    @Test("One that is written slowly is saved once, and only when all of it is there")
    func slow() async throws {
        try await onOwnThread {
            let watch = try training.watch()
            let files = Training.files(1, content: 1)
            for (index, file) in files.enumerated() {
                try training.write(
                    [UInt8](file.bytes[..<(file.bytes.count / 2)]), "checkpoint-1/\(file.name)")
                Thread.sleep(forTimeInterval: 0.5)
                try training.write(file.bytes, "checkpoint-1/\(file.name)")
                if index < files.count - 1 { Thread.sleep(forTimeInterval: 2.4) }
                try expect(watch.lines.isEmpty)
            }
            _ = try lines(1, watch)
            Thread.sleep(forTimeInterval: 0.5)
            let ending = try watch.stop()
            try expect(
                ending.output.hasPrefix("saved main@1 ") && ending.output.split(separator: "\n").count == 1)
            try expect(ending.error.isEmpty)
            try training.checkHas(1, content: 1)
        }
    }

    @Test("One that is written over in place is saved again, and what came after is superseded")
    func overwritten() async throws {
        try await onOwnThread {
            for step in 1...3 { try training.write(step) }
            let watch = try training.watch(["--json"])
            _ = try lines(3, watch)
            try training.write(2, content: 22)
            let line = try lines(4, watch)[3]
            let said = try #require(try JSONSerialization.jsonObject(with: Data(line.utf8)) as? [String: Any])
            try expect(said["outcome"] as? String == "saved" && said["step"] as? Int == 2)
            try expect(said["superseded"] as? [Int] == [3])
            _ = try watch.stop()
            try expect(training.steps() == [1, 2] && training.steps(superseded: true) == [3])
            try training.checkHas(2, content: 22)
        }
    }

    @Test("Temporary names are never saved, and what gets its name at the end is")
    func temporaryNames() async throws {
        try await onOwnThread {
            let watch = try training.watch()
            let temporary = [
                "tmp-checkpoint-5", "checkpoint-5.tmp", "5.orbax-checkpoint-tmp-17",
                "checkpoint-5.orbax-checkpoint-tmp",
            ]
            for name in temporary { try training.write(5, name: name) }
            try training.write(6)
            try expect(lines(1, watch)[0].hasPrefix("saved main@6 "))
            try FileManager.default.moveItem(
                atPath: training.path(temporary[0]), toPath: training.path("checkpoint-5"))
            try expect(lines(2, watch)[1].hasPrefix("saved main@5 "))
            let ending = try watch.stop()
            try expect(ending.output.split(separator: "\n").count == 2 && ending.error.isEmpty)
        }
    }

    @Test("The folder may come later, vanish and come back")
    func folderComesAndGoes() async throws {
        try await onOwnThread {
            try training.remove("")
            let watch = try training.watch()
            for step in 1...2 {
                try eventually("a word about the folder", of: watch) {
                    watch.errorSoFar.split(separator: "\n").count == step
                }
                try training.write(step)
                try expect(lines(step, watch)[step - 1].hasPrefix("saved main@\(step) "))
                try training.remove("")
            }
            let ending = try watch.stop()
            try expect(
                ending.error.split(separator: "\n").allSatisfy {
                    $0.hasSuffix("there is no folder \(training.out); waiting for it")
                })
        }
    }

    // MARK: What a training does meanwhile

    @Test(
        "A checkpoint that the training deletes in the midst of its save is no error",
        arguments: [1, 4, 7, 9])
    func deletedMeanwhile(read: Int) async throws {
        try await onOwnThread {
            try training.write(1)
            let watch = try training.watch(
                faults: Faults(
                    kind: "stop", number: read, calls: .reading, under: [training.path("checkpoint-1")]))
            try eventually("the stop", of: watch) { try Self.isStopped(watch) }
            try training.remove("checkpoint-1")
            watch.send(SIGCONT)
            try training.write(2)
            let said = try lines(1, watch)
            try expect(said.last!.hasPrefix("saved main@2 "))
            let ending = try watch.stop()
            try expect(ending.error.isEmpty)
            try training.checkIntact()
        }
    }

    @Test(
        "One that the training writes over in the midst of its save is saved as it is in the end",
        arguments: [4, 8])
    func rewrittenMeanwhile(read: Int) async throws {
        try await onOwnThread {
            try training.write(1)
            let watch = try training.watch(
                faults: Faults(
                    kind: "stop", number: read, calls: .reading, under: [training.path("checkpoint-1")]))
            try eventually("the stop", of: watch) { try Self.isStopped(watch) }
            try training.write(1, content: 11)
            watch.send(SIGCONT)
            try eventually("the new content", of: watch) {
                !watch.lines.isEmpty && (try? training.checkHas(1, content: 11)) != nil
            }
            try expect(watch.stop().error.isEmpty)
            try expect(training.steps() == [1])
            try training.checkIntact()
        }
    }

    static func isStopped(_ child: Child) throws -> Bool {
        let status = try String(contentsOfFile: "/proc/\(child.pid)/stat", encoding: .utf8)
        return status.split(separator: ")").last?.hasPrefix(" T") == true
    }
}
