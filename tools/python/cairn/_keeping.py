"""Which iterations of a run a training of the Hugging Face `Trainer` keeps, as that does with folders."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import Any, Optional

from ._iteration import metrics_of
from ._store import Store
from .errors import NotFound, Protected

# The name of a metric, and "min" or "max".
Metric = tuple[str, str]


def is_better(value: float, best: Optional[float], direction: str) -> bool:
    """Of equals the first is best, and what is no number never."""
    if best is None:
        return value == value
    return value > best if direction == "max" else value < best


def iterations_of(store: Store, run: str) -> list[dict[str, Any]]:
    """The iterations of a run by step, none where there is no such run yet. Raises Usage where no run can have that name."""
    try:
        return store.iterations(run)
    except NotFound:
        return []


def best_of(iterations: Iterable[dict[str, Any]], metric: Optional[Metric]) -> Optional[dict[str, Any]]:
    """The iteration with the best value of a metric; None where none has one."""
    name, direction = metric or ("", "min")
    best: Optional[tuple[dict[str, Any], float]] = None
    for iteration in iterations:
        value = None if iteration["superseded"] else metrics_of(iteration).get(name)
        if value is not None and is_better(value, None if best is None else best[1], direction):
            best = iteration, value
    return None if best is None else best[0]


def take_up(store: Store, run: str, step: int) -> set[int]:
    """Makes a step the run's last, so that training goes on from there. Returns those after it, which are saved again.

    Raises ValueError where there are later ones, and not this.
    """
    iterations = {iteration["step"]: iteration for iteration in iterations_of(store, run)}
    later = {after for after in iterations if after > step}
    if any(not iterations[after]["superseded"] for after in later):
        if step not in iterations:
            raise ValueError(
                f"the run {run} has iterations up to step {max(later)}, but not step {step}, at which this training "
                "starts: resume from one of them (materialize), or save into another run"
            )
        store.rewind(f"{run}@{step}")
    return later


def keep(store: Store, run: str, limit: Optional[int], metric: Optional[Metric]) -> None:
    """Deletes what is more than `save_total_limit`, the oldest first. The newest and the best stay."""
    if not limit or limit < 1:
        return
    # What is superseded is older than all else.
    iterations = sorted(iterations_of(store, run), key=lambda one: (not one["superseded"], one["step"]))
    newest = iterations.pop()
    best = best_of([*iterations, newest], metric)
    if best is not None and best is not newest:
        iterations.remove(best)
        # With a limit of 1 there are two, as training has to be resumed from the newest.
        limit = max(limit - 1, 1)
    count = max(len(iterations) + 1 - limit, 0)
    superfluous = [f"{run}@{one['step']}" for one in iterations[:count] if not one["pins"]]
    if superfluous:
        # Where somebody pins or deletes one of them meanwhile, all of them stay until the next time.
        with contextlib.suppress(Protected, NotFound):
            store.delete(*superfluous)
            store.gc()
