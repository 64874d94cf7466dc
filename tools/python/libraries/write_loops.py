#!/usr/bin/env python3
"""What training loops of people's own write with torch.save: a file an epoch, one with step and metric in its name, one that is
overwritten in place, a module as a whole, and the form of before PyTorch 1.6; beside them, files that are no checkpoints.

usage: write_loops.py OUTPUT
"""
import sys
from pathlib import Path

import torch

from expected import expect, iteration


class Loop:
    def __init__(self):
        torch.manual_seed(1)
        self.net = torch.nn.Sequential(torch.nn.Linear(6, 10), torch.nn.BatchNorm1d(10), torch.nn.Linear(10, 3).bfloat16())
        self.optimizer = torch.optim.AdamW(self.net.parameters(), lr=0.01)

    def train(self):
        loss = self.net[1](self.net[0](torch.randn(8, 6))).square().mean() + self.net[2].weight.float().square().mean()
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()


def weights(file, key=None):
    """What torch loads, weights alone where that is enough."""
    state = torch.load(file, weights_only=False)
    state = state[key] if key else state
    return state.state_dict() if isinstance(state, torch.nn.Module) else state


def main(output):
    loop, epochs = Loop(), []
    (output / "epochs").mkdir(parents=True)
    for epoch in (9, 10, 11):
        loop.train()
        file = output / f"epochs/ckpt_{epoch}.pth"
        torch.save({"net": loop.net.state_dict(), "optimizer": loop.optimizer.state_dict(), "epoch": epoch}, file)
        epochs.append(iteration(file.name, epoch, weights(file, "net"), epoch=epoch))
    torch.save({"images": torch.rand(4, 3), "labels": torch.arange(4)}, output / "epochs/images_10.pt")
    torch.save(["a", "b"], output / "epochs/vocab.pt")
    torch.save(torch.rand(5), output / "epochs/best_samples.pt")
    (output / "epochs/model_notes.bin").write_bytes(bytes(range(64)))
    (output / "epochs/latest.pth").symlink_to("ckpt_11.pth")
    expect(output, "epochs", "torch", epochs)

    (output / "steps").mkdir()
    steps = []
    for step in (900, 1000):
        loop.train()
        file = output / f"steps/model_epoch=2_step={step}_val_loss={1 / step:.4f}.pt"
        # The step as a tensor, and a file as it was before PyTorch 1.6.
        torch.save({"model_state_dict": loop.net.state_dict(), "optimizer_state_dict": loop.optimizer.state_dict(),
                    "global_step": torch.tensor(step), "epoch": 2}, file, _use_new_zipfile_serialization=step == 900)
        steps.append(iteration(file.name, step, weights(file, "model_state_dict"), epoch=2))
    expect(output, "steps", "torch", steps)

    (output / "place").mkdir()
    torch.save({"model": loop.net, "optimizer": loop.optimizer.state_dict(), "step": 77}, output / "place/latest.pt")
    torch.save(loop.net.state_dict(), output / "place/best_model.pt")
    torch.save(loop.net, output / "place/final.pth")
    expect(output, "place", "torch", [
        iteration("latest.pt", 77, weights(output / "place/latest.pt", "model")),
        iteration("best_model.pt", None, weights(output / "place/best_model.pt")),
        iteration("final.pth", None, weights(output / "place/final.pth"))])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
