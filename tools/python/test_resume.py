#!/usr/bin/env python3
"""Training goes on from a restored checkpoint as from the original one, with the real Hugging Face Trainer.

The losses that it logs and the weights at its end are the same bit for bit, of a full model and of a LoRA adapter; and the same as
those of a training that was never interrupted, so the optimizer, the scheduler and the random numbers of dropout came back too.
"""
import shutil
import unittest

from trainer_workbench import adapter, full_model, make_trainer
from workbench import Workbench

STEPS, SAVED = 6, 3


class ResumeTests(Workbench):
    def train(self, build, out, checkpoint=None):
        """Trains to the end. Returns what each step logged, and the final weights."""
        trainer = make_trainer(build, out, max_steps=STEPS, save_steps=SAVED)
        trainer.train(resume_from_checkpoint=checkpoint and str(checkpoint))
        logged = [(entry["step"], entry["loss"], entry["grad_norm"], entry["learning_rate"])
                  for entry in trainer.state.log_history if "loss" in entry]
        return logged, trainer.model.state_dict()

    def check(self, build):
        steps, weights = self.train(build, self.folder / "out")
        self.assertEqual([entry[0] for entry in steps], list(range(1, STEPS + 1)))
        original = self.folder / f"out/checkpoint-{SAVED}"
        self.assertEqual(self.cairn("save", original, "--run", "sft")["step"], SAVED)
        restored = self.folder / f"elsewhere/checkpoint-{SAVED}"
        restored.parent.mkdir()
        self.cairn("restore", f"sft@{SAVED}", restored)

        from_original = self.train(build, self.folder / "again", original)
        shutil.rmtree(original)
        from_restored = self.train(build, self.folder / "resumed", restored)
        for resumed in (from_original, from_restored):
            self.assertEqual(resumed[0], steps)
            self.assert_same_tensors(resumed[1], weights)

    def test_a_full_model_goes_on_as_it_would_have(self):
        self.check(full_model)

    def test_an_adapter_goes_on_as_it_would_have(self):
        self.check(adapter)


if __name__ == "__main__":
    unittest.main(warnings="ignore")
