#!/usr/bin/env python3
"""Where MindSpore puts the slices of a parameter: for layouts of strategy files, with and without a sharded optimizer, what each
rank holds of a tensor that counts from 0 on. The Swift tests put them together again.

usage: mindspore_slices.py OUTPUT        as a rule Tests/Fixtures/mindspore-slices.json; with mindspore 2.9.0 (libraries/make.py has it)
"""
import json
import os
import sys
from pathlib import Path

os.environ["GLOG_v"] = "4"
import numpy as np
from mindspore import Tensor
from mindspore.parallel._tensor import (
    _construct_tensor_layout_for_opt_shard, _extract_layout_item, _get_tensor_strategy, _load_tensor)

# Devices, axes of the parameter, distance and number of the optimizer's shards, shape.
CASES = [
    ([2], [0], 0, 0, [4]),
    ([2, 2], [0, -1], 0, 0, [4, 3]),
    ([2, 2], [-1, 0], 0, 0, [3, 4]),
    ([2, 2], [1, 0], 0, 0, [4, 6]),
    ([2, 2], [0, 1], 0, 0, [4, 6]),
    ([2, 4], [1, 0, -1], 0, 0, [4, 8, 3]),
    ([2, 2, 2], [-1, 2, 0], 0, 0, [3, 4, 4]),
    ([2, 2], [-1, -1], 0, 0, [4, 3]),
    ([2, 2], [[1, 0], [-1]], 0, 0, [8, 3]),
    ([2, 2, 2], [[0, 2], [1]], 0, 0, [8, 4]),
    # Shards of the optimizer among ranks that have the same slice.
    ([2, 2], [0, -1], 2, 2, [8, 3]),
    ([4, 2], [0, -1], 2, 4, [16, 3]),
    ([4, 2], [0, -1], 2, 2, [8, 3]),
    ([4, 2], [-1, 0], 2, 4, [8, 6]),
    ([4], [-1, -1], 1, 4, [8, 3]),
    ([4], [-1, -1], 1, 2, [8, 3]),
    ([4, 2], [0, -1], 2, -1, [16, 3]),
    ([2, 2, 2], [1, -1], 4, 2, [8, 3]),
    ([2, 2, 2], [1, -1], 1, 2, [8, 3]),
    ([2, 2, 2], [1, -1], 1, 4, [16, 3]),
    ([2, 4, 2], [0, -1], 2, 4, [16, 3]),
    ([2, 4, 2], [0, -1], 2, 2, [16, 3]),
    ([2, 4, 2], [0, -1], 2, 8, [32, 3]),
    ([2, 4, 2], [2, -1], 1, 2, [16, 3])]


def slices(matrix, tensor_map, step, size, shape):
    axes = [axes if isinstance(axes, list) else [axes] for axes in tensor_map]
    case = {"step": step, "size": size, "shape": shape, "devices": matrix, "map": axes}
    whole = np.arange(np.prod(shape), dtype=np.int32).reshape(shape)
    strategy = _get_tensor_strategy(matrix, tensor_map)
    # As ms.transform_checkpoints does it.
    matrix, tensor_map, step, size = _extract_layout_item([matrix, tensor_map, [], 0, step, size])
    held = [length // count for length, count in zip(shape, strategy)]
    if size > 0:
        held[0] //= size
    devices = int(np.prod(matrix))
    new_matrix, new_map, new_shape = _construct_tensor_layout_for_opt_shard(list(matrix), list(tensor_map), step, size, tuple(shape))
    found = []
    for rank in range(devices):
        if any(isinstance(axes, list) for axes in tensor_map):
            part = by_hand(whole, matrix, tensor_map, rank)
        else:
            part = np.asarray(_load_tensor(Tensor(whole.reshape(new_shape)), new_matrix, new_map, new_shape, rank))
        found.append(part.reshape(held).reshape(-1).tolist())
    return case | {"held": [int(length) for length in held], "ranks": found}


def by_hand(whole, matrix, tensor_map, rank):
    """Several axes for one dimension, the first being the coarsest: the loader does not take that."""
    place = dict(zip(range(len(matrix) - 1, -1, -1), np.unravel_index(rank, matrix)))
    sizes = dict(zip(range(len(matrix) - 1, -1, -1), matrix))
    for dimension, axes in enumerate(tensor_map):
        for axis in axes:
            if axis >= 0:
                whole = np.split(whole, sizes[axis], dimension)[place[axis]]
    return whole


if __name__ == "__main__":
    cases = [json.dumps(slices(*case), separators=(",", ":")) for case in CASES]
    Path(sys.argv[1]).write_text("[\n" + ",\n".join(cases) + "\n]\n")
