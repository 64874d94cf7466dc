#!/usr/bin/env python3
"""What Lightning's ModelCheckpoint writes: the best with their metric in the name and a link to the last, and each epoch's beside a copy.

usage: write_lightning.py OUTPUT
"""
import logging
import sys
import warnings
from pathlib import Path

import lightning
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from expected import expect, iteration

logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
warnings.filterwarnings("ignore")


class Module(lightning.LightningModule):
    def __init__(self, width=10):
        super().__init__()
        self.save_hyperparameters()
        torch.manual_seed(1)
        self.net = torch.nn.Sequential(torch.nn.Linear(6, width), torch.nn.BatchNorm1d(width), torch.nn.Linear(width, 3).bfloat16())

    def training_step(self, batch):
        return self.net[2](self.net[1](self.net[0](batch)).bfloat16()).float().square().mean()

    def validation_step(self, batch):
        self.log("val_loss", 1.0 / (self.current_epoch + 1))

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=0.01)
        return [optimizer], [torch.optim.lr_scheduler.StepLR(optimizer, 2)]


def train(folder, **options):
    data = torch.randn(8, 6, generator=torch.Generator().manual_seed(7))
    loader = torch.utils.data.DataLoader(data, batch_size=2)
    trainer = lightning.Trainer(
        accelerator="cpu", max_epochs=4, logger=False, enable_progress_bar=False, enable_model_summary=False,
        callbacks=[ModelCheckpoint(dirpath=folder, **options)])
    trainer.fit(Module(), loader, loader)


def described(file):
    state = torch.load(file, weights_only=False)
    model = Module.load_from_checkpoint(file, map_location="cpu", weights_only=False).state_dict()
    return iteration(file.name, state["global_step"], model, epoch=state["epoch"])


def main(output):
    train(output / "best", filename="{epoch}-{step}-{val_loss:.2f}", monitor="val_loss", save_top_k=2, save_last="link")
    assert (output / "best/last.ckpt").is_symlink()
    train(output / "all", save_top_k=-1, save_last=True)
    for name in ("best", "all"):
        files = [file for file in (output / name).glob("*.ckpt") if not file.is_symlink()]
        expect(output, name, "lightning", sorted(map(described, files), key=lambda found: (found["step"], found["path"])))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
