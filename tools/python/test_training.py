#!/usr/bin/env python3
"""A training that is killed again and again, with `cairn watch --move` beside it and `cairn resume` before each start, comes to the
same losses and weights as one that was never interrupted, and no start ever fails. Real Hugging Face Trainer, real kills.

CAIRN_TEST_LONG: 20 kills instead of 3.
"""
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
import unittest

LONG = bool(os.environ.get("CAIRN_TEST_LONG"))
# More than all starts together come to before they are killed: one that is at its end already would go beyond it.
STEPS = 200 if LONG else 30


def train(out, checkpoint, result):
    """The training itself, in a process of its own. Says `ready` when its first step begins."""
    import torch
    from test_resume import Noise, full_model
    from transformers import Trainer, TrainerCallback, TrainingArguments, set_seed
    from transformers.trainer_callback import PrinterCallback

    class Slowly(TrainerCallback):
        """Steps take as long as a save, so that kills meet both."""

        def on_train_begin(self, *_, **__):
            print("ready", flush=True)

        def on_step_end(self, *_, **__):
            time.sleep(0.15)

    set_seed(3)
    arguments = TrainingArguments(
        output_dir=out, max_steps=STEPS, save_steps=1, save_total_limit=4, logging_steps=1,
        per_device_train_batch_size=4, learning_rate=1e-2, warmup_steps=2, report_to=[], use_cpu=True,
        disable_tqdm=True, seed=3)
    trainer = Trainer(model=full_model(), args=arguments, train_dataset=Noise(), callbacks=[Slowly()])
    trainer.remove_callback(PrinterCallback)
    trainer.train(resume_from_checkpoint=checkpoint or None)
    weights = hashlib.sha256()
    for name, tensor in sorted(trainer.model.state_dict().items()):
        weights.update(name.encode() + tensor.contiguous().view(torch.uint8).numpy().tobytes())
    losses = [(entry["step"], entry["loss"]) for entry in trainer.state.log_history if "loss" in entry]
    with open(result, "w") as file:
        json.dump({"losses": losses, "weights": weights.hexdigest()}, file)


if sys.argv[1:2] == ["train"]:
    train(*sys.argv[2:])
    sys.exit()

from workbench import CAIRN, Workbench  # noqa: E402


class TrainingTests(Workbench):
    def start(self, out, checkpoint, result):
        process = subprocess.Popen(
            [sys.executable, __file__, "train", out, checkpoint, result], stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True)
        self.addCleanup(process.communicate)
        self.addCleanup(process.kill)
        return process

    def finish(self, process):
        _, complaints = process.communicate(timeout=300)
        self.assertEqual(process.returncode, 0, complaints)

    def resume(self, out):
        """Runs `cairn resume` as a job's script does. Returns the path that it prints."""
        command = [CAIRN, "resume", out, "--run", "sft", "--store", self.folder / "store"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout.strip()

    def test_a_killed_training_comes_to_the_same_end(self):
        seed = int(os.environ.get("CAIRN_TEST_SEED") or random.randrange(1 << 32))
        chance = random.Random(seed)
        print(f"CAIRN_TEST_SEED={seed}", flush=True)
        self.finish(self.start(self.folder / "reference", "", self.folder / "reference.json"))
        expected = json.loads((self.folder / "reference.json").read_text())
        self.assertEqual([step for step, _ in expected["losses"]], list(range(1, STEPS + 1)))

        out, result = self.folder / "out", self.folder / "result.json"
        watch = subprocess.Popen(
            [CAIRN, "watch", out, "--move", "--run", "sft", "--store", self.folder / "store"],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.addCleanup(watch.kill)
        kills, left, starts = (20 if LONG else 3), 0, []
        while left < kills:
            starts.append(self.resume(out))
            process = self.start(out, starts[-1], result)
            line = process.stdout.readline()
            if line != "ready\n":
                self.finish(process)
                self.fail("the training never began")
            time.sleep(chance.uniform(0.1, 1.5))
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
            process.communicate()
            left += 1
        self.assertFalse(result.exists(), "the training came to its end before it was killed often enough")
        starts.append(self.resume(out))
        self.finish(self.start(out, starts[-1], result))
        watch.send_signal(signal.SIGTERM)
        said, _ = watch.communicate(timeout=60)
        self.assertEqual(watch.returncode, 130, said)
        self.assertNotIn("failed", said)

        self.assertEqual(json.loads(result.read_text()), expected)
        steps = [int(start.rsplit("-", 1)[1]) for start in starts if start]
        self.assertEqual(steps, sorted(steps), "a start stepped back")
        self.assertGreater(steps[-1], 0)
        print(f"{kills} kills; started from {['scratch', *steps] if not starts[0] else steps}\n{said}", flush=True)


if __name__ == "__main__":
    unittest.main(warnings="ignore")
