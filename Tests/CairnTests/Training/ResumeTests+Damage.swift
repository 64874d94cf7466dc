import ChunkStore
import Foundation
import Platform
import Testing

@testable import Cairn

/// A checkpoint that was saved, and is not what was saved any more: after a power cut, or on a failing disk.
extension ResumeTests {
    /// Writes other bytes into a file that keeps its size and its times, as a disk does.
    private func rot(_ file: String, _ offset: Int = 5000) throws {
        let path = Path(out + "/" + file)
        let before = try #require(try FileSystem.status(path))
        try bench.flip(path.text, offset)
        try FileSystem.setTime(path, seconds: before.seconds, nanoseconds: before.nanoseconds)
    }

    private func contents(_ file: String) -> Data? { FileManager.default.contents(atPath: out + "/" + file) }

    /// What was not read as it was saved.
    private func reasons(_ file: String) -> [[String]] {
        [["\(file) holds other bytes than were saved, though its size and its time are the same"]]
    }

    @Test(arguments: ["trainer_state.json", "model.safetensors", "config.json"])
    func zerosInTheSizeOfAFileNeverEndIt(_ file: String) throws {
        let path = try checkpoint(5)
        try bench.store.save(path)
        let before = try #require(contents("checkpoint-5/" + file))
        let place = Path(path + "/" + file)
        let time = try #require(try FileSystem.status(place))
        try Data(count: before.count).write(to: URL(fileURLWithPath: place.text))
        try FileSystem.setTime(place, seconds: time.seconds, nanoseconds: time.nanoseconds)
        let result = try resume()
        #expect(result.step == 5 && result.source == .store && result.path == path)
        #expect(contents("checkpoint-5/" + file) == before)
        #expect(result.setAside.map(\.newPath) == ["\(out)/\(aside)/checkpoint-5"])
        #expect(contents("\(aside)/checkpoint-5/\(file)") == Data(count: before.count))
    }

    @Test func aStateFileThatCanNotBeParsedGivesWayWhateverItsTime() throws {
        let path = try checkpoint(5)
        try bench.store.save(path)
        let before = try #require(contents("checkpoint-5/trainer_state.json"))
        try Data(count: before.count).write(to: URL(fileURLWithPath: path + "/trainer_state.json"))
        for reference in [nil, "5"] {
            let result = try resume(ResumeOptions(reference: reference))
            #expect(result.step == 5 && contents("checkpoint-5/trainer_state.json") == before)
        }
    }

    @Test(arguments: [nil, "5"])
    func otherBytesOfTheSameSizeAndTimeAreDamage(_ reference: String?) throws {
        let path = try checkpoint(5)
        let id = try bench.store.save(path).id
        let before = contents("checkpoint-5/model.safetensors")
        try rot("checkpoint-5/model.safetensors")
        let result = try resume(ResumeOptions(reference: reference))
        #expect(result.source == .store && result.id == id && result.path == path)
        #expect(result.setAside.map(\.reasons) == reasons("model.safetensors"))
        #expect(contents("checkpoint-5/model.safetensors") == before)
        #expect(try bench.store.iterations().map(\.idText) == [id])
        // Whole again, it stays.
        let again = try resume(ResumeOptions(reference: reference))
        #expect(again.setAside.isEmpty && again.path == path)
    }

    @Test func damageCountsThoughAnotherFileWasWrittenLater() throws {
        let path = try checkpoint(5)
        try bench.store.save(path)
        try Data("{ }".utf8).write(to: URL(fileURLWithPath: path + "/config.json"))
        try rot("checkpoint-5/model.safetensors")
        let result = try resume()
        #expect(result.source == .store && result.setAside.map(\.reasons) == reasons("model.safetensors"))
        #expect(contents("checkpoint-5/config.json") == Data("{}".utf8))
        #expect(contents("\(aside)/checkpoint-5/config.json") == Data("{ }".utf8))
    }

    @Test func aPathThatWasMendedIsNoDamage() throws {
        // Of the same length, so that the size is the same as well.
        let path = try checkpoint(5, best: out.replacing("/out", with: "/put") + "/checkpoint-1")
        try bench.store.save(path)
        _ = try resume(ResumeOptions(relocate: true))
        #expect(String(decoding: contents("checkpoint-5/trainer_state.json")!, as: UTF8.self).contains(out))
        let result = try resume()
        #expect(result.source == .folder && result.setAside.isEmpty)
    }

    @Test func whatIsTakenByItsTimesAloneIsNotRead() throws {
        try bench.store.save(try checkpoint(5))
        try rot("checkpoint-5/model.safetensors")
        let result = try resume(ResumeOptions(quick: true))
        #expect(result.source == .folder && result.setAside.isEmpty)
    }

    @Test func whatWasWrittenLaterTakesThePlaceOfTheStoresAndThatIsSaid() throws {
        let path = try checkpoint(5)
        let old = try bench.store.save(path)
        try checkpoint(5, content: 2)
        let result = try resume()
        #expect(result.source == .folder && result.setAside.isEmpty && result.id != old.id)
        #expect(result.replaced == old.id)
        #expect(
            saidOfAll(result).count == 1
                && saidOfAll(result)[0].hasPrefix("checkpoint-5 took the place of main@5"))
        let again = try resume()
        #expect(again.replaced == nil && saidOfAll(again).isEmpty && again.id == result.id)
    }

    @Test func aSecondOneThatWaitedTakesTheFirstOnesWord() throws {
        let path = try checkpoint(5)
        let id = try saved(path)
        try rot("checkpoint-5/model.safetensors")
        #expect(try resumeAfter { $0.vouch(for: id) }.setAside.isEmpty)
        // One that leaves none has failed, or was killed, or has not read; and what was said before says nothing of now.
        #expect(try resumeAfter { _ in }.setAside.count == 1)
    }

    @Test func theWordOfOneThatWasAboutSomethingElseDoesNotCount() throws {
        let path = try checkpoint(5)
        let id = try saved(path)
        try rot("checkpoint-5/model.safetensors")
        let other = Lock(try bench.store.chunks.resuming(FileSystem.expected(Path(bench.path("other")))) {})
        for vouch in [{ $0.vouch(for: .zero) }, { _ in other.lock?.vouch(for: id) }] as [(ResumeLock) -> Void]
        {
            #expect(try resumeAfter(vouch).setAside.count == 1)
            try rot("checkpoint-5/model.safetensors")
        }
    }

    @Test func onlyWhoeverReadsAllLeavesItsWord() throws {
        func word() -> Data? {
            FileManager.default.contents(atPath: bench.store.chunks.folder.appending("locks/resume").text)
        }
        try checkpoint(5)
        var said = word()
        func leaves(_ options: ResumeOptions = ResumeOptions()) throws -> Bool {
            _ = try resume(options)
            defer { said = word() }
            return word() != said
        }
        // Saved, read, brought back, gone back to.
        #expect(try leaves() && leaves())
        try rot("checkpoint-5/model.safetensors")
        #expect(try leaves())
        try FileManager.default.removeItem(atPath: out)
        #expect(try leaves() && leaves(ResumeOptions(reference: "5")))
        for change in [{ $0.quick = true }, { $0.ranks = 0...0 }, { $0.withoutOptimizer = true }]
            as [(inout ResumeOptions) -> Void]
        {
            var options = ResumeOptions()
            change(&options)
            #expect(try !leaves(options))
        }
    }

    private func saved(_ path: String) throws -> ChunkID {
        try bench.store.save(path)
        return try #require(try bench.store.iterations().last).id
    }

    /// Resumes as one that waits for another.
    private func resumeAfter(_ another: @escaping (ResumeLock) throws -> Void) throws -> ResumeResult {
        let place = try FileSystem.expected(Path(out))
        let first = Lock(try bench.store.chunks.resuming(place) {})
        let another = Another(act: another)
        return try bench.store.resume(
            out,
            progress: Progress(isInterrupted: {
                if let lock = first.lock {
                    try? another.act(lock)
                    first.lock = nil
                }
                return false
            }))
    }

    @Test func whatVanishesWhileItIsReadComesBackFromTheStore() throws {
        let path = try checkpoint(5)
        try bench.store.save(path)
        let result = try bench.store.resume(out, progress: removing(path))
        #expect(result.path == path && result.source == .store && result.setAside.isEmpty)
        #expect(contents("checkpoint-5/config.json") == Data("{}".utf8))
    }

    @Test func whatVanishesAndTheStoreHasNotGotIsNotWhatIsPrinted() throws {
        let path = try checkpoint(5)
        #expect(bench.code { _ = try bench.store.resume(out, progress: removing(path)) } == .changed)
        #expect(try bench.store.iterations().isEmpty)
    }

    /// Somebody removes something as soon as it is being read.
    private func removing(_ path: String) -> Cairn.Progress {
        Cairn.Progress(isInterrupted: {
            try? FileManager.default.removeItem(atPath: path)
            return false
        })
    }

    /// What another process would hold. Unchecked: the thread that waits for it is alone.
    private final class Lock: @unchecked Sendable {
        var lock: ResumeLock?
        init(_ lock: ResumeLock?) { self.lock = lock }
    }

    /// What another process does. Unchecked: as above.
    private struct Another: @unchecked Sendable {
        var act: (ResumeLock) throws -> Void
    }
}
