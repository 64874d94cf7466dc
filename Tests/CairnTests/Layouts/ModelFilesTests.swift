import Cairn
import Testing

struct ModelFilesTests {
    private static let files: [(ModelFiles.Part, [String])] = [
        (
            .model,
            [
                "model.safetensors", "model-00001-of-00004.safetensors", "model.safetensors.index.json",
                "model_1.safetensors", "pytorch_model.bin", "pytorch_model-00001-of-00002.bin",
                "pytorch_model.bin.index.json", "adapter_model.safetensors", "adapter_config.json",
                "config.json",
                "generation_config.json", "pytorch_model_fsdp.bin", "pytorch_model_fsdp_0",
                "pytorch_model_fsdp_0/__0_0.distcp", "pytorch_model_fsdp_0_rank3.bin",
                "second/adapter_model.safetensors", "model/model.safetensors",
                "shard-00001-model-00001-of-00002.safetensors",
            ]
        ),
        (
            .optimizer,
            [
                "optimizer.pt", "optimizer.bin", "optimizer_1.bin", "optimizer_0", "optimizer_0/.metadata",
                "optimizer_0/__0_0.distcp", "global_step500", "optimizer/state_dict.pt", "scaler.pt",
                "global_step500/zero_pp_rank_0_mp_rank_00_optim_states.pt",
                "global_step500/mp_rank_00_model_states.pt",
            ]
        ),
        (.scheduler, ["scheduler.pt", "scheduler.bin", "scheduler_1.bin"]),
        (
            .rng,
            [
                "rng_state.pth", "rng_state_0.pth", "rng_state_127.pth", "random_states_0.pkl",
                "rng_state/rank_0.pt",
            ]
        ),
        (
            .trainerState,
            [
                "trainer_state.json", "sampler.bin", "dl_state_dict.bin", "custom_checkpoint_0.pkl",
                "dataloader/rank_0.pt",
            ]
        ),
        (.arguments, ["training_args.bin", "training_args.yaml"]),
        (
            .marker,
            [
                "latest", "zero_to_fp32.py", "latest_checkpointed_iteration.txt", "CHECKPOINT_COMPLETE",
                "checkpoint-is-incomplete.txt", "model.safetensors.tmp", "tmpabcd_123", ".tmpAbC123",
                "optimizer_0/.metadata.tmp", "a.tmp/config.json",
            ]
        ),
        (
            .other,
            [
                "", "README.md", "tokenizer.json", "tokenizer.model", "vocab.json", "chat_template.jinja",
                "latest.txt",
                "scheduler/scheduler_config.json", "unet/diffusion_pytorch_model.safetensors",
                "sub/optimizer.pt",
                "optimizer_notes.txt", "optimizer_x", "rng_state_.pth", "rng_state_0.pth.bak",
                "template.json", ".tmp",
                "tmp_folder", "modeling_custom.py",
            ]
        ),
    ]

    @Test("knows what each file belongs to", arguments: files.map(\.0))
    func parts(part: ModelFiles.Part) {
        for name in Self.files.first(where: { $0.0 == part })!.1 {
            #expect(ModelFiles.part(of: name) == part, "\(name)")
        }
    }

    @Test("takes names that are not UTF-8")
    func bytes() {
        #expect(ModelFiles.part(of: [0xFF, 0x2F, 0xFE]) == .other)
        #expect(ModelFiles.part(of: [0x2F]) == .other)
    }

    @Test("an export takes along what is the model's or nobody's")
    func export() {
        #expect(ModelFiles.Part.allCases.filter(\.isOfModel) == [.model, .other])
    }
}
