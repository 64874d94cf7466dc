"""What one rank adds to an iteration that torch.distributed.checkpoint saves."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, Optional, Union

import torch
from torch.distributed.checkpoint.default_planner import DefaultSavePlanner
from torch.distributed.checkpoint.planner import SavePlan, SavePlanner, WriteItem, WriteItemType
from torch.distributed.checkpoint.storage import WriteResult
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from ._arrays import torch_leaf
from ._background import interruptible
from ._dcp_metadata import Stored, Value
from ._iteration import part_file
from ._saving import Plan, Session
from ._store import Store
from ._tree import flatten
from .errors import NotData

#: Bytes of copies that are held at a time: of tensors that aren't in host memory as they are stored.
COPIES = 256 << 20
#: The parts of a state, by what people call them.
_PARTS = {"model": "model", "optimizer": "optimizer", "optim": "optimizer"}
Path = tuple[Union[str, int], ...]


@dataclasses.dataclass(frozen=True)
class Share:
    """What the coordinator tells a rank: which it is, and where in the state the parts are, by name."""

    rank: int
    ranks: int
    parts: Mapping[str, Path]

    def place(self, name: str, path: Path) -> tuple[str, str]:
        """The part that a tensor belongs to, and its name there."""
        for part, prefix in self.parts.items():
            if len(path) > len(prefix) and path[: len(prefix)] == prefix:
                return part, ".".join(map(str, path[len(prefix) :]))
        return ("extra" if self.parts else "model"), name


def find_parts(paths: Iterable[Path]) -> dict[str, Path]:
    """Where the model and the optimizer are: at the top, or one below, as in `{"app": {"model": ...}}`. Of
    what is there twice none is."""
    found: dict[str, set[Path]] = {}
    for path in paths:
        for depth, key in enumerate(path[:-1][:2]):
            if key in _PARTS:
                found.setdefault(_PARTS[str(key)], set()).add(path[: depth + 1])
                break
    return {part: prefixes.pop() for part, prefixes in found.items() if len(prefixes) == 1}


def path_of(plan: SavePlan, item: WriteItem) -> Path:
    """Where in the nested state an item is; its name where the planner doesn't say."""
    paths = plan.planner_data if isinstance(plan.planner_data, dict) else {}
    path = paths.get(item.index.fqn)
    return path if isinstance(path, tuple) else (item.index.fqn,)


class Part:
    """A save of what one rank has.

    `files` are kept beside its tensors, by their paths in the iteration.
    """

    def __init__(self, store: Store, plan: Plan, share: Share) -> None:
        self.files: dict[str, bytes] = {}
        self.folder = plan.folder
        self._share = share
        self._shards = plan.flat.shards
        self._session = Session(store._handle(), plan._replace(files=self.files), None, False)
        self._names: set[tuple[str, str]] = set()
        # Their memory must stay until it is taken.
        self._held: list[Any] = []
        self._copied = 0

    def add(self, item: WriteItem, path: Path, planner: SavePlanner) -> WriteResult:
        """Adds what an item of the rank's plan stands for."""
        if item.type != WriteItemType.BYTE_IO:
            return self._add_tensor(item, path, planner.resolve_data(item))
        value = _value(item, planner)
        if value is not None:
            return WriteResult(item.index, 0, value)
        content = planner.resolve_data(item).getvalue()
        file = f"{self.folder}objects/{len(self.files):06}.pt"
        self.files[file] = content
        return WriteResult(item.index, len(content), Stored(file))

    def _add_tensor(self, item: WriteItem, path: Path, resolved: Any) -> WriteResult:
        tensor, whole = _on_host(item.index.fqn, resolved), item.tensor_data.size
        if tensor.numel() == 0 and whole.numel() > 0:
            return WriteResult(item.index, 0, None)
        leaf, _ = torch_leaf(tensor)
        leaf.part, name = self._share.place(item.index.fqn, path)
        leaf.name = self._unique(leaf.part, name)
        if tensor.shape != whole:
            self._note_shard(name, leaf.part, leaf.name, whole, item.tensor_data.chunk.offsets)
        self._session.add([leaf], None)
        self._hold(tensor, is_copy=tensor.data_ptr() != resolved.data_ptr())
        stored = Stored(part_file(self.folder, leaf.part), leaf.name, tensor.dtype)
        return WriteResult(item.index, leaf.nbytes, stored)

    def _unique(self, part: str, name: str) -> str:
        number, unique = 1, name
        while (part, unique) in self._names:
            number += 1
            unique = f"{name}#{number}"
        self._names.add((part, unique))
        return unique

    def _note_shard(
        self, name: str, part: str, stored: str, shape: Iterable[int], offset: Iterable[int]
    ) -> None:
        """Says of which larger tensor a stored one is a box, by that one's name."""
        file = part_file("", part)
        shard = {"file": file, "tensor": stored, "shape": list(shape), "offset": list(offset)}
        others = self._shards.get(name, [])
        others = others if isinstance(others, list) else [others]
        self._shards[name] = [*others, shard] if others else shard

    def _hold(self, tensor: Any, is_copy: bool) -> None:
        self._held.append(tensor)
        self._copied += tensor.nbytes if is_copy else 0
        if self._copied >= COPIES:
            self.take()

    def take(self) -> None:
        """Reads what was added, so that its memory is free."""
        interruptible(self._session.take)
        self._held.clear()
        self._copied = 0

    def commit(self) -> dict[str, Any]:
        """Makes the part durable, and if it is the last one the iteration visible."""
        saved: dict[str, Any] = interruptible(self._session.commit)
        self.close()
        return saved

    def close(self) -> None:
        """Gives up what is not committed."""
        self._session.close()
        self._held.clear()


def _value(item: WriteItem, planner: SavePlanner) -> Optional[Value]:
    """What torch's planner would pickle, where it is plain data: numbers, text, lists of them and so on."""
    if not isinstance(planner, DefaultSavePlanner) or _changes_objects(type(planner)):
        return None
    try:
        flat = flatten({"value": planner.lookup_object(item.index)})
    except NotData:
        return None
    return None if flat.leaves else Value(flat.trees["value"])


def _changes_objects(planner: Any) -> bool:
    """Whether what a kind of planner writes of an object may be other than torch's pickle of it."""
    plain = DefaultSavePlanner
    return (
        planner.resolve_data is not plain.resolve_data
        or planner.transform_object is not plain.transform_object
    )


def _on_host(name: str, tensor: Any) -> Any:
    """The elements in host memory, one after the other: a copy only where they aren't."""
    if not isinstance(tensor, torch.Tensor):
        raise NotData(f"{name} is planned as a tensor, and is a {type(tensor).__name__}", path=name)
    if tensor.is_meta:
        raise NotData(f"{name} is on the meta device, so it has no values to save", path=name)
    if tensor.layout is not torch.strided or is_traceable_wrapper_subclass(tensor):
        kind = type(tensor).__name__
        raise NotData(f"{name} is a {kind} of several arrays: save these instead", path=name)
    return tensor.detach().resolve_conj().resolve_neg().cpu().contiguous()
