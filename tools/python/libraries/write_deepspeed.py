#!/usr/bin/env python3
"""What DeepSpeed writes with 2 ranks: ZeRO 0 to 3, one in bfloat16, one save that is cut short, and universal checkpoints; and with 2 of
tensor parallelism, among each of which 2 divide the data: ZeRO 0, 1 and 3, and universal checkpoints.

usage: write_deepspeed.py OUTPUT
"""
import os
import sys
from pathlib import Path

os.environ |= {"DS_ACCELERATOR": "cpu", "DS_SKIP_CUDA_CHECK": "1"}
import deepspeed
import torch
import torch.distributed as dist
from deepspeed.checkpoint import ds_to_universal
from deepspeed.utils.zero_to_fp32 import get_fp32_state_dict_from_zero_checkpoint

from expected import expect, iteration
from ranks import as_ranks

# Folder, stage, bfloat16.
RUNS = [("zero-0", 0, False), ("zero-1", 1, False), ("zero-1-bf16", 1, True), ("zero-2", 2, False), ("zero-3", 3, False)]
STEPS = (2, 4)
# The same with tensor parallelism.
TENSOR_RUNS = [("tensor-zero-0", 0, False), ("tensor-zero-1-bf16", 1, True), ("tensor-zero-3", 3, False)]
TENSOR_STEP = 2


class Model(torch.nn.Module):
    """Sizes that 2 ranks don't divide, tied weights, one that is frozen, and a buffer."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.embed = torch.nn.Embedding(11, 7)
        self.layers = torch.nn.ModuleList(torch.nn.Linear(7, 7) for _ in range(2))
        self.scale = torch.nn.Parameter(torch.full((7,), 0.3), requires_grad=False)
        self.head = torch.nn.Linear(7, 11, bias=False)
        self.head.weight = self.embed.weight
        self.register_buffer("rope", torch.arange(3.0) / 7)

    def forward(self, tokens):
        x = self.embed(tokens)
        for layer in self.layers:
            x = layer(x).relu() * self.scale
        return self.head(x)


class Block(torch.nn.Module):
    """What ranks divide: three in one, of unlike sizes; one that 2 don't divide; and one that is frozen."""

    def __init__(self):
        super().__init__()
        self.norm = torch.nn.LayerNorm(8)
        self.qkv_proj = torch.nn.Linear(8, 16)
        self.o_proj = torch.nn.Linear(8, 8)
        self.up_proj = torch.nn.Linear(8, 7)
        self.gate_proj = torch.nn.Linear(8, 7, bias=False).requires_grad_(False)
        self.down_proj = torch.nn.Linear(7, 8, bias=False)

    def forward(self, x):
        joined = self.qkv_proj(self.norm(x))
        x = x + self.o_proj(joined[..., :joined.shape[-1] // 2])
        return x + self.down_proj(self.up_proj(x).relu() * self.gate_proj(x))


class Divided(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.embed = torch.nn.Embedding(11, 8)
        self.block = Block()
        self.scale = torch.nn.Parameter(torch.full((8,), 0.3), requires_grad=False)
        self.head = torch.nn.Linear(8, 11, bias=False)
        self.head.weight = self.embed.weight
        self.register_buffer("rope", torch.arange(3.0) / 7)

    def forward(self, tokens):
        return self.head(self.block(self.embed(tokens)) * self.scale)


# AutoTP's, of the parameters above.
DIVISION = {"autotp_size": 2, "partition_config": {"use_default_specs": False, "layer_specs": [
    {"patterns": [r".*\.qkv_proj\.weight$"], "partition_type": "column", "shape": [[8, 4, 4], -1], "partition_dim": 0},
    {"patterns": [r".*\.(up|gate)_proj\.weight$"], "partition_type": "column"},
    {"patterns": [r".*\.(o|down)_proj\.weight$"], "partition_type": "row"}]}}


def engine(stage, bf16, model=None, **options):
    model = model or Model()
    weights = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [{"params": [weight for weight in weights if weight.dim() == 2], "weight_decay": 0.1},
              {"params": [weight for weight in weights if weight.dim() == 1], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=0.01)
    return deepspeed.initialize(
        model=model, optimizer=optimizer, lr_scheduler=torch.optim.lr_scheduler.StepLR(optimizer, 3), dist_init_required=False, config={
            "train_micro_batch_size_per_gpu": 1, "bf16": {"enabled": bf16}, "zero_allow_untested_optimizer": True,
            "zero_optimization": {"stage": stage, "stage3_param_persistence_threshold": 0}, "steps_per_print": 1000, **options})[0]


def train(output, name, stage, bf16):
    trained = engine(stage, bf16)
    for step in range(1, 7 if name == "zero-2" else 5):
        trained.backward(trained(torch.arange(11).reshape(1, 11)).float().square().mean())
        trained.step()
        if step == 6 and dist.get_rank() == 1:
            # As when this rank is killed before it has written its part: "latest" names the folder all the same.
            trained._save_zero_checkpoint = lambda *arguments: None
        if step % 2 == 0:
            trained.save_checkpoint(str(output / name), client_state={"epoch": step // 2})


def train_divided(output, name, stage, bf16):
    """Keeps what DeepSpeed itself gathers from the ranks, beside."""
    trained = engine(stage, bf16, Divided(), tensor_parallel=DIVISION)
    for _ in range(TENSOR_STEP):
        trained.backward(trained(torch.arange(11).reshape(1, 11)).float().square().mean())
        trained.step()
    trained.save_checkpoint(str(output / name))
    whole = trained._consolidated_16bit_state_dict()
    if dist.get_rank() == 0:
        torch.save(whole, output / f"{name}.pt")


def loaded(folder, stage):
    if stage == 3:
        return get_fp32_state_dict_from_zero_checkpoint(str(folder.parent), tag=folder.name)
    module = torch.load(folder / "mp_rank_00_model_states.pt", weights_only=False)["module"]
    # With stage 1, the frozen weights are in the module alone, and the engine loads them from there.
    return module | (get_fp32_state_dict_from_zero_checkpoint(str(folder.parent), tag=folder.name) if stage else {})


def described(folder, stage):
    return iteration(
        folder.name, int(folder.name.removeprefix("global_step")), loaded(folder, stage), world_size=2, tied=["head.weight"],
        required=sorted(file.name for file in folder.iterdir()))


def parts(folder):
    """The parameters of a universal checkpoint: a folder of each, with a file of each of its parts."""
    model, optimizer = {}, {}
    for file in sorted((folder / "zero").glob("*/*.pt")):
        value, name = torch.load(file, weights_only=False), file.parent.name
        value = value["param"] if isinstance(value, dict) else value
        if file.stem == "fp32":
            model[name] = value
        elif file.stem.startswith("exp_avg"):
            optimizer[f"{name}.{file.stem}"] = value
    return model, optimizer


def convert(source, folder, *options):
    sys.argv = ["", "--input_folder", str(source), "--output_folder", str(folder), "--num_extract_workers", "1", "--num_merge_workers", "1",
                *options]
    ds_to_universal.main(ds_to_universal.parse_arguments())


def universal(output):
    iterations = []
    for step in STEPS:
        folder = output / f"universal/global_step{step}_universal"
        convert(output / f"zero-2/global_step{step}", folder, "--inject_missing_state")
        model, optimizer = parts(folder)
        iterations.append(iteration(
            folder.name, step, model, optimizer=optimizer, tied=["head.weight"],
            required=["mp_rank_00_model_states.pt", "zero/embed.weight/fp32.pt"]))
    expect(output, "universal", "deepspeed-universal", iterations)


def divided(output, name, stage):
    """Weights in full precision come from the universal checkpoint. It has what is not trained as one rank has it, so that is what DeepSpeed
    gathered."""
    source, folder = output / f"{name}/global_step{TENSOR_STEP}", output / f"{name}-universal/global_step{TENSOR_STEP}_universal"
    whole = torch.load(output / f"{name}.pt", weights_only=False)
    (output / f"{name}.pt").unlink()
    if stage < 3:
        # It gathers no buffers.
        whole["rope"] = torch.load(source / "mp_rank_00_model_states.pt", weights_only=False)["module"]["rope"]
    files = sorted(file.name for file in source.iterdir())
    if stage == 0:
        # Of this one, DeepSpeed makes none.
        expect(output, name, "deepspeed", [iteration(source.name, TENSOR_STEP, whole, tied=["head.weight"], world_size=4, required=files)])
        return
    # It does not expect frozen ones among those that are described.
    convert(source, folder, "--no_strict")
    model, optimizer = parts(folder)
    trained = {key.rpartition(".")[0] for key in optimizer}
    whole |= {key: tensor for key, tensor in model.items() if key in trained}
    whole["head.weight"] = whole["embed.weight"]
    moments = {f"{part}.{key}": tensor for key, _, part, tensor in ((*key.rpartition("."), tensor) for key, tensor in optimizer.items())}
    expected = dict(model=whole, optimizer=moments, tied=["head.weight"])
    expect(output, name, "deepspeed", [iteration(source.name, TENSOR_STEP, **expected, world_size=4, required=files)])
    files = sorted(str(file.relative_to(folder)) for file in folder.glob("*_model_states.pt"))
    expect(output, folder.parent.name, "deepspeed-universal", [iteration(
        folder.name, TENSOR_STEP, **expected, world_size=None, required=[*files, "zero/block.o_proj.weight/fp32.pt"])])


def main(output):
    as_ranks(2, ranks, output)
    as_ranks(4, ranks, output)
    for name, stage, _ in RUNS:
        iterations = [described(output / name / f"global_step{step}", stage) for step in STEPS]
        if name == "zero-2":
            iterations.append(iteration("global_step6", 6, {}, complete=False))
        expect(output, name, "deepspeed", iterations)
    universal(output)
    for name, stage, _ in TENSOR_RUNS:
        divided(output, name, stage)


def ranks(output):
    # Compiled at the first use, with tools that need not be there. It only makes sums over ranks faster.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.init_distributed("gloo")
    if dist.get_world_size() == 2:
        for run in RUNS:
            train(output, *run)
    else:
        for run in TENSOR_RUNS:
            train_divided(output, *run)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
