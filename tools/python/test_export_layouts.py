#!/usr/bin/env python3
"""What `cairn export` writes for PyTorch is what the real PyTorch reads: files of `torch.load(weights_only=True)`, and checkpoints of
`torch.distributed.checkpoint` on one rank, on two, and by `dcp_to_torch_save`; plain safetensors load as they are.
"""
import json
import unittest
import warnings
import zipfile

import torch
import torch.distributed.checkpoint as dcp
from safetensors.torch import load_file, save_file
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save
from torch.distributed.checkpoint.state_dict import get_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor

from children import ranks
from workbench import Workbench, tiny_llama

# Of each type that PyTorch and safetensors have, besides those of the model.
DTYPES = [
    torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.float16, torch.bfloat16, torch.float64,
    torch.float8_e4m3fn, torch.float8_e5m2, torch.uint16, torch.uint32, torch.uint64, torch.complex64]


class LayoutTests(Workbench):
    def setUp(self):
        super().setUp()
        warnings.simplefilter("ignore")

    def export_as(self, layout, name="export", *options, reference="main@1", jobs=2):
        place = self.folder / name
        self.cairn("export", reference, place, "--layout", layout, "--jobs", jobs, *options)
        return place

    def save_model(self, dtype=torch.bfloat16):
        """A model in safetensors. Returns its tensors."""
        source = self.folder / "source"
        tiny_llama(dtype=dtype).save_pretrained(source, max_shard_size=30_000)
        self.save(source)
        return {name: tensor for file in sorted(source.glob("*.safetensors")) for name, tensor in load_file(file).items()}

    def save_tensors(self, tensors):
        source = self.folder / "source"
        source.mkdir()
        save_file(tensors, source / "model.safetensors")
        self.save(source)

    def all_kinds(self):
        """A tensor of each type, an empty one, a scalar, and one of more than a segment of the writer."""
        torch.manual_seed(1)
        tensors = {str(dtype)[6:]: torch.randint(0, 256, (24, dtype.itemsize), dtype=torch.uint8) for dtype in DTYPES}
        tensors = {name: data % 2 == 1 if name == "bool" else data.view(getattr(torch, name)) for name, data in tensors.items()}
        return tensors | {"empty": torch.ones(0, 3), "scalar": torch.tensor(2.5), "large": torch.randn(1500, 2000)}

    def assert_same_bits(self, got, expected):
        self.assertEqual(sorted(got), sorted(expected))
        for name, tensor in expected.items():
            self.assertEqual((got[name].dtype, got[name].shape), (tensor.dtype, tensor.shape), name)
            self.assertEqual(bits(got[name]), bits(tensor), name)


def bits(tensor):
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b""


class SafetensorsTests(LayoutTests):
    def test_the_tensors_are_there(self):
        model = self.save_model()
        self.assert_same_bits(load_file(self.export_as("safetensors") / "model.safetensors"), model)
        self.assert_same_bits(load_file(self.export_as("safetensors", "m.safetensors")), model)

    def test_all_of_a_pickle_are_there_tied_or_not(self):
        source = self.folder / "source"
        source.mkdir()
        state = tiny_llama(tied=True).state_dict()
        torch.save(state, source / "pytorch_model.bin")
        self.save(source)
        self.assert_same_bits(load_file(self.export_as("safetensors", "m.safetensors")), state)


class TorchTests(LayoutTests):
    def test_torch_loads_the_model(self):
        model = self.save_model()
        for name in ("model.pt", "other.pth", "pytorch_model.bin", "folder"):
            place = self.export_as("torch", name)
            place = place / "model.pt" if name == "folder" else place
            for options in ({}, {"mmap": True}):
                self.assert_same_bits(torch.load(place, weights_only=True, **options), model)

    def test_every_type_and_checksum_is_right(self):
        tensors = self.all_kinds()
        self.save_tensors(tensors)
        place = self.export_as("torch", "m.pt", jobs=4)
        self.assert_same_bits(torch.load(place, weights_only=True), tensors)
        with zipfile.ZipFile(place) as archive:
            self.assertIsNone(archive.testzip())
            self.assertTrue(all(record.CRC for record in archive.infolist() if record.file_size > 0))

    def test_it_is_what_torch_would_save(self):
        tensors = self.all_kinds()
        self.save_tensors(tensors)
        # The order is that of the file, which sorts by type and name.
        names = list(torch.load(self.export_as("torch", "m.pt"), weights_only=True))
        (self.folder / "expected").mkdir()
        torch.save({name: tensors[name] for name in names}, self.folder / "expected/m.pt")
        with zipfile.ZipFile(self.folder / "m.pt") as got, zipfile.ZipFile(self.folder / "expected/m.pt") as wanted:
            self.assertEqual(got.namelist(), wanted.namelist())
            for record in got.namelist():
                if not record.endswith("serialization_id"):
                    self.assertEqual(got.read(record), wanted.read(record), record)

    def test_a_tie_stays_one(self):
        source = self.folder / "source"
        source.mkdir()
        state = tiny_llama(tied=True).state_dict()
        torch.save(state, source / "pytorch_model.bin")
        self.save(source)
        loaded = torch.load(self.export_as("torch", "m.pt"), weights_only=True)
        self.assert_same_bits(loaded, state)
        self.assertEqual(loaded["lm_head.weight"].data_ptr(), loaded["model.embed_tokens.weight"].data_ptr())

    def test_names_are_chosen_and_changed(self):
        model = self.save_model()
        path = self.folder / "map.json"
        path.write_text(json.dumps({"rules": [
            {"match": r"model\.layers\.(\d+)\.(.*)", "to": "blocks.{1}.{2}"}, {"match": ".*", "drop": True}]}))
        loaded = torch.load(self.export_as("torch", "m.pt", "--rename", path, "--only", "mlp"), weights_only=True)
        self.assert_same_bits(loaded, {
            name.replace("model.layers", "blocks"): tensor for name, tensor in model.items() if ".mlp." in name})


class DistributedTests(LayoutTests):
    def check_loads(self, place, expected, nested=False):
        target = {name: torch.zeros_like(tensor) for name, tensor in expected.items()}
        state = {"model": target} if nested else target
        dcp.load(state, checkpoint_id=place)
        self.assert_same_bits(target, expected)
        dcp_to_torch_save(place, self.folder / "one.pt")
        loaded = torch.load(self.folder / "one.pt", weights_only=True)
        self.assert_same_bits(loaded["model"] if nested else loaded, expected)

    def test_one_rank_loads_it(self):
        tensors = self.all_kinds()
        self.save_tensors(tensors)
        self.check_loads(self.export_as("dcp"), tensors)
        self.check_loads(self.export_as("dcp", "cut", "--max-shard-size", "1MB"), tensors)
        self.assertGreater(len(list((self.folder / "cut").glob("*.distcp"))), 1)
        self.check_loads(self.export_as("dcp", "all", "--all"), tensors, nested=True)

    def test_checksums_are_right(self):
        tensors = self.all_kinds()
        self.save_tensors(tensors)
        place = self.export_as("dcp")
        items = dcp.FileSystemReader(place).read_metadata().storage_data
        data = (place / "__0_0.distcp").read_bytes()
        self.assertEqual(len(items), len(tensors))
        for index, item in items.items():
            record = self.folder / "record.zip"
            record.write_bytes(data[item.offset:item.offset + item.length])
            with zipfile.ZipFile(record) as archive:
                self.assertIsNone(archive.testzip(), index.fqn)

    def test_two_ranks_load_their_shards(self):
        tensors = {"w": torch.randn(10, 6), "v": torch.randn(7, 3), "scalar": torch.tensor(3.0)}
        self.save_tensors(tensors)
        place = self.export_as("dcp")
        self.assertEqual(ranks(2, self.folder, lambda: load_shards(place, tensors)), [0, 0])


def load_shards(place, expected):
    """What each of two ranks does."""
    mesh = init_device_mesh("cpu", (2,))
    state = {
        "w": distribute_tensor(torch.zeros(10, 6), mesh, [Shard(1)]), "v": distribute_tensor(torch.zeros(7, 3), mesh, [Shard(0)]),
        "scalar": torch.zeros(())}
    dcp.load(state, checkpoint_id=place)
    for name, tensor in state.items():
        full = tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
        assert torch.equal(full, expected[name]), name


class RenamedTests(LayoutTests):
    def map(self, *rules):
        path = self.folder / "map.json"
        path.write_text(json.dumps({"rules": rules}))
        return path

    def test_matrices_are_transposed(self):
        tensors = self.all_kinds()
        tensors["stack"] = torch.randn(3, 700, 900)
        self.save_tensors(tensors)
        path = self.map({"match": "scalar", "to": "t.scalar"}, {"match": "(.*)", "to": "t.{1}", "transpose": True})
        expected = {f"t.{name}": tensor if name == "scalar" else tensor.mT.contiguous() for name, tensor in tensors.items()}
        self.assert_same_bits(torch.load(self.export_as("torch", "m.pt", "--rename", path), weights_only=True), expected)
        self.assert_same_bits(load_file(self.export_as("safetensors", "m.safetensors", "--rename", path)), expected)
        target = {name: torch.zeros_like(tensor) for name, tensor in expected.items()}
        dcp.load(target, checkpoint_id=self.export_as("dcp", "d", "--rename", path, "--max-shard-size", "9MB"))
        self.assert_same_bits(target, expected)

    def test_the_optimizer_goes_along(self):
        """As PyTorch saves a model and its optimizer, by names."""
        model = torch.nn.Sequential(torch.nn.Linear(6, 8), torch.nn.Linear(8, 4, bias=False))
        optimizer = torch.optim.AdamW(model.parameters())
        model(torch.randn(3, 6)).sum().backward()
        optimizer.step()
        weights, state = get_state_dict(model, optimizer)
        dcp.save({"model": weights, "optimizer": state}, checkpoint_id=self.folder / "source", no_dist=True)
        self.save(self.folder / "source")
        path = self.map(
            {"match": "0\\.weight", "to": ["query", "key"], "split": {}}, {"match": "1\\.weight", "to": "out", "transpose": True},
            {"match": "0\\.bias", "to": "bias"})

        def cut(name, tensor):
            if name == "0.weight":
                halves = tensor.chunk(2) if tensor.dim() else (tensor, tensor)
                return dict(zip(("query", "key"), halves))
            return {"out": tensor.mT if tensor.dim() else tensor} if name == "1.weight" else {"bias": tensor}

        expected = {new: part for name, tensor in weights.items() for new, part in cut(name, tensor).items()}
        moments = {
            f"{kind}.{new}": part.contiguous() for name, kept in state["state"].items()
            for kind, tensor in kept.items() for new, part in cut(name, tensor).items()}
        self.assertEqual(len(moments), 12)
        loaded = torch.load(self.export_as("torch", "m.pt", "--all", "--rename", path), weights_only=True)
        self.assert_same_bits(loaded["model"], expected)
        self.assert_same_bits(loaded["optimizer"], moments)
        dcp_to_torch_save(self.export_as("dcp", "d", "--all", "--rename", path), self.folder / "one.pt")
        loaded = torch.load(self.folder / "one.pt", weights_only=True)
        self.assert_same_bits(loaded["model"], expected)
        self.assert_same_bits(loaded["optimizer"], moments)


if __name__ == "__main__":
    unittest.main()
