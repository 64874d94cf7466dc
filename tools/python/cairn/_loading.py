"""States of iterations, loaded into the objects of a training."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Mapping
from typing import Any, NamedTuple, Optional

from ._arrays import Target
from ._fitting import check, own_tensors
from ._in_place import InPlace, modules_in_place
from ._iteration import Iteration, Wanted
from ._optimizers import shard
from ._ranks import balanced_read, together
from ._tree import rehearse, unflatten
from .errors import NotFound, Usage


class _Plan(NamedTuple):
    """What is read of an iteration, and where it goes.

    `places` are its parts by where `map_location` has their tensors.
    """

    in_place: dict[str, InPlace]
    memory: dict[tuple[str, str], Target]
    reads: list[Wanted]
    places: list[tuple[dict[str, Any], Any]]


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

    def planned() -> _Plan:
        return _planned(
            iteration, targets, rank or 0, strict=strict, map_location=map_location, allow_pickle=allow_pickle
        )

    if group is None:
        plan = planned()
        iteration._read(plan.reads)
    else:
        # Where one rank can't load it, the others would wait for its bytes.
        plan = together(planned, group, "load it")
        balanced_read(iteration, plan.reads, group)
    states: dict[str, Any] = {}
    for trees, location in plan.places:
        made = unflatten(
            trees,
            lambda *key: plan.memory[key].array,
            allow_pickle=allow_pickle,
            map_location=location,
        )
        states.update(made)
    left: list[str] = []
    for part, target in targets.items():
        if part in plan.in_place:
            # They have been read already: taken for themselves, they are not copied.
            states[part].update(plan.in_place[part].own)
        else:
            shard(iteration, part, states[part], target, rank or 0)
        left += _load_into(part, target, states.pop(part), strict)
    # When all is loaded, as a warning may be an error.
    for sentence in left:
        warnings.warn(sentence, stacklevel=3)
    return states


def _planned(
    iteration: Iteration,
    targets: Mapping[str, Any],
    rank: int,
    *,
    strict: bool,
    map_location: Any,
    allow_pickle: bool,
) -> _Plan:
    """Finds out, before anything is changed, what can't be loaded, and raises that."""
    trees = iteration._parts(rank)
    _check_targets(iteration, trees, targets)
    in_place = modules_in_place(iteration, trees, targets, rank)
    host = {part: tree for part, tree in trees.items() if part in in_place}
    # Objects take states to where their own tensors are.
    given = {part: tree for part, tree in trees.items() if part in targets and part not in in_place}
    rest = {part: tree for part, tree in trees.items() if part not in targets}
    places = [(host, "cpu"), (given, "cpu" if map_location is None else map_location), (rest, map_location)]
    for parts, location in places:
        rehearse(parts, allow_pickle=allow_pickle, map_location=location)
    for part, tree in given.items():
        check(iteration, part, tree, targets[part], rank, strict=strict, allow_pickle=allow_pickle)
    memory = {(part, name): at for part, place in in_place.items() for name, at in place.memory.items()}
    fresh = iteration._targets(trees, rank, memory)
    reads = [
        *iteration._wanted(fresh, rank),
        *(read for place in in_place.values() for read in place.reads),
    ]
    return _Plan(in_place, {**memory, **fresh}, reads, places)


def _check_targets(iteration: Iteration, trees: Mapping[str, Any], targets: Mapping[str, Any]) -> None:
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


def _check_memory(part: str, target: Any) -> None:
    """Raises Usage where a module has no memory, and torch would leave it so without an error."""
    for name, tensor in own_tensors(target).items():
        if tensor.is_meta:
            raise Usage(
                f"{part}.{name} is on the meta device and has no memory to be loaded into: give it some with "
                'to_empty(device="cpu")'
            )


def _load_into(part: str, target: Any, state: Any, strict: bool) -> list[str]:
    """Gives sentences on what was left out without `strict`: of what torch returns, nobody would hear."""
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(target, torch.nn.Module):
        target.load_state_dict(state)
        return []
    left = target.load_state_dict(state, strict=strict)
    sentences = []
    for names, what in (
        (getattr(left, "missing_keys", ()), "keeps what was not saved"),
        (getattr(left, "unexpected_keys", ()), "has no place for what was saved"),
    ):
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            sentences.append(f"{part} {what}: {', '.join(names[:3])}{more}")
    return sentences
