#!/usr/bin/env python3
"""cairn.environment: what it records, what it keeps to itself, and which differences it tells of."""
import calendar
import json
import os
import subprocess
import sys
import tempfile
import time
import types
import unittest
from pathlib import Path
from unittest import mock

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
from cairn import environment

PROGRAM = """
import json, sys
sys.path.insert(0, sys.argv[1])
from cairn import environment
print(json.dumps(environment.capture("0.1.0")))
"""


def captured(*arguments, cwd=None, program=PROGRAM, **variables):
    """What another process says of itself."""
    command = [sys.executable, "-c", program, str(HERE), *arguments]
    done = subprocess.run(command, cwd=cwd, env={**os.environ, **variables}, stdout=subprocess.PIPE, check=True, timeout=60)
    return json.loads(done.stdout)


class Repository(unittest.TestCase):
    """A folder with one commit of one file."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.git("init", "-q", "-b", "trunk")
        (self.folder / "train.py").write_text("pass\n")
        self.git("add", ".")
        self.git("-c", "user.name=A", "-c", "user.email=a@b", "commit", "-q", "-m", "First")
        self.commit = self.git("rev-parse", "HEAD").strip()

    def git(self, *arguments):
        command = ["git", *arguments]
        return subprocess.run(command, cwd=self.folder, check=True, stdout=subprocess.PIPE, text=True).stdout

    def test_the_commit_the_branch_and_whether_tracked_files_are_changed(self):
        (self.folder / "output.log").write_text("not tracked")
        self.assertEqual(captured(cwd=self.folder)["git"], {"commit": self.commit, "branch": "trunk", "dirty": False})
        (self.folder / "train.py").write_text("raise SystemExit\n")
        self.git("checkout", "-q", "--detach")
        self.assertEqual(captured(cwd=self.folder)["git"], {"commit": self.commit, "branch": None, "dirty": True})

    def test_nothing_is_said_outside_of_a_repository_before_a_commit_and_without_git(self):
        with tempfile.TemporaryDirectory() as elsewhere:
            self.assertNotIn("git", captured(cwd=elsewhere))
            subprocess.run(["git", "init", "-q", elsewhere], check=True)
            self.assertNotIn("git", captured(cwd=elsewhere))
        self.assertNotIn("git", captured(cwd=self.folder, PATH=""))

    def test_git_that_hangs_is_given_up_and_a_programs_named_by_the_repository_are_not_run(self):
        (self.folder / "slow").write_text("#!/bin/sh\ntouch ran; exec sleep 60\n")
        (self.folder / "slow").chmod(0o755)
        self.git("config", "core.fsmonitor", str(self.folder / "slow"))
        self.assertEqual(captured(cwd=self.folder)["git"]["commit"], self.commit)
        self.assertFalse((self.folder / "ran").exists())
        (self.folder / "git").symlink_to("slow")
        began = time.monotonic()
        hurried = PROGRAM.replace("print(", "environment._PATIENCE = 0.2; print(")
        self.assertNotIn("git", captured(cwd=self.folder, program=hurried, PATH=f"{self.folder}:{os.environ['PATH']}"))
        self.assertTrue((self.folder / "ran").exists())
        self.assertLess(time.monotonic() - began, 30)

    def test_git_is_asked_once(self):
        program = PROGRAM.replace("print(", "import os; environment.capture('0'); os.environ['PATH'] = ''; print(")
        self.assertEqual(captured(cwd=self.folder, program=program)["git"]["commit"], self.commit)


class Process(unittest.TestCase):
    def test_versions_of_what_is_imported_and_of_nothing_else(self):
        self.assertEqual(set(captured()["versions"]), {"python", "cairn"})
        with_numpy = captured(program="import numpy\n" + PROGRAM)["versions"]
        self.assertEqual(with_numpy["python"], ".".join(map(str, sys.version_info[:3])))
        import numpy
        self.assertEqual(with_numpy, {"python": with_numpy["python"], "cairn": "0.1.0", "numpy": numpy.__version__})

    def test_what_torch_was_built_for_and_cann(self):
        torch = types.ModuleType("torch")
        torch.__version__, torch.version = "2.13.0+cu130", types.SimpleNamespace(cuda="13.0", hip=None)
        npu = types.ModuleType("torch_npu")
        npu.__version__ = "2.13.0"
        with mock.patch.dict(sys.modules, torch=torch, torch_npu=npu):
            self.assertNotIn("cann", environment.capture("0.1.0")["versions"])
            npu.utils = types.SimpleNamespace(get_cann_version=lambda: "8.3.RC1")
            versions = environment.capture("0.1.0")["versions"]
        expected = {"torch": "2.13.0+cu130", "cuda": "13.0", "torch_npu": "2.13.0", "cann": "8.3.RC1"}
        self.assertEqual({name: versions.get(name) for name in [*expected, "rocm"]}, {**expected, "rocm": None})

    def test_the_time_when_the_process_was_started(self):
        before = time.time()
        said = captured(program="import time; time.sleep(1.2)\n" + PROGRAM)["startTime"]
        after = time.time()
        began = calendar.timegm(time.strptime(said, "%Y-%m-%dT%H:%M:%SZ"))
        # Whole seconds, rounded down.
        self.assertGreater(began, before - 1.1)
        self.assertLess(began, after - 1.2)

    def test_the_place_among_ranks_and_nothing_else_of_the_variables(self):
        said = captured(RANK="3", WORLD_SIZE="8", MASTER_ADDR="10.0.0.7", WANDB_API_KEY="very-secret")
        self.assertEqual(said["ranks"], {"RANK": "3", "WORLD_SIZE": "8"})
        self.assertNotRegex(json.dumps(said), "very-secret|10.0.0.7")
        self.assertFalse({"HOSTNAME", "hostname", "node"} & set(said))

    def test_secrets_in_the_command_line_are_hidden_and_the_rest_is_not(self):
        kept = ["--lr", "3e-4", "--tokenizer=gpt2", "--max_tokens", "512", "name@2", "model.tokens=5", "--api-key"]
        secret = ["--hub_token", "s1", "--wandb-api-key=s2", "db.password=s3", "hf_" + "abcdefgh1234567890", "--secret", "-s4"]
        said = captured(*secret, "https://user:s5@host/data", *kept)["commandLine"]
        self.assertEqual(said[-len(kept):], kept)
        expected = ["--hub_token", "***", "--wandb-api-key=***", "db.password=***", "***", "--secret", "***", "https://***@host/data"]
        self.assertEqual(said[-len(kept) - len(expected):-len(kept)], expected)

    def test_bytes_in_the_command_line_that_are_not_text(self):
        command = [sys.executable, "-c", PROGRAM, str(HERE), b"caf\xe9"]
        said = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=60).stdout)
        self.assertEqual(said["commandLine"][-1], "caf?")


class Differences(unittest.TestCase):
    def between(self, saved, current):
        return environment.differences({"versions": saved}, {"versions": current})

    def test_a_sentence_for_each_major_version_that_differs(self):
        saved = {"python": "3.9.18", "torch": "2.13.0+cpu", "cuda": "12.8", "cann": "8.3.RC1", "cairn": "0.1.0"}
        current = {"python": "3.13.0", "torch": "3.0.0", "cuda": "13.0", "cann": "9.0", "cairn": "1.0.0"}
        self.assertEqual(self.between(saved, current), [
            "This was saved with PyTorch 2.13.0+cpu, and PyTorch 3.0.0 is loading it.",
            "This was saved with CUDA 12.8, and CUDA 13.0 is loading it.",
            "This was saved with CANN 8.3.RC1, and CANN 9.0 is loading it.",
            "This was saved with Cairn 0.1.0, and Cairn 1.0.0 is loading it."])

    def test_nothing_is_said_of_minor_versions_and_of_what_only_one_of_them_has(self):
        self.assertEqual(self.between({"python": "3.9.18", "torch": "2.1", "numpy": "1.26"}, {"python": "3.13", "torch": "2.13"}), [])

    def test_what_another_version_wrote_in_another_way_is_no_difference(self):
        now = environment.capture("0.1.0")
        for saved in [None, [], "text", {}, {"versions": None}, {"versions": {"python": None, "cairn": "unknown", "torch": 7}}]:
            self.assertEqual(environment.differences(saved, now), [], saved)
        self.assertEqual(environment.differences(json.loads(json.dumps(now)), now), [])


if __name__ == "__main__":
    unittest.main()
