#!/usr/bin/env python3
"""What `cairn export --layout mindformers` writes, MindSpore Transformers' own loader spreads over other numbers of devices; what it writes
as `mindformers1`, MindSpore puts together. (check_mindformers.py)

Runs where the environment of MindSpore can be had, which takes 3.3 GB: where it is there already, and with `tools/test --long`.
"""
import json
import os
import subprocess
import tempfile
import unittest
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from workbench import Workbench

HERE = Path(__file__).resolve().parent
RULES = {"rules": [
    {"match": r"embedding\.weight", "cuts": ["tp", None]}, {"match": r"fc1\.weight", "cuts": [None, "tp"]},
    {"match": r"out\.weight", "cuts": [["dp", "tp"], None]}, {"match": r"norm\.weight", "cuts": []},
    {"match": r"adam_m\..*", "cuts": [None, "tp"]}]}


def python_of_mindspore():
    """The Python that has the library; else why there is none."""
    place = os.environ.get("CAIRN_MINDSPORE_PYTHON")
    if not place:
        if not (HERE / "requirements-mindspore.txt").exists():
            return None, "there is no environment of MindSpore"
        cached = list(Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")).glob("cairn/python-mindspore-*/complete"))
        if not cached and not os.environ.get("CAIRN_TEST_LONG"):
            return None, "MindSpore is installed with --long"
        done = subprocess.run([HERE / "environment.sh", "mindspore"], stdout=subprocess.PIPE, text=True)
        if done.returncode:
            return None, "MindSpore can't be installed"
        place = done.stdout.strip()
    return place, None


PYTHON, REASON = python_of_mindspore()


@unittest.skipUnless(PYTHON, REASON)
class ReshardingTests(Workbench):
    # Of a number of ranks to another one, and uneven: three ranks, of which a cut into four or two is no multiple.
    SHAPES = {"embedding.weight": (24, 4), "fc1.weight": (8, 48), "out.weight": (48, 8), "norm.weight": (4,), "adam_m.fc1.weight": (8, 48)}

    def setUp(self):
        super().setUp()
        self.tensors = {
            name: (np.arange(np.prod(shape)) + number * 1000).reshape(shape).astype("int64" if name == "norm.weight" else "float32")
            for number, (name, shape) in enumerate(self.SHAPES.items())}
        np.savez(self.folder / "tensors.npz", **self.tensors)
        (self.folder / "source").mkdir()
        save_file(self.tensors, self.folder / "source/model.safetensors")
        (self.folder / "maps.json").write_text(json.dumps(RULES))
        self.save(self.folder / "source")

    def export_as(self, name, *options, layout="mindformers", reference="main@1"):
        place = self.folder / name
        self.cairn("export", reference, place, "--layout", layout, *options)
        return place

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.said = tempfile.TemporaryFile()
        cls.addClassCleanup(cls.said.close)
        cls.checks = subprocess.Popen(
            [PYTHON, HERE / "check_mindformers.py"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=cls.said, text=True)
        cls.addClassCleanup(cls.checks.communicate)

    def check(self, *arguments, older=False):
        request = [*(["--older"] if older else []), self.folder / "tensors.npz", *arguments]
        print(json.dumps(list(map(str, request))), file=self.checks.stdin, flush=True)
        answer = self.checks.stdout.readline()
        if not answer:
            self.said.seek(0)
            self.fail(self.said.read()[-3000:].decode())
        self.assertIsInstance(json.loads(answer), int, answer)
        self.assertGreaterEqual(json.loads(answer), len(self.SHAPES) * len(arguments))

    def test_every_mesh_is_loaded_for_every_other(self):
        maps = ["--maps", self.folder / "maps.json"]
        places = [self.export_as("unified")]
        for mesh in ("dp=1,tp=2", "dp=1,tp=4", "dp=2,tp=2", "dp=4,tp=1", "dp=1,tp=3", "dp=2,tp=3"):
            places.append(self.export_as(mesh, *maps, "--mesh", mesh, "--prefix", "qwen3"))
            places.append(self.export_as("once-" + mesh, *maps, "--mesh", mesh, "--remove-redundancy"))
        self.check(*(place / "iteration_00000001" for place in places))

    def test_the_older_layout_is_put_together(self):
        maps = ["--maps", self.folder / "maps.json"]
        places = [self.export_as("unified", layout="mindformers1")]
        for mesh in ("dp=1,tp=2", "dp=2,tp=2", "dp=1,tp=4"):
            places.append(self.export_as(mesh, *maps, "--mesh", mesh, layout="mindformers1"))
            once = self.export_as("once-" + mesh, *maps, "--mesh", mesh, "--remove-redundancy", "--prefix", "qwen3", layout="mindformers1")
            self.assertLess(sum(map(os.path.getsize, once.glob("rank_*/*"))), sum(map(os.path.getsize, places[-1].glob("rank_*/*"))))
            places.append(once)
        self.check(*places, older=True)

    def test_what_was_written_is_cut_anew(self):
        """1 to 4 ranks, then to 2, then to 1, each by the axes that the one before says."""
        if "mindformers" not in {row["name"] for row in self.cairn("layouts")}:
            self.skipTest("the layout is not known")
        place = self.export_as("4", "--maps", self.folder / "maps.json", "--mesh", "dp=2,tp=2")
        places = [place / "iteration_00000001"]
        for step, mesh in enumerate(["dp=1,tp=4", "dp=1,tp=2", "dp=2,tp=4", "dp=1,tp=1"], 2):
            self.cairn("save", places[-1], "--run", "mf", "--step", step, "--replace")
            place = self.export_as(mesh, "--mesh", mesh, reference=f"mf@{step}")
            places.append(next(place.glob("iteration_*")))
        self.check(*places)


class SameTests(Workbench):
    def test_what_the_library_wrote_is_written_again(self):
        """For the ranks that it has: every file to the last byte."""
        checkpoint = self.sample("mindformers2/dp2tp2/checkpoint")
        self.save(checkpoint / "iteration_00000002", step=2)
        place = self.folder / "again"
        self.cairn("export", "main@2", place, "--layout", "mindformers", "--prefix", "qwen3")
        self.assert_same_files(place, checkpoint)


if __name__ == "__main__":
    unittest.main()
