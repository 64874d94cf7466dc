#!/usr/bin/env python3
"""The libraries themselves read what the writers of TensorFormats write: the golden files, which the Swift tests compare with.

torch.load with weights_only, mapped and not, checksums or none; torch.distributed.checkpoint on one rank, on several with another
layout, and by dcp_to_torch_save.
"""
import pickle
import shutil
import tempfile
import unittest
import warnings
import zipfile
from pathlib import Path

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor

from children import ranks
from pytorch_fixtures import NAMES

# A child of a process with more threads than one may wait for those that it doesn't have.
torch.set_num_threads(1)

GOLDEN = Path(__file__).resolve().parents[2] / "Tests/TensorFormatsTests/Fixtures/golden"
DTYPES = {name: dtype for dtype, name in NAMES.items()}


def content(number, dtype, *shape):
    """The tensor of the content of this number (GoldenFiles.swift)."""
    count = dtype.itemsize * torch.Size(shape).numel()
    data = torch.tensor([(number * 31 + place * 7) % 251 for place in range(count)], dtype=torch.uint8)
    return data.view(dtype).reshape(shape) if count else torch.empty(shape, dtype=dtype)


def state_dict():
    """What the golden checkpoint of DCP holds (DCPWriterTests.swift)."""
    def grid(number, *shape):
        return content(number, torch.int64, *shape)

    embed = torch.cat([content(0, torch.float32, 4, 8), content(1, torch.float32, 2, 8)])
    blocks = [[grid(2, 2, 3), grid(3, 2, 2)], [grid(4, 2, 3), grid(5, 2, 2)]]
    group = {"lr": 0.001, "betas": (0.9, 0.999), "foreach": None, "params": [0]}
    return {
        "model": {
            "embed.weight": embed, "grid": torch.cat([torch.cat(row, 1) for row in blocks]),
            "norm": content(6, torch.bfloat16, 8), "float8": content(7, torch.float8_e4m3fn, 2, 4),
            "uint16": content(8, torch.uint16, 3), "empty": content(9, torch.float32, 0, 3)},
        "optimizer": {"state": {"0": {"step": content(10, torch.float32)}}, "param_groups": [group]},
        "list": [content(11, torch.uint8, 4), content(12, torch.uint8, 2)],
        "step": 3,
        "né": "a text"}


def zeros(value):
    """The same with nothing in it yet."""
    if isinstance(value, dict):
        return {key: zeros(item) for key, item in value.items()}
    if isinstance(value, list):
        return [zeros(item) for item in value]
    return torch.zeros_like(value) if isinstance(value, torch.Tensor) else None


class ReadingTests(unittest.TestCase):
    def setUp(self):
        warnings.simplefilter("ignore")
        self.folder = Path(tempfile.mkdtemp(prefix="cairn-python."))
        self.addCleanup(shutil.rmtree, self.folder)

    def assert_same(self, got, expected, path="top"):
        """The same values, bit for bit; a dictionary's order and class don't matter."""
        if isinstance(expected, torch.Tensor):
            self.assertEqual((got.dtype, got.shape), (expected.dtype, expected.shape), path)
            self.assertEqual(bits(got), bits(expected), path)
        elif isinstance(expected, dict):
            self.assertEqual(sorted(got), sorted(expected), path)
            for key, item in expected.items():
                self.assert_same(got[key], item, f"{path}.{key}")
        elif isinstance(expected, (list, tuple)):
            self.assertEqual(len(got), len(expected), path)
            for number, item in enumerate(expected):
                self.assert_same(got[number], item, f"{path}.{number}")
        else:
            self.assertEqual(got, expected, path)

    def test_torch_loads_a_file_without_checksums(self):
        model = {}
        for number, name in enumerate(["F4"] + [name for name in self.order() if name != "F4"]):
            dtype = DTYPES[name]
            model[name] = content(number, dtype, 3, 2 if name == "F4" else 4)
        expected = {"model": model, "step": 3, "random": b"\x00\xff\x07", "none": b""}
        for options in ({}, {"mmap": True}, {"weights_only": True}, {"weights_only": False}):
            with self.subTest(options=options):
                self.assert_same(torch.load(GOLDEN / "no-checksums.pt", **options), expected)

    def order(self):
        """The types of the golden file, in its order: that of their rank."""
        return ["F4", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ", "I16", "U16", "F16", "BF16",
                "I32", "U32", "F32", "C64", "F64", "I64", "U64"]

    def test_python_takes_a_checksum_of_0_for_damage(self):
        # Which is why a caller had better compute them; what is not a tensor always has one.
        with zipfile.ZipFile(GOLDEN / "no-checksums.pt") as archive:
            self.assertEqual(archive.testzip(), "no-checksums/data/0")
            for name in archive.namelist():
                if "/data/" not in name:
                    archive.read(name)
        with zipfile.ZipFile(GOLDEN / "dcp/__0_1.distcp") as archive:
            self.assertIsNone(archive.testzip())

    def test_dcp_becomes_a_file_of_torch(self):
        dcp_to_torch_save(GOLDEN / "dcp", self.folder / "all.pt")
        self.assert_same(torch.load(self.folder / "all.pt", weights_only=True), state_dict())

    def test_dcp_loads_on_one_rank(self):
        target = zeros(state_dict())
        dcp.load(target, checkpoint_id=GOLDEN / "dcp", no_dist=True)
        self.assert_same(target, state_dict())

    def test_dcp_loads_on_other_numbers_of_ranks(self):
        for count in (2, 3):
            with self.subTest(ranks=count):
                self.assertEqual(ranks(count, self.folder, load_on_rank), [0] * count)

    def test_the_metadata_is_what_dcp_writes_of_the_same(self):
        dcp.save(state_dict(), checkpoint_id=self.folder / "dcp", no_dist=True)
        got, expected = (pickle.loads((folder / "dcp/.metadata").read_bytes()) for folder in (GOLDEN, self.folder))
        self.assertEqual(list(got.state_dict_metadata), list(expected.state_dict_metadata))
        self.assertEqual(got.planner_data, expected.planner_data)
        self.assertEqual(got.version, expected.version)
        for name, ours in got.state_dict_metadata.items():
            theirs = expected.state_dict_metadata[name]
            self.assertEqual(type(ours), type(theirs), name)
            if hasattr(theirs, "size"):
                self.assertEqual((ours.properties, ours.size), (theirs.properties, theirs.size), name)
            # One rank has each tensor in one chunk; two of ours have more.
            if name not in ("model.embed.weight", "model.grid") and hasattr(theirs, "chunks"):
                self.assertEqual(ours.chunks, theirs.chunks, name)
        whole = {index for index in got.storage_data if index.fqn not in ("model.embed.weight", "model.grid")}
        self.assertEqual(whole, {index for index in expected.storage_data if index in whole})
        for index in whole:
            theirs = next(other for other in expected.storage_data if other == index)
            self.assertEqual(index.index, theirs.index)
            # The same bytes, wherever they lie.
            ours, theirs = got.storage_data[index], expected.storage_data[theirs]
            self.assertEqual(ours.length, theirs.length, index)
            self.assertEqual(without_identity(GOLDEN / "dcp", ours), without_identity(self.folder / "dcp", theirs), index)


def without_identity(folder, place):
    """The bytes of an item of DCP, with zeros where PyTorch has its C++ library's hashes, and for their checksum."""
    data = bytearray((folder / place.relative_path).read_bytes()[place.offset:place.offset + place.length])
    entry = data.rindex(b"archive/.data/serialization_id") - 46
    descriptor = data.rindex(b"PK\x07\x08", 0, entry)
    for start, length in ((descriptor - 40, 40), (descriptor + 4, 4), (entry + 16, 4)):
        data[start:start + length] = bytes(length)
    return bytes(data)


def bits(value):
    return bytes(value.detach().contiguous().clone().reshape(-1).untyped_storage()) if value.nbytes else b""


def load_on_rank():
    """Loads the golden checkpoint with its tensors spread over the ranks, in another way than they are in the files."""
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    target, expected = zeros(state_dict()), state_dict()
    placements = {"embed.weight": Shard(1), "grid": Shard(0), "norm": Shard(0), "empty": Replicate()}
    for name, placement in placements.items():
        target["model"][name] = distribute_tensor(target["model"][name], mesh, [placement])
    dcp.load(target, checkpoint_id=GOLDEN / "dcp")
    for name, placement in placements.items():
        assert isinstance(target["model"][name], DTensor), name
        target["model"][name] = target["model"][name].full_tensor()
    for name, value in expected["model"].items():
        assert bits(target["model"][name]) == bits(value), name
    assert target["step"] == 3 and target["né"] == "a text"
    assert torch.equal(target["list"][1], expected["list"][1])


if __name__ == "__main__":
    unittest.main(warnings="ignore")
