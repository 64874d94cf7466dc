"""Checkpoints of Lightning in a store.

    trainer = Trainer(plugins=[CairnIO("checkpoints.cairn", run="resnet")], callbacks=[ModelCheckpoint(monitor="val_loss")])
    trainer.fit(model, data)
    trainer.fit(model, data, ckpt_path="last")
    trainer.fit(model, data, ckpt_path="resnet@best:val_loss")

The last line needs no file of Lightning's; where a metric's name doesn't end in "loss", and its callback has mode="min", write
"resnet@best:val_wer:min". The files that are left of the others are read by `torch.load` as well, and so by

    model = Model.load_from_checkpoint("lightning_logs/version_0/checkpoints/epoch=3-step=16.ckpt")

once this module is imported.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import pickle
import sys
import zipfile
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Callable, Optional, Union

import torch

from ._following import Following
from ._saving import Saving
from ._store import Store, open as open_store
from .errors import NotFound, Protected

# The package has two names, and a Trainer takes the plugins of its own one alone.
if TYPE_CHECKING or "lightning" in sys.modules or "lightning_fabric" not in sys.modules:
    from lightning.fabric.plugins import TorchCheckpointIO
else:
    from lightning_fabric.plugins import TorchCheckpointIO

__all__ = ["CairnIO", "load"]

_PathLike = Union[str, "os.PathLike[str]"]
# The entries of a checkpoint that are parts of an iteration, by name of the part. All others are its part `extra`.
_PARTS = {"model": "state_dict", "optimizer": "optimizer_states", "scheduler": "lr_schedulers"}
_FORMAT = "cairn-pointer"
# What torch calls the data in a file that it was given open, whatever the file's name.
_PICKLE = "archive/data.pkl"


class CairnIO(TorchCheckpointIO):
    """Saves what Lightning saves into a store, and leaves at the path of each checkpoint a small file that points to it.

    So all goes on as with files: `ModelCheckpoint` with whatever it keeps, monitors and removes, `ckpt_path="last"`, links,
    `load_from_checkpoint`. Checkpoints that were written as files are loaded and removed as before.

    Each path has an iteration of its own: a second one of the same step (`last.ckpt`) goes into the run `RUN-v1`, as its
    callbacks' states differ. That costs hardly any space, but a second save; `save_last="link"` costs nothing. Removing a
    checkpoint deletes its iteration, unless it is pinned or the newest of its run, which a store never deletes.

    Where a checkpoint holds objects that are no data, such as hyperparameters of classes of one's own, the error names
    them; `allow_pickle=True` keeps them.

    Args:
        store: A store, or the path of one; it is made where there is none.
        run: The run to save into; None is `main`.
        wait: Whether training waits until each save is durable. Else it goes on, the file appears when the save is
            durable, and what goes wrong is raised at the next save, at the latest when training ends.
        options: More for `Store.save`, such as `memory`, `staging` and `allow_pickle`.
    """

    def __init__(
        self, store: Union[Store, _PathLike], run: Optional[str] = None, *, wait: bool = False, **options: Any
    ) -> None:
        super().__init__()
        self._place, self._run, self._wait, self._options = store, run or "main", wait, options
        self._opened: Optional[Store] = None
        self._following = Following()
        # Which run and step each path has, of those that were saved here.
        self._saved: dict[str, tuple[str, int]] = {}

    @property
    def _store(self) -> Store:
        # Opened where it is used, as strategies may start processes in between.
        if self._opened is None:
            self._opened = (
                self._place if isinstance(self._place, Store) else open_store(self._place, create=True)
            )
        return self._opened

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: _PathLike, storage_options: Optional[Any] = None
    ) -> None:
        """Saves it as the iteration of its `global_step`."""
        if storage_options is not None:
            raise TypeError("CairnIO has no storage_options: give it options of Store.save")
        self._following.check()
        path, step = os.path.abspath(path), int(checkpoint["global_step"])
        # At once, as links are made before what they point to.
        os.makedirs(os.path.dirname(path), exist_ok=True)
        run, is_there = self._place_of(path, step)
        parts = {part: checkpoint[key] for part, key in _PARTS.items() if key in checkpoint}
        extra = {key: value for key, value in checkpoint.items() if key not in _PARTS.values()}
        saving = self._store.save(
            step,
            run=run,
            metrics=_metrics(checkpoint, path),
            replace=is_there,
            wait=False,
            extra=extra,
            **parts,
            **self._options,
        )
        self._saved[path] = run, step
        self._following.add(self._point, path, saving)
        if self._wait:
            self._following.wait()

    def load_checkpoint(
        self, path: _PathLike, map_location: Optional[Any] = None, weights_only: Optional[bool] = None
    ) -> dict[str, Any]:
        """Loads what a path points to, or a reference to an iteration of the store.

        Raises:
            FileNotFoundError: There is neither.
        """
        self._following.wait()
        reference = os.fspath(path)
        if os.path.exists(path):
            pointer = _pointer(path)
            if pointer is None:
                options = {"map_location": map_location, "weights_only": weights_only}
                given = {name: value for name, value in options.items() if value is not None}
                loaded: dict[str, Any] = super().load_checkpoint(path, **given)
                return loaded
            reference = f"#{pointer['id']}"
        try:
            state = self._store.load(
                reference,
                map_location="cpu" if map_location is None else map_location,
                allow_pickle=self._options.get("allow_pickle", False),
            )
        except NotFound as error:
            raise FileNotFoundError(f"there is no checkpoint {os.fspath(path)}: {error}") from error
        return _checkpoint(state)

    def remove_checkpoint(self, path: _PathLike) -> None:
        """Deletes its iteration, once what was saved before this is durable."""
        path = os.path.abspath(path)
        self._saved.pop(path, None)
        self._following.add(self._remove, path)
        if self._wait:
            self._following.wait()

    def teardown(self) -> None:
        """Waits for all that was saved. Raises what went wrong."""
        try:
            self._following.wait()
        finally:
            if self._opened is not None and self._opened is not self._place:
                # Gives the memory for copies of the state back; it is opened again where that is needed.
                self._opened.close()
            self._opened = None

    def _place_of(self, path: str, step: int) -> tuple[str, bool]:
        """The run in which a path has its iteration of a step, and whether it has that already."""
        pointer = _own_pointer(path) or {}
        own = self._saved.get(path, (pointer.get("run", self._run), pointer.get("step")))
        taken = {(iteration["run"], iteration["step"]) for iteration in self._store.iterations()}
        taken.update(self._saved.values())
        # What is overwritten each time stays in its run, of which the newest can't be deleted.
        others = (f"{self._run}-v{number}" for number in itertools.count(1))
        runs = itertools.chain([own[0], self._run], others)
        run = next(run for run in runs if (run, step) == own or (run, step) not in taken)
        return run, (run, step) == own

    def _point(self, path: str, saving: Saving) -> None:
        """Lets a path point to what was saved, once that is durable."""
        saved, before = saving.wait(), _own_pointer(path)
        if saved is None:
            # Another one was under way, and options have it that this one is left out then.
            return
        pointer = {"format": _FORMAT, "version": 1, "name": os.path.basename(path), "store": self._store.path}
        pointer.update({key: saved[key] for key in ("run", "step", "id")})
        with open(f"{path}.part", "wb") as file:
            torch.save(_Pointer(pointer), file)
            file.flush()
            # Else a power cut may leave an empty file where the path had another pointer.
            os.fsync(file.fileno())
        os.replace(file.name, path)
        if before is not None and (before["run"], before["step"]) != (saved["run"], saved["step"]):
            self._delete(before)

    def _remove(self, path: str) -> None:
        pointer = _pointer(path)
        if pointer is None:
            super().remove_checkpoint(path)
        else:
            before = _own_pointer(path)
            os.unlink(path)
            if before is not None:
                self._delete(before)

    def _delete(self, pointer: Mapping[str, Any]) -> None:
        # Somebody else, or a policy, may have deleted it before.
        with contextlib.suppress(Protected, NotFound):
            self._store.delete(f"#{pointer['id']}")
            self._store.gc()


def load(pointer: Mapping[str, Any]) -> dict[str, Any]:
    """The checkpoint that a file points to, in host memory: what `torch.load` of that file calls.

    Raises:
        NotAStore: The store isn't any more where it was. `CairnIO` of its new place loads the same file.
        Usage: It holds pickles, which `CairnIO` with `allow_pickle=True` reads.
    """
    with open_store(pointer["store"]) as store:
        return _checkpoint(store.load(f"#{pointer['id']}", map_location="cpu"))


# So that `torch.load` calls it with weights_only=True as well, which asks that no file runs code: it reads no pickles.
torch.serialization.add_safe_globals([load])


class _Pointer:
    """What `torch.load` makes a checkpoint of."""

    def __init__(self, pointer: Mapping[str, Any]) -> None:
        self._pointer = pointer

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any]]:
        return load, (dict(self._pointer),)


class _Reader(pickle.Unpickler):
    """Reads the pointer itself, and nothing that is more than plain data."""

    def find_class(self, module: str, name: str) -> type:
        if (module, name) != (__name__, load.__name__):
            raise pickle.UnpicklingError(f"{module}.{name} is no pointer")
        return dict


def _checkpoint(state: dict[str, Any]) -> dict[str, Any]:
    """A checkpoint of Lightning, of the parts of an iteration."""
    extra: dict[str, Any] = state.pop("extra", {})
    return {**extra, **{_PARTS.get(part, part): value for part, value in state.items()}}


def _pointer(path: _PathLike) -> Optional[dict[str, Any]]:
    """What a file says that is a pointer; None for all others."""
    try:
        with zipfile.ZipFile(path) as archive, archive.open(_PICKLE) as file:
            pointer = _Reader(file).load()
    except (OSError, KeyError, EOFError, pickle.UnpicklingError, zipfile.BadZipFile):
        return None
    return pointer if isinstance(pointer, dict) and pointer.get("format") == _FORMAT else None


def _own_pointer(path: _PathLike) -> Optional[dict[str, Any]]:
    """The pointer that was made for a path; not one that a link or a copy has under another name."""
    pointer = _pointer(path)
    return pointer if pointer and pointer["name"] == os.path.basename(path) else None


def _metrics(checkpoint: Mapping[str, Any], path: str) -> dict[str, float]:
    """What the callbacks that keep the best have measured of it."""
    states = [state for state in checkpoint.get("callbacks", {}).values() if isinstance(state, dict)]
    return {
        state["monitor"]: float(score)
        for state in states
        for best, score in state.get("best_k_models", {}).items()
        if state.get("monitor") and os.path.abspath(best) == path
    }
