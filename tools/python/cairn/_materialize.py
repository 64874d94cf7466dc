"""A folder from which the Hugging Face `Trainer` resumes, made of an iteration."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Optional, Union

import safetensors.torch
import torch

from ._iteration import STATE_FILE, Iteration
from ._pretrained import MODELS, parts_of
from ._store import Store, open as open_store
from .errors import Usage

# What says of which iteration a folder was made; the Trainer doesn't know it.
_MARK = "cairn_iteration.json"
# A name that no framework takes for a checkpoint.
_UNFINISHED = ".cairn-unfinished"
# The parts of a training, by the files in which the Trainer has them.
_FILES = {"optimizer": "optimizer.pt", "scheduler": "scheduler.pt", "scaler": "scaler.pt"}


def materialize(
    store: Union[Store, str, os.PathLike[str]],
    reference: str = "latest",
    output_dir: Union[str, os.PathLike[str]] = ".",
    *,
    allow_pickle: bool = False,
) -> str:
    """Makes the folder `output_dir/checkpoint-STEP` for `resume_from_checkpoint`, of an iteration that `CairnCallback` saved,
    or `cairn save` from a folder of the Trainer's.

    A folder that this made of the same iteration is taken as it is, so every process and every restart may ask for it.
    It appears when it is whole.

    Args:
        store: A store, or the path of one.
        reference: An iteration, such as "latest", "sft@latest", "best:eval_loss" or "500".
        output_dir: Where the Trainer looks for its checkpoints; it is made where there is none.
        allow_pickle: Whether to read pickles, where it was saved with them. Reading one can run any program.

    Returns:
        The folder's path.

    Raises:
        FileExistsError: The folder is there, and was made by something else.
        NotFound: Nothing is saved there yet.
        Usage: The iteration isn't of a Trainer.
    """
    with contextlib.ExitStack() as opened:
        if not isinstance(store, Store):
            store = opened.enter_context(open_store(store))
        iteration = opened.enter_context(store[reference])
        folder = Path(output_dir) / f"checkpoint-{iteration.step}"
        folder.parent.mkdir(parents=True, exist_ok=True)
        place = opened.enter_context(_alone_in(folder.parent))
        made_of = _made_of(folder)
        if made_of != iteration.id:
            if STATE_FILE in iteration.files:
                place.mkdir()
                _write(iteration, place, allow_pickle)
            else:
                store.restore(f"#{iteration.id}", place)
            _check(iteration, place)
            if made_of is not None:
                # So that there never is half of it.
                folder.rename(place.with_name(place.name + "-old"))
            place.rename(folder)
    return str(folder)


@contextlib.contextmanager
def _alone_in(folder: Path) -> Iterator[Path]:
    """A place to write to, which is gone afterwards, also where a process was killed. Other processes wait meanwhile."""
    with open(folder / ".cairn-lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            _clear(folder)
            yield folder / _UNFINISHED
        finally:
            _clear(folder)


def _clear(folder: Path) -> None:
    for path in folder.glob(_UNFINISHED + "*"):
        shutil.rmtree(path)


def _made_of(folder: Path) -> Optional[str]:
    """The id of the iteration that a folder was made of; None where there is no folder."""
    if not os.path.lexists(folder):
        return None
    try:
        made_of: str = json.loads((folder / _MARK).read_text())["id"]
        return made_of
    except OSError:
        raise FileExistsError(
            f"{folder} is there already and wasn't made from a store: move it away, or name another output_dir"
        ) from None


def _write(iteration: Iteration, folder: Path, allow_pickle: bool) -> None:
    parts = parts_of(iteration)
    for part in parts:
        # One at a time, as each of them may take much memory.
        state = iteration.state(part, map_location="cpu", allow_pickle=allow_pickle)
        if part in MODELS:
            safetensors.torch.save_file(_unshared(state), folder / f"{part}.safetensors", {"format": "pt"})
        elif part in _FILES:
            torch.save(state, folder / _FILES[part])
        elif part == "rng_state":
            for rank, states in enumerate(state):
                torch.save(states, folder / ("rng_state.pth" if len(state) == 1 else f"rng_state_{rank}.pth"))
    for path in iteration.files.keys() - {STATE_FILE, *(f"{part}.safetensors" for part in parts)}:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(iteration.read(path))


def _check(iteration: Iteration, folder: Path) -> None:
    """Marks a folder as made of an iteration, where the Trainer would find its state in it."""
    if not (folder / "trainer_state.json").exists():
        raise Usage(
            f"{iteration.run}@{iteration.step} has no state of a Trainer; CairnCallback saves it, and "
            "`cairn save` of a checkpoint-STEP folder"
        )
    mark = {"run": iteration.run, "step": iteration.step, "id": iteration.id}
    (folder / _MARK).write_text(json.dumps(mark) + "\n")


def _unshared(tensors: Mapping[str, Any]) -> dict[str, Any]:
    """A file of safetensors has no two names for the same memory."""
    seen: set[int] = set()
    unshared = {}
    for name, tensor in tensors.items():
        memory = tensor.untyped_storage().data_ptr()
        unshared[name] = tensor.clone() if memory in seen else tensor
        seen.add(memory)
    return unshared
