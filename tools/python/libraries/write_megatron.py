#!/usr/bin/env python3
"""What Megatron-LM writes with tensor parallelism of 2: `torch_dist`, one save of it cut short, and the older `torch`.

The model, its shards and the optimizer's are megatron-core's. The few lines around them, which say what goes into a checkpoint and when
the pointer is written, are those of Megatron-LM's own training script (megatron/training/checkpointing.py), which has no package.

usage: write_megatron.py OUTPUT
"""
import argparse
import queue
import sys
import unittest.mock
from pathlib import Path

import torch
import torch.distributed as dist
from megatron.core import dist_checkpointing, parallel_state
from megatron.core.dist_checkpointing.mapping import ShardedObject
from megatron.core.dist_checkpointing.strategies import filesystem_async
from megatron.core.models.gpt.gpt_layer_specs import get_gpt_layer_local_spec
from megatron.core.models.gpt.gpt_model import GPTModel
from megatron.core.optimizer.optimizer import FP32Optimizer, MegatronOptimizer
from megatron.core.optimizer.optimizer_config import OptimizerConfig
from megatron.core.transformer.transformer_config import TransformerConfig

from expected import expect, iteration
from loading import tensors
from ranks import as_ranks

STEPS = (10, 20)
# It waits for a GPU before it writes, and counts failures on one, whether there is one or not.
torch.cuda.synchronize = lambda *_: None
torch.cuda.current_device = lambda: "cpu"
# It starts a process for this queue, which outlives a rank that is killed. Nothing here is written behind the training's back.
filesystem_async._results_queue = queue.Queue()


def gpt():
    torch.manual_seed(1)
    config = TransformerConfig(
        num_layers=2, hidden_size=8, num_attention_heads=2, num_query_groups=2, ffn_hidden_size=12, add_bias_linear=False,
        gated_linear_unit=True, normalization="RMSNorm", use_cpu_initialization=True)
    return GPTModel(
        config=config, transformer_layer_spec=get_gpt_layer_local_spec(normalization="RMSNorm"), vocab_size=16, max_sequence_length=8,
        position_embedding_type="rope", share_embeddings_and_output_weights=False)


class Optimizer(FP32Optimizer):
    """One whose loss scale is on no GPU."""

    def __init__(self, adam):
        MegatronOptimizer.__init__(self, adam, OptimizerConfig(optimizer="adam", lr=0.01), lambda *_: None)
        self.is_stub_optimizer = False


class Training:
    def __init__(self):
        self.model, self.step = gpt(), 0
        self.adam = torch.optim.AdamW(self.model.parameters(), lr=0.01)
        self.optimizer = Optimizer(self.adam)

    def train(self):
        for parameter in self.model.parameters():
            parameter.grad = parameter.detach() * 0.1 + 0.01
        self.adam.step()
        self.step += 10

    def common(self):
        return {
            "args": argparse.Namespace(tensor_model_parallel_size=2, pipeline_model_parallel_size=1, num_layers=2, hidden_size=8),
            "checkpoint_version": 3.0, "iteration": self.step, "num_floating_point_operations_so_far": self.step * 1000,
            "opt_param_scheduler": {"max_lr": 0.01, "num_steps": self.step}}

    def sharded(self):
        rank, model = dist.get_rank(), self.model.sharded_state_dict()
        rng = ShardedObject("rng_state", [{"torch_rng_state": torch.get_rng_state()}], (2,), (rank,))
        return {**self.common(), "model": model, "optimizer": self.optimizer.sharded_state_dict(model), "rng_state": rng}

    def own(self):
        """What one rank holds."""
        return {
            **self.common(), "model": self.model.state_dict_for_save_checkpoint(), "optimizer": self.optimizer.state_dict(),
            "rng_state": [{"torch_rng_state": torch.get_rng_state()}]}


def finish(tree, step):
    """The pointer comes last, by the first rank, once all have written."""
    dist.barrier()
    if dist.get_rank() == 0:
        (tree / "latest_checkpointed_iteration.txt").write_text(str(step))


def save_sharded(tree, training):
    folder = tree / f"iter_{training.step:07d}"
    folder.mkdir(parents=True, exist_ok=True)
    dist.barrier()
    dist_checkpointing.save(training.sharded(), str(folder))


def save_own(tree, training):
    folder = tree / f"iter_{training.step:07d}/mp_rank_{dist.get_rank():02d}"
    folder.mkdir(parents=True)
    torch.save(training.own(), folder / "model_optim_rng.pt")


def whole(folder):
    """The tensors under the names that they have in the files: layers are stacked."""
    plain = tensors(dist_checkpointing.load_plain_tensors(str(folder)))
    is_optimizer = lambda name: name.startswith("optimizer.")
    return ({name: tensor for name, tensor in plain.items() if not is_optimizer(name)},
            {name: tensor for name, tensor in plain.items() if is_optimizer(name)})


def unsplit(folder):
    """What a model that is not split loads."""
    model = gpt()
    loaded = dist_checkpointing.load({"model": model.sharded_state_dict()}, str(folder))
    return tensors(loaded["model"])


def ranks(output):
    dist.init_process_group("gloo")
    parallel_state.initialize_model_parallel(tensor_model_parallel_size=2)
    training = Training()
    for step in STEPS:
        training.train()
        for name, save in (("torch-dist", save_sharded), ("torch", save_own)):
            save(output / name, training)
            finish(output / name, step)
    training.train()
    # As when it is killed before the file that is written last.
    with unittest.mock.patch("megatron.core.dist_checkpointing.serialization.save_config"):
        save_sharded(output / "torch-dist", training)
    parallel_state.destroy_model_parallel()
    parallel_state.initialize_model_parallel(tensor_model_parallel_size=1)
    describe(output)


def describe(output):
    sharded, own = [], []
    for step in STEPS:
        folder = output / f"torch-dist/iter_{step:07d}"
        model, optimizer = whole(folder)
        files = sorted(file.name for file in folder.iterdir())
        sharded.append(iteration(folder.name, step, model, optimizer=optimizer, world_size=2, required=files))
        files = [f"mp_rank_{rank:02d}/model_optim_rng.pt" for rank in range(2)]
        own.append(iteration(folder.name, step, unsplit(folder), world_size=2, required=files))
    sharded.append(iteration("iter_0000030", 30, {}, complete=False))
    if dist.get_rank() == 0:
        expect(output, "torch-dist", "megatron", sharded)
        expect(output, "torch", "megatron", own)


if __name__ == "__main__":
    as_ranks(2, ranks, Path(sys.argv[1]))
