import Foundation
import Platform
import Testing

@testable import Cairn

/// What a training goes on from, of made-up checkpoints of the Trainer.
@Suite struct ResumeTests {
    let bench: Workbench
    var out: String { bench.path("out") }

    init() throws { bench = try Workbench() }

    /// A checkpoint as a Trainer leaves it.
    @discardableResult
    func checkpoint(
        _ step: Int, content: UInt8 = 1, best: String? = nil, without missing: String? = nil
    ) throws -> String {
        let best = best.map { ", \"best_model_checkpoint\": \"\($0)\", \"best_global_step\": 1" } ?? ""
        var generator = SeededGenerator(seed: UInt64(content))
        var files: [String: [UInt8]] = [
            "model.safetensors": Workbench.safetensors([("w", generator.bytes(9000))]),
            "config.json": Array("{}".utf8),
            "trainer_state.json": Array("{\"global_step\": \(step), \"log_history\": []\(best)}".utf8),
        ]
        if let missing { files[missing] = nil }
        return try bench.write("out/checkpoint-\(step)", files)
    }

    func names() throws -> [String] {
        try FileManager.default.contentsOfDirectory(atPath: out).sorted()
    }

    /// Where things go that are in the way.
    let aside = ".cairn-set-aside-0"

    func resume(_ options: ResumeOptions = ResumeOptions()) throws -> ResumeResult {
        try bench.store.resume(out, options: options)
    }

    /// What is said, besides what such a small checkpoint lacks, and that it replaced another.
    func said(_ result: ResumeResult) -> [String] {
        saidOfAll(result).filter { !$0.contains(" took the place of ") }
    }

    func saidOfAll(_ result: ResumeResult) -> [String] {
        result.notes.filter { !$0.hasSuffix("which starts anew") }
    }

    func setTime(_ name: String, _ seconds: Double) throws {
        try FileManager.default.setAttributes(
            [.modificationDate: Date(timeIntervalSince1970: seconds)], ofItemAtPath: out + "/" + name)
    }

    func time(_ name: String) throws -> Double {
        let attributes = try FileManager.default.attributesOfItem(atPath: out + "/" + name)
        return try #require(attributes[.modificationDate] as? Date).timeIntervalSince1970
    }

    // MARK: From scratch

    @Test func aTrainingWithoutAnyIterationStartsFromScratch() throws {
        let result = try resume()
        #expect(result.path == nil && result.step == nil && result.source == nil && result.setAside.isEmpty)
        #expect(!FileManager.default.fileExists(atPath: out))
    }

    @Test func whatIsIncompleteIsSetAsideAlsoWhenStartingFromScratch() throws {
        try bench.write("out/checkpoint-5", ["config.json": [1]])
        let result = try resume()
        #expect(result.path == nil && result.setAside.count == 1)
        #expect(try names() == [aside])
    }

    @Test func anUnknownRunBesideOthersIsWrongUsage() throws {
        try bench.store.save(try checkpoint(1))
        #expect(bench.code { _ = try resume(ResumeOptions(run: "other")) } == .notFound)
        let options = ResumeOptions(run: "other", firstRun: true)
        #expect(try bench.store.resume(bench.path("elsewhere"), options: options).path == nil)
        #expect(bench.code { _ = try resume(ResumeOptions(layout: "none")) } == .usage)
    }

    // MARK: The newest

    @Test func theFoldersNewestIsSavedFirstAndTaken() throws {
        for step in [1, 2, 10] { try checkpoint(step) }
        let result = try resume()
        #expect(result.path == out + "/checkpoint-10" && result.step == 10 && result.source == .folder)
        #expect(try bench.store.iterations().map(\.step) == [10])
        #expect(result.id == (try bench.store.iterations().first?.idText))
        #expect(try names() == ["checkpoint-1", "checkpoint-10", "checkpoint-2"])
    }

    @Test func theStoresNewestComesBackToWhereItWas() throws {
        try bench.store.save(try checkpoint(4))
        let saved = try checkpoint(7, content: 7)
        try bench.store.save(saved)
        let before = FileManager.default.contents(atPath: saved + "/model.safetensors")
        try FileManager.default.removeItem(atPath: saved)
        let result = try resume()
        #expect(result.path == saved && result.source == .store && result.step == 7)
        #expect(FileManager.default.contents(atPath: saved + "/model.safetensors") == before)
        #expect(try names() == ["checkpoint-4", "checkpoint-7"])
        // Again, nothing changes.
        let time = try time("checkpoint-7")
        let again = try resume()
        #expect(again.path == saved && again.source == .folder && again.setAside.isEmpty)
        #expect(try self.time("checkpoint-7") == time)
    }

    @Test func anIncompleteNewerOneIsSetAsideUnderANameOfNoFramework() throws {
        try checkpoint(3)
        try checkpoint(9, without: "model.safetensors")
        let result = try resume()
        #expect(result.step == 3)
        #expect(result.setAside.map(\.path) == [out + "/checkpoint-9"])
        #expect(result.setAside[0].reasons == ["the model's weights are missing"])
        #expect(result.setAside.map(\.newPath) == [out + "/" + aside + "/checkpoint-9"])
        #expect(try names() == [aside, "checkpoint-3"])
        try checkpoint(9, without: "model.safetensors")
        #expect(try resume().setAside.map(\.newPath) == [out + "/" + aside + "/checkpoint-9.2"])
        let all = try #require(try Checkpoints.setAside(at: out))
        let size = ["9", "9.2"].flatMap { name in
            ["config.json", "trainer_state.json"].map { "\(out)/\(aside)/checkpoint-\(name)/\($0)" }
        }.reduce(0) { $0 + (FileManager.default.contents(atPath: $1)?.count ?? 0) }
        #expect(all.path == out + "/" + aside && all.bytes == UInt64(size))
        // Nobody finds anything in there, not even DeepSpeed, which knows its own by their files.
        try bench.write("out/\(aside)", ["mp_rank_00_model_states.pt": [1]])
        #expect(try OutputFolder(Path(out)).candidates().map(\.name) == ["checkpoint-3"])
    }

    @Test func anIncompleteOneIsSetAsideWhereTheStoreHasTheNewestAsWell() throws {
        try bench.store.save(try checkpoint(7))
        try FileManager.default.removeItem(atPath: out)
        try checkpoint(3)
        try checkpoint(9, without: "model.safetensors")
        let result = try resume()
        #expect(result.step == 7 && result.source == .store)
        #expect(result.setAside.map(\.path) == [out + "/checkpoint-9"])
        #expect(try names() == [aside, "checkpoint-3", "checkpoint-7"])
    }

    @Test func anIncompleteOlderOneStays() throws {
        try checkpoint(3, without: "trainer_state.json")
        try checkpoint(9)
        let result = try resume()
        #expect(result.step == 9 && result.setAside.isEmpty)
    }

    @Test func aTruncatedOneGivesWayToTheStores() throws {
        let path = try checkpoint(5)
        try bench.store.save(path)
        let file = try FileHandle(forUpdating: URL(fileURLWithPath: path + "/model.safetensors"))
        try file.truncate(atOffset: 100)
        try file.close()
        let result = try resume()
        #expect(result.step == 5 && result.source == .store)
        #expect(try names() == [aside, "checkpoint-5"])
        #expect(FileManager.default.contents(atPath: path + "/model.safetensors")?.count ?? 0 > 9000)
    }

    @Test func otherContentAtTheStepOfTheStoreSupersedesIt() throws {
        try bench.store.save(try checkpoint(5, content: 1))
        try bench.store.save(try checkpoint(6, content: 1))
        try FileManager.default.removeItem(atPath: out + "/checkpoint-6")
        // The store's newest is 6, so that nothing steps back.
        #expect(try resume().step == 6)
        try checkpoint(6, content: 2)
        let result = try resume()
        #expect(result.step == 6 && result.source == .folder)
        #expect(try bench.store.iterations().map(\.step) == [5, 6])
        #expect(try bench.store.iterations().last?.idText == result.id)
    }

    @Test func aDamagedOneIsSkippedAndSaid() throws {
        for step in [1, 2] { try bench.store.save(try checkpoint(step, content: UInt8(step))) }
        try FileManager.default.removeItem(atPath: out)
        let pack = try #require(
            try FileManager.default.contentsOfDirectory(atPath: bench.path("store/packs")).max { a, b in
                let times = try? [a, b].map {
                    try FileManager.default.attributesOfItem(atPath: bench.path("store/packs/\($0)"))[
                        .modificationDate] as! Date
                }
                return times![0] < times![1]
            })
        try bench.flip(bench.path("store/packs/\(pack)"), 6000)
        let result = try resume()
        #expect(result.step == 1 && result.notes.contains { $0.contains("@2") })
        #expect(try names() == ["checkpoint-1"])
    }

    @Test func iterationsOfWhichNoneIsValidAreDamage() throws {
        try bench.store.save(
            try bench.write("out/checkpoint-3", ["model.safetensors": Workbench.safetensors([("w", [1])])]))
        try FileManager.default.removeItem(atPath: out)
        #expect(bench.code { _ = try resume() } == .damage)
    }

    // MARK: Going back

    @Test func goingBackSupersedesWhatCameAfter() throws {
        for step in [1, 2, 3] { try bench.store.save(try checkpoint(step)) }
        let result = try resume(ResumeOptions(reference: "1"))
        #expect(result.step == 1 && result.path == out + "/checkpoint-1")
        #expect(try names() == [aside, "checkpoint-1"])
        #expect(result.setAside.map(\.path) == [out + "/checkpoint-2", out + "/checkpoint-3"])
        #expect(try bench.store.resolve("latest").step == 1)
        #expect(try resume().step == 1)
    }

    @Test func goingBackToWhatOnlyTheFolderHasSavesItFirst() throws {
        for step in [1, 2] { try checkpoint(step) }
        try bench.store.save(out + "/checkpoint-2")
        let result = try resume(ResumeOptions(reference: "1"))
        #expect(result.step == 1 && result.source == .folder)
        #expect(try bench.store.resolve("latest").step == 1)
        #expect(bench.code { _ = try resume(ResumeOptions(reference: "7")) } == .notFound)
        #expect(bench.code { _ = try resume(ResumeOptions(reference: "pointer")) } == .notFound)
    }

    @Test func whatTheTrainingWentBackFromIsNoNewest() throws {
        for step in [1, 2, 3] { try bench.store.save(try checkpoint(step, content: UInt8(step))) }
        _ = try bench.store.rewind(to: "1")
        let result = try resume()
        #expect(result.step == 1 && result.source == .folder)
        #expect(
            result.setAside.map(\.reasons) == [
                ["the training went back from it"], ["the training went back from it"],
            ])
        #expect(try names() == [aside, "checkpoint-1"])
        // What it writes when it comes by again is.
        try checkpoint(3, content: 33)
        #expect(try resume().step == 3)
        #expect(try bench.store.resolve("latest").step == 3)
    }

    @Test func aReferenceLeadsForwardAsWell() throws {
        for step in [1, 2, 3] { try bench.store.save(try checkpoint(step, content: UInt8(step))) }
        #expect(try resume(ResumeOptions(reference: "1")).step == 1)
        let result = try resume(ResumeOptions(reference: "2"))
        #expect(result.step == 2 && said(result).isEmpty)
        #expect(try bench.store.resolve("latest").step == 2)
        #expect(result.id == (try bench.store.resolve("latest").idText))
        #expect(try resume().step == 2)
        // A pinned one can't be replaced, so that it can't count again either, which is said.
        _ = try bench.store.pin("3", name: "keep")
        #expect(try resume(ResumeOptions(reference: "3")).notes.contains { $0.contains("pinned") })
    }

    @Test func ofAStepThatWasGoneBackFromTheFoldersIsMeantWhereItIsAnother() throws {
        for step in [1, 2] { try bench.store.save(try checkpoint(step, content: UInt8(step))) }
        _ = try bench.store.rewind(to: "1")
        let path = try checkpoint(2, content: 22)
        let mine = FileManager.default.contents(atPath: path + "/model.safetensors")
        let result = try resume(ResumeOptions(reference: "2"))
        #expect(result.source == .folder && result.setAside.isEmpty)
        #expect(FileManager.default.contents(atPath: path + "/model.safetensors") == mine)
    }

    @Test func goingBackToWhatCanNotBeReadChangesNothing() throws {
        for step in [1, 2] { try bench.store.save(try checkpoint(step, content: UInt8(step))) }
        try FileManager.default.removeItem(atPath: out + "/checkpoint-1")
        for pack in try FileManager.default.contentsOfDirectory(atPath: bench.path("store/packs")) {
            try bench.flip(bench.path("store/packs/\(pack)"), 6000)
        }
        #expect(bench.code { _ = try resume(ResumeOptions(reference: "1")) } == .damage)
        #expect(try names() == ["checkpoint-2"])
        #expect(try bench.store.resolve("latest").step == 2)
    }

    @Test func withoutAReferenceNothingEverStepsBack() throws {
        // Whatever the folder has, the store's newest is not older than what came last.
        for step in [1, 2, 3] { try bench.store.save(try checkpoint(step)) }
        for left in [["checkpoint-1"], ["checkpoint-1", "checkpoint-2"], []] {
            for name in try names() where !left.contains(name) {
                try FileManager.default.removeItem(atPath: out + "/" + name)
            }
            #expect(try resume().step == 3, "\(left)")
        }
        #expect(try bench.store.iterations().allSatisfy { !$0.superseded })
    }

    @Test func anIterationOrAStoreIsNoOutputFolder() throws {
        let path = try checkpoint(1)
        try bench.store.save(path)
        #expect(bench.code { _ = try bench.store.resume(path) } == .usage)
        #expect(bench.code { _ = try bench.store.resume(bench.path("store/out")) } == .usage)
        #expect(!FileManager.default.fileExists(atPath: bench.path("store/out")))
    }
}
