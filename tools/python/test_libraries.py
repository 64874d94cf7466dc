#!/usr/bin/env python3
"""Checkpoints that the real libraries write: saved, recognised, and restored as they were.

Each library writes its trees itself, in an environment of its own where it needs one (libraries/make.py). One that can't be installed, or
is too large for the short form of the tests, is stood for by the committed sample of its trees, and the test says so. What is expected
of a tree, the library said when it wrote it: libraries/expected.py has the form.

usage: test_libraries.py [LibraryTests.test_LIBRARY ...]
"""
import concurrent.futures
import contextlib
import hashlib
import json
import os
import shutil
import stat
import struct
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "libraries"))
import make
from workbench import CAIRN, Workbench

# What is checked of every tree, in this order, by the methods below.
CHECKS = ["check_files", "check_layouts", "check_damage", "check_model", "check_optimizer"]

# The names of the layouts, by the families of expected.json.
LAYOUTS = {
    "hf": "hf", "accelerate": "accelerate", "dcp": "dcp", "torchtitan": "dcp", "dcp-hf": "dcp", "verl": "verl",
    "deepspeed": "deepspeed", "deepspeed-universal": "deepspeed", "megatron": "megatron", "lightning": "lightning",
    "llamafactory": "llamafactory", "torch": "torch", "gguf": "gguf", "orbax": "orbax", "mindformers": "mindformers",
    "mindformers1": "mindformers1", "tensorflow": "tensorflow"}
# Not exported: tensors of the former are listed under the library's own names, of the latter none.
LISTED, KEPT = {"gguf"}, {"orbax", "tensorflow"}
IS_LONG = bool(os.environ.get("CAIRN_TEST_LONG"))


def entries(path):
    """Kind, mode, time and content of a file or folder and of all that is below it, by relative path."""
    found = {}
    for place in [path, *sorted(path.rglob("*"))]:
        info = place.lstat()
        content = (
            os.readlink(place) if stat.S_ISLNK(info.st_mode) else place.read_bytes() if stat.S_ISREG(info.st_mode) else None)
        found[str(place.relative_to(path))] = (oct(info.st_mode), info.st_mtime_ns, content)
    return found


def safetensors(folder):
    """Dtype, shape and digest of all tensors in a folder's files, read without any library."""
    found = {}
    for file in sorted(folder.glob("*.safetensors")):
        data = file.read_bytes()
        [size] = struct.unpack_from("<Q", data)
        for name, entry in json.loads(data[8:8 + size]).items():
            if name != "__metadata__":
                assert name not in found, f"{name} is in two files"
                start, end = (8 + size + offset for offset in entry["data_offsets"])
                found[name] = {
                    "dtype": entry["dtype"], "shape": entry["shape"], "sha256": hashlib.sha256(data[start:end]).hexdigest()}
    return found


def by_parameter(optimizer):
    """A state as the store names it: `exp_avg.embed.weight`, what is kept for a parameter in front of its name. Libraries write that as
    `optimizer.state.embed.weight.exp_avg`, as `optimizer.state.exp_avg.embed.weight` (Megatron), and as `embed.weight.exp_avg` (DeepSpeed's
    universal checkpoints). What is no parameter's, or that of a number, is left out."""
    kinds = {"exp_avg", "exp_avg_sq", "step"}
    found = {}
    for name, tensor in optimizer.items():
        keys = name.removeprefix("optimizer.").removeprefix("state.").split(".")
        if keys[-1] in kinds:
            keys = [keys[-1], *keys[:-1]]
        is_numbered = len(keys) == 2 and keys[1].isdigit()
        if len(keys) > 1 and not is_numbered and (keys[0] in kinds or not name.startswith("optimizer.")):
            found[".".join(keys)] = tensor
    return found


def trees(library, folder):
    """Puts the library's trees into a folder. Returns why they are the sample's, if they are."""
    reason = "it has no environment" if library in make.SAMPLE_ONLY else None
    if library in make.LARGE and not IS_LONG:
        reason = "it is installed with --long"
    if not reason:
        try:
            make.make(library, folder)
        except make.Missing as missing:
            reason = str(missing)
    if reason:
        make.unpack(library, folder)
    return reason


class LibraryTests(Workbench):
    @classmethod
    def setUpClass(cls):
        cls.place = Path(tempfile.mkdtemp(prefix="cairn-libraries."))
        cls.addClassCleanup(shutil.rmtree, cls.place)
        # They wait for one another more than they compute, so there are as many at once as there are cores.
        pool = concurrent.futures.ThreadPoolExecutor(len(os.sched_getaffinity(0)))
        cls.addClassCleanup(pool.shutdown, cancel_futures=True)
        cls.made = {library: pool.submit(trees, library, cls.place / library) for library in cls.wanted}

    def check(self, library):
        reason = self.made[library].result()
        if reason:
            print(f"{library}: the committed sample ({reason})")
        expected = json.loads((self.place / library / "expected.json").read_text())
        self.assertTrue(expected)
        for tree in expected:
            for check in CHECKS:
                with self.subTest(tree=tree["path"], check=check):
                    getattr(self, check)(self.place / library / tree["path"], tree)

    # Saving and restoring

    def reference(self, folder, tree, iteration):
        """Saves an iteration, and returns the reference to it."""
        # Files of the same step lie side by side in some layouts, so each has a run of its own.
        run = f"{tree['path'].replace('/', '-')}-{tree['iterations'].index(iteration)}"
        # Where it is no folder or file of its own, the whole tree is saved.
        path = folder / (iteration["path"] or "")
        step = 0 if iteration["step"] is None else iteration["step"]
        self.assertEqual(self.cairn("save", path, "--run", run, "--step", step)["step"], step)
        return f"{run}@{step}"

    def saved(self, folder, tree, iteration):
        """Saves an iteration as a whole output folder is saved where it is spread over that."""
        if iteration["path"] is not None:
            return self.reference(folder, tree, iteration)
        run = f"{tree['path'].replace('/', '-')}-all"
        self.cairn("save", folder, "--all", "--run", run)
        return f"{run}@{iteration['step']}"

    def check_files(self, folder, tree):
        """Every complete iteration comes back as it was, and saving leaves the tree alone."""
        before = entries(folder)
        for iteration in filter(lambda iteration: iteration["complete"], tree["iterations"]):
            reference = self.reference(folder, tree, iteration)
            place = Path(tempfile.mkdtemp(dir=self.folder)) / "restored"
            self.cairn("restore", reference, place)
            path = folder / (iteration["path"] or "")
            self.assertEqual(entries(place if path.is_dir() else place / path.name), entries(path))
        self.assertEqual(entries(folder), before)

    # What is understood of a tree

    def layouts(self, folder, tree):
        """What `cairn layouts` says of each iteration, by its path below the folder."""
        # Models of which no training goes on are no iterations of a folder: each is asked for by itself.
        places = [folder]
        if tree["layout"] in LISTED:
            places = [folder / iteration["path"] for iteration in tree["iterations"]]
        listed = []
        for place in places:
            done = subprocess.run([CAIRN, "layouts", "--json", place], capture_output=True, text=True, timeout=120)
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
            listed += [found | {"path": os.path.relpath(place / found["path"], folder)} for found in json.loads(done.stdout)]
        return listed

    def matching(self, found, iteration):
        """The entries for an iteration: by path, or by step where it has no path of its own."""
        path = iteration["path"]
        wanted = (lambda entry: entry["step"] == iteration["step"]) if path is None else (
            lambda entry: entry["path"] == os.path.normpath(path))
        return list(filter(wanted, found))

    def check_layouts(self, folder, tree):
        """Layout, step, epoch, completeness and world size are what the library says."""
        found = self.layouts(folder, tree)
        for iteration in tree["iterations"]:
            matches = self.matching(found, iteration)
            # Names that a library gives before it renames may count as no iteration at all.
            if not matches and not iteration["complete"] and ".orbax-checkpoint-tmp" in iteration["path"]:
                continue
            # Another name for what is listed already.
            if not matches and iteration["path"] == "last.ckpt":
                continue
            self.assertEqual(len(matches), 1, f"{iteration['path'] or iteration['step']} in {found}")
            [match] = matches
            found.remove(match)
            got = {key: match[key] for key in ("layout", "step", "complete")}
            self.assertEqual(got, {"layout": LAYOUTS[tree["layout"]], "step": iteration["step"], "complete": iteration["complete"]})
            self.assertEqual(bool(match["reasons"]), not iteration["complete"], match)
            for key in ("epoch", "worldSize"):
                if iteration[key] is not None:
                    self.assertEqual(match[key], iteration[key], f"{key} of {match}")
        self.assertEqual(found, [])

    @contextlib.contextmanager
    def copy(self, folder):
        with tempfile.TemporaryDirectory(dir=self.folder) as place:
            yield shutil.copytree(folder, Path(place) / folder.name, symlinks=True)

    def check_damage(self, folder, tree):
        """Without any one file that it needs, or with half of it, the newest iteration is incomplete, and no other is."""
        complete = [iteration for iteration in tree["iterations"] if iteration["complete"]]
        newest = complete[-1]
        for name in newest["required"]:
            for damage in ("missing", "half"):
                with self.subTest(file=name, damage=damage), self.copy(folder) as copied:
                    file = copied / (newest["path"] or "") / name
                    if damage == "missing":
                        file.unlink()
                    else:
                        file.chmod(0o600)
                        os.truncate(file, file.stat().st_size // 2)
                    found = self.layouts(copied, tree)
                    # Where nothing of it is left, it is no longer there.
                    for match in self.matching(found, newest):
                        self.assertFalse(match["complete"], match)
                        self.assertTrue(match["reasons"], match)
                    for other in complete[:-1]:
                        self.assertTrue(all(match["complete"] for match in self.matching(found, other)), found)

    # Tensors

    def check_model(self, folder, tree):
        """The model that is exported has the tensors that the library loads, bit for bit."""
        if tree["layout"] in KEPT:
            return
        for iteration in filter(lambda iteration: iteration["complete"], tree["iterations"]):
            reference = self.saved(folder, tree, iteration)
            if tree["layout"] in LISTED:
                self.assertEqual(self.shown(reference, iteration["model"]), self.unread(iteration["model"]))
                continue
            place = Path(tempfile.mkdtemp(dir=self.folder)) / "model"
            self.cairn("export", reference, place, "--layout", "hf")
            got, wanted = safetensors(place), iteration["model"]
            # A name that stands for the same tensor as another may be left out.
            left_out = set(iteration["tied"]) - set(got)
            self.assertEqual(got, {name: tensor for name, tensor in wanted.items() if name not in left_out})

    def check_optimizer(self, folder, tree):
        """Where it is kept by the names of the parameters, the optimizer's state is listed so, whole, and exported bit for bit."""
        for iteration in filter(lambda iteration: iteration["complete"], tree["iterations"]):
            wanted = by_parameter(iteration.get("optimizer", {}))
            if not wanted or tree["layout"] in KEPT:
                continue
            reference = self.saved(folder, tree, iteration)
            self.assertEqual(self.shown(reference, wanted, "optimizer"), self.unread(wanted))
            place = Path(tempfile.mkdtemp(dir=self.folder)) / "all"
            self.cairn("export", reference, place, "--layout", "safetensors", "--all")
            got = safetensors(place)
            self.assertEqual({name: got.get(name) for name in wanted}, wanted)

    def shown(self, reference, wanted, group=None):
        """Dtypes and shapes by name of those tensors among the wanted that the store lists, whole where a group is given."""
        listed = self.cairn("show", reference, "--tensors")["tensors"]
        return {tensor["name"]: {"dtype": tensor["dtype"], "shape": tensor["shape"]} for tensor in listed
                if tensor["name"] in wanted and (group is None or group == tensor["group"] and tensor["file"] is None)}

    def unread(self, tensors):
        return {name: {"dtype": tensor["dtype"], "shape": tensor["shape"]} for name, tensor in tensors.items()}


for name in make.ENVIRONMENTS:
    setattr(LibraryTests, f"test_{name}", lambda self, name=name: self.check(name))
asked = {argument.rpartition(".test_")[2] for argument in sys.argv[1:]}
LibraryTests.wanted = [name for name in make.ENVIRONMENTS if not asked or name in asked]

if __name__ == "__main__":
    unittest.main(warnings="ignore")
