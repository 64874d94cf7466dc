import Testing

@testable import Cairn

struct CheckpointNameTests {
    struct Case: Sendable {
        var stem: String
        var step: UInt64?
        var epoch: UInt64?
        /// What `order` is where neither says it.
        var other: UInt64?
        var metrics: [String: Double] = [:]
        var isPart = false

        init(
            _ stem: String, step: UInt64? = nil, epoch: UInt64? = nil, other: UInt64? = nil,
            metrics: [String: Double] = [:],
            isPart: Bool = false
        ) {
            (self.stem, self.step, self.epoch, self.other) = (stem, step, epoch, other)
            (self.metrics, self.isPart) = (metrics, isPart)
        }
    }

    static let cases = [
        Case("ckpt_9", other: 9), Case("ckpt_10", other: 10), Case("ckpt-000123", other: 123),
        Case("checkpoint5", other: 5), Case("1000", other: 1000), Case("model_100", other: 100),
        Case("mine_12", other: 12), Case("step_500", step: 500), Case("step500", step: 500),
        Case("model-step=500", step: 500), Case("global_step_7", step: 7), Case("iter_3", step: 3),
        Case("iteration-40", step: 40), Case("epoch_3_step_1500", step: 1500, epoch: 3),
        Case("epoch=3-step=16", step: 16, epoch: 3),
        Case("epoch=3-step=16-val_loss=0.25", step: 16, epoch: 3, metrics: ["val_loss": 0.25]),
        Case("epoch=03-val_acc=0.91-v1", epoch: 3, metrics: ["val_acc": 0.91]),
        Case("model_epoch10_acc0.93", epoch: 10, metrics: ["acc": 0.93]),
        Case("best_val_acc_0.5_ep2", epoch: 2, metrics: ["val_acc": 0.5]),
        Case("ckpt_10_loss=-1.5e-05", other: 10, metrics: ["loss": -1.5e-05]),
        Case("ckpt_3_top1_76.5", other: 3), Case("e5", epoch: 5), Case("resnet50"), Case("resnet50-0676ba61"),
        Case("llama-7b"), Case("gpt2"), Case("vit_b_16-c867db91", other: 16), Case("version_2"),
        Case("fold_3_seed_42"), Case("latest"), Case("checkpoint"), Case(""), Case("模型_5", other: 5),
        Case("step_9007199254740992"), Case("step_99999999999999999999999"),
        Case("rank_0_step_5", step: 5, isPart: true), Case("model_world_size_2_rank_0", isPart: true),
        Case("mp_rank_00_model_states", isPart: true), Case("optimizer_3", isPart: true),
    ]

    @Test(arguments: cases)
    func `says what stands in a name`(_ one: Case) {
        let name = CheckpointName(one.stem)
        #expect(name.step == one.step)
        #expect(name.epoch == one.epoch)
        if one.step == nil, one.epoch == nil { #expect(name.order == one.other) }
        #expect(name.isPart == one.isPart)
        for (key, value) in one.metrics { #expect(name.metrics[key] == value) }
        if one.metrics.isEmpty { #expect(name.metrics.values.allSatisfy { $0 == 76.5 || $0 == 1 }) }
    }

    @Test func `numbers compare as numbers`() {
        let names = ["ckpt_10", "ckpt_9", "ckpt_100"]
        #expect(
            names.sorted { CheckpointName($0).order! < CheckpointName($1).order! } == [
                "ckpt_9", "ckpt_10", "ckpt_100",
            ])
    }

    @Test func `what is overwritten again and again is known by its name`() {
        for name in ["latest", "model_best", "last", "checkpoint", "final-model"] {
            #expect(CheckpointName(name).isAlias)
        }
        for name in ["vocab", "images", "resnet50", "train"] { #expect(!CheckpointName(name).isAlias) }
    }

    @Test func `any bytes are a name`() {
        var generator = SeededGenerator(seed: 5)
        let alphabet = Array("steploss=_-.0123456789eE+ä".utf8)
        for _ in 0..<20_000 {
            let bytes = (0..<Int.random(in: 0..<24, using: &generator)).map { _ in
                alphabet.randomElement(using: &generator)!
            }
            let name = CheckpointName(String(decoding: bytes, as: UTF8.self))
            #expect(name.order.map { $0 <= Step.maximum } ?? true)
        }
    }
}
