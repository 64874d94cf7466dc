"""What an index of a tensor means, as numpy and torch have it."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any, NamedTuple, Optional


class Axis(NamedTuple):
    """What is read along an axis: every `step`th from `start` to `stop`; of a single one the axis goes away."""

    start: int
    stop: int
    step: int
    is_single: bool


def box_of(index: tuple[Any, ...], shape: tuple[int, ...], name: str) -> list[Axis]:
    """What an index means along each axis."""
    places = [number for number, part in enumerate(index) if part is Ellipsis]
    if len(places) > 1:
        raise IndexError(f"an index of {name} has `...` at most once")
    given = len(index) - len(places)
    if given > len(shape):
        raise IndexError(f"{name} has {len(shape)} axes, and the index {given}")
    place = places[0] if places else given
    index = (*index[:place], *[slice(None)] * (len(shape) - given), *index[place + 1 :])
    return [_axis(part, length, name) for part, length in zip(index, shape)]


def is_of_whole_bytes(box: Sequence[Axis]) -> bool:
    """Whether a box begins and ends with bytes, where two elements are one."""
    if not box:
        return True
    last = box[-1]
    return not last.is_single and last.step == 1 and last.start % 2 == last.stop % 2 == 0


def _axis(part: Any, length: int, name: str) -> Axis:
    if isinstance(part, slice):
        start, stop, step = part.indices(length)
        if step < 0:
            raise IndexError(f"a slice of {name} goes backwards; read it forwards and turn it round")
        return Axis(start, stop, step, False)
    place = _integer(part)
    if place is None:
        raise IndexError(
            f"{name} is read by integers, slices and `...`, not by {type(part).__name__}: read a box, and index that"
        )
    if not -length <= place < length:
        raise IndexError(f"{name} has {length} elements along an axis, and {place} is not one of them")
    place %= length
    return Axis(place, place + 1, 1, True)


def _integer(part: Any) -> Optional[int]:
    # For numpy and torch a bool is an index of its own kind, and so is what has axes, though it may be a number as well.
    has_axes = bool(getattr(part, "ndim", 0))
    if has_axes or isinstance(part, bool) or str(getattr(part, "dtype", "")).endswith("bool"):
        return None
    try:
        return operator.index(part)
    except TypeError:
        return None
