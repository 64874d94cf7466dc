#!/usr/bin/env python3
"""`cairn.safe_open` against safetensors' own, on the same tensors."""
import os
import unittest
from pathlib import Path

import numpy
import safetensors
import torch
from safetensors.torch import save_file

from workbench import CAIRN, Workbench, tiny_llama

os.environ.setdefault("CAIRN_LIBRARY", str(Path(CAIRN).with_name("libCairnC.so")))
import cairn

TENSORS = {
    "b.weight": torch.arange(24, dtype=torch.float32).reshape(4, 6),
    "a.bias": torch.arange(5).to(torch.bfloat16),
    "z": torch.tensor(7, dtype=torch.int64),
    "empty": torch.zeros(0, 3),
    "half": torch.arange(60, dtype=torch.float16).reshape(3, 4, 5),
}
INDICES = {
    "b.weight": [..., (), 1, -1, slice(1, 3), (slice(None), 2), (slice(1, 3), slice(2, 5)), (..., slice(0, 1))],
    "half": [(1,), (slice(0, 2), 1), (..., 3), (2, slice(1, 3), slice(None))],
    "a.bias": [slice(2, 2), slice(1, None)],
    "z": [..., ()],
}


class SafeOpenTests(Workbench):
    def setUp(self):
        super().setUp()
        self.place = self.folder / "store"
        self.file = self.folder / "model.safetensors"
        save_file(TENSORS, self.file)
        self.store = cairn.open(self.place)
        self.store.save(1, model=TENSORS, optimizer={"state": {0: {"exp_avg": torch.zeros(3)}}}, run="sft", metrics={"loss": 0.5})

    def both(self, framework="pt"):
        ours = cairn.safe_open(f"{self.place}@latest", framework=framework)
        own = safetensors.safe_open(self.file, framework=framework)
        return ours, own

    def test_names_shapes_and_types_are_those_of_the_file(self):
        ours, own = self.both()
        with ours, own:
            self.assertEqual(ours.keys(), own.keys())
            self.assertEqual(sorted(ours.offset_keys()), sorted(own.offset_keys()))
            for name in own.keys():
                got, expected = ours.get_slice(name), own.get_slice(name)
                self.assertEqual((got.get_shape(), got.get_dtype()), (expected.get_shape(), expected.get_dtype()))

    def test_tensors_and_slices_are_those_of_the_file(self):
        ours, own = self.both()
        with ours, own:
            self.assert_same_tensors({name: ours.get_tensor(name) for name in ours.keys()}, TENSORS)
            for name, indices in INDICES.items():
                for index in indices:
                    with self.subTest(name=name, index=index):
                        got = ours.get_slice(name)[index]
                        expected = TENSORS[name][index]
                        self.assertEqual(got.dtype, expected.dtype)
                        self.assertTrue(torch.equal(got, expected))

    def test_numpy_arrays_are_those_of_the_file(self):
        ours, own = self.both("np")
        with ours, own:
            for name in ("b.weight", "z", "half"):
                got, expected = ours.get_tensor(name), own.get_tensor(name)
                self.assertIsInstance(got, numpy.ndarray)
                self.assertEqual(got.dtype, expected.dtype)
                numpy.testing.assert_array_equal(got, expected)
            numpy.testing.assert_array_equal(ours.get_slice("b.weight")[1:3, ::2], own.get_tensor("b.weight")[1:3, ::2])

    def test_a_store_and_a_reference_are_named_in_any_of_the_ways(self):
        odd = self.folder / "models@home"
        os.rename(self.place, odd)
        with cairn.open(odd) as store:
            for place in (odd, f"{odd}@latest", f"{odd}@sft@1", f"{odd}@sft@best:loss", (odd, "1"), (store, "sft@latest")):
                with self.subTest(place=place), cairn.safe_open(place) as f:
                    self.assertEqual((f.metadata()["run"], f.metadata()["step"]), ("sft", "1"))
            self.assertEqual(store.path, str(odd))
            store.stats()

    def test_what_is_not_there_is_named(self):
        with self.assertRaisesRegex(cairn.NotAStore, "nowhere@latest"):
            cairn.safe_open(self.folder / "nowhere@latest")
        with self.assertRaises(cairn.NotFound):
            cairn.safe_open(f"{self.place}@7")
        with self.assertRaisesRegex(cairn.Usage, "flax"):
            cairn.safe_open(self.place, framework="flax")
        with cairn.safe_open(self.place) as f, self.assertRaisesRegex(cairn.NotFound, "c.weight"):
            f.get_tensor("c.weight")

    def test_a_model_that_was_saved_from_files_has_its_names(self):
        model = tiny_llama(num_hidden_layers=2)
        model.save_pretrained(self.folder / "out", max_shard_size="20KB")
        self.save(self.folder / "out", run="files")
        with cairn.safe_open((self.place, "files@1")) as f:
            self.assert_same_tensors({name: f.get_tensor(name) for name in f.keys()}, model.state_dict())


if __name__ == "__main__":
    unittest.main(warnings="ignore")
