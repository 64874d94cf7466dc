import Foundation
import Platform
import Testing

@testable import Cairn

/// Files of real checkpoints of which only the first half was written.
@Suite struct HalfWrittenTests {
    struct Case: Sendable, CustomTestStringConvertible {
        var archive: String
        var folder: String
        var file: String

        var testDescription: String { "\(archive)/\(folder)/\(file)" }
    }

    static let cases = [
        Case(archive: "checkpoints", folder: "hf-trainer/basic", file: "checkpoint-2/config.json"),
        Case(archive: "checkpoints", folder: "hf-trainer/basic", file: "checkpoint-2/generation_config.json"),
        Case(archive: "checkpoints", folder: "hf-trainer/basic", file: "checkpoint-2/training_args.bin"),
        Case(
            archive: "checkpoints", folder: "verl/fsdp", file: "global_step_2/actor/huggingface/config.json"),
        Case(archive: "llamafactory", folder: "one", file: "checkpoint-2/model/config.json"),
        Case(
            archive: "deepspeed", folder: "universal",
            file: "global_step2_universal/zero/embed.weight/step.pt"),
        Case(
            archive: "deepspeed", folder: "universal", file: "global_step2_universal/zero/optimizer_state.pt"),
        Case(archive: "mindspore", folder: "older-ckpt", file: "strategy/ckpt_strategy_rank_0.ckpt"),
        Case(archive: "orbax", folder: "kept", file: "3/default/manifest.ocdbt"),
        Case(archive: "orbax", folder: "kept", file: "3/default/ocdbt.process_0/manifest.ocdbt"),
    ]

    private func whole(_ output: String) throws -> Set<String> {
        Set(try OutputFolder(Path(output)).iterations().filter(\.isValid).map(\.candidate.name))
    }

    @Test(arguments: cases) func theirIterationsAreIncompleteAndSaySo(one: Case) throws {
        let bench = try Workbench()
        let samples =
            one.archive == "checkpoints" ? LayoutSamples.checkpoints : LayoutSamples.library(one.archive)
        let output = bench.path("out")
        try FileManager.default.copyItem(atPath: samples.path(one.folder), toPath: output)
        let before = try whole(output)
        let path = output + "/" + one.file
        try FileManager.default.setAttributes([.posixPermissions: 0o600], ofItemAtPath: path)
        let bytes = try #require(FileManager.default.contents(atPath: path))
        try bytes.prefix(bytes.count / 2).write(to: URL(fileURLWithPath: path))

        #expect(try whole(output).isStrictSubset(of: before))
        let results = try bench.store.saveAll(output)
        let name = String(one.file.split(separator: "/").last!)
        let reasons = results.flatMap { result -> [String] in
            if case .refused(let reasons) = result.outcome { reasons } else { [] }
        }
        #expect(reasons.contains { $0.contains(name) }, "\(reasons)")
        #expect(!results.contains { if case .failed = $0.outcome { true } else { false } })
    }
}
