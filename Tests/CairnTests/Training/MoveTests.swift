import Foundation
import Platform
import Testing

@testable import Cairn

/// `--move`: originals that are deleted once they were read back.
@Suite struct MoveTests {
    let bench: Workbench
    var out: String { bench.path("out") }

    init() throws { bench = try Workbench() }

    @discardableResult
    private func move() throws -> [SavedIteration] {
        try bench.store.saveAll(out, options: SaveAllOptions(move: true))
    }

    private func whole(_ name: String) -> Bool {
        ["config.json", "model.safetensors", "trainer_state.json"].allSatisfy {
            FileManager.default.fileExists(atPath: out + "/\(name)/\($0)")
        }
    }

    @Test func allButTheNewestAndTheBestGo() throws {
        for step in 1...5 { try bench.checkpoint(step, best: min(step, 3)) }
        let results = try move()
        #expect(results.map(\.isMoved) == [true, true, false, true, false])
        #expect(results.map(\.kept) == [nil, nil, "the best", nil, "the newest"])
        #expect(try bench.names() == ["checkpoint-3", "checkpoint-5"])
        #expect(whole("checkpoint-3") && whole("checkpoint-5"))
        try bench.store.restore("2", to: bench.path("back"))
        let files = Workbench.trainerFiles(2, content: 2, best: 2)
        for file in files {
            #expect(FileManager.default.contents(atPath: bench.path("back/" + file.name)) == Data(file.bytes))
        }
        // Nothing is left to do.
        #expect(try move().map(\.isMoved) == [false, false])
        try bench.checkpoint(6, best: 6)
        #expect(try move().map(\.isMoved) == [true, true, false])
        #expect(try bench.names() == ["checkpoint-6"])
    }

    @Test func whatChangedLastStays() throws {
        for step in 1...3 { try bench.checkpoint(step) }
        try bench.setTime("checkpoint-1", Date().timeIntervalSince1970 + 100)
        #expect(try move().map(\.kept) == ["the newest", nil, "the newest"])
        #expect(try bench.names() == ["checkpoint-1", "checkpoint-3"])
    }

    @Test func whatAnotherOneOfItsStepWouldReplaceInTheStoreStays() throws {
        for step in 1...3 { try bench.checkpoint(step) }
        try bench.checkpoint(2, content: 22, name: "checkpoint-02")
        try bench.setTime("checkpoint-3", Date().timeIntervalSince1970 + 100)
        for _ in 1...2 {
            let results = try move()
            #expect(results.filter { $0.step == 2 }.map(\.isMoved) == [false, false])
            #expect(results.filter { $0.step == 2 }.first?.kept == "another one is of step 2 as well")
        }
        #expect(try bench.names() == ["checkpoint-02", "checkpoint-2", "checkpoint-3"])
    }

    @Test func whatALinkLeadsToStays() throws {
        for step in 1...4 { try bench.checkpoint(step) }
        let manager = FileManager.default
        try manager.createSymbolicLink(atPath: out + "/good", withDestinationPath: "checkpoint-1")
        try manager.createSymbolicLink(
            atPath: out + "/checkpoint-3/tokenizer.json", withDestinationPath: "../checkpoint-2/config.json")
        let kept = try move().map(\.kept)
        #expect(kept[..<2] == ["good points to it", "checkpoint-3/tokenizer.json points to it"])
        #expect(try bench.names().count == 5)
        // What leads nowhere needs nothing.
        try manager.removeItem(atPath: out + "/checkpoint-3/tokenizer.json")
        try manager.removeItem(atPath: out + "/good")
        try manager.createSymbolicLink(atPath: out + "/lost", withDestinationPath: "nowhere")
        try bench.setTime("checkpoint-4", Date().timeIntervalSince1970 + 100)
        #expect(try move().map(\.isMoved) == [true, true, true, false])
    }

    @Test func whatIsOpenForWritingIsNeitherSavedNorDeleted() throws {
        for step in 1...3 { try bench.checkpoint(step) }
        // Its length is its last, and a writer pauses.
        var writer: FileHandle? = FileHandle(forUpdatingAtPath: out + "/checkpoint-1/model.safetensors")
        let first = try move()
        guard case .refused(let reasons) = first[0].outcome else {
            Issue.record("\(first[0])")
            return
        }
        #expect(reasons == ["model.safetensors is open for writing"])
        #expect(first[1].isMoved && whole("checkpoint-1"))
        try writer?.close()
        #expect(try bench.store.saveAll(out)[0].word == "saved")
        writer = FileHandle(forUpdatingAtPath: out + "/checkpoint-1/config.json")
        #expect(try move()[0].kept == "checkpoint-1/config.json is open for writing")
        try writer?.close()
        #expect(try move()[0].isMoved)
    }

    @Test func originalsThatCanOnlyBeReadGoAsWell() throws {
        for step in 1...2 { try bench.checkpoint(step) }
        for (name, mode) in [("checkpoint-1/config.json", 0o400), ("checkpoint-1", 0o500)] {
            try FileManager.default.setAttributes([.posixPermissions: mode], ofItemAtPath: out + "/" + name)
        }
        #expect(try move()[0].isMoved)
        #expect(try bench.names() == ["checkpoint-2"])
    }

    @Test func whatIsIncompleteOrNotSavedStays() throws {
        try bench.checkpoint(1, without: "model.safetensors")
        for step in 2...3 { try bench.checkpoint(step) }
        try bench.checkpoint(4, without: "trainer_state.json")
        let results = try move()
        #expect(results.map(\.isMoved) == [false, true, false, false])
        #expect(try bench.names() == ["checkpoint-1", "checkpoint-3", "checkpoint-4"])
    }

    @Test func whereTheStoreIsDamagedTheOriginalStays() throws {
        for step in 1...3 { try bench.checkpoint(step) }
        try bench.store.saveAll(out)
        // The tensor of step 2, which is in no other iteration.
        let packs = try FileManager.default.contentsOfDirectory(atPath: bench.path("store/packs")).sorted {
            try time($0) < time($1)
        }
        let pack = bench.path("store/packs/" + packs[1])
        try bench.flip(pack, 2000)
        let results = try move()
        #expect(results.map(\.isMoved) == [true, false, false])
        guard case .failed(let error) = results[1].outcome else {
            return #expect(Bool(false), "\(results[1])")
        }
        #expect(
            error.code == .damage && error.message.contains("main@2")
                && error.message.contains("original stays"))
        #expect(whole("checkpoint-2"))
        // As the sentence says.
        let repair = try Store.open(at: bench.path("store"), repairing: true)
            .repair(from: [out + "/checkpoint-2"])
        #expect(repair.ok)
        #expect(try move().map(\.isMoved) == [true, false])
        #expect(try bench.store.verify().ok)
    }

    private func time(_ pack: String) throws -> Date {
        let attributes = try FileManager.default.attributesOfItem(atPath: bench.path("store/packs/" + pack))
        return try #require(attributes[.modificationDate] as? Date)
    }

    @Test func whatIsNotAllThatWasSavedStays() throws {
        for step in 1...2 { try bench.checkpoint(step) }
        try bench.write("out/checkpoint-1", ["extra.bin": [1, 2, 3]])
        try bench.store.saveAll(out)
        try FileManager.default.removeItem(atPath: out + "/checkpoint-1/extra.bin")
        try bench.setTime("checkpoint-1", 1_000_000)
        let result = try move()[0]
        #expect(result.kept == "it is not what was saved", "\(result)")
        #expect(whole("checkpoint-1"))
    }

    @Test func aLinkStays() throws {
        for step in 1...2 { try bench.checkpoint(step) }
        try FileManager.default.moveItem(atPath: out + "/checkpoint-1", toPath: bench.path("elsewhere"))
        try FileManager.default.createSymbolicLink(
            atPath: out + "/checkpoint-1", withDestinationPath: bench.path("elsewhere"))
        #expect(try move()[0].kept == "checkpoint-1 is a link")
        #expect(
            whole("checkpoint-1")
                && FileManager.default.fileExists(atPath: bench.path("elsewhere/config.json")))
    }

    /// Trees that the real libraries write.
    @Test(arguments: LibraryTreeTests.Tree.all.filter { $0.family != "gguf" })
    func whatAFrameworkGoesOnFromStays(_ tree: LibraryTreeTests.Tree) throws {
        try FileManager.default.copyItem(atPath: tree.samples.path(tree.path), toPath: out)
        let output = try OutputFolder(Path(out))
        let before = try output.iterations().filter { $0.inspection.isComplete && $0.step != nil }
        let pointers = try output.pointers()
        let results = try bench.store.saveAll(out, options: SaveAllOptions(run: "r", move: true))
        let after = try output.iterations()
        #expect(after.contains { $0.step == before.last?.step && $0.inspection.isComplete })
        for one in before {
            let isThere = after.contains { $0.candidate.path == one.candidate.path && $0.step == one.step }
            let isNamed = pointers.contains { layout, pointer in
                layout.pointers(to: one.candidate).contains(where: pointer.agrees)
            }
            let isMoved = results.contains { $0.name == one.candidate.name && $0.isMoved }
            #expect(
                isThere != isMoved && (isThere || !isNamed && one.layout!.allowsMoving),
                "\(one.candidate.name)")
        }
        #expect(try FileSystem.names(in: Path(out)).allSatisfy { !$0.starts(with: ".cairn-".utf8) })
        #expect(try bench.store.resume(out, options: ResumeOptions(run: "r")).step == before.last?.step)
    }

    @Test func whatAPointerNamesStays() throws {
        for step in 1...3 {
            try bench.write(
                "out/global_step\(step)",
                [
                    "mp_rank_00_model_states.pt": try LoopTests.torch(
                        [("global_steps", .integer(Int64(step)))], model: "module")
                ])
        }
        try bench.write("out", ["latest": Array("global_step2".utf8)])
        let results = try move()
        #expect(results.map(\.kept) == [nil, "named by latest", "the newest"], "\(results)")
        #expect(try bench.names() == ["global_step2", "global_step3", "latest"])
    }

    // MARK: Removing

    private func remove(_ paths: [String]) throws { try OriginalRemoval.delete(paths, in: Path(out)) }

    @Test func filesOfOneIterationGoTogether() throws {
        try bench.write("out", ["rank_0/a-1": [1], "rank_1/a-1": [2], "rank_1/a-2": [3], "b": [4]])
        try remove(["rank_0/a-1", "rank_1/a-1"])
        #expect(
            try FileManager.default.subpathsOfDirectory(atPath: out).sorted() == [
                "b", "rank_0", "rank_1", "rank_1/a-2",
            ])
        try remove(["b"])
        #expect(try bench.names() == ["rank_0", "rank_1"])
    }

    @Test func whereOneFileCanNotGoAllStay() throws {
        try bench.write("out", ["rank_0/a": [1], "rank_1/a": [2]])
        #expect(bench.code { try remove(["rank_0/a", "rank_1/a", "rank_2/a"]) } == .notFound)
        #expect(
            try FileManager.default.subpathsOfDirectory(atPath: out).sorted() == [
                "rank_0", "rank_0/a", "rank_1", "rank_1/a",
            ])
    }

    @Test func whatAKilledProcessBeganIsFinishedOrPutBack() throws {
        try bench.write(
            "out",
            [
                ".cairn-moved-0-0011/model.safetensors": [1], ".cairn-moved-0-0022": [2],
                ".cairn-moving-0-3/lock": [], ".cairn-moving-0-3/files/rank_0/a": [3],
                ".cairn-moving-0-3/files/rank_1/a": [4],
                "rank_1/a": [5], "rank_2/a": [6],
            ])
        // Killed before there was a lock.
        try FileManager.default.createDirectory(
            atPath: out + "/.cairn-moving-0-4", withIntermediateDirectories: true)
        try OriginalRemoval.finish(in: Path(out))
        #expect(try bench.names() == ["rank_0", "rank_1", "rank_2"])
        let contents = ["rank_0/a", "rank_1/a", "rank_2/a"].map {
            FileManager.default.contents(atPath: out + "/" + $0)
        }
        #expect(contents == [Data([3]), Data([5]), Data([6])], "what was written anew stays")
    }

    @Test func whatALivingProcessMovesIsLeftToIt() throws {
        try bench.write("out", [".cairn-moving-0-3/lock": [], ".cairn-moving-0-3/files/a": [3]])
        let lock = try File(Path(out + "/.cairn-moving-0-3/lock"), .write)
        #expect(try lock.tryLock(.exclusive, at: 0))
        try OriginalRemoval.finish(in: Path(out))
        #expect(FileManager.default.fileExists(atPath: out + "/.cairn-moving-0-3/files/a"))
        withExtendedLifetime(lock) {}
    }

    @Test func theNextMoveFinishesWhatAKilledOneBegan() throws {
        for step in 1...2 { try bench.checkpoint(step) }
        try bench.write("out/.cairn-moved-0-0011", ["model.safetensors": [1]])
        try bench.store.saveAll(out)
        #expect(try bench.names().count == 3, "without --move nothing is deleted")
        try move()
        #expect(try bench.names() == ["checkpoint-2"])
    }
}
