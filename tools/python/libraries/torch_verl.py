"""What verl writes of models that FSDP2 shards: a file of each rank, by torch.save. Its PPO trainer of 2 ranks, and its SFT trainer of
2 x 2, which holds each shard twice. verl itself needs GPUs: this is the sequence of its own code (verl
utils/checkpoint/fsdp_checkpoint_manager.py, trainer/ppo/ray_trainer.py).
"""
import json
import random
import shutil

import numpy
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh

from expected import expect, iteration
from loading import assert_same, gathered
from torch_training import Training

# The Hugging Face configuration of the model, which transformers writes.
CONFIG = {"architectures": ["LlamaForCausalLM"], "hidden_size": 6, "model_type": "llama", "num_hidden_layers": 2, "vocab_size": 11}


def save(training, folder):
    (folder / "huggingface").mkdir(parents=True, exist_ok=True)
    rank, world = dist.get_rank(), dist.get_world_size()
    states = {
        "model": training.model.state_dict(), "optim": training.optimizer.state_dict(),
        "extra_state": {"lr_scheduler": training.schedule.state_dict(), "rng": {
            "cpu": torch.get_rng_state(), "numpy": numpy.random.get_state(), "random": random.getstate()}}}
    for name, state in states.items():
        torch.save(state, folder / f"{name}_world_size_{world}_rank_{rank}.pt")
    if rank == 0:
        (folder / "huggingface/config.json").write_text(json.dumps(CONFIG, indent=2) + "\n")
        (folder / "fsdp_config.json").write_text(json.dumps({"FSDP_version": 2, "world_size": world}, indent=4))
    dist.barrier()


def merged(folder, world):
    """What verl's merger makes of the files: the shards of the first two ranks, one below the other. Buffers are in each of them."""
    shards = [torch.load(folder / f"model_world_size_{world}_rank_{rank}.pt", weights_only=False) for rank in (0, 1)]
    return {name: torch.cat([shard[name].to_local() for shard in shards]) if hasattr(value, "to_local") else value
            for name, value in shards[0].items()}


def described(folder, weights, training, pruned):
    step, world = int(folder.name.split("_")[-1]), dist.get_world_size()
    whole = gathered(training.model.state_dict())
    if pruned:
        return iteration(folder.name, step, {}, complete=False)
    if dist.get_rank() == 0:
        assert_same(merged(folder / weights, world), whole)
    files = [f"{weights}{name}_world_size_{world}_rank_{rank}.pt" for name in ("model", "optim", "extra_state")
             for rank in range(world)]
    required = [*files, f"{weights}fsdp_config.json"]
    return iteration(folder.name, step, whole, world_size=world, required=required)


def run(output, name, mesh, weights, keep):
    training, iterations = Training(mesh), []
    for step in (1, 2, 3):
        training.train(1)
        folder = output / name / f"global_step_{step}"
        save(training, folder / weights)
        iterations.append(described(folder, weights, training, pruned=step <= 3 - keep))
        if dist.get_rank() == 0:
            torch.save({"_snapshot": {"_snapshot_step": step}}, folder / ("data.pt" if weights else "data_0.pt"))
            if weights and step > keep:
                # Only this is pruned: what else lies in the step's folder stays.
                shutil.rmtree(output / name / f"global_step_{step - keep}" / weights)
            (output / name / "latest_checkpointed_iteration.txt").write_text(str(step))
    if dist.get_rank() == 0:
        expect(output, name, "verl", iterations)


def write(output):
    if dist.get_world_size() == 2:
        run(output, "verl-ppo", init_device_mesh("cpu", (2,), mesh_dim_names=("fsdp",)), "actor/", keep=2)
    elif dist.get_world_size() == 4:
        run(output, "verl-sft", init_device_mesh("cpu", (2, 2), mesh_dim_names=("replicate", "fsdp")), "", keep=3)
