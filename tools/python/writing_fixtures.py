#!/usr/bin/env python3
"""Makes the files that the Swift tests of the writers of PyTorch's files compare with: what torch.save writes.

usage: writing_fixtures.py FOLDER        as a rule Tests/TensorFormatsTests/Fixtures/torch-save

Beside the files it writes cases.json, which says for each what was saved, so that the same can be written from it. Of files that
are too large to be committed it has the size, the CRC-32, and what is in them apart from tensors.
The same packages (requirements.txt) make the same bytes.
"""
import argparse
import collections
import json
import os
import tempfile
import zipfile
import zlib
from pathlib import Path

import torch

from pytorch_fixtures import NAMES, content, tensor

OrderedDict = collections.OrderedDict


class Description:
    """A value in JSON. Containers are objects with their kind; tensors are numbers, each with dtype, shape and content."""

    def __init__(self, value):
        self.tensors, self.contents, self.places, self.storages = [], [], {}, {}
        self.value = self.describe(value)

    def describe(self, value):
        if isinstance(value, OrderedDict):
            return {"ordered": self.items(value)}
        if isinstance(value, dict):
            return {"dictionary": self.items(value)}
        if isinstance(value, tuple):
            return {"tuple": [self.describe(item) for item in value]}
        if isinstance(value, list):
            return [self.describe(item) for item in value]
        if isinstance(value, bytes):
            return {"bytes": value.hex()}
        return {"tensor": self.number(value)} if isinstance(value, torch.Tensor) else value

    def items(self, value):
        return [[self.describe(key), self.describe(item)] for key, item in value.items()]

    def number(self, value):
        """One for each tensor, and of its content one for each storage."""
        if id(value) not in self.places:
            shape = list(value.shape)
            if value.dtype == torch.float4_e2m1fn_x2:
                shape[-1] *= 2
            storage = value.untyped_storage()._cdata
            if storage not in self.storages:
                self.storages[storage] = len(self.contents)
                self.contents.append(content(value).hex() if value.nbytes < 1 << 20 else value.nbytes)
            self.places[id(value)] = len(self.tensors)
            self.tensors.append({"dtype": NAMES[value.dtype], "shape": shape, "content": self.storages[storage]})
        return self.places[id(value)]

    def fields(self):
        return {"value": self.value, "tensors": self.tensors, "contents": self.contents}


def values():
    """What is saved, by the name of the file."""
    base = tensor(torch.float32, 6, 8)
    step = torch.tensor(7.0)
    state = {number: {"step": step, "exp_avg": tensor(torch.float32, 3, start=number), "exp_avg_sq": tensor(torch.float32, 3)}
             for number in range(3)}
    group = {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.01, "amsgrad": False, "foreach": None,
             "maximize": False, "params": [0, 1, 2]}
    dtypes = [dtype for dtype, name in NAMES.items() if not name.startswith("q") and name not in ("C128", "complex32")]
    return {
        "empty.pt": OrderedDict(),
        "none.pt": None,
        "alone.pt": base,
        "dtypes.pt": OrderedDict((NAMES[dtype].lower(), tensor(dtype, 3, 4, start=number)) for number, dtype in enumerate(dtypes)),
        "tied.pt": OrderedDict([("embed", base), ("head", base.view(6, 8)), ("flat", base.view(48)), ("again", base)]),
        "scalars.pt": [torch.tensor(1.5), torch.tensor(True), torch.empty(0), torch.empty(3, 0, 2, dtype=torch.int64)],
        "checkpoint.pt": {
            "model": OrderedDict([("a.weight", base), ("a.bias", tensor(torch.bfloat16, 3)), ("b.weight", base.view(8, 6))]),
            "optimizer": {"state": state, "param_groups": [group, dict(group, betas=(0.9, 0.99), params=[3], lr=0.0)]}, "step": 3, "best": None},
        "numbers.pt": [0, 255, 256, 65535, 65536, 2**31 - 1, 2**31, 2**32, 2**39, 2**63 - 1, -1, -128, -2**31, -2**31 - 1, -2**39,
                       -2**39 - 1, -2**63, True, False, 0.0, -0.0, 1e300, float("1.1")],
        "containers.pt": [(), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), [], [1], {}, {"one": 1}, OrderedDict(one=(2,)),
                          {(1, "x"): {None: b"\x00\xffbytes"}}, "", "é\U0001F600", "one", [[[{"deep": ["one"]}]]]],
        "a name.v2.bin": {"a": base},
        "né.pt": {"é": base},
    }


def written(value, name):
    """What torch.save writes under this name."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, name)
        torch.save(value, path)
        return Path(path).read_bytes()


def wide():
    """A file whose tensors reach the limits of 32 bits, apart from the tensors' bytes: a list of places and bytes."""
    sizes = [0xFFFFFFFF - 12_000, 8, 8, 0xFFFFFFFE, 0xFFFFFFFF, 0x100000000, 8]
    value = OrderedDict((f"t{number}", torch.empty(size, dtype=torch.uint8)) for number, size in enumerate(sizes))
    value["pad"] = torch.empty(9_000, dtype=torch.uint8)
    value.move_to_end("t6")
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "wide.pt")
        with torch.serialization.skip_data():
            torch.save(value, path)
        with zipfile.ZipFile(path) as archive, open(path, "rb") as file:
            literals, start = [], 0
            for info in archive.infolist():
                if not info.filename.startswith("wide/data/"):
                    continue
                file.seek(info.header_offset + 26)
                lengths = file.read(4)
                data = info.header_offset + 30 + sum(int.from_bytes(lengths[place:place + 2], "little") for place in (0, 2))
                file.seek(start)
                literals.append([start, file.read(data - start).hex()])
                start = data + info.file_size
            file.seek(start)
            literals.append([start, file.read().hex()])
    return {"file": "wide.pt", "sizes": [tensor.nbytes for tensor in value.values()], "names": list(value), "literals": literals}


def large():
    """What is saved in files that are too large to be committed. The Swift tests make the same values."""
    def numbers(count):
        return [torch.tensor(number % 251, dtype=torch.uint8) for number in range(count)]

    return {
        # Around the 1,000 items that are pickled at once.
        "batches.pt": [list(range(999)), dict.fromkeys(range(999)), {number: None for number in range(1000)}, list(range(1001)),
                       OrderedDict.fromkeys(range(2000)), OrderedDict((f"n.{number}", ()) for number in range(2001)),
                       dict.fromkeys(range(3001))],
        # More than the 256 places of a memo whose numbers have one byte.
        "many.pt": OrderedDict((f"layers.{number}.weight", value) for number, value in enumerate(numbers(300))),
        # More records than 16 bits count.
        "numerous.pt": numbers(70_000),
    }


def digest(name, value):
    """The size of a file, and its CRC-32 with zeros in the record that PyTorch makes of its C++ library's hashes."""
    data, record = bytearray(written(value, name)), (Path(name).stem + "/.data/serialization_id").encode()
    entry = data.rindex(record) - 46
    place = data.rindex(b"PK\x07\x08", 0, entry)
    for start, length in ((place - 40, 40), (place + 4, 4), (entry + 16, 4)):
        data[start:start + length] = bytes(length)
    return {"file": name, "size": len(data), "crc32": zlib.crc32(data)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    folder = Path(parser.parse_args().folder)
    folder.mkdir(parents=True, exist_ok=True)
    cases = []
    for name, value in values().items():
        (folder / name).write_bytes(written(value, name))
        cases.append({"file": name} | Description(value).fields())
    (folder / "cases.json").write_text(
        "{\"cases\": [\n" + ",\n".join(json.dumps(case) for case in cases) + "\n],\n\"wide\": " + json.dumps(wide())
        + ",\n\"large\": " + json.dumps([digest(name, value) for name, value in large().items()]) + "}\n")


if __name__ == "__main__":
    main()
