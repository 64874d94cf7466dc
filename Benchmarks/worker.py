"""Keeps the state of a checkpoint in memory, as a training does, and saves it on command with what people use.

Reads one JSON object a line, and answers with one: what the saving alone took, of the clock and of the processor.
"""

import json
import os
import resource
import sys
import time
from pathlib import Path

import torch


def load(checkpoint):
    """Everything that the framework's own files hold; the rest of a checkpoint is a few kilobytes."""
    from safetensors.torch import load_file

    state = {}
    for path in sorted(Path(checkpoint).iterdir()):
        if path.suffix == ".safetensors":
            # Copied out of the mapped file: a state in training is in memory.
            state[path.name] = {name: tensor.clone() for name, tensor in load_file(path).items()}
        elif path.suffix in (".pt", ".pth"):
            state[path.name] = torch.load(path, weights_only=False)
    return state


def tensors(value, name=""):
    """All tensors of a state by their paths in it: safetensors takes no other values."""
    if isinstance(value, torch.Tensor):
        whole = value.is_contiguous() and value.untyped_storage().nbytes() == value.nbytes
        yield name, value if whole else value.clone()
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from tensors(inner, f"{name}.{key}")
    elif isinstance(value, (list, tuple)):
        for key, inner in enumerate(value):
            yield from tensors(inner, f"{name}.{key}")


def sync(path):
    with open(path, "rb") as file:
        os.fsync(file.fileno())


def save_torch(state, target):
    torch.save(state, target)
    sync(target)


def save_safetensors(flat, target):
    from safetensors.torch import save_file

    save_file(flat, target)
    sync(target)


def upload(files, repository):
    import hf_xet

    hf_xet.upload_files(files, f"local://{repository}", None, None, None, "model")
    # It leaves the data in the page cache; the other peers sync theirs.
    for path in Path(repository).rglob("*"):
        if path.is_file():
            sync(path)


def timed(body, *arguments):
    before, start = resource.getrusage(resource.RUSAGE_SELF), time.monotonic()
    body(*arguments)
    seconds, after = time.monotonic() - start, resource.getrusage(resource.RUSAGE_SELF)
    return {"seconds": seconds, "cpu": after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime}


class Worker:
    """Has the state that was loaded last."""

    def __init__(self):
        self.state, self.flat = {}, {}

    def do(self, asked):
        if asked["do"] == "load":
            self.state = load(asked["checkpoint"])
            self.flat = dict(tensors(self.state))
            return {}
        if asked["do"] == "torch":
            return timed(save_torch, self.state, asked["target"])
        if asked["do"] == "safetensors":
            return timed(save_safetensors, self.flat, asked["target"])
        return timed(upload, asked["files"], asked["repository"])


def main():
    # Answers have the true standard output for themselves: libraries print to it.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    worker = Worker()
    for line in sys.stdin:
        try:
            answer = worker.do(json.loads(line))
        except Exception as error:
            answer = {"error": str(error) or type(error).__name__}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
