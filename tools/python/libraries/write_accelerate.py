#!/usr/bin/env python3
"""What Accelerator.save_state writes: folders that it numbers itself, and folders of two processes that the training code names.

usage: write_accelerate.py OUTPUT
"""
import os
import sys
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import ProjectConfiguration

from expected import expect, iteration
from ranks import as_ranks


class Progress:
    """An object of the training code's own."""

    def __init__(self):
        self.seen = 0

    def state_dict(self):
        return {"seen": self.seen}

    def load_state_dict(self, state):
        self.seen = state["seen"]


class Session:
    def __init__(self, folder, **options):
        torch.manual_seed(1)
        self.accelerator = Accelerator(cpu=True, project_config=ProjectConfiguration(project_dir=folder, **options))
        model = torch.nn.Sequential(torch.nn.Linear(6, 10), torch.nn.BatchNorm1d(10), torch.nn.Linear(10, 3))
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 2)
        data = torch.utils.data.DataLoader(list(torch.randn(16, 6)), batch_size=2, shuffle=True)
        self.model, self.optimizer, self.scheduler, self.data = self.accelerator.prepare(model, optimizer, scheduler, data)
        self.progress = Progress()
        self.accelerator.register_for_checkpointing(self.progress)

    def train(self):
        for _, batch in zip(range(2), self.data):
            self.accelerator.backward(self.model(batch).square().mean())
            self.optimizer.step()
            self.scheduler.step()
            self.optimizer.zero_grad()
            self.progress.seen += 1

    def loaded(self, folder):
        self.accelerator.load_state(str(folder))
        return {name: tensor.clone() for name, tensor in self.accelerator.unwrap_model(self.model).state_dict().items()}


def main(output):
    as_ranks(2, named, output)
    session = Session(output / "numbered", automatic_checkpoint_naming=True, total_limit=2)
    for _ in range(3):
        session.train()
        session.accelerator.save_state()
    path = output / "numbered/checkpoints"
    expect(output, path.relative_to(output), "accelerate", [
        iteration(f"checkpoint_{number}", number, session.loaded(path / f"checkpoint_{number}"), world_size=1,
                  required=["model.safetensors", "random_states_0.pkl"])
        for number in (1, 2)])


def named(output):
    session = Session(output / "named")
    for step in (2, 4):
        session.train()
        session.accelerator.save_state(str(output / f"named/step_{step}"))
        session.accelerator.wait_for_everyone()
    iterations = [
        iteration(f"step_{step}", step, session.loaded(output / f"named/step_{step}"), world_size=2, required=["model.safetensors"])
        for step in (2, 4)]
    if os.environ["RANK"] == "0":
        expect(output, "named", "accelerate", iterations)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
