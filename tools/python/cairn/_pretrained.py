"""What `save_pretrained` of transformers and PEFT writes: the tensors as they are in memory, and the other files as bytes."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import transformers.modeling_utils

from ._iteration import STATE_FILE, Iteration

_ENDING = ".safetensors"
# The parts of an iteration that are a model or an adapter, called as their files are.
MODELS = ("model", "adapter_model")


def pretrained(model: Any) -> tuple[dict[str, Mapping[str, Any]], dict[str, bytes]]:
    """The parts of an iteration, by their names in `save`, and the files beside them, by path.

    The tensors have the names that they have in the library's own files, and are the model's own memory where it doesn't
    convert them. A model without `save_pretrained` is its state dict, as the Trainer has it.
    """
    model = _uncompiled(model)
    if not hasattr(model, "save_pretrained"):
        return {"model": model.state_dict()}, {}
    with tempfile.TemporaryDirectory() as place, _taken() as taken:
        # All in one file, as a store has no need of shards; PEFT, which has none, ignores it.
        model.save_pretrained(place, max_shard_size=sys.maxsize)
        files = _contents(place)
    parts = {}
    for path, tensors in taken.items():
        name = os.path.relpath(path, place)
        if os.sep in name:
            # Adapters that aren't the default one have folders of their own.
            files[name] = safetensors.torch.save(dict(tensors), {"format": "pt"})
        else:
            parts[name[: -len(_ENDING)]] = tensors
    return parts, files


def _uncompiled(model: Any) -> Any:
    """What torch.compile has wrapped, which is all that the Trainer's own model may be wrapped in."""
    return getattr(model, "_orig_mod", model)


def saved_files(saved: Any) -> dict[str, bytes]:
    """The files that a tokenizer or processor writes, by path; none where there is none."""
    with tempfile.TemporaryDirectory() as place:
        if saved is not None:
            saved.save_pretrained(place)
        return _contents(place)


def _contents(place: str) -> dict[str, bytes]:
    """The bytes of all files below a folder, by path."""
    files = (path for path in Path(place).rglob("*") if path.is_file())
    return {str(path.relative_to(place)): path.read_bytes() for path in files}


@contextlib.contextmanager
def _taken() -> Iterator[dict[str, Mapping[str, Any]]]:
    """Takes what `save_pretrained` hands to safetensors meanwhile, by the path that it was to be written to.

    Which tensors are saved, under which names and converted how, the libraries decide there and nowhere else. Should they
    come to write in another way, the files that they write are saved as they are.
    """
    taken: dict[str, Mapping[str, Any]] = {}

    def take(tensors: Mapping[str, Any], path: Any, metadata: Any = None) -> None:
        taken[os.fspath(path)] = tensors

    with contextlib.ExitStack() as undone:
        for module in (transformers.modeling_utils, sys.modules.get("peft.peft_model")):
            if hasattr(module, "safe_save_file"):
                undone.callback(setattr, module, "safe_save_file", getattr(module, "safe_save_file"))
                setattr(module, "safe_save_file", take)
        yield taken


def parts_of(iteration: Iteration) -> list[str]:
    """The names of an iteration's parts."""
    return list(json.loads(iteration.read(STATE_FILE))["parts"])


def load_pretrained(model: Any, iteration: Iteration) -> None:
    """Loads what `pretrained` gave. What doesn't fit is a warning, as when the Trainer loads its best model."""
    model = _uncompiled(model)
    if "model" not in parts_of(iteration):
        _load_adapters(model, iteration)
        return
    missing, unexpected = model.load_state_dict(iteration.state("model", map_location="cpu"), strict=False)
    # Names of memory that others name as well, of which one was saved.
    state = model.state_dict()
    loaded = {state[name].data_ptr() for name in state.keys() - set(missing)}
    missing = [name for name in missing if state[name].data_ptr() not in loaded]
    if missing or unexpected:
        warnings.warn(
            f"the best model's weights don't fit: missing {missing}, unexpected {unexpected}", stacklevel=2
        )


def _load_adapters(model: Any, iteration: Iteration) -> None:
    from peft import set_peft_model_state_dict

    for name in model.peft_config:
        path = f"{name}/{MODELS[1]}{_ENDING}"
        if path in iteration.files:
            saved = safetensors.torch.load(iteration.read(path))
        else:
            saved = iteration.state(MODELS[1], map_location="cpu")
        set_peft_model_state_dict(model, saved, adapter_name=name)
