import Foundation
import Platform
import Testing

@testable import Cairn

/// `--ranks`: what some ranks read, and what all of them do.
@Suite struct ResumeRanksTests {
    let bench: Workbench

    init() throws { bench = try Workbench() }

    @Test func ranksOverlapAsTheyAreCounted() {
        for (first, step, count) in [(0, 1, 1), (3, 1, 1), (1, 2, 4), (0, 8, 3), (5, 3, 1)] {
            let all = Set((0..<count).map { first + $0 * step })
            let readers = RankReaders(first: first, step: step, count: count)
            for lower in 0..<30 {
                for upper in lower..<30 {
                    #expect(
                        readers.overlaps(lower...upper) == !all.isDisjoint(with: lower...upper),
                        "\(readers) \(lower)-\(upper)")
                }
            }
        }
        let absurd = RankReaders(first: 1, step: .max, count: .max)
        #expect(absurd.overlaps(0...Int.max) && !absurd.overlaps(2...Int.max))
        #expect(!RankReaders(first: 0, step: 0, count: 5).overlaps(0...9))
        #expect(!RankReaders(first: -1).overlaps(0...9))
    }

    /// What is brought back of an iteration for some ranks, below its folder.
    private func files(_ samples: String, of ranks: ClosedRange<Int>, name: String = UUID().uuidString) throws
        -> [String]
    {
        let options = ResumeOptions(run: "r", ranks: ranks)
        let result = try bench.store.resume(bench.path(name), options: options)
        #expect(result.setAside.isEmpty)
        let output = try OutputFolder(Path(bench.path(name)))
        let candidate = try #require(try output.candidates().last)
        return try output.view(of: candidate).files.map(\.path)
    }

    @Test func ofVeRLEachRankHasThreeFiles() throws {
        let all = LayoutSamples.checkpoints.path("verl/fsdp")
        try bench.store.saveAll(all, options: SaveAllOptions(run: "r"))
        let shared = ["actor/fsdp_config.json", "actor/huggingface/config.json"]
        for rank in 0...1 {
            let own = ["extra_state", "model", "optim"].map { "actor/\($0)_world_size_2_rank_\(rank).pt" }
            #expect(try files(all, of: rank...rank) == (own + shared + ["data.pt"]).sorted())
        }
    }

    @Test func twoNodesThatShareAFolderBringBackAllOfIt() throws {
        let all = LayoutSamples.checkpoints.path("verl/fsdp")
        try bench.store.saveAll(all, options: SaveAllOptions(run: "r"))
        let whole = try CheckpointView(Path(all + "/global_step_2")).files.map(\.path)
        #expect(try files(all, of: 1...1, name: "shared").count == whole.count - 3)
        // Again, and the other one: nothing is set aside.
        #expect(try files(all, of: 1...1, name: "shared").count == whole.count - 3)
        #expect(try files(all, of: 0...0, name: "shared") == whole)
        let info = try #require(try bench.store.iteration(run: "r", step: 2))
        let subject = SaveSubject(path: Path(bench.path("shared/global_step_2")))
        #expect(try bench.store.isUnchanged(subject, since: info))
        #expect(
            try FileManager.default.contentsOfDirectory(atPath: bench.path("shared")).sorted()
                == ["global_step_2", "latest_checkpointed_iteration.txt"])
    }

    @Test func ofZeROEachRankHasItsPartOfTheState() throws {
        let all = LayoutSamples.checkpoints.path("deepspeed/zero1_fp32")
        try bench.store.saveAll(all, options: SaveAllOptions(run: "r"))
        #expect(
            try files(all, of: 1...7) == [
                "mp_rank_00_model_states.pt", "zero_pp_rank_1_mp_rank_00_optim_states.pt",
            ])
    }

    /// Files of which only the names count.
    private func names(_ files: [String]) throws -> CheckpointView {
        let folder = UUID().uuidString
        try bench.write(folder, Dictionary(uniqueKeysWithValues: files.map { ($0, [1]) }))
        return try CheckpointView(Path(bench.path(folder)))
    }

    @Test func whereTheModelIsDividedTooAllRanksHaveAll() throws {
        for path in ["experts/global_step3", "pipeline/global_step3"] {
            let view = try LayoutSamples.library("ranks-deepspeed").view(path)
            #expect(try DeepSpeed().readers(in: view).isEmpty, "\(path)")
        }
        let made = try names([
            "mp_rank_00_model_states.pt", "mp_rank_01_model_states.pt",
            "zero_pp_rank_0_mp_rank_00_optim_states.pt", "zero_pp_rank_0_mp_rank_01_optim_states.pt",
        ])
        #expect(try DeepSpeed().readers(in: made).isEmpty)
        let divided = try names([
            "zero_pp_rank_0_mp_rank_00_model_states.pt", "zero_pp_rank_1_mp_rank_00_model_states.pt",
        ])
        #expect(
            try DeepSpeed().readers(in: divided)
                == [
                    "zero_pp_rank_0_mp_rank_00_model_states.pt": RankReaders(first: 0),
                    "zero_pp_rank_1_mp_rank_00_model_states.pt": RankReaders(first: 1),
                ])
    }

    @Test func aTrainersRanksHaveRandomNumbersOfTheirOwn() throws {
        let view = try names([
            "model.safetensors", "rng_state_0.pth", "rng_state_11.pth", "trainer_state.json",
            "global_step5/mp_rank_00_model_states.pt",
            "global_step5/bf16_zero_pp_rank_3_mp_rank_00_optim_states.pt",
        ])
        #expect(
            try HuggingFace().readers(in: view) == [
                "rng_state_0.pth": RankReaders(first: 0), "rng_state_11.pth": RankReaders(first: 11),
                "global_step5/bf16_zero_pp_rank_3_mp_rank_00_optim_states.pt": RankReaders(first: 3),
            ])
        #expect(try HuggingFace().readers(in: names(["rng_state.pth"])).isEmpty)
    }

    // MARK: Megatron-LM

    @Test func ofMegatronAFolderIsThatOfAllRanksThatHaveItsPart() {
        // As `initialize_model_parallel` counts them: tp 2, dp 2, pp 2.
        func ranks(_ tensor: UInt64, _ stage: UInt64) -> [Int]? {
            let part = MegatronGrid.Rank(tensor: tensor, pipeline: stage, expert: 0)
            let readers = RankReaders(part, tensors: 2, stages: 2, of: 8)
            return readers.map { one in (0..<20).filter { one.overlaps($0...$0) } }
        }
        #expect(ranks(0, 0) == [0, 2] && ranks(1, 0) == [1, 3])
        #expect(ranks(0, 1) == [4, 6] && ranks(1, 1) == [5, 7])
        #expect(ranks(2, 0) == nil && ranks(0, 2) == nil)
        let part = MegatronGrid.Rank(tensor: 0, pipeline: 0, expert: 0)
        #expect(RankReaders(part, tensors: 2, stages: 1, of: 3) == nil)
        #expect(RankReaders(part, tensors: .max, stages: 2, of: 8) == nil)
        #expect(RankReaders(part, tensors: 0, stages: 2, of: 8) == nil)
    }

    @Test func ofMegatronsTreesTheFoldersAreKnownByTheirRanks() throws {
        let view = try LayoutSamples.library("ranks-megatron").view("biases/iter_0000020")
        #expect(
            try Megatron().readers(in: view) == [
                "mp_rank_00/model_optim_rng.pt": RankReaders(first: 0, step: 2),
                "mp_rank_01/model_optim_rng.pt": RankReaders(first: 1, step: 2),
            ])
        // Where experts are divided, where all ranks share everything, and where nothing says how many there are.
        let experts = try LayoutSamples.library("ranks-megatron").view("experts/iter_0000020")
        let shared = try LayoutSamples.checkpoints.view("megatron/torch_dist/iter_0000020")
        let silent = try LayoutSamples.library("megatron").view("torch/iter_0000020")
        for view in [experts, shared, silent] {
            #expect(try Megatron().readers(in: view).isEmpty, "\(view.folders)")
        }
    }
}
