"""States of iterations, loaded into the objects of a training."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, NamedTuple, Optional

from ._arrays import Leaf, Target
from ._fitting import check
from ._iteration import Iteration, Wanted, part_file
from ._tree import flatten, unflatten, wanted
from .errors import NotFound, Usage


class _InPlace(NamedTuple):
    """A target whose tensors are read into where they are."""

    leaves: dict[str, Leaf]
    is_sharded: bool


def load(
    iteration: Iteration,
    targets: Mapping[str, Any],
    *,
    strict: bool,
    map_location: Any,
    allow_pickle: bool,
    rank: Optional[int],
    group: Any,
) -> dict[str, Any]:
    """Loads parts into targets, and gives the others."""
    of_rank = rank or 0
    trees = iteration._parts(of_rank)
    for part, target in targets.items():
        if part not in trees:
            raise NotFound(
                f"{iteration.run}@{iteration.step} has no part {part}: it has {', '.join(trees) or 'none'}",
                path=part,
            )
        if not callable(getattr(target, "load_state_dict", None)):
            raise Usage(
                f"{part} is a {type(target).__name__}, which has no load_state_dict(); leave it out, and take the "
                "state from what this returns"
            )
    in_place = _all_in_place(iteration, trees, targets, of_rank)
    # Before anything is changed.
    for part, target in targets.items():
        if part not in in_place or not in_place[part].is_sharded:
            check(iteration, part, trees[part], target, of_rank, strict=strict, allow_pickle=allow_pickle)

    memory = iteration._targets({part: tree for part, tree in trees.items() if part not in in_place}, of_rank)
    reads = list(iteration._wanted(memory, of_rank))
    for part, place in in_place.items():
        for name, leaf in place.leaves.items():
            assert leaf.pointer is not None or not leaf.nbytes
            memory[part, name] = Target(leaf.array, leaf.pointer or 0, leaf.nbytes)
            reads.append(_source(iteration, part, name, leaf, of_rank))
    if group is None:
        iteration._read(reads)
    else:
        from ._ranks import balanced_read

        balanced_read(iteration, reads, group)

    def states(parts: Mapping[str, Any], location: Any) -> dict[str, Any]:
        return unflatten(
            parts, lambda *key: memory[key].array, allow_pickle=allow_pickle, map_location=location
        )

    loaded = states({part: trees[part] for part in targets}, _location(map_location))
    for part, target in targets.items():
        # What is sharded is where it belongs, and its state has no form that a module takes.
        if part not in in_place:
            _load_into(target, loaded[part], strict)
        elif not in_place[part].is_sharded:
            _load_into(target, _own(target, loaded[part]), strict)
    return states({part: tree for part, tree in trees.items() if part not in targets}, map_location)


def _location(map_location: Any) -> Any:
    """Where states are put that go into objects, which take them to where their own tensors are."""
    return "cpu" if map_location is None else map_location


def _all_in_place(
    iteration: Iteration, trees: Mapping[str, Any], targets: Mapping[str, Any], rank: int
) -> dict[str, _InPlace]:
    found: dict[str, _InPlace] = {}
    for part, target in targets.items():
        others = wanted({other: tree for other, tree in trees.items() if other != part})
        # Where another part shares its tensors, both get some that are their own.
        place = (
            None if any(owner == part for owner, _ in others) else _in_place(iteration, part, target, rank)
        )
        if place is not None:
            found[part] = place
    return found


def _in_place(iteration: Iteration, part: str, target: Any, rank: int) -> Optional[_InPlace]:
    """The tensors of a module, where they are just those that were saved, in host memory."""
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(target, torch.nn.Module):
        return None
    flat = flatten({part: target.state_dict()}, allow_pickle=True)
    leaves = {leaf.name: leaf for leaf in flat.leaves}
    file = part_file(iteration._folder(rank), part)
    stored = {name: one for (other, name), one in iteration._stored.items() if other == file}
    is_sharded = any(leaf.box is not None for leaf in flat.leaves)
    for name, leaf in leaves.items():
        one = stored.get(name)
        same = one is not None and one.dtype == leaf.dtype and (one.shape == leaf.shape or is_sharded)
        # A stretch of memory may hold other views than it did.
        if not same or (leaf.pointer is None and leaf.nbytes) or name.endswith("#storage"):
            return None
    return _InPlace(leaves, is_sharded) if len(stored) == len(leaves) else None


def _source(iteration: Iteration, part: str, name: str, leaf: Leaf, rank: int) -> Wanted:
    """Where the bytes of a target's tensor are: of a shard, the same box of the whole."""
    file = part_file(iteration._folder(rank), part)
    pointer = leaf.pointer or 0
    if leaf.box is None:
        return Wanted(file, name, pointer, leaf.nbytes)
    start = leaf.box.offset
    stop = tuple(first + length for first, length in zip(start, leaf.shape))
    return Wanted(None, name if part == "model" else f"{part}.{name}", pointer, leaf.nbytes, start, stop)


def _own(target: Any, state: Any) -> Any:
    """The state of a module whose tensors have been read already: they are taken for themselves, which copies
    nothing."""
    torch = sys.modules["torch"]
    own = target.state_dict(keep_vars=True)
    for name, value in state.items():
        if not isinstance(value, torch.Tensor) or not isinstance(own.get(name), torch.Tensor):
            own[name] = value
    return own


def _load_into(target: Any, state: Any, strict: bool) -> None:
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(target, torch.nn.Module):
        target.load_state_dict(state)
    else:
        target.load_state_dict(state, strict=strict)
