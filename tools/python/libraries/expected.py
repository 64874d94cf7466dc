"""What the tests expect of the trees that a library writes: expected.json, beside them.

Everything in it comes from the library itself: names, dtypes, shapes and bytes of the tensors are those that it loads, whole, from
however many files and ranks. It imports nothing but numpy, so that it runs in each library's own environment.

    [{"path": folder below OUTPUT, "layout": family of layouts, "iterations": [{
        "path": below the tree, null where an iteration is spread over folders, "step": or null, "epoch": or null, "complete":,
        "worldSize": or null where nothing tells, "required": files without which it is incomplete,
        "model": {name: {"dtype", "shape", "sha256"}}, "optimizer": the same, where the layout keeps it by name,
        "tied": names of the model that others of it stand for as well}]}]
"""
import hashlib
import json
from pathlib import Path

import numpy as np

DTYPES = {
    "float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16", "int64": "I64", "int32": "I32", "int16": "I16",
    "int8": "I8", "uint8": "U8", "bool": "BOOL"}


def described(tensor):
    """The dtype, shape and bytes of a whole tensor of torch or numpy; what is described already stays as it is."""
    if isinstance(tensor, dict):
        return tensor
    if hasattr(tensor, "detach"):
        import torch
        tensor = tensor.detach().cpu().contiguous()
        data = tensor.reshape(-1).view(torch.uint8).numpy()
    else:
        tensor = data = np.asarray(tensor, order="C")
    dtype = DTYPES[str(tensor.dtype).removeprefix("torch.")]
    return {"dtype": dtype, "shape": list(tensor.shape), "sha256": hashlib.sha256(data.tobytes()).hexdigest()}


def iteration(path, step, model, *, optimizer=None, epoch=None, complete=True, world_size=None, required=(), tied=()):
    tensors = {name: described(tensor) for name, tensor in model.items()}
    facts = {
        "path": path, "step": step, "epoch": epoch, "complete": complete, "worldSize": world_size, "required": list(required),
        "model": tensors, "tied": list(tied)}
    if optimizer is not None:
        facts["optimizer"] = {name: described(tensor) for name, tensor in optimizer.items()}
    return facts


def expect(output, path, layout, iterations):
    """Adds a tree to expected.json."""
    file = Path(output) / "expected.json"
    trees = json.loads(file.read_text()) if file.exists() else []
    trees.append({"path": str(path), "layout": layout, "iterations": iterations})
    file.write_text(json.dumps(trees, indent=1) + "\n")
