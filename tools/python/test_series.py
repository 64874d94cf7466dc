#!/usr/bin/env python3
"""The series that the benchmark measures are what they say: each changes from step to step what its kind of training changes.

Of a LoRA series, the whole model saved beside the adapter, each save after the first costs only what training changed: the adapter
(once, though it is in two files) and the optimizer's two numbers for each of its weights. At the default size of series.py they are
17.3 % of a checkpoint; here, in seconds, a smaller model is trained, of which they are 14.9 %.
"""
import os
import shutil
import sys
import sysconfig
import tempfile
import traceback
import unittest
from pathlib import Path

import numpy as np
import peft  # noqa: F401: loaded once, for all children
import torch
from safetensors.torch import load_file

import series
from workbench import Workbench

# A child of a process with more threads than one may wait for those that it doesn't have.
torch.set_num_threads(1)


def tensors(value):
    """All tensors in a state, without those of a single number."""
    if isinstance(value, torch.Tensor):
        return [value] if value.dim() else []
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else []
    return [tensor for each in inner for tensor in tensors(each)]


def state(path):
    return torch.load(path, weights_only=False)


class SeriesTests(Workbench):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.shared = Path(tempfile.mkdtemp(prefix="cairn-series."))
        cls.addClassCleanup(shutil.rmtree, cls.shared)
        # Bytes of text instead of trained tokens: training a tokenizer takes longer than all the rest.
        text = b"".join(path.read_bytes() for path in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("a*.py")))
        np.frombuffer(text, np.uint8).astype(np.uint16).tofile(cls.shared / "tokens.u16")
        [cls.base] = cls.run_series("dense", cls.shared / "dense", "--saves", "1")

    @classmethod
    def run_series(cls, name, folder, *options):
        """Trains in a child that is forked: to load torch takes longer than to train."""
        sys.argv = [series.__file__, *map(str, [
            name, "--out", folder, "--cache", cls.shared, "--hidden", 128, "--layers", 2, "--first", 2, *options])]
        said = cls.shared / "said"
        child = os.fork()
        if child == 0:
            os.dup2(os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 1)
            os.dup2(1, 2)
            try:
                series.main()
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0, said.read_text()
        return sorted(path for path in folder.iterdir() if path.is_dir())

    def train(self, name, *options):
        return self.run_series(name, self.folder / name, *options)

    def changed(self, before, after):
        """The names of the tensors that two models don't share bit for bit."""
        models = [load_file(folder / "model.safetensors") for folder in (before, after)]
        self.assertEqual(*(sorted(model) for model in models))
        return {name for name in models[0] if not torch.equal(models[0][name], models[1][name])}

    def test_a_lora_series_costs_what_training_changed(self):
        checkpoints = self.train("lora", "--from", self.base, "--saves", "4")
        self.assertEqual([path.name for path in checkpoints], [f"checkpoint-{step}" for step in (2, 3, 4, 5)])

        self.cairn("save", checkpoints[0])
        for path in checkpoints[1:]:
            result = self.cairn("save", path)
            share = result["newBytes"] / result["logicalBytes"]
            print(f"{path.name}: {result['newBytes']:,} of {result['logicalBytes']:,} bytes are new, {share:.2%}")
            self.assertLessEqual(share, 0.15)
            adapter = load_file(path / "adapter_model.safetensors")
            self.assertGreaterEqual(result["newBytes"], 3 * sum(tensor.nbytes for tensor in adapter.values()))

    def test_mixed_weights_are_their_masters_rounded(self):
        before, after = self.train("mixed", "--from", self.base, "--saves", "2")
        self.assertIn("lm_head.weight", self.changed(before, after))
        for folder in (before, after):
            masters = state(folder / "optimizer.pt")["fp32_master"]
            for name, tensor in load_file(folder / "model.safetensors").items():
                self.assertEqual((tensor.dtype, masters[name].dtype), (torch.bfloat16, torch.float32))
                self.assertTrue(torch.equal(tensor, masters[name].bfloat16()), name)

    def test_a_pure_state_is_all_bf16(self):
        before, after = self.train("pure", "--from", self.base, "--saves", "2")
        self.assertTrue(self.changed(before, after))
        for found in (load_file(after / "model.safetensors"), state(after / "optimizer.pt")):
            self.assertEqual({tensor.dtype for tensor in tensors(found)}, {torch.bfloat16})

    def test_frozen_layers_stay_those_of_the_base(self):
        [base] = self.train("dense", "--saves", "1", "--layers", "3")
        [after] = self.train("frozen", "--from", base, "--saves", "1", "--layers", "3")
        changed = self.changed(base, after)
        self.assertEqual({name.split(".")[2] for name in changed if "layers" in name}, {"1", "2"})
        self.assertIn("lm_head.weight", changed)
        self.assertNotIn("model.embed_tokens.weight", changed)
        self.assertEqual(len(state(after / "optimizer.pt")["state"]), 2 * 9 + 2)

    def test_experts_without_tokens_stay(self):
        before, after = self.train("moe", "--saves", "2")
        changed = self.changed(before, after)
        experts = {name.rpartition(".experts.")[0] + name.split(".")[5] for name in changed if ".experts." in name}
        self.assertTrue(2 <= len(experts) < 2 * 32, experts)

    def test_a_sparse_step_changes_few_rows(self):
        folders = self.train("sparse", "--saves", "2")
        before, after = (load_file(folder / "model.safetensors")["emb_in.weight"] for folder in folders)
        share = (before != after).any(dim=1).float().mean().item()
        self.assertTrue(0 < share < 0.05, share)

    def test_the_shards_of_all_ranks_make_up_the_weights(self):
        before, after = self.train("zero", "--saves", "2")
        self.assertEqual(after.name, "global_step3")
        models = [state(path) for path in sorted(after.glob("zero_pp_rank_*_model_states.pt"))]
        shards = [state(path)["optimizer_state_dict"] for path in sorted(after.glob("bf16_*_optim_states.pt"))]
        self.assertEqual((len(models), len(shards)), (4, 4))
        flat = torch.cat([shard["single_partition_of_fp32_groups"][0] for shard in shards])
        for model in models:
            weights = torch.cat([tensor.flatten() for tensor in model["module"].values()])
            self.assertTrue(torch.equal(weights, flat[:len(weights)].bfloat16()))
        self.assertEqual(len({model["random_rng_state"].numpy().tobytes() for model in models}), 4)
        old = state(before / "zero_pp_rank_0_mp_rank_00_model_states.pt")
        self.assertFalse(torch.equal(old["random_rng_state"], models[0]["random_rng_state"]))

    def test_a_series_comes_out_the_same_again(self):
        first = self.train("zero", "--saves", "1")[0].rename(self.folder / "first")
        [second] = self.train("zero", "--saves", "1")
        self.assert_same_files(first, second)


if __name__ == "__main__":
    unittest.main(warnings="ignore")
