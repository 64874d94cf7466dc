#!/usr/bin/env python3
"""What Lightning's ModelCheckpoint writes: the best with their metric in the name and a link to the last, and each epoch's beside a copy; and
with 2 ranks, the folders of FSDP, and of DeepSpeed with ZeRO 2 and 3.

usage: write_lightning.py OUTPUT
"""
import logging
import os
import sys
import types
import unittest.mock
import warnings
from pathlib import Path

os.environ |= {"DS_ACCELERATOR": "cpu", "DS_SKIP_CUDA_CHECK": "1"}
import deepspeed
import lightning
import torch
from lightning.pytorch.accelerators import CPUAccelerator
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.strategies import DeepSpeedStrategy, FSDPStrategy

from expected import expect, iteration
from loading import distributed
from ranks import as_ranks

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


class Plain(Module):
    """Of one type."""

    def __init__(self):
        super().__init__()
        self.net = torch.nn.Sequential(torch.nn.Linear(6, 10), torch.nn.LayerNorm(10), torch.nn.Linear(10, 3))

    def training_step(self, batch):
        return self.net(batch).square().mean()


# Both ask for a GPU, and need none.
class FSDP(FSDPStrategy):
    def _setup_model(self, model):
        device = types.SimpleNamespace(index=torch.device("cpu"), type="cpu")
        with unittest.mock.patch.object(FSDP, "root_device", device):
            return super()._setup_model(model)


class DeepSpeed(DeepSpeedStrategy):
    def setup_environment(self):
        module = "lightning.pytorch.strategies.deepspeed"
        with unittest.mock.patch(f"{module}.CUDAAccelerator", CPUAccelerator), unittest.mock.patch(
                f"{module}._validate_device_index_selection"):
            super().setup_environment()

    def _setup_model_and_optimizer(self, *arguments):
        with unittest.mock.patch.object(DeepSpeed, "root_device", types.SimpleNamespace(index=-1, type="cpu")):
            return super()._setup_model_and_optimizer(*arguments)


STRATEGIES = {
    "fsdp": lambda: FSDP(state_dict_type="sharded", process_group_backend="gloo", use_orig_params=True),
    "deepspeed-2": lambda: DeepSpeed(stage=2, process_group_backend="gloo"),
    "deepspeed-3": lambda: DeepSpeed(stage=3, process_group_backend="gloo")}


def train(folder, module=Module, epochs=4, trainer={}, **options):
    data = torch.randn(8, 6, generator=torch.Generator().manual_seed(7))
    loader = torch.utils.data.DataLoader(data, batch_size=2)
    lightning.Trainer(
        accelerator="cpu", max_epochs=epochs, logger=False, enable_progress_bar=False, enable_model_summary=False,
        callbacks=[ModelCheckpoint(dirpath=folder, **options)], **trainer).fit(module(), loader, loader)


def ranks(output):
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    for name, strategy in STRATEGIES.items():
        train(output / name, Plain, 2, {"strategy": strategy(), "devices": 2}, save_top_k=-1)


def gathered(folder):
    """What Lightning says is to be loaded of a folder: its programs make one file of each."""
    if (folder / "meta.pt").exists():
        state = torch.load(folder / "meta.pt", weights_only=False)
        return state, distributed(folder)["model"]
    from lightning.pytorch.utilities.deepspeed import convert_zero_checkpoint_to_fp32_state_dict
    file = folder.parent / "whole.pt"
    convert_zero_checkpoint_to_fp32_state_dict(folder, file)
    state = torch.load(file, weights_only=False)
    file.unlink()
    return state, state["state_dict"]


def described_folder(folder):
    state, model = gathered(folder)
    files = [path for path in folder.rglob("*") if path.suffix in (".pt", ".distcp") or path.name == ".metadata"]
    return iteration(
        folder.name, state["global_step"], model, epoch=state["epoch"], world_size=2,
        required=sorted(str(path.relative_to(folder)) for path in files))


def described(file):
    state = torch.load(file, weights_only=False)
    model = Module.load_from_checkpoint(file, map_location="cpu", weights_only=False).state_dict()
    return iteration(file.name, state["global_step"], model, epoch=state["epoch"])


def main(output):
    as_ranks(2, ranks, output)
    train(output / "best", filename="{epoch}-{step}-{val_loss:.2f}", monitor="val_loss", save_top_k=2, save_last="link")
    assert (output / "best/last.ckpt").is_symlink()
    train(output / "all", save_top_k=-1, save_last=True)
    for name in ("best", "all"):
        files = [file for file in (output / name).glob("*.ckpt") if not file.is_symlink()]
        expect(output, name, "lightning", sorted(map(described, files), key=lambda found: (found["step"], found["path"])))
    for name in STRATEGIES:
        expect(output, name, "lightning", [described_folder(folder) for folder in sorted((output / name).glob("*.ckpt"))])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
