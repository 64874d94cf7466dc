"""What the interoperability tests share: a temporary store, the `cairn` under test, and tiny models that need no network."""
import gc
import json
import os
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
import torch
import transformers

transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()
# One thread gives the same bits every time.
torch.set_num_threads(1)

CAIRN = os.environ.get("CAIRN") or sys.exit("Set CAIRN to the path of the program that is to be tested.")
SAMPLES = Path(__file__).resolve().parents[2] / "Tests/Fixtures/checkpoints.tar.gz"


class Workbench(unittest.TestCase):
    """A test with a temporary folder and a store in it."""

    @classmethod
    def setUpClass(cls):
        # The Trainer collects garbage each time it ends; among what was imported, that takes longer than the training.
        gc.freeze()

    def setUp(self):
        self.folder = Path(tempfile.mkdtemp(prefix="cairn-python."))
        self.addCleanup(shutil.rmtree, self.folder)
        self.cairn("init")

    def cairn(self, *arguments, status=0):
        """Runs a command on the store. Returns the JSON document that it prints."""
        command = [CAIRN, *map(str, arguments), "--store", str(self.folder / "store"), "--json"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        self.assertEqual(done.returncode, status, f"{' '.join(command)}\n{done.stdout}{done.stderr}")
        return json.loads(done.stdout)

    def save(self, checkpoint, run="main", step=1):
        return self.cairn("save", checkpoint, "--run", run, "--step", step)

    def export(self, *options, reference="main@1"):
        """Exports to a new folder, and returns it."""
        folder = Path(tempfile.mkdtemp(dir=self.folder)) / "export"
        self.cairn("export", reference, folder, "--layout", "hf", *options)
        return folder

    def sample(self, name):
        """Unpacks one of the real checkpoints, and returns its folder."""
        subprocess.run(["tar", "-xpzf", SAMPLES, "-C", self.folder, name], check=True)
        return self.folder / name

    def assert_same_files(self, folder, expected, message=None):
        got, wanted = contents(folder), contents(expected)
        self.assertEqual(sorted(got), sorted(wanted), message)
        different = [name for name in wanted if got[name] != wanted[name]]
        self.assertEqual(different, [], message)

    def assert_same_tensors(self, got, expected):
        """Names, dtypes, shapes and bits; the order is no part of a state dictionary's meaning."""
        self.assertEqual(sorted(got), sorted(expected))
        for name, tensor in expected.items():
            self.assertEqual(got[name].dtype, tensor.dtype, name)
            self.assertTrue(torch.equal(got[name], tensor), name)


def contents(folder):
    """The bytes of each file below a folder, by its path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


def lose(folder):
    """Removes a folder, also while something writes into it."""
    while folder.exists():
        shutil.rmtree(folder, ignore_errors=True)


def tiny_llama(tied=False, dtype=torch.float32, seed=1, **changes):
    """Twelve layers, so that the order of names is not that of the layers' numbers."""
    torch.manual_seed(seed)
    settings = dict(
        vocab_size=96, hidden_size=32, intermediate_size=88, num_hidden_layers=12, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=64, tie_word_embeddings=tied, bos_token_id=0, eos_token_id=0)
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(**settings | changes)).to(dtype)
