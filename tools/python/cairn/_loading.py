"""States of iterations, loaded into the objects of a training."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, Optional

from ._fitting import check, own_tensors
from ._in_place import InPlace, modules_in_place
from ._iteration import Iteration
from ._ranks import balanced_read, together
from ._tree import unflatten
from .errors import NotFound, Usage


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

    def checked() -> tuple[dict[str, Any], dict[str, InPlace]]:
        trees = iteration._parts(of_rank)
        return trees, _checked(iteration, trees, targets, of_rank, strict=strict, allow_pickle=allow_pickle)

    # Where one rank can't load it, the others would wait for its bytes.
    trees, in_place = checked() if group is None else together(checked, group, "load it")
    memory = {
        (part, name): target for part, place in in_place.items() for name, target in place.memory.items()
    }
    fresh = iteration._targets(trees, of_rank, memory)
    reads = [
        *iteration._wanted(fresh, of_rank),
        *(read for place in in_place.values() for read in place.reads),
    ]
    memory.update(fresh)
    if group is None:
        iteration._read(reads)
    else:
        balanced_read(iteration, reads, group)

    def states(parts: Mapping[str, Any], location: Any) -> dict[str, Any]:
        return unflatten(
            parts, lambda *key: memory[key].array, allow_pickle=allow_pickle, map_location=location
        )

    loaded = states({part: trees[part] for part in targets}, _location(map_location))
    for part, target in targets.items():
        if part in in_place:
            # They have been read already: taken for themselves, they are not copied.
            loaded[part].update(in_place[part].own)
        _load_into(target, loaded[part], strict)
    return states({part: tree for part, tree in trees.items() if part not in targets}, map_location)


def _checked(
    iteration: Iteration,
    trees: Mapping[str, Any],
    targets: Mapping[str, Any],
    rank: int,
    *,
    strict: bool,
    allow_pickle: bool,
) -> dict[str, InPlace]:
    """Raises where targets can't take their parts. Of those that are read in place, gives where that is."""
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
        _check_memory(part, target)
    in_place = modules_in_place(iteration, trees, targets, rank)
    # Before anything is changed. What is read in place fits.
    for part, target in targets.items():
        if part not in in_place:
            check(iteration, part, trees[part], target, rank, strict=strict, allow_pickle=allow_pickle)
    return in_place


def _location(map_location: Any) -> Any:
    """Where states are put that go into objects, which take them to where their own tensors are."""
    return "cpu" if map_location is None else map_location


def _check_memory(part: str, target: Any) -> None:
    """Raises Usage where a module has no memory, and torch would leave it so without an error."""
    for name, tensor in own_tensors(target).items():
        if tensor.is_meta:
            raise Usage(
                f"{part}.{name} is on the meta device and has no memory to be loaded into: give it some with "
                'to_empty(device="cpu")'
            )


def _load_into(target: Any, state: Any, strict: bool) -> None:
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(target, torch.nn.Module):
        target.load_state_dict(state)
    else:
        target.load_state_dict(state, strict=strict)
