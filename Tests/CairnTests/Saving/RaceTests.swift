import Cairn
import Foundation
import Platform
import Synchronization
import Testing

/// What happens to a save when others change the store in its midst.
@Suite struct RaceTests {
    let bench: Workbench
    let bytes: [UInt8]

    /// Step 1, whose bytes step 3 has again, is deleted and not collected.
    init() throws {
        bench = try Workbench()
        var generator = SeededGenerator(seed: 3)
        bytes = (0..<20_000).map { _ in UInt8.random(in: .min ... .max, using: &generator) }
        try bench.store.save(try bench.write("checkpoint-1", ["a.bin": bytes]))
        try bench.store.save(try bench.write("checkpoint-2", ["a.bin": [2]]))
        _ = try bench.store.delete(["1"])
        try bench.write("checkpoint-3", ["a.bin": bytes, "b.bin": [3]])
    }

    /// Saves step 3 with one job, which asks before each of the two files whether it is interrupted: then `body` gets the number
    /// of that question, from 1 on.
    private func save(_ body: @escaping @Sendable (Int) throws -> Void) throws -> SaveResult {
        let counter = Counter()
        let progress = Progress(isInterrupted: {
            do { try body(counter.next()) } catch { Issue.record(error) }
            return false
        })
        let store = try Store.open(at: bench.store.path, settings: Settings(jobs: 1))
        return try store.save(bench.path("checkpoint-3"), progress: progress)
    }

    /// As another process does it.
    @Sendable private func collect() throws {
        let other = try Store.open(at: bench.store.path)
        #expect(try other.collect(dryRun: false).reclaimedBytes > 0)
    }

    private func check() throws {
        try bench.store.restore("3", to: bench.path("to"))
        #expect(try Data(contentsOf: URL(fileURLWithPath: bench.path("to/a.bin"))) == Data(bytes))
        #expect(try bench.store.verify().ok)
    }

    @Test func bytesThatAreInTheStoreAlreadyAreNotNew() throws {
        #expect(try save { _ in }.newBytes == 1)
        try check()
    }

    @Test func bytesThatACollectionTookMeanwhileAreReadAgain() throws {
        // a.bin was found in the store when the second file comes up.
        let result = try save { if $0 == 2 { try collect() } }
        #expect(result.newBytes == UInt64(bytes.count + 1))
        try check()
    }

    @Test func aSourceThatCannotBeReadAgainFailsTheSave() throws {
        let source = bench.path("checkpoint-3/a.bin")
        let error = #expect(throws: CairnError.self) {
            _ = try save { question in
                if question == 2 { try collect() }
                // The second round begins.
                if question == 3 { try FileManager.default.removeItem(atPath: source) }
            }
        }
        #expect(error?.code == .changed && error?.message.contains("a.bin vanished") == true)
        #expect(try bench.store.iterations().map(\.step) == [2])
        #expect(try FileManager.default.contentsOfDirectory(atPath: bench.path("store/packs")).count == 1)
        #expect(try bench.store.verify().ok)
    }

    @Test func aSourceThatIsOtherWhenItIsReadAgainFailsTheSave() throws {
        let source = bench.path("checkpoint-3/a.bin")
        let code = bench.code {
            _ = try save { question in
                if question == 2 { try collect() }
                if question == 3 { try Data([1, 2]).write(to: URL(fileURLWithPath: source)) }
            }
        }
        #expect(code == .changed)
        #expect(try bench.store.iterations().map(\.step) == [2])
    }

    @Test func whoeverCommitsTheSameStepFirstWins() throws {
        let other = try bench.write("other/checkpoint-3", ["a.bin": [7]])
        let code = bench.code {
            _ = try save { question in
                guard question == 2 else { return }
                let store = try Store.open(at: bench.store.path)
                try store.save(other, options: SaveOptions(run: "main"))
            }
        }
        #expect(code == .exists)
        #expect(try bench.store.show("3").files.map(\.bytes).reduce(0, +) == 1)
    }

    /// Both find no such step before they commit.
    @Test func ofTwoSavesOfOneStepOneIsRefused() throws {
        for step in 10..<40 {
            let folders = try ["x", "y"].map { name in
                try bench.write("\(name)/checkpoint-\(step)", ["a.bin": [UInt8](name.utf8)])
            }
            let outcomes = Monitor<[CairnError.Code?]>([])
            let path = bench.store.path
            for folder in folders {
                Thread.detachNewThread {
                    var code: CairnError.Code?
                    do {
                        try Store.open(at: path).save(folder, options: SaveOptions(run: "main"))
                    } catch { code = (error as? CairnError)?.code ?? .system }
                    outcomes.change { $0.append(code) }
                }
            }
            let found = outcomes.wait { $0.count == 2 ? $0 : nil }
            #expect(found.filter { $0 == nil }.count == 1 && found.contains(.exists), "\(found)")
        }
        #expect(try bench.store.iterations().count == 31)
        #expect(try bench.store.verify().ok)
    }

    /// What was taken can't be read again, and need not be.
    @Test(arguments: [false, true])
    func ofTwoStatesOfOneStepOneIsRefusedOrTakesThePlaceOfTheOther(replaces: Bool) throws {
        for step in 10..<18 as Range<UInt64> {
            let saves = try (0..<2).map { seed in
                var options = StateSaveOptions(run: "main", step: step)
                options.replace = replaces
                let save = try Store.open(at: bench.store.path).beginSave(options)
                try [seed, step].withUnsafeBytes { try save.add(file: "a.bin", $0) }
                try save.take()
                return save
            }
            let outcomes = Monitor<[CairnError.Code?]>([])
            for save in saves {
                nonisolated(unsafe) let save = save
                Thread.detachNewThread {
                    let code = bench.code { _ = try save.commit() }
                    outcomes.change { $0.append(code) }
                }
            }
            let found = outcomes.wait { $0.count == 2 ? $0 : nil }
            #expect(found.count { $0 == nil } == (replaces ? 2 : 1), "\(found)")
            #expect(replaces || found.contains(.exists), "\(found)")
        }
        #expect(try bench.store.verify().ok)
    }

    @Test func aDestinationThatAppearsMeanwhileIsLeftAlone() throws {
        try bench.store.save(bench.path("checkpoint-3"))
        let place = bench.path("to")
        let progress = Progress(isInterrupted: {
            _ = try? FileManager.default.createDirectory(atPath: place, withIntermediateDirectories: false)
            return false
        })
        #expect(bench.code { try bench.store.restore("3", to: place, progress: progress) } == .exists)
        #expect(try FileManager.default.contentsOfDirectory(atPath: place).isEmpty)
        #expect(
            try FileManager.default.contentsOfDirectory(atPath: bench.folder).allSatisfy {
                !$0.hasPrefix(".")
            })
    }

    @Test func anIterationThatIsDeletedWhileItIsRestoredStays() throws {
        try bench.store.save(bench.path("checkpoint-3"))
        try bench.store.save(try bench.write("checkpoint-4", ["a.bin": [4]]))
        let path = bench.store.path
        let counter = Counter()
        let progress = Progress(isInterrupted: {
            guard counter.next() == 1 else { return false }
            do {
                let result = try Store.open(at: path).delete(["3"])
                #expect(result.deleted.isEmpty && result.skipped.map(\.step) == [3])
            } catch {
                Issue.record(error)
            }
            return false
        })
        try bench.store.restore("3", to: bench.path("to"), progress: progress)
        #expect(try bench.store.iterations().map(\.step) == [2, 3, 4])
    }
}

/// Counts from 1 on, on any thread.
private final class Counter: Sendable {
    private let value = Atomic<Int>(0)
    func next() -> Int { value.add(1, ordering: .relaxed).newValue }
}
