#!/usr/bin/env python3
"""Makes the pickles of the Swift tests of trees: values of every kind, and tensors that are parts of distributed ones.

usage: tree_fixtures.py FOLDER [--distributed]        as a rule Tests/TensorFormatsTests/Fixtures/trees

Beside the files it writes expected.json, what Python says is in them, and which values a protocol can't have. With --distributed it makes instead, with the
installed version of PyTorch, distributed-VERSION.pt and sharded-VERSION.pt; each version has forms of its own. The committed ones
are of 2.4.1, 2.6.0, 2.10.0 and 2.13.0; they hold memory addresses and the like, so that no two runs make the same bytes.
"""
import argparse
import collections
import dataclasses
import enum
import json
import math
import pickle
import struct
import sys
import types
from pathlib import Path

import numpy as np
import torch

VERSION = tuple(map(int, torch.__version__.split("+")[0].split(".")))

# What a framework would have, under names that don't depend on this script.
framework = types.ModuleType("framework")
sys.modules["framework"] = framework


def public(value):
    value.__module__, value.__qualname__ = "framework", value.__name__
    setattr(framework, value.__name__, value)
    return value


@public
@dataclasses.dataclass
class fragment_address:
    numel: int
    start: int


@public
@dataclasses.dataclass
class Slotted:
    __slots__ = ["offsets", "sizes"]
    offsets: list
    sizes: tuple


@public
class Mixed(Slotted):
    """Attributes with and without slots."""


Point = public(collections.namedtuple("Point", ["x", "y"]))


@public
class Color(enum.Enum):
    RED = "red"


@public
class Stage(enum.IntEnum):
    WEIGHTS = 3


@public
class Table(dict):
    """A dictionary with attributes."""


@public
class Named:
    """Made with arguments by name, which is an opcode of its own from protocol 4 on."""

    def __new__(cls, first, *, second):
        return object.__new__(cls)

    def __getnewargs_ex__(self):
        return (1,), {"second": "two"}


class Outer:
    class Inner:
        def __init__(self):
            self.value = 1


Outer.__module__, Outer.__qualname__, Outer.Inner.__module__ = "framework", "Outer", "framework"
framework.Outer = Outer


def values():
    table, mixed, shared = Table(a=1), Mixed([1], (2,)), [1, 2]
    table.note, mixed.more = "attribute", "dictionary"
    ordered = collections.OrderedDict([("z", 1), ("a", [2])])
    ordered._metadata = {"": {"version": 1}}
    return {
        "none": None, "true": True, "false": False,
        "numbers": [0, 1, 255, 256, 65535, 65536, -1, -(2**31), 2**31, 2**62, -(2**63), 2**63 - 1, 2**63, -(2**100)],
        "floats": [0.0, -0.0, 1.5, 1e300, -5e-324, math.inf, -math.inf, math.nan],
        "texts": ["", "plain", "line\nbreak\r\t\\ \\u0041 \x00\x1a", "é ÿ Ā € 🪨", "x" * 300, "'quoted\""],
        "bytes": [b"", b"plain", bytes(range(256)), b"y" * 300, bytearray(b""), bytearray(b"array\xff")],
        "lists": [[], [[], [None]], [None] * 1100],
        "tuples": [(), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)],
        "sets": [set(), {1}, {"b", "a", "c"}, frozenset(), frozenset([2, 1])],
        "shared": [shared, shared, (shared,)],
        "dictionaries": {1: "integer", "1": "text", (1, "a"): "tuple", None: "none", 0.5: "float", frozenset([1]): "set",
                         torch.float32: "global", -3: {}},
        "ordered": ordered, "default": collections.defaultdict(list, {"a": [1]}), "counter": collections.Counter("aab"),
        "size": [torch.Size([]), torch.Size([2, 3])],
        "namespace": argparse.Namespace(hidden_size=64, name="tiny", nested=argparse.Namespace(a=1)),
        "dataclass": fragment_address(numel=5, start=7), "slotted": Slotted([0, 1], (2, 3)), "mixed": mixed,
        "table": table, "point": Point(1, "two"), "enumerations": [Color.RED, Stage.WEIGHTS], "named": Named(1, second="two"),
        "inner": Outer.Inner(), "deque": collections.deque([1, 2], maxlen=4), "complex": 1 + 2j,
        "globals": [torch.bfloat16, list, collections.OrderedDict, Color], "device": torch.device("cpu"),
        "numpy": [np.float64(0.1), np.float32(1.5), np.int64(-5), np.int8(-1), np.uint8(200), np.uint64(2**63),
                  np.bool_(True), np.array(3, ">i4")[()], np.int32(7)],
    }


def view(value):
    """What the Swift tests see of a value, as JSON. A list whose first item is a text that begins with a sign is of that kind."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, np.generic):
        return view(value.item())
    if isinstance(value, enum.Enum):
        return ["!object", name(type(value)), [view(value.value)], [], [], []]
    if isinstance(value, int):
        return ["!int", str(value) if -(2**63) <= value < 2**63 else "big"]
    if isinstance(value, float):
        return ["!float", struct.pack(">d", value).hex()]
    if isinstance(value, str):
        return value
    if isinstance(value, (bytes, bytearray)):
        return ["!bytes", value.hex()]
    if isinstance(value, torch.Size):
        return ["!tuple", *map(view, value)]
    if type(value) in (list, tuple):
        return [f"!{type(value).__name__}", *map(view, value)]
    if isinstance(value, (set, frozenset)):
        return [f"!{type(value).__name__}", *sorted(map(view, value), key=json.dumps)]
    if type(value) in (dict, collections.OrderedDict, collections.defaultdict, collections.Counter):
        return ["!dict", *([view(key), view(item)] for key, item in value.items())]
    if isinstance(value, (type, torch.dtype)):
        return ["!global", name(value)]
    return ["!object", name(type(value)), *map(lambda part: [view(one) for one in part], parts(value))]


def name(value):
    return str(value) if isinstance(value, torch.dtype) else f"{value.__module__}.{value.__qualname__}"


def parts(value):
    """Arguments, attributes by turns with their names, appended elements, items by turns with their keys."""
    attributes = dict(getattr(value, "__dict__", {}))
    attributes |= {slot: getattr(value, slot) for slot in getattr(type(value), "__slots__", ()) if hasattr(value, slot)}
    if isinstance(value, Mixed):
        attributes = {"more": value.more, "offsets": value.offsets, "sizes": value.sizes}
    arguments, elements, items = [], [], []
    if isinstance(value, tuple):
        arguments, attributes = list(value), {}
    elif isinstance(value, collections.deque):
        arguments, elements = [(), value.maxlen], list(value)
    elif isinstance(value, complex):
        arguments = [value.real, value.imag]
    elif isinstance(value, torch.device):
        arguments = [value.type]
    elif isinstance(value, Table):
        items = [part for item in value.items() for part in item]
    elif isinstance(value, Named):
        arguments = [1]
    return arguments, [part for item in attributes.items() for part in item], elements, items


# What a protocol can't pickle, or makes something else of.
MISSING = {0: ["slotted", "mixed", "named"], 1: ["slotted", "mixed", "named"], 2: ["named"], 3: ["named"]}


def write_values(folder):
    for protocol in range(6):
        everything = {key: value for key, value in values().items() if key not in MISSING.get(protocol, [])}
        (folder / f"values-{protocol}.pkl").write_bytes(pickle.dumps(everything, protocol))
    torch.save(values(), folder / "values.pt", pickle_protocol=4)
    missing = {f"values-{protocol}.pkl": keys for protocol, keys in MISSING.items()}
    lines = [f"{json.dumps(key)}: {json.dumps(view(value))}" for key, value in values().items()]
    (folder / "expected.json").write_text(
        '{"missing": ' + json.dumps(missing) + ',\n"values": {\n' + ",\n".join(lines) + "\n}}\n")


# MARK: distributed


def distributed_tensors():
    """As rank 5 of 8 has them, in a group of processes that does nothing."""
    from torch.distributed.device_mesh import init_device_mesh
    try:
        from torch.distributed.tensor import DTensor, Partial, Replicate, Shard
        from torch.distributed.tensor import placement_types
    except ImportError:
        from torch.distributed._tensor import DTensor, Partial, Replicate, Shard
        from torch.distributed._tensor import placement_types

    def tensor(local, mesh, placements):
        count = math.prod(local)
        return DTensor.from_local(torch.arange(float(count)).reshape(local), mesh, placements, run_check=False)

    mesh = init_device_mesh("cpu", (2, 2, 2), mesh_dim_names=("pp", "dp", "tp"))
    unnamed = init_device_mesh("cpu", (8,))
    found = {
        "whole": tensor((4, 8), mesh, [Replicate(), Shard(0), Partial()]),
        "twice": tensor((2, 3), mesh, [Shard(1), Replicate(), Shard(1)]),
        "unnamed": tensor((3,), unnamed, [Shard(0)]),
        "parameter": torch.nn.Parameter(tensor((2, 2), unnamed, [Shard(1)])),
        "bfloat16": tensor((2, 2), unnamed, [Replicate()]).to(torch.bfloat16),
        "part": tensor((2, 5), mesh["tp"], [Shard(0)]),
    }
    if VERSION >= (2, 5):
        part = mesh["dp", "tp"]
        found["strided"] = tensor((2, 4), part, [placement_types._StridedShard(0, split_factor=2), Shard(0)])
        found["flat"] = tensor((2, 4), mesh["pp", "dp"]._flatten("pp_dp"), [Shard(0)])
    if VERSION >= (2, 10):
        found["apart"] = tensor((2, 4), mesh["pp", "tp"]._flatten("pp_tp"), [Shard(1)])
    return found


def view_distributed(tensor):
    mesh = tensor.device_mesh
    # What 2.10 writes of a part of a mesh does not tell of which part.
    is_lost = VERSION[:2] == (2, 10) and mesh.size() < 8
    placements = []
    for placement in tensor.placements:
        kind = type(placement).__name__
        if kind == "_StridedShard":
            placements.append(["strided", placement.dim, placement.split_factor])
        elif kind == "Shard":
            placements.append(["shard", placement.dim])
        elif kind == "Partial":
            placements.append(["partial", placement.reduce_op])
        else:
            placements.append(["replicate"])
    local = tensor.to_local().detach()
    return {
        "dtype": {torch.float32: "F32", torch.bfloat16: "BF16"}[tensor.dtype], "shape": list(tensor.shape),
        "stride": list(tensor.stride()), "placements": placements, "local": list(local.shape),
        "bytes": bytes(local.contiguous().view(torch.uint8).flatten().tolist()).hex(), "mesh": list(mesh.mesh.shape),
        "ranks": None if is_lost else mesh.mesh.flatten().tolist(), "coordinate": list(mesh.get_coordinate()),
        "names": list(mesh.mesh_dim_names) if mesh.mesh_dim_names else None}


def sharded_tensors():
    from torch.distributed._shard.sharded_tensor import Shard, ShardedTensor, ShardMetadata
    from torch.distributed._shard.sharded_tensor.metadata import ShardedTensorMetadata, TensorProperties

    def tensor(rows):
        shards = [ShardMetadata([2 * rank, 0], [2, 3], f"rank:{rank}/cpu") for rank in range(8)]
        metadata = ShardedTensorMetadata(shards, torch.Size([16, 3]), TensorProperties(torch.float32))
        local = [Shard(torch.arange(6.0).reshape(2, 3), shards[rank]) for rank in rows]
        return ShardedTensor._init_from_local_shards_and_global_metadata(local, metadata)

    return {"weight": tensor([5])}


def view_sharded(tensor):
    return {
        "dtype": "F32", "shape": list(tensor.size()),
        "local": [[shard.metadata.shard_offsets, shard.metadata.shard_sizes, shard.metadata.placement.rank(),
                   bytes(shard.tensor.view(torch.uint8).flatten().tolist()).hex()] for shard in tensor.local_shards()]}


def write_distributed(folder):
    import torch.distributed as dist
    from torch.testing._internal.distributed.fake_pg import FakeStore

    dist.init_process_group("fake", store=FakeStore(), rank=5, world_size=8)
    version = ".".join(map(str, VERSION))
    for kind, make, show in (("distributed", distributed_tensors, view_distributed), ("sharded", sharded_tensors, view_sharded)):
        tensors = make()
        torch.save(tensors, folder / f"{kind}-{version}.pt")
        (folder / f"{kind}-{version}.json").write_text(json.dumps({key: show(value) for key, value in tensors.items()}) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--distributed", action="store_true")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    (write_distributed if arguments.distributed else write_values)(arguments.folder)


if __name__ == "__main__":
    main()
