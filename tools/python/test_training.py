#!/usr/bin/env python3
"""A training that is killed again and again, with `cairn watch --move` beside it and `cairn resume` before each start, comes to the
same losses and weights as one that was never interrupted, and no start ever fails. Real Hugging Face Trainer, real kills.

CAIRN_TEST_LONG: 20 kills instead of 3.
"""
import hashlib
import json
import multiprocessing
import os
import random
import signal
import subprocess
import time
import unittest

import torch
import torch._dynamo  # noqa: F401: loaded once, for all children
from transformers import TrainerCallback

from trainer_workbench import full_model, make_trainer
from workbench import CAIRN, Workbench

LONG = bool(os.environ.get("CAIRN_TEST_LONG"))
# More than all starts together come to before they are killed: one that is at its end already would go beyond it.
STEPS = 200 if LONG else 30
FORK = multiprocessing.get_context("fork")


class Slowly(TrainerCallback):
    """Steps take as long as a save, so that kills meet both. Says when the first begins."""

    def __init__(self, began):
        self.began = began

    def on_train_begin(self, *_, **__):
        self.began.send("ready")

    def on_step_end(self, *_, **__):
        time.sleep(0.15)


def train(out, checkpoint, result, *callbacks, **options):
    """The training itself, in a process of its own."""
    trainer = make_trainer(full_model, out, callbacks, **dict(max_steps=STEPS, save_steps=1, save_total_limit=4) | options)
    trainer.train(resume_from_checkpoint=checkpoint or None)
    weights = hashlib.sha256()
    for name, tensor in sorted(trainer.model.state_dict().items()):
        weights.update(name.encode() + tensor.contiguous().view(torch.uint8).numpy().tobytes())
    losses = [(entry["step"], entry["loss"]) for entry in trainer.state.log_history if "loss" in entry]
    with open(result, "w") as file:
        json.dump({"losses": losses, "weights": weights.hexdigest()}, file)


class TrainingTests(Workbench):
    def start(self, *arguments, **options):
        """Trains in a child that is forked: to load torch takes longer than to train."""
        process = FORK.Process(target=train, args=arguments, kwargs=options)
        process.start()
        self.addCleanup(process.kill)
        return process

    def start_slowly(self, *arguments):
        """Returns once the training has begun."""
        reader, writer = FORK.Pipe(duplex=False)
        process = self.start(*arguments, Slowly(writer))
        writer.close()
        try:
            began = reader.poll(120) and reader.recv()
        except EOFError:
            began = None
        if began != "ready":
            self.finish(process)
            self.fail("the training never began")
        return process

    def finish(self, process):
        process.join(300)
        self.assertEqual(process.exitcode, 0)

    def await_step(self, step):
        """Until the watch has saved it."""
        ends = time.monotonic() + 60
        while step not in [one["step"] for one in self.cairn("list")]:
            self.assertLess(time.monotonic(), ends, f"the watch does not save step {step}")
            time.sleep(0.3)

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
        self.finish(self.start(self.folder / "reference", "", self.folder / "reference.json", save_strategy="no"))
        expected = json.loads((self.folder / "reference.json").read_text())
        self.assertEqual([step for step, _ in expected["losses"]], list(range(1, STEPS + 1)))

        out, result = self.folder / "out", self.folder / "result.json"
        watch = subprocess.Popen(
            [CAIRN, "watch", out, "--move", "--run", "sft", "--store", self.folder / "store"],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.addCleanup(watch.kill)
        kills, starts = (20 if LONG else 3), []
        for _ in range(kills):
            starts.append(self.resume(out))
            process = self.start_slowly(out, starts[-1], result)
            time.sleep(chance.uniform(0.1, 1.5))
            process.kill()
            process.join()
            self.assertEqual(process.exitcode, -signal.SIGKILL, "the training ended before it was killed")
            # Jobs take a while to start again. In it the watch saves what is two seconds old, or is in the midst of that.
            time.sleep(chance.uniform(1.5, 4))
        self.assertFalse(result.exists(), "the training came to its end before it was killed often enough")
        starts.append(self.resume(out))
        self.finish(self.start_slowly(out, starts[-1], result))
        self.await_step(STEPS)
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
