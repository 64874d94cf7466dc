"""Modules that are read into where their tensors lie."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, NamedTuple, Optional

from ._arrays import Leaf, Target
from ._fitting import has_only_code_of_torch, is_locked, own_tensors
from ._iteration import Iteration, Wanted, part_file
from ._tree import flatten, wanted
from .errors import Mismatch, NotData, Usage


class InPlace(NamedTuple):
    """A module whose tensors are read into where they are: the memory by the name of what is stored, what is read to it,
    and the module's own tensors by name."""

    memory: dict[str, Target]
    reads: list[Wanted]
    own: dict[str, Any]


def modules_in_place(
    iteration: Iteration, trees: Mapping[str, Any], targets: Mapping[str, Any], rank: int
) -> dict[str, InPlace]:
    """Those of the targets that can be read so, by part. Raises Usage and Mismatch where one could be loaded in no other way
    either."""
    found: dict[str, InPlace] = {}
    for part, target in targets.items():
        others = wanted({other: tree for other, tree in trees.items() if other != part})
        # Where another part shares its tensors, both get some that are their own.
        place = (
            None if any(owner == part for owner, _ in others) else _in_place(iteration, part, target, rank)
        )
        if place is not None:
            found[part] = place
    return found


def _in_place(iteration: Iteration, part: str, target: Any, rank: int) -> Optional[InPlace]:
    """A module's own tensors, where its state is just those that were saved, in host memory.

    None where the state has to go through the module's own code, which may want to see it beside what the module
    has, or may give copies. What is sharded has no other way: there only what isn't its own goes through it.
    """
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(target, torch.nn.Module):
        return None
    state = target.state_dict()
    own = own_tensors(target)
    own = {name: own[name] for name, value in state.items() if name in own and _is_same(own[name], value)}
    is_sharded = any(map(_is_shard, state.values()))
    if is_sharded:
        _check_shards(part, state, own)
    elif len(own) < len(state) or not has_only_code_of_torch(target):
        return None
    try:
        flat = flatten({part: state}, allow_pickle=True)
    except NotData:
        return None
    names, saved = _tensor_names(flat.trees[part]), _tensor_names(iteration._parts(rank)[part])
    if names is None or names != saved or any(names[name] is None for name in own):
        return None
    stored = {names[name][0] for name in own}
    leaves = {leaf.name: leaf for leaf in flat.leaves if leaf.name in stored}
    for leaf in leaves.values():
        if not _fits(iteration, part, leaf, rank):
            if is_sharded:
                raise _misfit(iteration, part, leaf, rank)
            return None
    memory = {name: Target(leaf.array, leaf.pointer or 0, leaf.nbytes) for name, leaf in leaves.items()}
    return InPlace(memory, [_source(iteration, part, leaf, rank) for leaf in leaves.values()], own)


def _is_shard(value: Any) -> bool:
    distributed = sys.modules.get("torch.distributed.tensor")
    return (
        distributed is not None
        and isinstance(value, distributed.DTensor)
        and not all(placement.is_replicate() for placement in value.placements)
    )


def _check_shards(part: str, state: Mapping[str, Any], own: Mapping[str, Any]) -> None:
    for name, value in state.items():
        if _is_shard(value) and name not in own:
            raise Usage(
                f"{part} is sharded, and the {name} of its state_dict() is none of its own tensors, so nothing can be read "
                "into it: load it with torch.distributed.checkpoint and cairn.dcp.StorageReader"
            )


def _is_same(own: Any, value: Any) -> bool:
    """Whether a tensor of a state is the module's own, in the same memory."""
    torch = sys.modules["torch"]
    if not isinstance(value, torch.Tensor) or torch.nn.parameter.is_lazy(own) or is_locked(own):
        return False
    first, second = (
        one.to_local() if hasattr(one, "to_local") else one for one in (own.detach(), value.detach())
    )
    # Other kinds of tensors have no memory, but parts.
    return bool(
        type(first) is type(second) is torch.Tensor
        and own.shape == value.shape
        and first.layout is second.layout is torch.strided
        and first.dtype == second.dtype
        and first.stride() == second.stride()
        and first.data_ptr() == second.data_ptr()
    )


def _fits(iteration: Iteration, part: str, leaf: Leaf, rank: int) -> bool:
    """Whether a tensor's bytes are those of the one that was saved, or of a box of it."""
    file = part_file(iteration._folder(rank), part)
    stored = iteration._stored.get((file, leaf.name))
    # A stretch of memory may hold other views than it did.
    if stored is None or stored.dtype != leaf.dtype or leaf.name.endswith("#storage"):
        return False
    if leaf.pointer is None and leaf.nbytes:
        return False
    if leaf.box is None:
        return stored.shape == leaf.shape
    return iteration._whole_shape(part, leaf.name, rank) == leaf.box.shape


def _misfit(iteration: Iteration, part: str, leaf: Leaf, rank: int) -> Mismatch:
    """What is said of a tensor of a sharded module that can't be read into where it is."""
    stored = iteration._stored_of((part, leaf.name), rank)
    saved = iteration._whole_shape(part, leaf.name, rank)
    shape = leaf.shape if leaf.box is None else leaf.box.shape
    place = "" if leaf.pointer is not None else ", not in one piece of host memory"
    return Mismatch(
        f"{part} of {iteration.run}@{iteration.step} doesn't fit: {leaf.name} was saved as {stored.dtype} {list(saved)}, "
        f"and in the module, which is sharded, it is {leaf.dtype} {list(shape)}{place}; load such a module with "
        "torch.distributed.checkpoint and cairn.dcp.StorageReader",
        path=part,
    )


def _tensor_names(tree: Any) -> Optional[dict[str, Any]]:
    """What is stored of each entry of a module's state, or None for what is no tensor. None where it is no such state."""
    while isinstance(tree, dict) and "$ordered" in tree:
        tree = tree["$ordered"]
    if not isinstance(tree, dict) or any(key.startswith("$") for key in tree):
        return None
    return {
        name: [node["$tensor"], *map(node.get, ("part", "view", "dtype"))]
        if isinstance(node, dict) and "$tensor" in node
        else None
        for name, node in tree.items()
    }


def _source(iteration: Iteration, part: str, leaf: Leaf, rank: int) -> Wanted:
    """Where the bytes of a module's tensor are: of a shard, the same box of the whole."""
    pointer = leaf.pointer or 0
    if leaf.box is None:
        return Wanted(part_file(iteration._folder(rank), part), leaf.name, pointer, leaf.nbytes)
    start = leaf.box.offset
    stop = tuple(first + length for first, length in zip(start, leaf.shape))
    name = leaf.name if part == "model" else f"{part}.{leaf.name}"
    return Wanted(None, name, pointer, leaf.nbytes, start, stop)
