#!/usr/bin/env python3
"""Loads what `cairn export` wrote with MindSpore Transformers' own code, for other numbers of devices: run by
test_mindformers_exports.py with the Python of an environment that has the library. To load that takes longer than a check, so one
process makes all.

Each line of standard input is a list in JSON, and is answered with one: how many tensors were right, or what was wrong.

[TENSORS, CHECKPOINT...]                2.0: folders `iteration_00000001`
["--older", TENSORS, OUTPUT...]         1.0: folders with `rank_0/` and `strategy/`

TENSORS is a .npz with the values of all tensors; the axes of a mesh dp, tp that cut each are in CUTS.
"""
import json
import os
import sys
import tempfile
import traceback
import types
from pathlib import Path

# What the libraries print is no answer.
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
logs = tempfile.TemporaryDirectory(prefix="mindformers.")
os.environ |= {"GLOG_v": "4", "RANK_ID": "0", "RANK_SIZE": "1", "LOG_MF_PATH": logs.name}
import mindspore as ms
import numpy as np
from mindformers.checkpoint import checkpoint, metadata, reshard, sharded_tensor
from mindformers.checkpoint.utils import verify_ckpt_valid
from mindspore.parallel import Layout, transform_safetensors
from mindspore.train._utils import get_parameter_redundancy, remove_param_redundancy
from safetensors import safe_open
from safetensors.numpy import load_file

CUTS = {
    "embedding.weight": ("tp", "None"), "fc1.weight": ("None", "tp"), "out.weight": (("dp", "tp"), "None"), "norm.weight": ("None",),
    "adam_m.fc1.weight": ("None", "tp")}
MESHES = [(1, 1), (1, 2), (1, 4), (2, 1), (2, 2), (2, 4), (4, 1), (8, 1)]
TYPES = {"float32": ms.float32, "float16": ms.float16, "int64": ms.int64}


def check_newer(tensors, folder):
    """The values that each rank of each mesh gets are its own."""
    verify_ckpt_valid(str(folder))
    common = checkpoint.CommonInfo.load_common(str(folder / "common.json"))
    assert common.global_step == 1, common.global_step
    source, files = metadata.get_metadata_of_checkpoint(str(folder))
    assert sorted(source) == sorted(tensors), (sorted(source), sorted(tensors))
    count = 0
    for sizes in MESHES:
        ranks = list(range(sizes[0] * sizes[1]))
        wanted = {
            name: [Layout(sizes, ("dp", "tp"), ranks)(*CUTS[name]), TYPES[str(values.dtype)], values.shape]
            for name, values in tensors.items()}
        for rank in ranks:
            reshard.get_real_rank = lambda: rank
            loaded = reshard.ReshardLoader(
                checkpoint_dir=str(folder), dst_sharded_tensor_metas=sharded_tensor.get_sharded_tensor_from_strategy_metadata(wanted, rank),
                src_sharded_tensor_metas=source, param_file_mappings=files, reshard_worker_num=1, template=None).load()
            for name, values in tensors.items():
                layout = wanted[name][0].to_dict()
                area = reshard.infer_slice_area_by_rank(layout["device_matrix"], layout["tensor_map"], rank, values.shape)
                expected = values[tuple(slice(*bounds) for bounds in area)]
                got = loaded[name].asnumpy()
                assert got.shape == expected.shape and got.dtype == expected.dtype and (got == expected).all(), (folder, sizes, rank, name)
                count += 1
    return count


def check_older(tensors, folder):
    """Slices come together to the tensors, by what the strategies say."""
    with safe_open(next(folder.glob("rank_0/*.safetensors")), "np") as file:
        removes = file.metadata()["remove_redundancy"]
    if removes == "True":
        return check_once(tensors, folder)
    assert removes == "False", removes
    strategies = folder / "strategy"
    place = Path(tempfile.mkdtemp(prefix="whole.", dir=logs.name))
    for rank in sorted(folder.glob("rank_*")):
        last = ms.load_checkpoint(str(next(rank.glob("*.safetensors"))), format="safetensors")
        assert {"epoch_num", "step_num", "global_step"} <= set(last), sorted(last)
        (place / "from" / rank.name).mkdir(parents=True)
        parameters = [{"name": name, "data": last[name]} for name in tensors]
        ms.save_checkpoint(parameters, str(place / "from" / rank.name / "part.ckpt"))
    strategy = str(strategies / "ckpt_strategy_rank_0.ckpt") if strategies.exists() else None
    if strategy is None:
        loaded = last
    else:
        found = ms.build_searched_strategy(strategy)
        assert set(tensors) <= set(found), sorted(found)
        ms.transform_checkpoints(str(place / "from"), str(place / "to"), "whole", strategy, None)
        loaded = ms.load_checkpoint(str(place / "to/rank_0/whole0.ckpt"))
    for name, values in tensors.items():
        got = loaded[name].asnumpy()
        assert got.shape == values.shape and (got == values).all(), (folder, name)
    return len(tensors)


def check_once(tensors, folder):
    """Each rank has what the library would have it write, and the library puts that together."""
    strategy = str(folder / "strategy/ckpt_strategy_rank_0.ckpt")
    redundancy = get_parameter_redundancy(strategy, initial_rank=0)
    assert set(redundancy) == set(tensors), sorted(redundancy)
    numbers = {"epoch_num", "step_num", "global_step"}
    # Ranks without any are not among them.
    shares = remove_param_redundancy(redundancy)
    for rank in sorted(folder.glob("rank_*")):
        loaded = ms.load_checkpoint(str(next(rank.glob("*.safetensors"))), format="safetensors", remove_redundancy=True)
        assert set(loaded) == shares.get(int(rank.name[5:]), set()) | numbers, (rank, sorted(loaded), shares)
    # It waits for as long as half of the machine's memory is in use.
    transform_safetensors.psutil = types.SimpleNamespace(virtual_memory=lambda: types.SimpleNamespace(percent=0))
    place = Path(tempfile.mkdtemp(prefix="whole.", dir=logs.name))
    # As MindSpore Transformers does it for `auto_trans_ckpt`. (mindformers, `utils/load_checkpoint_utils.py`)
    merged = str(place / "merged.ckpt")
    ms.merge_pipeline_strategys(str(folder / "strategy"), merged)
    ms.unified_safetensors(str(folder), merged, str(place), merge_with_redundancy=False)
    found = {}
    for path in place.glob("*.safetensors"):
        found |= load_file(path)
    assert set(found) == set(tensors) | numbers, sorted(found)
    # From here it takes how far the training was, where it goes on.
    assert set(load_file(place / "hyper_param.safetensors")) == numbers
    for name, values in tensors.items():
        assert found[name].dtype == values.dtype and (found[name] == values).all(), (folder, name)
    return len(tensors)


def checked(kind, *arguments):
    """How many tensors are right; raises where one is not."""
    check = check_older if kind == "--older" else check_newer
    tensors, *folders = arguments if check is check_older else (kind, *arguments)
    tensors = dict(np.load(tensors))
    return sum(check(tensors, Path(folder)) for folder in folders)


if __name__ == "__main__":
    for line in sys.stdin:
        try:
            answer = checked(*json.loads(line))
        except Exception:
            answer = traceback.format_exc()
        print(json.dumps(answer), file=answers, flush=True)
