"""How torch itself gives the whole tensors of what is spread over files and ranks."""
import tempfile
from pathlib import Path

import torch
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save


def distributed(folder):
    """The state that a folder of torch's distributed checkpoints holds, nested as it was given."""
    with tempfile.TemporaryDirectory() as place:
        file = Path(place) / "whole.pt"
        dcp_to_torch_save(str(folder), str(file))
        return torch.load(file, weights_only=False)


def gathered(value):
    """The same nest with whole tensors in place of distributed ones. Every rank has to call it."""
    if isinstance(value, dict):
        return {key: gathered(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [gathered(item) for item in value]
    return value.full_tensor() if hasattr(value, "full_tensor") else value


def tensors(value, path=()):
    """The tensors in a nest, by their paths joined with dots."""
    if isinstance(value, torch.Tensor):
        return {".".join(path): value}
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, (list, tuple)) else ()
    return {name: tensor for key, item in items for name, tensor in tensors(item, (*path, str(key))).items()}


def assert_same(got, wanted):
    got, wanted = tensors(got), tensors(wanted)
    assert sorted(got) == sorted(wanted), set(got) ^ set(wanted)
    for name, tensor in wanted.items():
        assert tensor.dtype == got[name].dtype and torch.equal(got[name], tensor), name
