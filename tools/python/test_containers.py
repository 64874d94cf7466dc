#!/usr/bin/env python3
"""The same weights are stored once, whatever format they are saved in.

A model is saved as safetensors, with `torch.save` as it is now and as it was before 1.6, and as a distributed checkpoint in several
ways: each next one adds next to nothing to the store, has the same tensors, and comes back byte for byte.
"""
import unittest
import warnings

import torch
import torch.distributed.checkpoint as dcp
from safetensors.torch import save_file

from workbench import Workbench


def weights():
    """16 MiB, of which no part resembles another."""
    torch.manual_seed(1)
    state = {f"layers.{number}.weight": torch.randn(512, 480) for number in range(16)}
    state["half"] = torch.randn(100, 301).to(torch.bfloat16)
    state["steps"] = torch.arange(1000)
    return state


class ContainerTests(Workbench):
    def write(self, name, state):
        folder = self.folder / name
        folder.mkdir()
        if name == "safetensors":
            save_file(state, folder / "model.safetensors")
        elif name == "zip":
            torch.save(state, folder / "model.bin")
        elif name == "before-1.6":
            torch.save(state, folder / "model.pth", _use_new_zipfile_serialization=False)
        else:
            options = {"one-file": {}, "threads": {"thread_count": 3}, "file-per-tensor": {"single_file_per_rank": False}}
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                dcp.save({**state, "lr": 0.1}, storage_writer=dcp.FileSystemWriter(folder, **options[name]), no_dist=True)
        return folder

    def test_weights_are_stored_once(self):
        state = weights()
        size = sum(tensor.nbytes for tensor in state.values())
        forms = {}
        names = ["safetensors", "zip", "before-1.6", "one-file", "threads", "file-per-tensor"]
        for step, name in enumerate(names):
            folder = self.write(name, state)
            result = self.save(folder, step=step)
            self.assertEqual(result["tensors"], len(state), name)
            if step == 0:
                self.assertEqual(result["newBytes"], size)
            else:
                self.assertLess(result["newBytes"], size / 50, name)
            shown = self.cairn("show", f"main@{step}", "--tensors")["tensors"]
            forms[name] = sorted((one["dtype"], one["shape"], one["bytes"]) for one in shown)
            self.assertEqual(forms[name], forms["safetensors"], name)
            self.cairn("restore", f"main@{step}", self.folder / f"back-{name}")
            self.assert_same_files(self.folder / f"back-{name}", folder, name)


if __name__ == "__main__":
    unittest.main()
