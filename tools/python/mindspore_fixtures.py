#!/usr/bin/env python3
"""Makes the MindSpore checkpoints of the Swift tests with MindSpore itself.

usage: mindspore_fixtures.py FOLDER        as a rule Tests/TensorFormatsTests/Fixtures/mindspore

It needs `pip install mindspore==2.10.0` (Python 3.11), in an environment of its own. Beside the files it writes expected.json, from
what MindSpore's own protobuf classes and load_checkpoint say of each file, and strategy.json, from what its reader of strategies says.
The same version makes the same bytes, but for encrypted files.
"""
import argparse
import json
import os
import tempfile
from pathlib import Path

os.environ["GLOG_v"] = "3"
import mindspore as ms
import numpy as np
from mindspore import Parameter, Tensor
from mindspore.parallel._parallel_serialization import _build_searched_strategy, _convert_to_list
from mindspore.train import serialization
from mindspore.train.checkpoint_pb2 import Checkpoint
from mindspore.train.node_strategy_pb2 import ParallelStrategyMap

from fixtures import Folder, counting, same

NAMES = {"Bool": "BOOL", "Int8": "I8", "Int16": "I16", "Int32": "I32", "Int64": "I64", "UInt8": "U8", "UInt16": "U16",
         "UInt32": "U32", "UInt64": "U64", "Float16": "F16", "BFloat16": "BF16", "Float32": "F32", "Float64": "F64",
         "Complex64": "C64", "Complex128": "C128", "Float8E4M3FN": "F8_E4M3", "Float8E5M2": "F8_E5M2", "Int4": "qint4x2",
         "int32": "I32", "float32": "F32"}
SLICE = serialization.SLICE_SIZE


def saved(values, kilobytes=SLICE, **options):
    """What save_checkpoint writes; values by name. Tensors over so many KiB are cut, as else those over 512 MiB are."""
    serialization.SLICE_SIZE = kilobytes
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "a.ckpt")
        ms.save_checkpoint([{"name": name, "data": value} for name, value in values.items()], path, **options)
        serialization.SLICE_SIZE = SLICE
        return Path(path).read_bytes()


def executed(values, kilobytes=SLICE):
    """The same of values as save_checkpoint hands them on."""
    serialization.SLICE_SIZE = kilobytes
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "a.ckpt")
        serialization._exec_save(path, values)
        serialization.SLICE_SIZE = SLICE
        return Path(path).read_bytes()


class Table:
    """A MapParameter, which needs a device that has them: its keys, values and states in two slices."""

    def __init__(self):
        self.slices = [[counting("i4", rows), counting("f4", rows, 3), counting("i4", rows), rows == 2] for rows in (4, 2)]

    def export_slice_data(self, incremental):
        return self.slices.pop(0)


def message(*values):
    """A checkpoint of these: (name, dims, type, bytes)."""
    checkpoint = Checkpoint()
    for name, dims, kind, content in values:
        value = checkpoint.value.add()
        value.tag = name
        value.tensor.dims.extend(dims)
        value.tensor.tensor_type = kind
        value.tensor.tensor_content = content
    return checkpoint.SerializeToString()


def pieces(data):
    """The tensors in a file, each in its pieces."""
    checkpoint = Checkpoint()
    checkpoint.ParseFromString(data[:-17] if data[-17:-10] == b"crc_num" else data)
    numbers = {}
    for value in checkpoint.value:
        parts = [("", value.tensor)] if value.HasField("tensor") else zip((".key", ".value", ".status"), value.maptensor.tensor)
        for part, one in parts:
            name = value.tag + part
            numbers[name] = number = numbers.get(name, 0) + 1
            if one.tensor_type in NAMES and (number == 1 or one.tensor_content):
                shape = [] if list(one.dims) == [0] and one.tensor_content else one.dims
                yield name if number == 1 else f"{name}#{number}", NAMES[one.tensor_type], shape, one.tensor_content


class MindSporeFolder(Folder):
    def take(self, name, data, loads=True):
        """A file of these bytes with the tensors that MindSpore finds."""
        tensors = list(pieces(data))
        self.accept(name, data, tensors)
        if not loads:
            return
        loaded = ms.load_checkpoint(str(self.path / name))
        for tag, value in loaded.items():
            if isinstance(value, Parameter):
                joined = b"".join(content for one, _, _, content in tensors if one == tag or one.startswith(f"{tag}#"))
                shape = next(shape for one, _, shape, _ in tensors if one == tag)
                assert joined == bytes(value.data.get_bytes()) and list(shape) == list(value.shape), (name, tag)


def strategies(folder):
    """Strategy files, and what MindSpore reads from them."""
    strategy = ParallelStrategyMap()
    strategy.current_stage = 1
    item = strategy.parallel_strategy_item.add()
    item.node_name = "MatMul-op0"
    item.parallel_strategys.stage = 1
    item.parallel_strategys.parallel_strategy.add().dim.extend([2, 1])
    for name, mesh, maps, shape, offset, rest in [
            ("1-emb.weight", [4, 2], [[-1, 0]], [24, 16], [0, 0], (0, 1, 4)), ("norm", [2], [[-1]], [32], [], (-1, 0, -1)),
            ("head", [2, 2, 2], [[], [2, 0], [-1]], [6, 32], [0], (3, 0, 0)), ("scalar", [8], [[]], [], [], (0, 0, 0))]:
        layout = strategy.parallel_layout_item.add()
        layout.param_name = name
        layouts = layout.parallel_layouts
        layouts.dev_matrix.add().dim.extend(mesh)
        for axes in maps:
            layouts.tensor_map.add().dim.extend(axes)
        layouts.param_split_shape.add().dim.extend(shape)
        if offset:
            layouts.indices_offset.add().dim.extend(offset)
        layouts.field, layouts.opt_weight_shard_step, layouts.opt_weight_shard_size = rest
    folder.write("ckpt_strategy_rank_0.ckpt", strategy.SerializeToString())
    # For each parameter: device matrix, tensor map, shape of a slice, field, step and size of the optimizer's shards, stages.
    read = _convert_to_list(_build_searched_strategy(str(folder.path / "ckpt_strategy_rank_0.ckpt")))
    (folder.path / "strategy.json").write_text(json.dumps(read) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    folder = MindSporeFolder(parser.parse_args().folder)
    weight, matrix = Tensor(same()), Tensor(counting("f4", 10, 100))
    folder.write("same.ckpt", saved({"weight": weight}))
    plain = {one: Tensor(counting(one, 2, 3)) for one in
             ["bool", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"]}
    plain["bf16"] = Tensor(counting("f4", 5), ms.bfloat16)
    folder.take("dtypes.ckpt", saved(plain))
    strange = {"c8": Tensor(counting("c8", 2)), "c16": Tensor(counting("c16", 2)),
               "pairs": Tensor(counting("i1", 4), ms.qint4x2)}
    folder.take("strange-dtypes.ckpt", saved(strange), loads=False)
    few = {"w": Tensor(counting("f4", 2, 3)), "step": Tensor(7, ms.int32), "é.b": Tensor(counting("i8", 1))}
    state = {"epoch_num": 1, "lr": 0.5, "name": "hello é", "flag": True}
    folder.take("checksum.ckpt", saved(few, crc_check=True, append_dict=state))
    folder.take("joined.ckpt", saved(few) + saved({"more": few["w"]}))
    folder.take("cut.ckpt", saved({"a": few["w"], "w": matrix, "b": few["w"]}, kilobytes=1, crc_check=True))
    # An array of NumPy is cut along its first axis, which may be shorter than the pieces are many.
    arrays = {"w": [[10, 100], "Float32", matrix.asnumpy()], "v": [[2, 300], "Float32", counting("f4", 2, 300)]}
    folder.take("cut-along-axis.ckpt", executed(arrays, kilobytes=1))
    folder.take("map.ckpt", executed({"table": ["mapparameter", Table()], "w": [[6], "Int8", counting("i1", 6)]}))
    folder.take("scalar-of-before.ckpt", message(("a", [0], "Float32", b"\0\0\x80?") ))
    folder.take("unknown-type.ckpt", message(("a", [4], "HiFloat8", b"abcd"), ("b", [1], "Float32", b"abcd")), loads=False)
    strategies(folder)

    for mode in ("AES-GCM", "AES-CBC"):
        folder.refuse(f"encrypted-{mode[4:].lower()}.ckpt", saved(few, enc_key=b"0123456789ABCDEF", enc_mode=mode), "encrypted")
    whole = saved(few)
    folder.refuse("end.ckpt", whole[:-1], "damaged")
    folder.refuse("behind.ckpt", whole + b"PK", "damaged")
    folder.refuse("short.ckpt", message(("a", [2, 3], "Float32", b"abcd")), "damaged")
    folder.refuse("twice.ckpt", message(("a", [1], "Float32", b"abcd"), ("b", [], "str", b""), ("a", [1], "Float32", b"abcd")), "damaged")
    folder.refuse("taken.ckpt", message(("a#2", [1], "Int8", b"a"), ("a", [2], "Int8", b"a"), ("a", [2], "Int8", b"a")), "damaged")
    folder.refuse("negative.ckpt", message(("a", [-1], "Float32", b"abcd")), "damaged")
    folder.refuse("overflow.ckpt", message(("a", [2**62, 2**62, 0], "Float32", b"")), "damaged")
    folder.refuse("empty.ckpt", b"", "other-format")
    folder.finish()


if __name__ == "__main__":
    main()
