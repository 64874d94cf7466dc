"""Containers and objects as nodes of a tree."""

from __future__ import annotations

import collections
import json
import math
from typing import Any, Callable, Protocol, Union

import numpy as np

from ._advice import advice
from ._arrays import Array
from ._dtypes import Unstorable, imported_torch
from ._values import ENCODERS, is_plain, numpy_scalar, numpy_type, torch_encoders

#: How deep a state may be nested. A level can take three of JSON's, of which most readers bear some hundreds.
MOST_LEVELS = 100

Tree = Any
Encoder = Callable[[Any, Any], Tree]
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


class Walk(Protocol):
    """What a container needs of the walk through a state."""

    def inner(self, key: Any, value: Any) -> Tree:
        """The node of a value that the container holds under a key."""

    def enter(self, container: Any) -> None:
        """Notes that the values that follow are in a container. Raises NotData if it is in itself."""

    def leave(self, container: Any) -> None:
        """Ends that."""

    def pickled(self, value: Any, reason: str) -> Tree:
        """The node of an object. Raises NotData, with the reason, where pickles aren't allowed."""

    def store_numpy(self, array: Array) -> Tree:
        """Stores an array. Returns its node."""


def plain_encoders(encoders: dict[type, Callable[[Any], Any]]) -> dict[type, Encoder]:
    """Encoders of values that need no walk."""

    def with_walk(encode: Callable[[Any], Any]) -> Encoder:
        return lambda walk, value: encode(value)

    return {kind: with_walk(encode) for kind, encode in encoders.items()}


def encoder_of(kind: type) -> Encoder:
    """How a type is encoded that isn't in the table: kinds of which there are many, and what isn't data."""
    if issubclass(kind, np.generic):
        return lambda walk, value: numpy_scalar(value)
    if issubclass(kind, np.dtype):
        return lambda walk, value: numpy_type(value)
    return _object


def _object(walk: Walk, value: Any) -> Tree:
    kind = type(value)
    return walk.pickled(
        value, f"it is a {kind.__module__}.{kind.__qualname__}, which isn't data: {advice(value)}"
    )


def _is_plain_key(key: Any) -> bool:
    return type(key) is str and key[:1] != "$" and is_plain(key)


def _dict(walk: Walk, mapping: dict[Any, Any]) -> Tree:
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


def _list(walk: Walk, items: Union[list[Any], tuple[Any, ...]]) -> list[Tree]:
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


def _set(key: str) -> Encoder:
    return lambda walk, items: {key: _in_order([_key(item) for item in items])}


def _ordered(walk: Walk, mapping: collections.OrderedDict[Any, Any]) -> Tree:
    node = {"$ordered": _dict(walk, mapping)}
    # Modules keep the versions of their state there, as `_metadata`.
    attributes = vars(mapping)
    if attributes:
        node["attributes"] = {name: walk.inner(name, value) for name, value in attributes.items()}
    return node


def _defaultdict(walk: Walk, mapping: collections.defaultdict[Any, Any]) -> Tree:
    factory = mapping.default_factory
    if factory is not None and factory not in FACTORIES:
        raise Unstorable(f"its default_factory is {factory!r}, which isn't data: save dict() of it")
    return {"$defaultdict": _dict(walk, mapping), "factory": factory and FACTORIES[factory]}


CONTAINERS: dict[type, Encoder] = {
    **plain_encoders(ENCODERS),
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
