"""States taken apart: any nested data as JSON and a list of tensors."""

from __future__ import annotations

import collections
import json
import math
import pickle
import re
from collections.abc import Mapping
from typing import Any, Callable, NamedTuple, Optional, Union

import numpy as np

from . import _tensors
from ._arrays import Array, Box, Leaf, numpy_leaf, torch_leaf
from ._dtypes import Unstorable, WithoutData, imported_torch
from ._sharing import Sharing
from ._values import ENCODERS, is_plain, numpy_scalar, numpy_type, text64, torch_encoders
from .errors import NotData

#: How deep a state may be nested. A level can take three of JSON's, of which most readers bear some hundreds.
MOST_LEVELS = 100

Tree = Any
FACTORIES = {
    int: "int",
    float: "float",
    str: "str",
    bool: "bool",
    list: "list",
    dict: "dict",
    set: "set",
    tuple: "tuple",
}


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
        self._encoders = dict(_ENCODERS)
        self._part = ""
        self._path: list[Any] = []
        self._open: set[int] = set()
        self._names: dict[str, set[str]] = {}
        self._leaves: list[Leaf] = []
        self._sharing = Sharing()
        if imported_torch():
            self._encoders.update(_plain(torch_encoders()))
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
            encoder = self._encoders[kind] = _encoder_of(kind)
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


_Encoder = Callable[[Any, Any], Tree]


def _plain(encoders: dict[type, Callable[[Any], Any]]) -> dict[type, _Encoder]:
    """Encoders of values that need no walk."""

    def with_walk(encode: Callable[[Any], Any]) -> _Encoder:
        return lambda walk, value: encode(value)

    return {kind: with_walk(encode) for kind, encode in encoders.items()}


def _encoder_of(kind: type) -> _Encoder:
    """How a type is encoded that isn't in the table: kinds of which there are many, and what isn't data."""
    if issubclass(kind, np.generic):
        return lambda walk, value: numpy_scalar(value)
    if issubclass(kind, np.dtype):
        return lambda walk, value: numpy_type(value)
    return _object


def _object(walk: _Walk, value: Any) -> Tree:
    kind = type(value)
    return walk.pickled(
        value, f"it is a {kind.__module__}.{kind.__qualname__}, which isn't data: {_advice(value)}"
    )


def _advice(value: Any) -> str:
    """What to save in place of an object."""
    if isinstance(value, type) or (callable(value) and not hasattr(value, "state_dict")):
        return "leave it out"
    if hasattr(value, "state_dict"):
        return "save its state_dict()"
    if hasattr(value, "_asdict"):
        return "save its _asdict()"
    if hasattr(value, "get_state") or hasattr(value, "getstate"):
        return "save its state"
    if isinstance(value, (str, int, float, bytes, list, tuple, dict, set, frozenset)):
        return "save it as the plain type that it extends"
    if hasattr(value, "value") and hasattr(value, "name"):
        return "save its .value"
    return "save what it holds as dicts, lists, numbers and tensors (vars() may do)"


def _is_plain_key(key: Any) -> bool:
    return type(key) is str and key[:1] != "$" and is_plain(key)


def _dict(walk: _Walk, mapping: dict[Any, Any]) -> Tree:
    walk.enter(mapping)
    tree: Tree
    if all(map(_is_plain_key, mapping)):
        tree = {key: walk.inner(key, value) for key, value in mapping.items()}
    else:
        keys = [_key(key) for key in mapping]
        tree = {
            "$dict": [[key, walk.inner(path, value)] for key, (path, value) in zip(keys, mapping.items())]
        }
    walk.leave(mapping)
    return tree


def _key(key: Any, level: int = 0) -> Tree:
    """A key, or an element of a set: a value that needs no memory of its own."""
    kind = type(key)
    if kind in (tuple, frozenset) and level < MOST_LEVELS:
        inner = [_key(item, level + 1) for item in key]
        return {"$tuple": inner} if kind is tuple else {"$frozenset": _in_order(inner)}
    encode = ENCODERS.get(kind)
    if encode is None and issubclass(kind, np.generic):
        encode = numpy_scalar
    if encode is None and imported_torch():
        encode = torch_encoders().get(kind)
    if encode is None:
        raise Unstorable(f"a {kind.__qualname__} as a key or in a set isn't data: use text or numbers")
    return encode(key)


def _in_order(items: list[Tree]) -> list[Tree]:
    """Elements of a set in an order that doesn't change from process to process."""
    return sorted(items, key=json.dumps)


def _list(walk: _Walk, items: Union[list[Any], tuple[Any, ...]]) -> list[Tree]:
    # Long lists of plain numbers, such as the order of a data set.
    kinds = set(map(type, items))
    if kinds == {int} and -(2**63) <= min(items) and max(items) < 2**63:
        return list(items)
    if kinds == {float} and all(map(math.isfinite, items)):
        return list(items)
    walk.enter(items)
    trees = [walk.inner(index, item) for index, item in enumerate(items)]
    walk.leave(items)
    return trees


def _set(key: str) -> _Encoder:
    return lambda walk, items: {key: _in_order([_key(item) for item in items])}


def _ordered(walk: _Walk, mapping: collections.OrderedDict[Any, Any]) -> Tree:
    node = {"$ordered": _dict(walk, mapping)}
    # Modules keep the versions of their state there, as `_metadata`.
    attributes = vars(mapping)
    if attributes:
        node["attributes"] = {name: walk.inner(name, value) for name, value in attributes.items()}
    return node


def _defaultdict(walk: _Walk, mapping: collections.defaultdict[Any, Any]) -> Tree:
    factory = mapping.default_factory
    if factory is not None and factory not in FACTORIES:
        raise Unstorable(f"its default_factory is {factory!r}, which isn't data: save dict() of it")
    return {"$defaultdict": _dict(walk, mapping), "factory": factory and FACTORIES[factory]}


_ENCODERS: dict[type, _Encoder] = {
    **_plain(ENCODERS),
    dict: _dict,
    list: _list,
    tuple: lambda walk, items: {"$tuple": _list(walk, items)},
    set: _set("$set"),
    frozenset: _set("$frozenset"),
    collections.OrderedDict: _ordered,
    collections.defaultdict: _defaultdict,
    collections.Counter: lambda walk, mapping: {"$counter": _dict(walk, mapping)},
    collections.deque: lambda walk, items: {"$deque": _list(walk, items), "maxlen": items.maxlen},
    slice: lambda walk, value: {"$slice": _list(walk, (value.start, value.stop, value.step))},
    np.ndarray: lambda walk, array: walk.store_numpy(array),
    np.memmap: lambda walk, array: walk.store_numpy(array.view(np.ndarray)),
}
