#!/usr/bin/env python3
"""What LLaMA-Factory v1 writes: with a model of transformers as one process saves it, and as two do with FSDP2.

The calls and names are those of its own code (src/llamafactory/v1/core/utils/checkpoint.py, .../distributed/fsdp2.py), which is
not installed for them: it brings a trainer with it that wants accelerators.

usage: write_llamafactory.py OUTPUT
"""
import json
import random
import sys
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict, get_optimizer_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from transformers import LlamaConfig, LlamaForCausalLM

from expected import expect, iteration
from loading import distributed, gathered, tensors
from ranks import as_ranks


class Training:
    def __init__(self, rank=0, mesh=None):
        torch.manual_seed(1)
        self.rank, self.step, self.is_sharded = rank, 0, mesh is not None
        self.model = LlamaForCausalLM(LlamaConfig(
            vocab_size=32, hidden_size=12, intermediate_size=20, num_hidden_layers=1, num_attention_heads=2, tie_word_embeddings=False))
        if mesh is not None:
            fully_shard(self.model.model.layers[0], mesh=mesh)
            fully_shard(self.model, mesh=mesh)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=0.01, foreach=False)
        self.schedule = torch.optim.lr_scheduler.StepLR(self.optimizer, 3)

    def train(self, steps):
        for _ in range(steps):
            self.step += 1
            tokens = torch.arange(8)[None]
            self.model(tokens, labels=tokens).loss.backward()
            self.optimizer.step()
            self.optimizer.zero_grad()
            self.schedule.step()

    def save(self, output, is_killed=False):
        folder = output / f"checkpoint-{self.step}"
        (folder / "dataloader").mkdir(parents=True, exist_ok=True)
        (folder / "rng_state").mkdir(exist_ok=True)
        if self.rank == 0:
            facts = {"global_step": self.step, "epoch": 1, "num_training_steps": 6}
            (folder / "metadata.json").write_text(json.dumps(facts, indent=2))
        if self.is_sharded:
            options = StateDictOptions(full_state_dict=False, cpu_offload=True)
            dcp.save(state_dict=get_model_state_dict(self.model, options=options), checkpoint_id=folder / "model")
            dcp.save(state_dict=get_optimizer_state_dict(self.model, self.optimizer, options=options), checkpoint_id=folder / "optimizer")
        else:
            self.model.save_pretrained(folder / "model", state_dict=self.model.state_dict(), max_shard_size="4GB")
            (folder / "optimizer").mkdir()
            torch.save(self.optimizer.state_dict(), folder / "optimizer/state_dict.pt")
        if self.rank == 0:
            torch.save(self.schedule.state_dict(), folder / "scheduler.pt")
        torch.save({"step": self.step, "rank": self.rank}, folder / f"dataloader/rank_{self.rank}.pt")
        state = {"python": random.getstate(), "numpy": np.random.get_state(), "torch": torch.random.get_rng_state(), "accelerator": None}
        torch.save(state, folder / f"rng_state/rank_{self.rank}.pt")
        if self.is_sharded:
            dist.barrier()
        if self.rank == 0 and not is_killed:
            open(folder / "CHECKPOINT_COMPLETE", "w").close()
        return folder


def one(output):
    training, iterations = Training(), []
    for is_killed in (False, False, True):
        training.train(2)
        folder = training.save(output / "one", is_killed)
        if is_killed:
            iterations.append(iteration(folder.name, training.step, {}, complete=False))
            continue
        model = LlamaForCausalLM.from_pretrained(folder / "model").state_dict()
        iterations.append(iteration(folder.name, training.step, model, epoch=1, world_size=1, required=[
            "metadata.json", "model/model.safetensors"]))
    expect(output, "one", "llamafactory", iterations)


def two(output):
    dist.init_process_group("gloo")
    training, iterations = Training(dist.get_rank(), init_device_mesh("cpu", (2,))), []
    for _ in range(2):
        training.train(2)
        folder = training.save(output / "two")
        whole = gathered(get_model_state_dict(training.model))
        if training.rank:
            continue
        model, state = (tensors(distributed(folder / name)) for name in ("model", "optimizer"))
        assert all(torch.equal(model[name], tensor) for name, tensor in whole.items())
        # By the names of the parameters, as a checkpoint of everything would have them.
        state = {f"optimizer.{name}": tensor for name, tensor in state.items() if name.startswith("state.")}
        iterations.append(iteration(
            folder.name, training.step, model, optimizer=state, epoch=1, world_size=2, required=[
                "metadata.json", "model/.metadata", "model/__0_0.distcp", "model/__1_0.distcp", "optimizer/.metadata",
                "optimizer/__1_0.distcp"]))
    if training.rank == 0:
        expect(output, "two", "llamafactory", iterations)


if __name__ == "__main__":
    as_ranks(2, two, Path(sys.argv[1]))
    one(Path(sys.argv[1]))
