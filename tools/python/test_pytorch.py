#!/usr/bin/env python3
"""Of every file of PyTorch among the samples and the fixtures, Cairn finds the tensors that torch.load finds.

Each file is saved. What `cairn show` lists are the contiguous tensors that torch.load gives, under the paths of the values, with dtype and shape;
their bytes are read from the store by tools/reader.py. Frameworks need not be installed: their classes are stood in for, as no tensor is
made by them.
"""
import json
import logging
import pickle
import shutil
import sys
import types
import unittest
from pathlib import Path

import torch

from pytorch_fixtures import NAMES, content, rebuild_npu_tensor
from workbench import Workbench

TOP = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / "tools"))
import reader

# It warns of each mesh that no processes are there for.
logging.getLogger("torch.distributed.device_mesh").setLevel(logging.ERROR)
FIXTURES = TOP / "Tests/TensorFormatsTests/Fixtures"
SAMPLES = ("dcp", "deepspeed", "hf-trainer", "lightning", "megatron", "pytorch", "verl")


class Unpickler(pickle.Unpickler):
    """One that makes up the classes that are not installed."""

    def find_class(self, module, name):
        if name == "_rebuild_npu_tensor":
            return rebuild_npu_tensor
        try:
            return super().find_class(module, name)
        except (ImportError, AttributeError):
            return type(name, (StandIn,), {})


class StandIn:
    def __new__(cls, *arguments, **named):
        return object.__new__(cls)

    def __init__(self, *arguments, **named):
        pass

    def __setstate__(self, state):
        states = state if isinstance(state, tuple) else (state,)
        for one in states:
            self.__dict__.update(one if isinstance(one, dict) else {})


LENIENT = types.SimpleNamespace(Unpickler=Unpickler, load=lambda file, **named: Unpickler(file, **named).load(), __name__="lenient")


class Found(dict):
    """The contiguous tensors in a value by their paths: each at every place where it stands, but what else stands at several at the first."""

    def __init__(self, value):
        self.seen = {}
        self.visit(value, ())

    def is_new(self, value):
        is_new = id(value) not in self.seen
        # Kept alive, so that no other value gets its number.
        self.seen[id(value)] = value
        return is_new

    def add(self, tensor, path):
        name, number = ".".join(map(str, path)), 1
        while (name if number == 1 else f"{name}#{number}") in self:
            number += 1
        self[name if number == 1 else f"{name}#{number}"] = tensor

    def visit(self, value, path):
        if isinstance(value, torch.Tensor):
            self.visit_tensor(value, path)
        elif isinstance(value, (dict, list, tuple, set)):
            if self.is_new(value):
                for key, item in value.items() if isinstance(value, dict) else enumerate(value):
                    self.visit(item, (*path, key))
                self.visit_attributes(value, path)
        elif not isinstance(value, (type, types.ModuleType, types.FunctionType)) and self.is_new(value):
            self.visit_attributes(value, path)

    def visit_attributes(self, value, path):
        for name, attribute in getattr(value, "__dict__", {}).items():
            self.visit(attribute, (*path, name))

    def visit_tensor(self, tensor, path):
        parts = {}
        if hasattr(tensor, "_local_tensor"):
            self.visit(tensor._local_tensor, path)
            if self.is_new(tensor):
                self.visit(tensor._spec, (*path, "_spec"))
            return
        if tensor.is_nested:
            parts = {"buffer": tensor.values(), "sizes": tensor._nested_tensor_size(), "strides": tensor._nested_tensor_strides(),
                     "storage_offsets": tensor._nested_tensor_storage_offsets()}
        elif tensor.layout == torch.sparse_coo:
            parts = {"indices": tensor._indices(), "values": tensor._values()}
        elif tensor.layout == torch.sparse_csr:
            parts = {"compressed_indices": tensor.crow_indices(), "plain_indices": tensor.col_indices(), "values": tensor.values()}
        elif tensor.device.type != "meta":
            if tensor.is_contiguous() and not tensor.is_conj() and not tensor.is_neg():
                self.add(tensor.detach(), path)
            if tensor.is_quantized and tensor.qscheme() == torch.per_channel_affine:
                parts = {"scales": tensor.q_per_channel_scales(), "zero_points": tensor.q_per_channel_zero_points()}
        for name, part in parts.items():
            self.visit(part, (*path, name))
        self.visit_attributes(tensor, path)


class AgreementTests(Workbench):
    def check(self, paths):
        """Returns how many tensors there are."""
        for step, path in enumerate(paths):
            # Under a name that says nothing, for it is about the files alone: what layouts call their tensors is not asked.
            (self.folder / "original").mkdir(exist_ok=True)
            shutil.copy(path, self.folder / "original/file.pt")
            self.save(self.folder / "original", step=step)
        store, count = reader.Store(str(self.folder / "store")), 0
        for iteration in store.iterations.values():
            path = paths[iteration["step"]]
            with self.subTest(file=path):
                stored = {name: (dtype, shape, data) for name, dtype, shape, data in store.tensors(iteration)}
                count += self.check_tensors(path, stored)
        return count

    def check_tensors(self, path, stored):
        found = Found(torch.load(path, map_location="cpu", weights_only=False, pickle_module=LENIENT))
        self.assertEqual(sorted(stored), sorted(found))
        for name, tensor in found.items():
            shape = list(tensor.shape)
            if tensor.dtype == torch.float4_e2m1fn_x2:
                shape[-1] *= 2
            self.assertEqual(stored[name], (NAMES[tensor.dtype], shape, content(tensor)), name)
        return len(found)

    def test_samples(self):
        files = (path for name in SAMPLES for path in self.sample(name).rglob("*"))
        self.assertGreater(self.check(sorted(path for path in files if path.suffix in (".pt", ".pth", ".bin", ".ckpt"))), 600)

    def test_fixtures(self):
        expected = json.loads((FIXTURES / "pytorch/expected.json").read_text())
        self.assertGreater(self.check([FIXTURES / "pytorch" / name for name, value in expected.items() if "tensors" in value]), 150)


if __name__ == "__main__":
    unittest.main(warnings="ignore")
