import Foundation
import Platform
import TensorFormats
import Testing

@testable import Cairn

/// Going on with MindSpore Transformers 1.0, which has a folder for each rank, and several steps in it.
@Suite struct ResumeMindFormers1Tests {
    let bench: Workbench

    init() throws { bench = try Workbench() }

    private func write(_ step: Int, ranks: Int = 2, content: Int32 = 5, in folder: String = "out") throws {
        for rank in 0..<ranks {
            let name = MindFormers1FileName(prefix: "qwen3", rank: rank, epoch: 1, step: step)
            let tensors = [
                Stored.numbers("w", [2], [Int32(step), content]), Stored.numbers("adam_m.w", [2], [6, 7]),
                Stored.numbers("global_step", [1], [Int32(step)]),
            ]
            try bench.write(
                "\(folder)/checkpoint/rank_\(rank)",
                [
                    name.text: Stored.safetensors(tensors),
                    "meta.json": MindFormers1Meta(epoch: 1, step: step, file: name.text).serialized(),
                ])
        }
        try bench.write("\(folder)/strategy", ["ckpt_strategy_rank_0.ckpt": [8, 0]])
    }

    private func name(_ rank: Int, _ step: Int) -> String { "qwen3_rank_\(rank)-1_\(step).safetensors" }

    private func files(_ folder: String, rank: Int) throws -> [String] {
        try FileManager.default.contentsOfDirectory(
            atPath: bench.path("\(folder)/checkpoint/rank_\(rank)")
        ).sorted()
    }

    private func says(_ folder: String, rank: Int) throws -> String? {
        let path = bench.path("\(folder)/checkpoint/rank_\(rank)/meta.json")
        return FileManager.default.contents(atPath: path).flatMap {
            try? MindFormers1Meta(parsing: [UInt8]($0)).file
        }
    }

    @discardableResult
    private func resume(_ folder: String = "out", _ options: ResumeOptions = ResumeOptions(run: "r")) throws
        -> ResumeResult
    {
        try bench.store.resume(bench.path(folder), options: options)
    }

    private func saveAll() throws {
        try bench.store.saveAll(bench.path("out"), options: SaveAllOptions(run: "r"))
    }

    @Test func exactlyOneStepComesToEachRanksFolderAndEveryRanksMeta() throws {
        for step in [2, 3, 10] { try write(step) }
        try saveAll()
        let result = try resume("fresh")
        #expect(result.step == 10 && result.path == bench.path("fresh/checkpoint"))
        for rank in 0...1 {
            #expect(try files("fresh", rank: rank) == ["meta.json", name(rank, 10)])
            #expect(try says("fresh", rank: rank) == name(rank, 10))
        }
    }

    @Test func otherStepsMakeRoomForTheOneThatComesBack() throws {
        for step in [2, 3, 10] { try write(step) }
        try saveAll()
        for rank in 0...1 {
            try FileManager.default.removeItem(
                atPath: bench.path("out/checkpoint/rank_\(rank)/" + name(rank, 10)))
        }
        let result = try resume()
        #expect(result.step == 10 && result.source == .store && result.setAside.count == 4)
        for rank in 0...1 { #expect(try files("out", rank: rank) == ["meta.json", name(rank, 10)]) }
        let aside = bench.path("out/.cairn-set-aside-0/checkpoint/rank_1")
        #expect(
            try FileManager.default.contentsOfDirectory(atPath: aside).sorted() == [name(1, 2), name(1, 3)])
    }

    @Test func whatIsInTheFolderAlreadyIsLeftWithItsOlderSteps() throws {
        for step in [2, 3] { try write(step) }
        let result = try resume()
        #expect(result.step == 3 && result.source == .folder && result.setAside.isEmpty)
        #expect(try files("out", rank: 1) == ["meta.json", name(1, 2), name(1, 3)])
    }

    @Test func aStepThatNotAllRanksHaveIsSetAsideAndNoMetaNamesIt() throws {
        try write(2)
        try write(3)
        try FileManager.default.removeItem(atPath: bench.path("out/checkpoint/rank_1/" + name(1, 3)))
        let result = try resume()
        #expect(result.step == 2)
        #expect(result.setAside.map(\.path) == [bench.path("out/checkpoint/rank_0/" + name(0, 3))])
        for rank in 0...1 {
            #expect(try files("out", rank: rank) == ["meta.json", name(rank, 2)])
            #expect(try says("out", rank: rank) == name(rank, 2))
        }
    }

    @Test func aFileThatIsNotWhatWasSavedIsSetAsideAndNotLost() throws {
        try write(3)
        try saveAll()
        let path = bench.path("out/checkpoint/rank_0/" + name(0, 3))
        try Data([1, 2, 3]).write(to: URL(fileURLWithPath: path))
        let result = try resume()
        #expect(result.step == 3 && result.source == .store && result.setAside.map(\.path) == [path])
        #expect(FileManager.default.contents(atPath: result.setAside[0].newPath) == Data([1, 2, 3]))
        #expect(FileManager.default.contents(atPath: path)?.count ?? 0 > 100)
    }

    @Test func aRanksFilesAndMetaComeAlone() throws {
        try write(3, ranks: 4)
        try saveAll()
        let options = ResumeOptions(run: "r", ranks: 1...2)
        #expect(try resume("fresh", options).step == 3)
        let folders = try FileManager.default.contentsOfDirectory(atPath: bench.path("fresh/checkpoint"))
        #expect(folders.sorted() == ["rank_1", "rank_2"])
        for rank in 1...2 {
            #expect(try files("fresh", rank: rank) == ["meta.json", name(rank, 3)])
            #expect(try says("fresh", rank: rank) == name(rank, 3))
        }
        #expect(
            FileManager.default.fileExists(atPath: bench.path("fresh/strategy/ckpt_strategy_rank_0.ckpt")))
        // The same again changes nothing; the other node's come beside them, in any order.
        #expect(try resume("fresh", options).setAside.isEmpty)
        for ranks in [3...3, 0...0] {
            let result = try resume("fresh", ResumeOptions(run: "r", ranks: ranks))
            #expect(result.step == 3 && result.setAside.isEmpty)
        }
        for rank in 0...3 {
            #expect(try files("fresh", rank: rank) == ["meta.json", name(rank, 3)])
            #expect(try says("fresh", rank: rank) == name(rank, 3))
        }
        let info = try #require(try bench.store.iteration(run: "r", step: 3))
        let output = try OutputFolder(Path(bench.path("fresh")))
        let subject = try SaveSubject(#require(output.candidates().first), in: output)
        #expect(try bench.store.isUnchanged(subject, since: info))
    }

    @Test(arguments: [[0, 1, 2], [2, 1, 0], [1, 0, 2], [0, 2, 1]])
    func nodesThatShareAFolderBringBackAllOfItInAnyOrder(_ ranks: [Int]) throws {
        try write(3, ranks: 3)
        // Nothing is all ranks', so that one has nothing in common with the others.
        try FileManager.default.removeItem(atPath: bench.path("out/strategy"))
        try saveAll()
        for rank in ranks {
            let result = try resume("shared", ResumeOptions(run: "r", ranks: rank...rank))
            #expect(
                result.step == 3 && result.path == bench.path("shared/checkpoint") && result.setAside.isEmpty)
            #expect(!result.notes.contains { $0.contains("meta.json") }, "\(result.notes)")
            #expect(try files("shared", rank: rank) == ["meta.json", name(rank, 3)])
        }
        for rank in 0..<3 { #expect(try says("shared", rank: rank) == name(rank, 3)) }
        #expect(try bench.store.iterations(run: "r").map(\.step) == [3])
    }

    @Test func fewerRanksThanWereSavedAreAPartAndNoNewIteration() throws {
        try write(3, ranks: 2)
        try saveAll()
        let id = try bench.store.iteration(run: "r", step: 3)?.id
        // Rank 0 alone looks as if a single process had written it.
        try resume("fresh", ResumeOptions(run: "r", ranks: 0...0))
        #expect(try resume("fresh").setAside.isEmpty)
        #expect(try files("fresh", rank: 1) == ["meta.json", name(1, 3)])
        #expect(try bench.store.iteration(run: "r", step: 3)?.id == id)
    }

    @Test func metaJsonThatSomebodySetBackIsObeyedWhereThatIsAskedFor() throws {
        for step in [2, 3] { try write(step) }
        for rank in 0...1 {
            let meta = MindFormers1Meta(epoch: 1, step: 2, file: name(rank, 2)).serialized()
            try bench.write("out/checkpoint/rank_\(rank)", ["meta.json": meta])
        }
        let result = try resume("out", ResumeOptions(run: "r", reference: "pointer"))
        #expect(result.step == 2 && result.setAside.count == 2)
        for rank in 0...1 { #expect(try says("out", rank: rank) == name(rank, 2)) }
    }

    @Test func whatIsNotHealthyIsShownAndSkipped() throws {
        for step in [2, 3] { try write(step) }
        try bench.write(
            "out",
            ["health_ckpts.json": Array("[{\"is_health\": 1, \"ckpt_name\": \"\(name(0, 3))\"}]".utf8)])
        let result = try resume()
        #expect(
            result.step == 2
                && result.notes.contains("qwen3_rank_0-1_3 is not healthy: health_ckpts.json says so"))
        #expect(
            result.setAside.flatMap(\.reasons) == ["health_ckpts.json says so", "health_ckpts.json says so"])
        // And from the store.
        try bench.store.saveAll(bench.path("out"), options: SaveAllOptions(run: "r"))
        try write(3, in: "other")
        try bench.write(
            "other",
            ["health_ckpts.json": Array("[{\"is_health\": 1, \"ckpt_name\": \"\(name(0, 3))\"}]".utf8)])
        try bench.store.saveAll(bench.path("other"), options: SaveAllOptions(run: "r"))
        let fresh = try resume("fresh")
        #expect(fresh.step == 2 && fresh.notes.contains("r@3 is skipped: health_ckpts.json says so"))
    }
}
