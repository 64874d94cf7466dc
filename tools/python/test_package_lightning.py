#!/usr/bin/env python3
"""What the real Lightning saves through `cairn.lightning`, against the files that it writes itself. Goes on in Lightning's environment."""
import importlib.util
import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "libraries"))
import make

if importlib.util.find_spec("lightning") is None:
    try:
        python = make.python_of("lightning")
    except make.Missing as missing:
        sys.exit(print(f"lightning: not tested ({missing})"))
    os.execv(python, [python, *sys.argv])

import logging
import shutil
import subprocess
import unittest
import warnings
from unittest import mock

import lightning
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from ranks import end, torchrun
from workbench import CAIRN, Workbench, lose

os.environ.setdefault("CAIRN_LIBRARY", str(Path(CAIRN).with_name("libCairnC.so")))
import cairn
from cairn.lightning import CairnIO

logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
logging.getLogger("lightning.fabric").setLevel(logging.ERROR)
warnings.filterwarnings("ignore")

# What to keep, each with the way to resume from it.
KEEPING = {
    "the newest": (dict(), None),
    "all and the last": (dict(save_top_k=-1, save_last=True), "last"),
    "the best two and a link": (
        dict(monitor="val_loss", save_top_k=2, save_last="link", filename="{epoch}-{step}-{val_loss:.2f}"), "last"),
    "the best and the last": (dict(monitor="val_loss", save_last=True), "last"),
    "every third step": (dict(every_n_train_steps=3, save_top_k=2, monitor="step", mode="max"), None),
    "weights alone": (dict(save_weights_only=True, save_top_k=-1), "none"),
}


class Module(lightning.LightningModule):
    def __init__(self, width=10, extra=None):
        super().__init__()
        self.save_hyperparameters()
        torch.manual_seed(1)
        self.net = torch.nn.Sequential(torch.nn.Linear(6, width), torch.nn.BatchNorm1d(width), torch.nn.Linear(width, 3))

    def training_step(self, batch):
        return self.net(batch).square().mean()

    def validation_step(self, batch):
        # Better and worse in turns.
        self.log("val_loss", self.net(batch).square().mean() + self.current_epoch % 3)

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=0.01)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 2)]


def plain(value, folder):
    """A value that can be compared, with the types of what is in it, and without the folder that it comes from."""
    if isinstance(value, torch.Tensor):
        return str(value.dtype), tuple(value.shape), value.contiguous().view(-1).view(torch.uint8).tolist()
    if isinstance(value, dict):
        return type(value), [(plain(key, folder), plain(inner, folder)) for key, inner in value.items()]
    if isinstance(value, (list, tuple)):
        return type(value), [plain(inner, folder) for inner in value]
    return type(value), value.replace(str(folder), "FOLDER") if isinstance(value, str) else value


class Training(Workbench):
    def fit(self, out, io=None, epochs=4, resume=None, model=None, trainer={}, **keeping):
        torch.manual_seed(1)
        data = torch.randn(8, 6, generator=torch.Generator().manual_seed(7))
        loader = torch.utils.data.DataLoader(data, batch_size=2)
        self.loader = loader
        trainer = lightning.Trainer(
            accelerator="cpu", max_epochs=epochs, logger=False, enable_progress_bar=False, enable_model_summary=False,
            callbacks=[ModelCheckpoint(dirpath=self.folder / out, **keeping)], plugins=[io] if io else [],
            num_sanity_val_steps=0, **trainer)
        trainer.fit(model or Module(), loader, loader, ckpt_path=resume)
        return trainer

    def names(self, out):
        return sorted(os.listdir(self.folder / out))


class LightningTests(Training):
    def setUp(self):
        super().setUp()
        self.place = self.folder / "store"
        self.store = cairn.open(self.place)

    def iterations(self):
        return sorted((iteration["run"], iteration["step"]) for iteration in self.store.iterations())

    def assert_same_folders(self, io):
        """The same names, and behind each the same checkpoint, with the same types."""
        self.assertEqual(self.names("ours"), self.names("own"))
        for name in self.names("own"):
            expected = torch.load(self.folder / "own" / name, weights_only=False)
            got = io.load_checkpoint(self.folder / "ours" / name)
            self.assertEqual(sorted(got), sorted(expected))
            for key in expected:
                self.assertEqual(
                    plain(got[key], self.folder / "ours"), plain(expected[key], self.folder / "own"), f"{name}: {key}")

    def check(self, keeping, resume):
        io = CairnIO(self.store)
        own, ours = self.fit("own", **keeping), self.fit("ours", io, **keeping)
        self.assert_same_folders(io)
        files = [name for name in self.names("ours") if not (self.folder / "ours" / name).is_symlink()]
        self.assertEqual(len(self.iterations()), len(files))
        self.assertEqual(ours.validate(ckpt_path="best", dataloaders=self.loader, verbose=False),
                         own.validate(ckpt_path="best", dataloaders=self.loader, verbose=False))
        if resume == "none":
            return
        own, ours = (
            self.fit(out, plugin, 6, resume or trainer.checkpoint_callback.best_model_path, **keeping)
            for out, plugin, trainer in [("own", None, own), ("ours", CairnIO(self.store), ours)])
        self.assert_same_tensors(ours.model.state_dict(), own.model.state_dict())
        self.assert_same_folders(io)

    def test_a_folder_has_the_checkpoints_that_lightning_keeps(self):
        for number, (name, (keeping, resume)) in enumerate(KEEPING.items()):
            with self.subTest(name):
                self.folder = self.place.parent / str(number)
                self.folder.mkdir()
                self.store = cairn.open(self.folder / "store", create=True)
                self.check(keeping, resume)

    def test_training_goes_on_from_a_reference(self):
        self.fit("ours", CairnIO(self.place, "resnet"), monitor="val_loss", save_top_k=-1)
        best = min(self.store.iterations(), key=lambda iteration: iteration["metrics"]["val_loss"])
        self.assertEqual(best["step"], 4)
        shutil.rmtree(self.folder / "ours")
        own = self.fit("own")
        resumed = self.fit("ours", CairnIO(self.place, "resnet"), resume="resnet@best:val_loss")
        self.assert_same_tensors(resumed.model.state_dict(), own.model.state_dict())
        with self.assertRaisesRegex(FileNotFoundError, "resnet@5"):
            self.fit("ours", CairnIO(self.place), resume="resnet@5")

    def test_checkpoints_in_files_are_loaded_and_removed_as_before(self):
        own = self.fit("own", epochs=2)
        [name] = self.names("own")
        resumed = self.fit("own", CairnIO(self.place), resume=self.folder / "own" / name)
        self.assert_same_tensors(resumed.model.state_dict(), self.fit("other").model.state_dict())
        io = CairnIO(self.place, wait=True)
        io.remove_checkpoint(self.folder / "own" / name)
        self.assertNotIn(name, self.names("own"))

    def test_a_file_is_there_when_its_save_is_durable(self):
        trainer = self.fit("ours", CairnIO(self.place, wait=True))
        trainer.save_checkpoint(self.folder / "by-hand.ckpt")
        self.assertEqual(self.names("ours"), ["epoch=3-step=16.ckpt"])
        self.assertEqual(self.iterations(), [("main", 16), ("main-v1", 16)])
        trainer.save_checkpoint(self.folder / "by-hand.ckpt")
        self.assertEqual(self.iterations(), [("main", 16), ("main-v1", 16)])

    def test_what_reads_lightnings_files_reads_a_file_that_points_to_the_store(self):
        self.fit("own", epochs=1)
        trained = self.fit("ours", CairnIO(self.place), epochs=1).model
        [own], [ours] = ((self.folder / out).iterdir() for out in ("own", "ours"))
        for options in (dict(weights_only=True), dict(weights_only=False), dict(mmap=True, map_location="cpu")):
            with self.subTest(**options):
                got, expected = (torch.load(path, **options) for path in (ours, own))
                for key in expected:
                    self.assertEqual(plain(got[key], ours.parent), plain(expected[key], own.parent), key)
        self.assert_same_tensors(Module.load_from_checkpoint(ours).state_dict(), trained.state_dict())
        # The first word is of a process that has not imported the module: it says what to allow, and importing allows it.
        read = "import sys, torch; torch.load(sys.argv[1])"
        for program, expected in [(read, "add_safe_globals([cairn.lightning.load])"), ("import cairn.lightning; " + read, "")]:
            done = subprocess.run([sys.executable, "-c", program, ours], capture_output=True, text=True, timeout=120,
                                  env={**os.environ, "PYTHONPATH": str(HERE)})
            self.assertEqual((expected in done.stderr, done.returncode), (True, 1 if expected else 0), done.stderr)
        self.place.rename(self.folder / "elsewhere")
        with self.assertRaisesRegex(cairn.NotAStore, str(self.place)):
            torch.load(ours)
        self.assertEqual(CairnIO(self.folder / "elsewhere").load_checkpoint(ours)["global_step"], 4)

    def test_the_command_takes_a_file_that_points_to_the_store_for_no_checkpoint(self):
        self.fit("both", epochs=1)
        [own] = self.names("both")
        self.fit("both", CairnIO(self.place), epochs=2, save_top_k=-1)
        names = self.names("both")
        self.assertEqual(len(names), 3)
        self.cairn("save", self.folder / "both", "--all", "--run", "files")
        self.assertEqual(self.iterations(), [("files", 4), ("main", 4), ("main", 8)])
        found = self.cairn("resume", self.folder / "both", "--run", "files")
        self.assertEqual((found["path"], self.names("both")), (str(self.folder / "both" / own), [*names, "last.ckpt"]))

    def test_a_pointer_is_on_the_disk_before_it_takes_the_place_of_another(self):
        synced, replaced, fsync, replace = [], [], os.fsync, os.replace

        def syncing(file):
            synced.append((os.fstat(file).st_ino, os.fstat(file).st_size))
            fsync(file)

        def replacing(source, target):
            self.assertIn((os.stat(source).st_ino, os.stat(source).st_size), synced)
            replaced.append(target)
            replace(source, target)

        with mock.patch.object(os, "fsync", syncing), mock.patch.object(os, "replace", replacing):
            self.fit("ours", CairnIO(self.place), save_top_k=-1)
        self.assertEqual([os.path.basename(path) for path in replaced], [f"epoch={n}-step={4 * n + 4}.ckpt" for n in range(4)])

    def test_what_is_pinned_stays_when_its_file_is_removed(self):
        io = CairnIO(self.place)
        self.fit("ours", io, save_top_k=-1)
        self.store.pin("main@4", "good")
        for name in self.names("ours"):
            io.remove_checkpoint(self.folder / "ours" / name)
        io.teardown()
        self.assertEqual(self.names("ours"), [])
        # The newest is never deleted either.
        self.assertEqual(self.iterations(), [("main", 4), ("main", 16)])

    def test_what_is_deleted_already_is_removed_and_replaced_without_a_word(self):
        io = CairnIO(self.place, wait=True)
        trainer = self.fit("ours", io, save_top_k=-1)
        first, second, *_ = (self.folder / "ours" / f"epoch={epoch}-step={4 * epoch + 4}.ckpt" for epoch in range(4))
        self.store.delete("main@4", "main@8")
        io.remove_checkpoint(first)
        self.assertNotIn(first.name, self.names("ours"))
        trainer.save_checkpoint(second)
        self.assertEqual(io.load_checkpoint(second)["global_step"], 16)

    def test_a_failure_beside_the_training_is_raised(self):
        class Losing(Module):
            def on_train_epoch_start(module):
                if module.current_epoch == 2:
                    lose(self.place)

        with self.assertRaises(cairn.CairnError):
            self.fit("ours", CairnIO(self.place), model=Losing())

    def test_objects_that_are_no_data_are_named_or_kept_as_a_pickle(self):
        model = Module(extra=logging.INFO.__class__)
        with self.assertRaisesRegex(cairn.CairnError, "hyper_parameters"):
            self.fit("ours", CairnIO(self.place), model=model)
        io = CairnIO(self.folder / "other", allow_pickle=True)
        self.fit("ours", io, model=model)
        [name] = self.names("ours")
        self.assertEqual(io.load_checkpoint(self.folder / "ours" / name)["hyper_parameters"], {"width": 10, "extra": int})
        # Whoever only knows the file is asked first, also where torch would read any pickle.
        with self.assertRaisesRegex(cairn.Usage, "allow_pickle"):
            torch.load(self.folder / "ours" / name, weights_only=False)

    @unittest.skipUnless(os.environ.get("CAIRN_TEST_LONG"), "with --long")
    def test_two_processes_save_once_and_load_each(self):
        torchrun(2, __file__, self.folder)
        # The one that it went on from stays, as Lightning has it.
        self.assertEqual(self.iterations(), [("main", 4), ("main", 8)])


def of_two(folder):
    test = Training()
    test.folder = Path(folder)
    distributed = dict(trainer=dict(strategy="ddp", devices=2))
    own = test.fit("own", **distributed)
    test.fit("ours", CairnIO(test.folder / "store"), 2, **distributed)
    # The other one returns before the first has waited for its save.
    torch.distributed.barrier()
    [name] = test.names("ours")
    ours = test.fit("ours", CairnIO(test.folder / "store"), resume=test.folder / "ours" / name, **distributed)
    test.assert_same_tensors(ours.model.state_dict(), own.model.state_dict())
    end()


if __name__ == "__main__":
    if "RANK" in os.environ:
        of_two(sys.argv[1])
    unittest.main(warnings="ignore")
