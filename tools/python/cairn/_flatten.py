"""States taken apart: any nested data as JSON and a list of tensors."""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from typing import Any, NamedTuple, Optional

from . import _tensors
from ._arrays import Array, Box, Leaf, numpy_leaf, torch_leaf
from ._containers import CONTAINERS, MOST_LEVELS, encoder_of, plain_encoders
from ._dtypes import Unstorable, WithoutData, imported_torch
from ._sharing import Sharing
from ._values import text64, torch_encoders
from .errors import NotData

Tree = Any


class Flat(NamedTuple):
    """A state, taken apart.

    `trees` is JSON for each part. `leaves` are the tensors to be stored, in order, each with the part and the
    name that it has there. `shards` says of those that are boxes of larger ones where they belong: {name:
    {"file", "tensor", "shape", "offset"}}, or a list of such where parts have the same name.
    """

    trees: dict[str, Tree]
    leaves: list[Leaf]
    shards: dict[str, Any]


def flatten(parts: Mapping[str, Any], *, allow_pickle: bool = False) -> Flat:
    """Takes the parts of a state apart, such as {"model": ..., "optimizer": ...}. Copies no tensors.

    Raises NotData, which names the path, for an object that isn't data, unless `allow_pickle` has it kept as
    a pickle; and for a state that contains itself, is nested deeper than 100 levels, or has tensors without
    data.
    """
    walk = _Walk(allow_pickle)
    trees = {part: walk.part_tree(part, state) for part, state in parts.items()}
    return Flat(trees, *walk.stored())


class _Walk:
    """A walk through all parts of a state."""

    def __init__(self, allow_pickle: bool) -> None:
        self._allows_pickle = allow_pickle
        self._encoders = dict(CONTAINERS)
        self._part = ""
        self._path: list[Any] = []
        self._open: set[int] = set()
        self._names: dict[str, set[str]] = {}
        self._leaves: list[Leaf] = []
        self._sharing = Sharing()
        if imported_torch():
            self._encoders.update(plain_encoders(torch_encoders()))
            self._encoders.update(_tensors.tensor_encoders())

    def part_tree(self, part: str, state: Any) -> Tree:
        # A name that the format of the file has taken.
        self._part, self._names[part] = part, {"__metadata__"}
        return self.encode(state)

    def stored(self) -> tuple[list[Leaf], dict[str, Any]]:
        replaced = self._sharing.join(self._unused)
        leaves = [leaf for first in self._leaves for leaf in [replaced.get(first, first)] if leaf is not None]
        shards: dict[str, Any] = {}
        for leaf in leaves:
            if leaf.box:
                file, shape, offset = f"{leaf.part}.safetensors", list(leaf.box.shape), list(leaf.box.offset)
                shard = {"file": file, "tensor": leaf.name, "shape": shape, "offset": offset}
                others = shards.get(leaf.name)
                if others is None:
                    shards[leaf.name] = shard
                elif isinstance(others, list):
                    others.append(shard)
                else:
                    shards[leaf.name] = [others, shard]
        return leaves, shards

    def encode(self, value: Any) -> Tree:
        kind = type(value)
        encoder = self._encoders.get(kind)
        if encoder is None:
            encoder = self._encoders[kind] = encoder_of(kind)
        try:
            return encoder(self, value)
        except WithoutData as error:
            raise self._not_data(str(error)) from None
        except Unstorable as error:
            self.leave(value)
            return self.pickled(value, str(error))

    def inner(self, key: Any, value: Any) -> Tree:
        self._path.append(key)
        tree = self.encode(value)
        self._path.pop()
        return tree

    def enter(self, container: Any) -> None:
        if id(container) in self._open:
            raise self._not_data("it contains itself: a state is a tree")
        if len(self._path) >= MOST_LEVELS:
            raise self._not_data(f"it is nested deeper than {MOST_LEVELS} levels")
        self._open.add(id(container))

    def leave(self, container: Any) -> None:
        self._open.discard(id(container))

    def pickled(self, value: Any, reason: str) -> Tree:
        if not self._allows_pickle:
            raise self._not_data(f"{reason}, or pass allow_pickle=True")
        try:
            return {"$pickle": text64(pickle.dumps(value, protocol=4))}
        except Exception as error:
            raise self._not_data(f"{reason}; it can't be pickled either ({error})") from error

    def _not_data(self, reason: str) -> NotData:
        path = path_text(self._part, self._path)
        return NotData(f"{path} can't be saved: {reason}", path=path)

    def store_numpy(self, array: Array) -> dict[str, Any]:
        leaf, attributes = numpy_leaf(array)
        node: dict[str, Any] = {"$array": ""}
        first = self._sharing.add_numpy(leaf, array, self._part, node) if leaf.nbytes else None
        return self._store(node, "$array", leaf, first, attributes)

    def store_tensor(self, tensor: Any, box: Optional[Box]) -> dict[str, Any]:
        leaf, attributes = torch_leaf(tensor)
        leaf.box = box
        node: dict[str, Any] = {"$tensor": ""}
        is_memory = leaf.nbytes and (leaf.pointer is not None or not (tensor.is_conj() or tensor.is_neg()))
        first = self._sharing.add_torch(leaf, tensor, self._part, node) if is_memory else None
        return self._store(node, "$tensor", leaf, first, attributes)

    def _store(
        self, node: dict[str, Any], key: str, leaf: Leaf, first: Optional[Leaf], attributes: dict[str, Any]
    ) -> dict[str, Any]:
        if first is not None:
            node[key] = first.name
            if first.part != self._part:
                node["part"] = first.part
            node["alias"] = True
        else:
            leaf.part, leaf.name = self._part, self._name()
            node[key] = leaf.name
            self._leaves.append(leaf)
        node.update(attributes)
        return node

    def _name(self) -> str:
        path = ".".join(map(str, self._path)) or self._part
        if not path.isascii() or "\0" in path:
            path = path.encode("utf-8", "backslashreplace").decode("utf-8").replace("\0", "\\0")
        return self._unused(self._part, path)

    def _unused(self, part: str, path: str) -> str:
        names, name, count = self._names[part], path, 1
        while name in names:
            count += 1
            name = f"{path}#{count}"
        names.add(name)
        return name


def path_text(part: str, path: list[Any]) -> str:
    """A path for people, such as `extra.scheduler.lr_lambdas[0]`."""
    shown = path if len(path) <= 20 else [*path[:10], ..., *path[-3:]]
    return part + "".join(map(_step_text, shown))


def _step_text(key: Any) -> str:
    if key is ...:
        return "..."
    return f".{key}" if isinstance(key, str) and re.fullmatch(r"[^\W\d][\w.-]*", key) else f"[{key!r}]"
