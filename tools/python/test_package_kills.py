#!/usr/bin/env python3
"""A training that is killed at random moments, and goes on from the store each time, ends with the weights of one that is not.

It saves after every step without waiting, in children that are forked: to load torch takes longer than to train.
"""
import os
import random
import signal
import sys
import time
import unittest
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent))
from children import ended, fork
from package_workbench import PackageTest

import cairn

# One thread gives the same bits every time, and a child of a process with more may wait for those that it doesn't have.
torch.set_num_threads(1)
KILLS = 50 if os.environ.get("CAIRN_TEST_LONG") else 5
# More than it takes between the kills.
STEPS = 12 * KILLS


class Training:
    """A small training in which everything counts that a checkpoint must have: weights, buffers, moments, a schedule of the rate, the
    place in shuffled data, and random numbers of torch, numpy and Python."""

    def __init__(self):
        torch.manual_seed(1)
        np.random.seed(2)
        random.seed(3)
        self.model = torch.nn.Sequential(
            torch.nn.Linear(20, 300), torch.nn.BatchNorm1d(300), torch.nn.GELU(), torch.nn.Dropout(0.1), torch.nn.Linear(300, 20))
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-2)
        self.scheduler = torch.optim.lr_scheduler.OneCycleLR(self.optimizer, 1e-2, total_steps=STEPS + 1)
        self.data = torch.randn(96, 20, generator=torch.Generator().manual_seed(4))
        self.shuffle = torch.Generator().manual_seed(5)
        self.step, self.place, self.order = 0, 0, None

    def train(self):
        """One step."""
        if self.place == 0:
            self.order = torch.randperm(len(self.data), generator=self.shuffle)
        batch = self.data[self.order[self.place:self.place + 16]]
        self.place = (self.place + 16) % len(self.data)
        noise = torch.from_numpy(np.random.normal(size=batch.shape)).float() * random.random()
        self.optimizer.zero_grad()
        loss = (self.model(batch + noise) - batch).square().mean()
        loss.backward()
        self.optimizer.step()
        self.scheduler.step()
        self.step += 1
        return loss.item()

    def save(self, store, loss):
        return store.save(
            self.step, model=self.model, optimizer=self.optimizer, scheduler=self.scheduler,
            data={"place": self.place, "order": self.order, "shuffle": self.shuffle.get_state()},
            random={"torch": torch.get_rng_state(), "numpy": np.random.get_state(), "python": random.getstate()},
            metrics={"loss": loss}, wait=False)

    def resume(self, store):
        """Goes on from the newest iteration."""
        with store["latest"] as iteration:
            self.step = iteration.step
        rest = store.load("latest", model=self.model, optimizer=self.optimizer, scheduler=self.scheduler)
        data, states = rest["data"], rest["random"]
        self.place, self.order = data["place"], data["order"]
        self.shuffle.set_state(data["shuffle"])
        torch.set_rng_state(states["torch"])
        np.random.set_state(states["numpy"])
        random.setstate(states["python"])


class KillTests(PackageTest):
    def train(self, stepped=lambda: None):
        """What a child does, from the start or where the last one was killed."""
        with cairn.open(self.path) as store:
            training = Training()
            if store.iterations():
                training.resume(store)
            while training.step < STEPS:
                training.save(store, training.train())
                stepped()

    def test_a_training_that_is_killed_ends_with_the_same_weights(self):
        expected = Training()
        losses = {}
        for _ in range(STEPS):
            loss = expected.train()
            losses[expected.step] = loss
        weights = {name: tensor.clone() for name, tensor in expected.model.state_dict().items()}
        rate = expected.scheduler.state_dict()
        following = expected.train()

        chance = random.Random(os.environ.get("CAIRN_TEST_SEED", "1"))
        reached = []
        for _ in range(KILLS):
            reader, writer = os.pipe()
            child = fork(lambda: self.train(lambda: os.write(writer, b".")))
            # Some before the first step, while it resumes.
            for _ in range(chance.randrange(9)):
                os.read(reader, 1)
            time.sleep(chance.random() / 20)
            os.kill(child, signal.SIGKILL)
            os.close(reader), os.close(writer)
            self.assertEqual(ended(child), -signal.SIGKILL, "it ended before it was killed")
            reached.append(max([one["step"] for one in self.store.iterations()], default=0))
        self.assertEqual(ended(fork(self.train)), 0)
        print(f"killed after the saves of the steps {reached} of {STEPS}")
        self.assertGreater(reached[-1], 0)
        self.assertLess(reached[-1], STEPS)

        training = Training()
        training.resume(self.store)
        self.assertEqual(training.step, STEPS)
        for name, tensor in training.model.state_dict().items():
            self.assertTrue(torch.equal(tensor, weights[name]), name)
        self.assertEqual(training.scheduler.state_dict(), rate)
        # The next step is the same as well, random numbers and all.
        self.assertEqual(training.train(), following)
        self.assertEqual({one["step"]: one["metrics"]["loss"] for one in self.store.iterations()}, losses)
        self.assertEqual(self.cairn("verify")["problems"], [])


if __name__ == "__main__":
    unittest.main(warnings="ignore")
