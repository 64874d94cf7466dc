#!/usr/bin/env python3
"""Of a LoRA series, the whole model saved beside the adapter, each save after the first costs only what training changed.

That is the adapter (once, though it is in two files) and the optimizer's two numbers for each of its weights. At the default size of
series.py they are 17.3 % of a checkpoint; here, in seconds, a smaller model is trained, of which they are 14.9 %.
"""
import subprocess
import sys
import sysconfig
import unittest
from pathlib import Path

import numpy as np
from safetensors.torch import load_file

from workbench import Workbench

SERIES = Path(__file__).with_name("series.py")


class SeriesTests(Workbench):
    def train(self, series, *options):
        command = [sys.executable, SERIES, series, "--out", self.folder / series, "--cache", self.folder / "cache",
                   "--hidden", "128", "--layers", "2", "--first", "2", *options]
        done = subprocess.run(command, capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return sorted((self.folder / series).glob("checkpoint-*"))

    def test_a_lora_series_costs_what_training_changed(self):
        # Bytes of text instead of trained tokens: training a tokenizer takes longer than all the rest.
        text = b"".join(path.read_bytes() for path in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("a*.py")))
        (self.folder / "cache").mkdir()
        np.frombuffer(text, np.uint8).astype(np.uint16).tofile(self.folder / "cache/tokens.u16")
        [base] = self.train("dense", "--saves", "1")
        checkpoints = self.train("lora", "--from", base, "--saves", "4")
        self.assertEqual([path.name for path in checkpoints], [f"checkpoint-{step}" for step in (2, 3, 4, 5)])

        self.cairn("save", checkpoints[0])
        for path in checkpoints[1:]:
            result = self.cairn("save", path)
            share = result["newBytes"] / result["logicalBytes"]
            print(f"{path.name}: {result['newBytes']:,} of {result['logicalBytes']:,} bytes are new, {share:.2%}")
            self.assertLessEqual(share, 0.15)
            adapter = load_file(path / "adapter_model.safetensors")
            self.assertGreaterEqual(result["newBytes"], 3 * sum(tensor.nbytes for tensor in adapter.values()))


if __name__ == "__main__":
    unittest.main(warnings="ignore")
