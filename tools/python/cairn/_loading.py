"""States of iterations, loaded into the objects of a training."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, NamedTuple, Optional

from ._arrays import Leaf, Target
from ._iteration import Iteration, Wanted
from ._tree import flatten, unflatten
from .errors import Mismatch, Usage


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
    for part in targets:
        if part not in trees:
            raise Usage(
                f"{iteration.run}@{iteration.step} has no part {part}: it has {', '.join(trees) or 'none'}"
            )
    in_place = {
        part: found
        for part, target in targets.items()
        for found in [_in_place(iteration, part, target, of_rank)]
        if found is not None
    }
    memory = iteration._targets({part: tree for part, tree in trees.items() if part not in in_place}, of_rank)
    wanted = list(iteration._wanted(memory, of_rank))
    for part, place in in_place.items():
        for name, leaf in place.leaves.items():
            assert leaf.pointer is not None or not leaf.nbytes
            memory[part, name] = Target(leaf.array, leaf.pointer or 0, leaf.nbytes)
            wanted.append(_source(iteration, part, name, leaf, of_rank))
    if group is None:
        iteration._read(wanted)
    else:
        from ._ranks import balanced_read

        balanced_read(iteration, wanted, group)
    states = unflatten(
        trees, lambda *key: memory[key].array, allow_pickle=allow_pickle, map_location=map_location
    )
    for part, target in targets.items():
        # What is sharded is where it belongs, and its state has no form that a module takes.
        if part not in in_place or not in_place[part].is_sharded:
            _load_into(target, states[part], part, strict)
    return {part: state for part, state in states.items() if part not in targets}


def _in_place(iteration: Iteration, part: str, target: Any, rank: int) -> Optional[_InPlace]:
    """The tensors of a module, where they are just those that were saved, in host memory."""
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(target, torch.nn.Module):
        return None
    flat = flatten({part: target.state_dict()}, allow_pickle=True)
    leaves = {leaf.name: leaf for leaf in flat.leaves}
    folder_file = next(iteration._wanted({(part, ""): Target(None, 0, 0)}, rank)).file
    stored = {name: one for (file, name), one in iteration._stored.items() if file == folder_file}
    is_sharded = any(leaf.box is not None for leaf in flat.leaves)
    for name, leaf in leaves.items():
        one = stored.get(name)
        same = one is not None and one.dtype == leaf.dtype and (one.shape == leaf.shape or is_sharded)
        if not same or (leaf.pointer is None and leaf.nbytes):
            return None
    return _InPlace(leaves, is_sharded) if len(stored) == len(leaves) else None


def _source(iteration: Iteration, part: str, name: str, leaf: Leaf, rank: int) -> Wanted:
    """Where the bytes of a target's tensor are: of a shard, the same box of the whole."""
    file = next(iteration._wanted({(part, name): Target(None, 0, 0)}, rank)).file
    pointer = leaf.pointer or 0
    if leaf.box is None:
        return Wanted(file, name, pointer, leaf.nbytes)
    start = leaf.box.offset
    stop = tuple(first + length for first, length in zip(start, leaf.shape))
    return Wanted(None, name if part == "model" else f"{part}.{name}", pointer, leaf.nbytes, start, stop)


def _load_into(target: Any, state: Any, part: str, strict: bool) -> None:
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(target, torch.nn.Module):
        target.load_state_dict(state)
        return
    try:
        target.load_state_dict(state, strict=strict)
    except RuntimeError as error:
        raise Mismatch(f"{part} doesn't fit: {error}", path=part) from error
