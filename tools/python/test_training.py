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
    """Steps take as long as a save, so that kills meet both. Tells the step at the beginning, and after each save."""

    def __init__(self, steps):
        self.steps = steps

    def on_train_begin(self, _, state, *__, **___):
        self.steps.send(state.global_step)

    on_save = on_train_begin

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


def step_of(path):
    """The step of a checkpoint to start from, 0 for none."""
    return int(path.rsplit("-", 1)[1]) if path else 0


class TrainingTests(Workbench):
    def start(self, *arguments, **options):
        """Trains in a child that is forked: to load torch takes longer than to train."""
        process = FORK.Process(target=train, args=arguments, kwargs=options)
        process.start()
        self.addCleanup(process.kill)
        return process

    def start_slowly(self, *arguments):
        """Returns once the training has begun, with the steps that it tells."""
        steps, writer = FORK.Pipe(duplex=False)
        process = self.start(*arguments, Slowly(writer))
        writer.close()
        return process, steps, self.next_step(process, steps)

    def next_step(self, process, steps):
        """The next that the training tells."""
        try:
            if steps.poll(120):
                return steps.recv()
        except EOFError:
            pass
        self.finish(process)
        self.fail("the training tells no step")

    def kill(self, process, steps, saves, seconds):
        """Kills the training so many saves and seconds later. Returns the last step that it saved, 0 for none."""
        saved = 0
        for _ in range(saves):
            saved = self.next_step(process, steps)
        time.sleep(seconds)
        process.kill()
        process.join()
        self.assertEqual(process.exitcode, -signal.SIGKILL, "the training ended before it was killed")
        try:
            while True:
                saved = steps.recv()
        except EOFError:
            return saved

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
        kills, starts, saved = (20 if LONG else 3), [], 0
        for left in reversed(range(kills + 1)):
            path = self.resume(out)
            starts.append(step_of(path))
            self.assertGreaterEqual(starts[-1], saved, "a start stepped back")
            process, steps, begins = self.start_slowly(out, path, result)
            self.assertEqual(begins, starts[-1])
            if left == 0:
                break
            # The last kill meets a training that has saved, however slow the machine is.
            saves = chance.randrange(1 if left == 1 else 0, 4)
            saved = max(starts[-1], self.kill(process, steps, saves, chance.uniform(0, 0.5)))
            self.assertFalse(result.exists(), "the training came to its end before it was killed")
            # Jobs take a while to start again. In it the watch saves what is two seconds old, or is in the midst of that.
            time.sleep(chance.uniform(1.5, 4))
        self.finish(process)
        self.await_step(STEPS)
        watch.send_signal(signal.SIGTERM)
        said, _ = watch.communicate(timeout=60)
        self.assertEqual(watch.returncode, 130, said)
        self.assertNotIn("failed", said)

        self.assertEqual(json.loads(result.read_text()), expected)
        self.assertGreater(starts[-1], 0)
        print(f"{kills} kills; started from {starts}\n{said}", flush=True)


if __name__ == "__main__":
    unittest.main(warnings="ignore")
