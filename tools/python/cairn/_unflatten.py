"""States put together again, from JSON and tensors that were read."""

from __future__ import annotations

import collections
import pickle
from collections.abc import Iterator, Mapping
from typing import Any, Callable

import numpy as np

from . import _tensors
from ._arrays import as_saved
from ._containers import FACTORIES
from ._dtypes import installed_torch
from ._flatten import path_text
from ._sharing import view_of
from ._values import DECODERS, bytes64
from .errors import CairnError, Damage, MissingPackage, NewerVersion, Usage

Tree = Any

_TYPES = {name: kind for kind, name in FACTORIES.items()}


def wanted(trees: Mapping[str, Tree]) -> dict[tuple[str, str], str]:
    """The tensors that trees of parts name, also such of other parts: {(part, name): "torch" or "numpy"}."""
    found: dict[tuple[str, str], str] = {}
    for part, tree in trees.items():
        for node in _tensor_nodes(tree):
            key, name = next(iter(node.items()))
            found[node.get("part", part), name] = "torch" if key == "$tensor" else "numpy"
    return found


def _tensor_nodes(tree: Tree) -> Iterator[dict[str, Any]]:
    left = [tree]
    while left:
        node = left.pop()
        if isinstance(node, list):
            left.extend(reversed(node))
        elif isinstance(node, dict):
            if next(iter(node), None) in ("$tensor", "$array"):
                yield node
            else:
                left.extend(reversed(list(node.values())))


def unflatten(
    trees: Mapping[str, Tree],
    stored: Callable[[str, str], Any],
    *,
    allow_pickle: bool = False,
    map_location: Any = None,
) -> dict[str, Any]:
    """Puts parts of a state together.

    `stored(part, name)` gives the array of a stored tensor, as `empty` made it, with its bytes read; it
    becomes part of the state, without a copy where it can. `map_location` is as in `torch.load`: a device for
    all tensors, a dictionary from the saved device to one, or a function that is given the storage of each and
    its saved device, and gives another one or None; by default they go where they were.

    Raises Damage for a tree that `flatten` can't have made, NewerVersion for a value that this version
    doesn't know, Usage where a pickle is kept and `allow_pickle` isn't set, and MissingPackage where torch is
    needed and isn't installed.
    """
    making = Making(stored, allow_pickle, map_location)
    return {part: making.part_state(part, tree) for part, tree in trees.items()}


class Making:
    """The states that are being made, and the memory that they share."""

    def __init__(self, stored: Callable[[str, str], Any], allow_pickle: bool, map_location: Any) -> None:
        self._stored, self._allows_pickle, self._location = stored, allow_pickle, map_location
        self._part = ""
        self._path: list[Any] = []
        self._memory: dict[tuple[str, str], Any] = {}
        self._arrays: dict[Any, Any] = {}

    def part_state(self, part: str, tree: Tree) -> Any:
        self._part, self._path = part, []
        try:
            return self.decode(tree)
        except CairnError:
            raise
        except (
            ArithmeticError,
            AttributeError,
            LookupError,
            RecursionError,
            RuntimeError,
            TypeError,
            ValueError,
        ) as error:
            path = path_text(self._part, self._path)
            raise Damage(f"{path} isn't as it was saved: {error}", path=path) from error

    def decode(self, node: Tree) -> Any:
        if type(node) is list:
            return [self.inner(index, item) for index, item in enumerate(node)]
        if type(node) is not dict:
            return node
        key = next(iter(node), "")
        if key[:1] != "$":
            return {name: self.inner(name, value) for name, value in node.items()}
        decoder = _DECODERS.get(key)
        if decoder is not None:
            return decoder(self, node)
        if key in DECODERS:
            return DECODERS[key](node)
        path = path_text(self._part, self._path)
        raise NewerVersion(
            f"{path} is a {key[1:]}, which this version doesn't know: use a newer one", path=path
        )

    def inner(self, key: Any, node: Tree) -> Any:
        if type(node) in _SCALARS:
            return node
        self._path.append(key)
        value = self.decode(node)
        self._path.pop()
        return value

    def pairs(self, node: dict[str, Any]) -> dict[Any, Any]:
        made = {}
        for key, value in node["$dict"]:
            made_key = self.decode(key)
            made[made_key] = self.inner(made_key, value)
        return made

    def pickled(self, node: dict[str, Any]) -> Any:
        path = path_text(self._part, self._path)
        if not self._allows_pickle:
            advice = "pass allow_pickle=True if you trust who saved it: reading a pickle can run any program"
            raise Usage(f"{path} was kept as a pickle: {advice}", path=path)
        return self.unpickled(bytes64(node["$pickle"]), path)

    def unpickled(self, data: bytes, path: str) -> Any:
        try:
            return pickle.loads(data)
        except Exception as error:
            raise Damage(
                f"{path} was kept as a pickle that can't be read here: {error}", path=path
            ) from error

    def array(self, node: dict[str, Any]) -> Any:
        key, name = next(iter(node.items()))
        place = node.get("part", self._part), name
        memory = self._memory.get(place)
        if memory is None:
            self._memory[place] = memory = self._moved(self._stored(*place), node.get("device", "cpu"))
        as_tensor = key == "$tensor" and not isinstance(memory, np.ndarray)
        try:
            arranged = self._arranged(place, memory, node)
        except TypeError as error:
            if as_tensor or key == "$array":
                raise
            raise self._missing_torch() from error
        if not as_tensor or not ("parameter" in node or "requires_grad" in node):
            return arranged
        finished = (id(arranged), node.get("parameter"), node.get("requires_grad"))
        if finished not in self._arrays:
            self._arrays[finished] = _tensors.finish(arranged, node)
        return self._arrays[finished]

    def _arranged(self, place: tuple[str, str], memory: Any, node: dict[str, Any]) -> Any:
        """The memory under the type and stride of a node, or a view; one object where nodes say the same."""
        view, dtype, stride = node.get("view"), node.get("dtype"), node.get("stride")
        if view is None and dtype is None and stride is None:
            return memory
        key = (place, repr((view, dtype, stride)))
        if key not in self._arrays:
            self._arrays[key] = as_saved(memory, dtype, stride) if view is None else view_of(memory, view)
        return self._arrays[key]

    def _moved(self, memory: Any, device: str) -> Any:
        if isinstance(memory, np.ndarray):
            return memory
        try:
            return _tensors.moved(memory, device, self._location)
        except Exception as error:
            path = path_text(self._part, self._path)
            raise Usage(f'{path} was on {device}: {error}; pass map_location="cpu"', path=path) from error

    def sparse(self, node: dict[str, Any]) -> Any:
        self._needs_torch()
        return _tensors.sparse(node, [self.inner(index, part) for index, part in enumerate(node["parts"])])

    def quantized(self, node: dict[str, Any]) -> Any:
        self._needs_torch()
        parts = [self.inner(name, node.get(name)) for name in ("$quantized", "scales", "zero_points")]
        return _tensors.quantized(node, *parts)

    def _needs_torch(self) -> None:
        if installed_torch() is None:
            raise self._missing_torch()

    def _missing_torch(self) -> MissingPackage:
        path = path_text(self._part, self._path)
        message = f"{path} is a tensor of a kind that numpy lacks: install torch to read it"
        return MissingPackage(message, path=path)


_SCALARS = frozenset([str, int, float, bool, type(None)])


def _ordered(making: Making, node: dict[str, Any]) -> Any:
    made = collections.OrderedDict(making.decode(node["$ordered"]))
    for name, value in node.get("attributes", {}).items():
        setattr(made, name, making.inner(name, value))
    return made


def _defaultdict(making: Making, node: dict[str, Any]) -> Any:
    factory = node["factory"]
    return collections.defaultdict(factory and _TYPES[factory], making.decode(node["$defaultdict"]))


def _items(key: str, kind: Callable[[list[Any]], Any]) -> Callable[[Making, dict[str, Any]], Any]:
    return lambda making, node: kind(making.decode(node[key]))


def _method(name: str) -> Callable[[Making, dict[str, Any]], Any]:
    """By its name, as a rehearsal has others."""
    return lambda making, node: getattr(making, name)(node)


_DECODERS: dict[str, Callable[[Making, dict[str, Any]], Any]] = {
    "$dict": Making.pairs,
    "$tuple": _items("$tuple", tuple),
    "$set": _items("$set", set),
    "$frozenset": _items("$frozenset", frozenset),
    "$ordered": _ordered,
    "$defaultdict": _defaultdict,
    "$counter": _items("$counter", collections.Counter),
    "$deque": lambda making, node: collections.deque(making.decode(node["$deque"]), node["maxlen"]),
    "$slice": _items("$slice", lambda bounds: slice(*bounds)),
    "$tensor": _method("array"),
    "$array": _method("array"),
    "$sparse": _method("sparse"),
    "$quantized": _method("quantized"),
    "$pickle": Making.pickled,
}
