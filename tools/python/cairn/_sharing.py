"""Tensors that share memory: found when a state is saved, and shared again when it is loaded.

Equal views (pointer, shape, stride and type) are stored once. Of views that overlap otherwise, the one that
is contiguous and spans them all is stored, or where there is none their common stretch of memory, under a
name that ends in `#storage`; the others are where they are in it, in bytes. Views that share no element are
stored one by one, and so are those that numpy and torch share with each other.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from typing import Any, Callable, Optional

import numpy as np

from ._arrays import Array, Leaf, address, numpy_leaf, torch_leaf
from ._dtypes import installed_torch, is_swapped, named_torch_dtype, spelled_dtype, spelling

#: Beyond this many views within one stretch of memory all count as overlapping, without looking at the pairs.
_MOST_PAIRED = 100
#: How hard to look for an element that two views share; beyond it they count as overlapping.
_MOST_WORK = 100_000


class _View:
    """One view of memory, and the nodes of the trees that name it."""

    __slots__ = ("array", "leaf", "nodes", "place")

    def __init__(self, leaf: Leaf, array: Any, place: tuple[Any, ...]) -> None:
        self.leaf, self.array, self.place = leaf, array, place
        self.nodes: list[tuple[str, dict[str, Any]]] = []


class Sharing:
    """The memory of all tensors of a state."""

    def __init__(self) -> None:
        self._views: dict[tuple[Any, ...], _View] = {}

    def add_numpy(self, leaf: Leaf, array: Array, part: str, node: dict[str, Any]) -> Optional[Leaf]:
        """Notes a node's array. Returns the leaf that has the same elements, if one was there."""
        key = ("numpy", address(array), array.shape, array.strides, array.dtype)
        return self._add(key, leaf, array, part, node)

    def add_torch(self, leaf: Leaf, tensor: Any, part: str, node: dict[str, Any]) -> Optional[Leaf]:
        """The same for a tensor."""
        key = (tensor.device, tensor.data_ptr(), leaf.shape, tensor.stride(), tensor.dtype, leaf.box)
        return self._add(key, leaf, tensor, part, node)

    def _add(self, key: Any, leaf: Leaf, array: Any, part: str, node: dict[str, Any]) -> Optional[Leaf]:
        first = self._views.get(key)
        if first is None:
            self._views[key] = first = _View(leaf, array, key)
        first.nodes.append((part, node))
        return first.leaf if first.leaf is not leaf else None

    def join(self, unused: Callable[[str, str], str]) -> dict[Leaf, Optional[Leaf]]:
        """Rewrites the nodes of views that overlap others. Returns what, if any, is stored in place of a leaf.

        `unused(part, name)` makes a name that no other tensor of that part has.
        """
        replaced: dict[Leaf, Optional[Leaf]] = {}
        for views in self._overlapping():
            base, offsets = _base(views)
            if base is None:
                continue
            first = views[0].leaf
            is_new = all(view.leaf is not base for view in views)
            if is_new:
                base.part, base.name = first.part, unused(first.part, f"{first.name}#storage")
            for view, offset in zip(views, offsets):
                if view.leaf is not base:
                    replaced[view.leaf] = base if is_new and view.leaf is first else None
                    _point(view, base, offset)
        return replaced

    def _overlapping(self) -> Iterator[list[_View]]:
        """Groups of views that share elements, in the order in which they were added."""
        # A shard is where it is in a larger tensor, and stays a tensor of its own for that.
        views = [view for view in self._views.values() if view.leaf.box is None]
        group: list[int] = []
        last = ("", 0)
        for space, start, stop, order in sorted(
            [(*_bounds(view), order) for order, view in enumerate(views)]
        ):
            if (space, start) >= last:
                yield from _that_share([views[index] for index in sorted(group)])
                group = []
            last = max(last, (space, stop)) if group else (space, stop)
            group.append(order)
        yield from _that_share([views[index] for index in sorted(group)])


def _strides(view: _View) -> tuple[int, ...]:
    """In bytes."""
    if isinstance(view.array, np.ndarray):
        return view.array.strides
    size = view.array.element_size()
    return tuple(step * size for step in view.array.stride())


def _bounds(view: _View) -> tuple[str, int, int]:
    """The address space of a view, its first byte there and the one behind its last."""
    space, start = str(view.place[0]), view.place[1]
    if view.leaf.pointer is not None:
        return space, start, start + view.leaf.nbytes
    reach = [(length - 1) * step for length, step in zip(view.array.shape, _strides(view))]
    last = sum(step for step in reach if step > 0) + _itemsize(view)
    return space, start + sum(step for step in reach if step < 0), start + last


def _itemsize(view: _View) -> int:
    return int(view.array.itemsize)


def _that_share(group: list[_View]) -> Iterator[list[_View]]:
    """Parts a group whose stretches of memory overlap into those that really share elements."""
    if len(group) < 2:
        return
    if len(group) > _MOST_PAIRED:
        yield group
        return
    root = list(range(len(group)))
    memory = [_addresses(view) for view in group]
    for later in range(len(group)):
        for earlier in range(later):
            if root[later] != root[earlier] and _shares(memory[later], memory[earlier]):
                old, new = max(root[later], root[earlier]), min(root[later], root[earlier])
                root = [new if number == old else number for number in root]
    for number in dict.fromkeys(root):
        views = [view for view, own in zip(group, root) if own == number]
        if len(views) > 1:
            yield views


class _Addresses:
    """What numpy takes for an array at an address. It is asked no more than where the elements are."""

    def __init__(self, pointer: int, shape: Sequence[int], strides: Sequence[int], itemsize: int) -> None:
        self.__array_interface__ = {
            "version": 3,
            "data": (pointer, False),
            "shape": tuple(shape),
            "strides": tuple(strides),
            "typestr": f"|V{itemsize}",
        }


def _addresses(view: _View) -> Array:
    return np.asarray(_Addresses(view.place[1], view.array.shape, _strides(view), _itemsize(view)))


def _shares(a: Array, b: Array) -> bool:
    try:
        return np.shares_memory(a, b, max_work=_MOST_WORK)  # type: ignore[arg-type]
    except RuntimeError:
        return True


def _base(views: list[_View]) -> tuple[Optional[Leaf], list[int]]:
    """What is stored for views that overlap, and where in it, in bytes, each begins.

    None where it can't be one tensor.
    """
    bounds = [_bounds(view) for view in views]
    start, stop = min(bound[1] for bound in bounds), max(bound[2] for bound in bounds)
    for view, bound in zip(views, bounds):
        if bound[1:] == (start, stop) and view.leaf.nbytes == stop - start and _is_as_in_memory(view):
            offsets = [other.place[1] - start for other in views]
            if all(
                offset % _itemsize(other) == 0 or _is_numpy(other) for offset, other in zip(offsets, views)
            ):
                return view.leaf, offsets
    first = views[0]
    if _is_numpy(first):
        leaf = _numpy_stretch(views, start, stop)
    else:
        storages = {view.array.untyped_storage().data_ptr() for view in views}
        if len(storages) > 1:
            return None, []
        start -= (start - storages.pop()) % max(map(_itemsize, views))
        leaf = _torch_stretch(views, start, stop)
    return leaf, [view.place[1] - start for view in views]


def _is_numpy(view: _View) -> bool:
    return isinstance(view.array, np.ndarray)


def _is_as_in_memory(view: _View) -> bool:
    """Whether what is stored of a view is what the memory has."""
    contiguous = (
        view.array.flags.c_contiguous if isinstance(view.array, np.ndarray) else view.array.is_contiguous()
    )
    return bool(contiguous) and _is_native(view)


def _numpy_stretch(views: list[_View], start: int, stop: int) -> Leaf:
    memory: Any = (ctypes.c_char * (stop - start)).from_address(start)
    # The arrays own what this only points to.
    memory.arrays = [view.array for view in views]
    array = np.frombuffer(memory, _common_type(views, np.dtype(np.uint8)))
    return numpy_leaf(array)[0]


def _torch_stretch(views: list[_View], start: int, stop: int) -> Leaf:
    torch = installed_torch()
    storage = views[0].array.untyped_storage()
    dtype = _common_type(views, torch.uint8)
    flat = torch.empty(0, dtype=dtype, device=views[0].array.device)
    flat.set_(
        storage, (start - storage.data_ptr()) // dtype.itemsize, ((stop - start) // dtype.itemsize,), (1,)
    )
    return torch_leaf(flat)[0]


def _common_type(views: list[_View], otherwise: Any) -> Any:
    """The type of a stretch of memory: that of its views, where all have one that is stored as it is."""
    types = {view.array.dtype for view in views}
    stored_as_is = all(view.leaf.shape == tuple(view.array.shape) for view in views)
    return types.pop() if len(types) == 1 and stored_as_is and _is_native(views[0]) else otherwise


def _is_native(view: _View) -> bool:
    return not (isinstance(view.array, np.ndarray) and is_swapped(view.array.dtype))


def _point(view: _View, base: Leaf, offset: int) -> None:
    """Makes the nodes of a view say where it is in what is stored."""
    if isinstance(view.array, np.ndarray):
        dtype = spelling(view.array.dtype)
    else:
        dtype = str(view.array.dtype).rpartition(".")[2]
    place = {
        "dtype": dtype,
        "offset": offset,
        "shape": list(view.array.shape),
        "strides": list(_strides(view)),
    }
    for part, node in view.nodes:
        key = next(iter(node))
        kept = {name: node[name] for name in ("parameter", "requires_grad", "device") if name in node}
        node.clear()
        node[key] = base.name
        if base.part != part:
            node["part"] = base.part
        node.update(view=place, **kept)


def view_of(stored: Any, place: dict[str, Any]) -> Any:
    """A view of loaded memory, as the attribute `view` of a node says.

    Raises ValueError where it would reach beyond that.
    """
    shape, strides, offset = place["shape"], place["strides"], place["offset"]
    if isinstance(stored, np.ndarray):
        memory = stored.reshape(-1).view(np.uint8)
        return np.ndarray(shape, spelled_dtype(place["dtype"]), buffer=memory, offset=offset, strides=strides)
    dtype = named_torch_dtype(place["dtype"])
    size = dtype.itemsize
    reach = [(length - 1) * step for length, step in zip(shape, strides)]
    if (
        min([0, *reach]) < 0
        or offset < 0
        or offset + sum(reach) + size > stored.nbytes
        or min(shape, default=1) < 1
    ):
        raise ValueError("a view reaches beyond its tensor")
    if any(step % size for step in (offset, *strides)):
        raise ValueError("a view isn't aligned to its elements")
    first = (stored.storage_offset() * stored.element_size() + offset) // size
    view = installed_torch().empty(0, dtype=dtype, device=stored.device)
    return view.set_(stored.untyped_storage(), first, shape, [step // size for step in strides])
