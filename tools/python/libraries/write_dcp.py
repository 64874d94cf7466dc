#!/usr/bin/env python3
"""What torch's distributed checkpoints look like from 1, 2 and 4 ranks: nested and flat states, asynchronous saves, one that is cut
short, and its writer of Hugging Face files. The flat ones hold what torchtitan puts into its own.

usage: write_dcp.py OUTPUT
"""
import os
import sys
import unittest.mock
from pathlib import Path

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions, get_model_state_dict, get_optimizer_state_dict, get_state_dict)
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

from expected import expect, iteration, torchrun
from loading import assert_same, distributed, gathered, tensors


class Block(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.up = torch.nn.Linear(6, 10, bias=False)
        self.down = torch.nn.Linear(10, 6, bias=False)
        self.norm = torch.nn.LayerNorm(6)

    def forward(self, x):
        return x + self.norm(self.down(self.up(x.to(self.up.weight.dtype)).relu()))


class Model(torch.nn.Module):
    """Rows that neither 2 nor 4 ranks divide, fewer rows than ranks, a block in bfloat16, and buffers."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.embed = torch.nn.Embedding(11, 6)
        self.layers = torch.nn.ModuleList([Block(), Block().bfloat16()])
        self.head = torch.nn.Linear(6, 3)
        self.register_buffer("rope", torch.arange(3.0) / 7)
        self.register_buffer("seen", torch.tensor(0))

    def forward(self, tokens):
        x = self.embed(tokens)
        for layer in self.layers:
            x = layer(x).float()
        self.seen += 1
        return self.head(x)


def shard(model, mesh):
    for layer in model.layers:
        if mesh.mesh_dim_names == ("dp", "tp"):
            parallelize_module(layer, mesh["tp"], {"up": ColwiseParallel(), "down": RowwiseParallel()})
        fully_shard(layer, mesh=mesh["dp"] if mesh.mesh_dim_names == ("dp", "tp") else mesh)
    fully_shard(model, mesh=mesh["dp"] if mesh.mesh_dim_names == ("dp", "tp") else mesh)


class Training:
    """A model sharded over some mesh, or whole where there is none, and its optimizer."""

    def __init__(self, mesh=None):
        self.model, self.step = Model(), 0
        if mesh is not None:
            shard(self.model, mesh)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=0.01, foreach=False)
        self.schedule = torch.optim.lr_scheduler.StepLR(self.optimizer, 3)

    def train(self, steps=2):
        for _ in range(steps):
            self.step += 1
            self.model(torch.arange(11)).square().mean().backward()
            self.optimizer.step()
            self.optimizer.zero_grad()
        self.schedule.step()

    def nested(self):
        model, optimizer = get_state_dict(self.model, self.optimizer)
        return {"model": model, "optimizer": optimizer, "scheduler": self.schedule.state_dict(), "step": self.step, "note": "ä"}

    def flat(self):
        """As torchtitan has it: the model's names at the top."""
        progress = {"step": torch.tensor(self.step, dtype=torch.int32), "ntokens_seen": torch.tensor(self.step * 11)}
        optimizer = get_optimizer_state_dict(self.model, self.optimizer, options=StateDictOptions(flatten_optimizer_state_dict=True))
        return {
            **get_model_state_dict(self.model), "optimizer": optimizer, "lr_scheduler": self.schedule.state_dict(),
            "train_state": progress}


def described(folder, step, state, ranks):
    """What torch loads of it, which is what was saved."""
    loaded = distributed(folder)
    assert_same(loaded, state)
    all_tensors = tensors(loaded)
    return iteration(
        folder.name, step, world_size=ranks, required=sorted(file.name for file in folder.iterdir()),
        model=tensors(loaded["model"]) if "model" in loaded else {
            name: tensor for name, tensor in all_tensors.items() if not name.startswith(("optimizer.", "train_state."))},
        optimizer={name: tensor for name, tensor in all_tensors.items() if name.startswith("optimizer.")})


def is_first():
    return dist.get_rank() == 0


def run(output, name, training, state, save=lambda state, folder: dcp.save(state, checkpoint_id=folder), layout="dcp", killed=False):
    iterations = []
    for _ in range(2):
        training.train()
        folder = output / name / f"step-{training.step}"
        save(state(), str(folder))
        whole = gathered(state())
        if is_first():
            iterations.append(described(folder, training.step, whole, dist.get_world_size()))
    if killed:
        training.train()
        # As when the first rank is killed once all have written their files.
        with unittest.mock.patch.object(dcp.FileSystemWriter, "finish", side_effect=RuntimeError("killed")):
            try:
                save(state(), str(output / name / f"step-{training.step}"))
            except dcp.api.CheckpointException:
                pass
        iterations.append(iteration(f"step-{training.step}", training.step, {}, complete=False))
    if is_first():
        expect(output, name, layout, iterations)


def hugging_face(output, name, training, layout="dcp-hf", **options):
    """Safetensors files, of each rank and merged into those of one."""
    iterations = []
    for _ in range(2):
        training.train()
        folder = output / name / f"step-{training.step}"
        # Its merging fails on integers.
        state = {fqn: tensor for fqn, tensor in get_model_state_dict(training.model).items() if tensor.is_floating_point()}
        parts = {fqn: 1 + fqn.startswith("layers.") for fqn in state}
        dcp.save(state, storage_writer=dcp.HuggingFaceStorageWriter(str(folder), fqn_to_index_mapping=parts, **options))
        whole = gathered(state)
        loaded = {fqn: torch.zeros_like(tensor) for fqn, tensor in whole.items()}
        dcp.load(loaded, storage_reader=dcp.HuggingFaceStorageReader(str(folder)), no_dist=True)
        assert_same(loaded, whole)
        dist.barrier()
        files = sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())
        iterations.append(iteration(folder.name, training.step, loaded, required=[file for file in files if "/" not in file]))
    if is_first():
        expect(output, name, layout, iterations)


def ranks(output):
    dist.init_process_group("gloo")
    world = dist.get_world_size()
    mesh = init_device_mesh("cpu", (world,), mesh_dim_names=("fsdp",))
    for form in ("nested", "flat"):
        training = Training(mesh)
        run(output, f"{form}-{world}", training, getattr(training, form), killed=form == "flat" and world == 2,
            layout="torchtitan" if form == "flat" else "dcp")
    if world == 1:
        training = Training()
        model, optimizer = training.model, training.optimizer
        # The optimizer by the numbers of its parameters, as it gives it itself.
        run(output, "plain", training, lambda: {"model": model.state_dict(), "optimizer": optimizer.state_dict()})
    if world == 2:
        training = Training(mesh)
        run(output, "async", training, training.nested, lambda state, folder: dcp.async_save(state, checkpoint_id=folder).result())
        hugging_face(output, "hf-sharded", Training(mesh), save_distributed=True)
        hugging_face(output, "hf-merged", Training(mesh), save_distributed=True, enable_consolidation=True)
    if world == 4:
        for names in (("replicate", "fsdp"), ("dp", "tp")):
            training = Training(init_device_mesh("cpu", (2, 2), mesh_dim_names=names))
            run(output, "-".join(names), training, training.nested)
    dist.destroy_process_group()


if __name__ == "__main__":
    if "RANK" in os.environ:
        ranks(Path(sys.argv[1]))
    else:
        for count in (1, 2, 4):
            torchrun(count, __file__, sys.argv[1])
