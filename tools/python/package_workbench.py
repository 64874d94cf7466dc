"""What the tests of the package `cairn` share: a temporary store, children that don't load torch again, saves that wait."""
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import unittest
from pathlib import Path
from unittest import mock

CAIRN = os.environ.get("CAIRN") or sys.exit("Set CAIRN to the path of the program that is to be tested.")
os.environ.setdefault("CAIRN_LIBRARY", str(Path(CAIRN).with_name("libCairnC.so")))
FAULTS = os.environ.get("CAIRN_FAULTS") or str(Path(CAIRN).with_name("libCFaults.so"))
HERE = Path(__file__).resolve().parent
import cairn
from cairn import _saving


class PackageTest(unittest.TestCase):
    """A test with a temporary folder and a store in it."""

    def setUp(self):
        self.folder = Path(tempfile.mkdtemp(prefix="cairn-package."))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.path = self.folder / "store"
        self.store = self.open(create=True)

    def open(self, **options):
        """Another `Store` of the same store."""
        store = cairn.open(self.path, **options)
        self.addCleanup(quietly, store.close)
        return store

    def cairn(self, *arguments):
        """Runs a command on the store. Returns the JSON document that it prints."""
        command = [CAIRN, *map(str, arguments), "--store", str(self.path), "--json"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        self.assertEqual(done.returncode, 0, f"{command}\n{done.stdout}{done.stderr}")
        return json.loads(done.stdout)

    def assert_whole(self, *steps):
        """The store is sound, and has these iterations."""
        self.assertEqual([one["step"] for one in self.cairn("list")], list(steps))
        self.assertEqual((self.cairn("verify")["problems"], self.cairn("verify")["ok"]), ([], True))

    def run_program(self, program, *, faults=None, status=0, **variables):
        """Runs a program without torch, which begins with an open `store`. Returns what it prints, and what on standard error."""
        head = f"import sys, os; sys.path.insert(0, {str(HERE)!r}); sys.modules['torch'] = None\n"
        head += f"import cairn, numpy as np\nstore = cairn.open({str(self.path)!r})\n"
        if faults:
            # The loader goes on without what it can't preload.
            self.assertTrue(Path(FAULTS).exists(), f"{FAULTS} is missing: set CAIRN_FAULTS to the path of libCFaults.so")
            variables.update({"CAIRN_FAULT_UNDER": str(self.path), **faults}, LD_PRELOAD=FAULTS)
        done = subprocess.run([sys.executable, "-c", head + program], capture_output=True, text=True, timeout=120,
                              env={**os.environ, **variables})
        self.assertEqual(done.returncode, status, done.stdout + done.stderr)
        return done.stdout, done.stderr


def quietly(close):
    with contextlib.suppress(cairn.CairnError):
        close()


class Gate:
    """Saves wait before they commit, until they may go on."""

    def __init__(self):
        self.arrived, self._goes_on = threading.Event(), threading.Event()

    def open(self):
        self._goes_on.set()

    def wait(self):
        assert self.arrived.wait(60)

    @classmethod
    @contextlib.contextmanager
    def closed(cls, before=lambda: None):
        """`before` is called by a save that has passed."""
        gate, commit = cls(), _saving.Session.commit

        def waiting(session, control):
            gate.arrived.set()
            while not gate._goes_on.wait(0.01) and not control.cancel:
                pass
            before()
            return commit(session, control)

        with mock.patch.object(_saving.Session, "commit", waiting):
            try:
                yield gate
            finally:
                gate.open()
