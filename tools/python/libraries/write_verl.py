#!/usr/bin/env python3
"""What verl writes of models that FSDP2 shards (`fully_shard`): a file of each rank, by torch.save. Its PPO trainer of 2 ranks, and its
SFT trainer of 2 x 2, which holds each shard twice. verl itself needs GPUs: this is its checkpoint code's own sequence (verl
utils/checkpoint/fsdp_checkpoint_manager.py, trainer/ppo/ray_trainer.py).

usage: write_verl.py OUTPUT
"""
import json
import os
import random
import shutil
import sys
from pathlib import Path

os.environ |= {"HF_HUB_OFFLINE": "1"}
import numpy
import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from transformers import LlamaConfig, LlamaForCausalLM

from expected import expect, iteration, torchrun
from loading import assert_same, gathered

CONFIG = LlamaConfig(
    vocab_size=33, hidden_size=12, intermediate_size=22, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
    max_position_embeddings=32, bos_token_id=0, eos_token_id=0)


class Training:
    def __init__(self, mesh):
        torch.manual_seed(1)
        self.model = LlamaForCausalLM(CONFIG)
        for layer in self.model.model.layers:
            fully_shard(layer, mesh=mesh)
        fully_shard(self.model, mesh=mesh)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=0.01)
        self.schedule = torch.optim.lr_scheduler.StepLR(self.optimizer, 3)

    def train(self):
        tokens = torch.arange(16).reshape(2, 8)
        self.model(input_ids=tokens, labels=tokens).loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.schedule.step()

    def save(self, folder):
        folder.mkdir(parents=True, exist_ok=True)
        rank, world = dist.get_rank(), dist.get_world_size()
        states = {
            "model": self.model.state_dict(), "optim": self.optimizer.state_dict(),
            "extra_state": {"lr_scheduler": self.schedule.state_dict(), "rng": {
                "cpu": torch.get_rng_state(), "numpy": numpy.random.get_state(), "random": random.getstate()}}}
        for name, state in states.items():
            torch.save(state, folder / f"{name}_world_size_{world}_rank_{rank}.pt")
        if rank == 0:
            self.model.config.save_pretrained(folder / "huggingface")
            (folder / "fsdp_config.json").write_text(json.dumps({"FSDP_version": 2, "world_size": world}, indent=4))
        dist.barrier()


def merged(folder, world):
    """What verl's merger makes of the files: the shards of the first two ranks, one below the other."""
    shards = [torch.load(folder / f"model_world_size_{world}_rank_{rank}.pt", weights_only=False) for rank in (0, 1)]
    return {name: torch.cat([shard[name].to_local() for shard in shards]) for name in shards[0]}


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
        training.train()
        folder = output / name / f"global_step_{step}"
        training.save(folder / weights)
        iterations.append(described(folder, weights, training, pruned=step <= 3 - keep))
        if dist.get_rank() == 0:
            torch.save({"_snapshot": {"_snapshot_step": step}}, folder / ("data.pt" if weights else "data_0.pt"))
            if weights and step > keep:
                # Only this is pruned: what else lies in the step's folder stays.
                shutil.rmtree(output / name / f"global_step_{step - keep}" / weights)
            (output / name / "latest_checkpointed_iteration.txt").write_text(str(step))
    if dist.get_rank() == 0:
        expect(output, name, "verl", iterations)


def ranks(output):
    dist.init_process_group("gloo")
    if dist.get_world_size() == 2:
        run(output, "ppo", init_device_mesh("cpu", (2,), mesh_dim_names=("fsdp",)), "actor/", keep=2)
    else:
        run(output, "sft", init_device_mesh("cpu", (2, 2), mesh_dim_names=("ddp", "fsdp")), "", keep=3)
    dist.destroy_process_group()


if __name__ == "__main__":
    if "RANK" in os.environ:
        ranks(Path(sys.argv[1]))
    else:
        for count in (2, 4):
            torchrun(count, __file__, sys.argv[1])
