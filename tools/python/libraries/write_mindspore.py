#!/usr/bin/env python3
"""What MindSpore Transformers writes: its newer layout from one card and from 2 x 2 ranks, with every replica and without, and its
older one from 2 ranks.

The ranks are those of one process, one after the other, since its parallel modes need Ascend cards: shards, names and contents come from
the library's own code, which takes rank and size from the environment where no communication was set up.

usage: write_mindspore.py OUTPUT
"""
import hashlib
import os
import shutil
import sys
import tempfile
import types
from pathlib import Path

logs = tempfile.TemporaryDirectory(prefix="mindformers.")
os.environ |= {"GLOG_v": "4", "RANK_ID": "0", "RANK_SIZE": "1", "LOG_MF_PATH": logs.name}
import mindspore as ms
import numpy as np
from mindformers.checkpoint import metadata, sharded_tensor
from mindformers.checkpoint.checkpoint import CommonInfo, get_checkpoint_path, save_checkpoint
from mindformers.checkpoint.reshard import ReshardLoader
from mindformers.core.callback.callback import CheckpointMonitor
from mindformers.utils import parallel_utils
from mindspore.parallel import Layout
from mindspore.train.node_strategy_pb2 import ParallelStrategyMap

from expected import expect, iteration

# Name: shape, by which axes each dimension is split, type.
WEIGHTS = {
    "embedding.word_embeddings.weight": ((16, 8), ("tp", "None"), ms.float32),
    "decoder.layers.0.mlp.linear_fc1.weight": ((12, 8), ("tp", "None"), ms.bfloat16),
    "decoder.layers.0.mlp.linear_fc1.bias": ((12,), ("tp",), ms.float32),
    "decoder.layers.0.mlp.linear_fc2.weight": ((8, 12), ("None", "tp"), ms.float32),
    "decoder.final_layernorm.weight": ((8,), ("None",), ms.float32),
    "output_layer.weight": ((16, 8), (("dp", "tp"), "None"), ms.float32)}
MOMENTS = {f"{moment}.{name}": (shape, axes, ms.float32) for moment in ("adam_m", "adam_v") for name, (shape, axes, _) in WEIGHTS.items()}
COUNT = {"global_step": ((1,), ("None",), ms.int32)}
# What makes ranks of one process of it: nothing to wait for, and the number of ranks as the rest of the library finds it.
parallel_utils.comm_func = types.SimpleNamespace(barrier=lambda: None)
metadata.get_group_size = lambda: int(os.environ["RANK_SIZE"])


def whole(name, step):
    shape, _, kind = (WEIGHTS | MOMENTS | COUNT)[name]
    if name == "global_step":
        return np.array([step], np.int32)
    seed = int.from_bytes(hashlib.sha256(f"{name} {step}".encode()).digest()[:4], "little")
    values = np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)
    # What bfloat16 has no bits for goes first, so that rounding changes nothing.
    return (values.view(np.uint32) & 0xFFFF0000).view(np.float32) if kind == ms.bfloat16 else values


def split(name, values, rank, sizes):
    """The part of a rank on a mesh of dp x tp."""
    place = {"dp": rank // sizes["tp"], "tp": rank % sizes["tp"], "None": 0}
    for dimension, axes in enumerate((WEIGHTS | MOMENTS | COUNT)[name][1]):
        for axis in (axes,) if isinstance(axes, str) else axes:
            values = np.split(values, sizes.get(axis, 1), dimension)[place[axis]]
    return values


class Net(ms.nn.Cell):
    """A network or an optimizer: some parameters with the values of a step."""

    def __init__(self, names, step, rank=0, sizes=None):
        super().__init__()
        self.values = ms.ParameterTuple([
            ms.Parameter(ms.Tensor(split(name, whole(name, step), rank, sizes or {"dp": 1, "tp": 1}), (WEIGHTS | MOMENTS | COUNT)[name][2]),
                         name=name)
            for name in names])
        self.global_step = ms.Tensor([step], ms.int32)


def strategy(sizes):
    """What the library knows of a parallel network: for each rank each tensor's layout, type and whole shape."""
    ranks = sizes["dp"] * sizes["tp"]
    layout = Layout((sizes["dp"], sizes["tp"]), ("dp", "tp"), list(range(ranks)))
    infos = {name: [layout(*axes), kind, shape] for name, (shape, axes, kind) in (WEIGHTS | MOMENTS | COUNT).items()}
    return {rank: infos for rank in range(ranks)}


def described(values):
    """As raw bytes: numpy has no bfloat16."""
    found = {}
    for name, value in values.items():
        if value.dtype == ms.bfloat16:
            bits = (value.astype(ms.float32).asnumpy().view(np.uint32) >> 16).astype(np.uint16)
            found[name] = {"dtype": "BF16", "shape": list(value.shape), "sha256": hashlib.sha256(bits.tobytes()).hexdigest()}
        else:
            found[name] = value.asnumpy()
    return found


def check(values, step):
    """What is loaded is what was to be saved."""
    for name, value in values.items():
        assert np.array_equal(value.astype(ms.float32).asnumpy(), whole(name, step).astype(np.float32)), name


def parts(loaded, step):
    check(loaded, step)
    found = described(loaded)
    return {"model": {name: found[name] for name in WEIGHTS}, "optimizer": {name: found[name] for name in found if name not in WEIGHTS}}


def newer(output, name, sizes, prefix=None, **options):
    """Steps 2 and 4 of three, of which the first is no longer there."""
    ranks, folder, saved = sizes["dp"] * sizes["tp"], output / name / "checkpoint", {rank: [] for rank in range(4)}
    sharded_tensor.get_strategy_metadata = lambda network: strategy(sizes)
    for step in (1, 2, 4):
        os.environ["RANK_SIZE"] = str(ranks)
        for rank in range(ranks):
            os.environ["RANK_ID"] = str(rank)
            save_checkpoint(
                step, Net(WEIGHTS, step, rank, sizes), Net(MOMENTS | COUNT, step, rank, sizes), user_prefix=prefix, keep_max_num=2,
                common_info=CommonInfo(epoch_num=1, step_num=step, global_step=step, global_batch_size=16),
                save_checkpoint_path=str(folder), current_ckpt_step_list=saved[rank],
                sharded_tensor_metas=sharded_tensor.get_all_sharded_tensor(None) if ranks > 1 else None, **options)
    os.environ |= {"RANK_ID": "0", "RANK_SIZE": "1"}
    iterations = []
    for step in (2, 4):
        path = folder / f"iteration_{step:08d}"
        # From one card, nothing tells that there was an optimizer.
        required = [file.name for file in path.iterdir() if file.name != "common.json" and (ranks > 1 or "model" in file.name)]
        iterations.append(iteration(path.name, step, epoch=1, world_size=ranks, required=sorted(required), **reloaded(path, step)))
    expect(output, folder.relative_to(output), "mindformers", iterations)


def reloaded(path, step):
    """By the loader that brings a checkpoint to any other split, here to none."""
    wanted = sharded_tensor.get_sharded_tensor_from_cell(Net(WEIGHTS, 0), Net(MOMENTS | COUNT, 0))
    sources, files = metadata.get_metadata_of_checkpoint(get_checkpoint_path(str(path)))
    loaded = ReshardLoader(str(path), wanted, sources, files).load()
    return parts({name: loaded[name] for name in WEIGHTS | MOMENTS | COUNT}, step)


def write_strategy(file, sizes):
    """The strategy file of the older layout, which the compiler of Ascend cards writes."""
    found = ParallelStrategyMap(current_stage=0)
    for name, (shape, axes, _) in (WEIGHTS | MOMENTS | COUNT).items():
        layouts = found.parallel_layout_item.add(param_name=name).parallel_layouts
        layouts.dev_matrix.add(dim=[sizes["dp"], sizes["tp"]])
        layouts.tensor_map.add(dim=[0 if "tp" in axis else -1 for axis in axes])
        layouts.param_split_shape.add(dim=[size // sizes["tp"] if "tp" in axis else size for size, axis in zip(shape, axes)])
        layouts.indices_offset.add(dim=[0] * len(shape))
        layouts.field = layouts.opt_weight_shard_step = layouts.opt_weight_shard_size = 0
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(found.SerializeToString())


def older(output, name, kind):
    """Three steps an epoch, two files kept: the last of rank 0 has no counterpart yet, and the first of rank 1 none any more."""
    sizes, folder = {"dp": 1, "tp": 2}, output / name
    for rank in range(2):
        os.environ |= {"RANK_ID": str(rank), "RANK_SIZE": "2"}
        write_strategy(folder / f"strategy/ckpt_strategy_rank_{rank}.ckpt", sizes)
        monitor = CheckpointMonitor(prefix="qwen3", directory=str(folder), keep_checkpoint_max=2, checkpoint_format=kind,
                                    global_batch_size=16, integrated_save=False)
        for step in range(2, 6 - rank):
            Path(monitor._directory).mkdir(parents=True, exist_ok=True)
            state = Net(WEIGHTS | MOMENTS | COUNT, step, rank, sizes)
            monitor.save_checkpoint(types.SimpleNamespace(
                cur_step_num=step, cur_epoch_num=(step - 1) // 3 + 1, batch_num=3, optimizer=state, network=state, train_network=state,
                net_outputs=(ms.Tensor(1.0), ms.Tensor(False), ms.Tensor(64.0))))
    os.environ |= {"RANK_ID": "0", "RANK_SIZE": "1"}
    files = [f"checkpoint/rank_{rank}/qwen3_rank_{rank}-2_1.{kind}" for rank in range(2)]
    expect(output, name, "mindformers1", [
        iteration(None, 3, {}, complete=False),
        iteration(None, 4, epoch=2, world_size=2, required=files, **merged(folder, kind)),
        iteration(None, 5, {}, complete=False)])


def merged(folder, kind):
    """By the library's own tool for other splits, here to none. It wants one file of each rank."""
    with tempfile.TemporaryDirectory() as place:
        for rank in range(2):
            (Path(place) / f"from/rank_{rank}").mkdir(parents=True)
            shutil.copy(folder / f"checkpoint/rank_{rank}/qwen3_rank_{rank}-2_1.{kind}", f"{place}/from/rank_{rank}")
        ms.transform_checkpoints(f"{place}/from", f"{place}/to", "whole", str(folder / "strategy/ckpt_strategy_rank_0.ckpt"), None,
                                 output_format=kind)
        loaded = ms.load_checkpoint(f"{place}/to/rank_0/whole0.{kind}", format=kind)
    return parts({name: loaded[name] for name in WEIGHTS | MOMENTS | COUNT}, 4)


def main(output):
    newer(output, "single", {"dp": 1, "tp": 1})
    newer(output, "dp2-tp2", {"dp": 2, "tp": 2}, prefix="qwen3")
    newer(output, "dp2-tp2-once", {"dp": 2, "tp": 2}, prefix="qwen3-opt-a", remove_redundancy=True)
    for kind in ("safetensors", "ckpt"):
        older(output, f"older-{kind}", kind)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
