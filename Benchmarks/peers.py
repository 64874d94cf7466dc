"""Cairn and what people use instead: each saves a checkpoint into a place of its own, says what that took, and how much it keeps."""

import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import training
from measuring import CAIRN, Run, cairn, copy_folder, disk_use, files_in, remove


class Worker:
    """The Python process that keeps a state in memory; see worker.py."""

    def __init__(self, cache):
        command = [sys.executable, Path(__file__).with_name("worker.py")]
        environment = {**os.environ, "HF_XET_CACHE": str(cache), "HF_HUB_OFFLINE": "1"}
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment)
        self.loaded = None

    def ask(self, **what):
        print(json.dumps(what, default=str), file=self.process.stdin, flush=True)
        answer = json.loads(self.process.stdout.readline() or '{"error": "the Python process died"}')
        if "error" in answer:
            raise SystemExit(f"{what['do']}: {answer['error']}")
        return SimpleNamespace(**answer)

    def load(self, checkpoint):
        if self.loaded != checkpoint:
            self.ask(do="load", checkpoint=checkpoint)
            self.loaded = checkpoint

    def close(self):
        self.process.stdin.close()
        self.process.wait()


class Contender:
    """Something that saves checkpoints below a folder. `save` alone is timed: it returns its seconds and processor seconds."""

    name = None
    package = None

    def __init__(self, folder, worker):
        self.place, self.worker = Path(folder) / self.name.split()[0], worker
        self.start()

    def start(self):
        """Makes the repository, where there is one."""

    def prepare(self, checkpoint):
        """What has to be done before a save and is no part of it."""

    def kept(self):
        """The bytes that all saves so far take."""
        return disk_use(self.place)

    def clear(self):
        remove(self.place)

    @classmethod
    def version(cls):
        """Its version, or nothing where it is not there."""
        try:
            return f"{cls.package} {importlib.metadata.version(cls.package)}"
        except importlib.metadata.PackageNotFoundError:
            return None


class Program(Contender):
    """One that is a command."""

    ask_version = "--version"

    @classmethod
    def version(cls):
        if not shutil.which(cls.package):
            return None
        return Run(cls.package, cls.ask_version).output.decode().splitlines()[0].strip("* ")


class Cairn(Contender):
    name = "cairn"

    def start(self):
        cairn("init", self.place)

    def save(self, checkpoint, *options):
        step = training.step(checkpoint)
        return cairn("save", self.place, checkpoint, "--run", "series", "--step", step, *options)

    @classmethod
    def version(cls):
        return "cairn " + Run(CAIRN, "--version").output.decode().strip().removeprefix("cairn ")


class SingleFile(Contender):
    """One that writes a file a save, which stands alone."""

    def start(self):
        self.place.mkdir()
        self.written = 0

    def target(self):
        return self.place / "state"

    def prepare(self, checkpoint):
        remove(self.target())

    def save(self, checkpoint):
        run = self.write(checkpoint)
        self.written += disk_use(self.target())
        return run

    def kept(self):
        return self.written


class FromMemory(SingleFile):
    """The state is in memory before the clock starts."""

    def prepare(self, checkpoint):
        super().prepare(checkpoint)
        self.worker.load(checkpoint)

    def write(self, checkpoint):
        return self.worker.ask(do=self.package, target=self.target())


class TorchSave(FromMemory):
    name, package = "torch.save + fsync", "torch"


class SafetensorsSave(FromMemory):
    name, package = "safetensors + fsync", "safetensors"


class Copy(SingleFile):
    name = "cp + sync"

    def write(self, checkpoint):
        return copy_folder(checkpoint, self.target())

    @classmethod
    def version(cls):
        return Run("cp", "--version").output.decode().splitlines()[0]


class Zstd(SingleFile, Program):
    name, package = "zstd -1", "zstd"

    def write(self, checkpoint):
        script = 'tar -C "$1" -cf - . | zstd -q -1 -T0 -o "$2" && sync "$2"'
        return Run("sh", "-c", script, "sh", checkpoint, self.target())


class Restic(Program):
    name, package, ask_version = "restic", "restic", "version"

    def start(self):
        self.place.mkdir()
        self.settings = {"RESTIC_PASSWORD": "cairn", "RESTIC_CACHE_DIR": f"{self.place}/cache"}
        self.command("init", "--repository-version", "2")

    def command(self, *arguments, folder=None):
        repository = f"{self.place}/repository"
        return Run("restic", "--quiet", "-r", repository, *arguments, folder=folder, settings=self.settings)

    def save(self, checkpoint):
        return self.command("backup", ".", folder=checkpoint)

    def kept(self):
        return disk_use(self.place / "repository")


class Borg(Program):
    name, package = "borg", "borg"

    def start(self):
        self.place.mkdir()
        self.settings = {"BORG_BASE_DIR": f"{self.place}/home", "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes"}
        self.command("init", "--encryption", "none", f"{self.place}/repository")

    def command(self, *arguments, folder=None):
        return Run("borg", *arguments, folder=folder, settings=self.settings)

    def save(self, checkpoint):
        return self.command("create", f"{self.place}/repository::{checkpoint.name}", ".", folder=checkpoint)

    def kept(self):
        return disk_use(self.place / "repository")


class HfXet(Contender):
    """The storage of the Hugging Face Hub on its local back end, driven through its Python binding."""

    name, package = "hf_xet", "hf_xet"

    def save(self, checkpoint):
        return self.worker.ask(do="xet", files=sorted(files_in(checkpoint)), repository=self.place)


PEERS = [TorchSave, SafetensorsSave, Copy, Zstd, Borg, Restic, HfXet]
KEEPERS = [Zstd, Borg, Restic, HfXet]


def obstacle(kind, folder, worker, checkpoint):
    """Why a contender can't be run here, found by running it on a small checkpoint; or nothing."""
    if not kind.version():
        return "it is not installed"
    try:
        contender = kind(folder, worker)
        contender.prepare(checkpoint)
        contender.save(checkpoint)
        contender.clear()
    except (OSError, SystemExit) as error:
        return str(error)
    return None
