"""When to save: every so many steps, epochs or seconds, at a best metric, at milestones and at the end, in any combination."""

from __future__ import annotations

import math
import operator
import sys
import time
from dataclasses import dataclass
from typing import Any, Callable, Iterable, Mapping

# How close to the end of an interval of epochs is there, as a fraction of it.
_NEARLY = 1e-6


@dataclass(frozen=True)
class Due:
    """Whether a step is to be saved, and why. True where it is.

    Attributes:
        step: The step that was asked about.
        reasons: Which rules say so: of "steps", "epochs", "seconds", "best", "milestone" and "final".
        best: Names of the metrics that were never better than now.
        milestone: The milestone that was reached or passed, else None.
        again: The step was due before, so it is false now. `reasons` and `best` say what came since, such as a metric
            that was evaluated after the save: a reason to annotate the iteration, not to save it once more.
    """

    step: int
    reasons: tuple[str, ...] = ()
    best: tuple[str, ...] = ()
    milestone: int | None = None
    again: bool = False

    def __bool__(self) -> bool:
        return bool(self.reasons) and not self.again

    @property
    def pin(self) -> str | None:
        """`milestone-STEP` for a milestone, the name that policies give them; else None. For `store.save(pin=...)`."""
        return None if self.milestone is None else f"milestone-{self.step}"


class Schedule:
    """Says at which steps to save. A step is due when any of the rules says so, and never twice.

        schedule = cairn.Schedule(steps=100, seconds=600, best="eval_loss:min", milestones=[1000, 5000])
        for step, batch in enumerate(batches, start=1):
            ...
            if due := schedule.due(step, epoch=step / len(batches), metrics=metrics, final=step == last):
                store.save(step, model=model, metrics=metrics, pin=due.pin, extra={"schedule": schedule.state_dict()})

    A multiple that is jumped over counts at the next step that is asked about, once. A resumed training goes on with
    `load_state_dict`, or with `start` where there is no such state; without either, the first step that is asked about
    is where training begins.

    Args:
        steps: Save at multiples of this many steps.
        epochs: Save at multiples of this many epochs; 0.5 is twice in each.
        seconds: Save when this many seconds have gone by since the last step that was due, for whatever reason.
        best: `METRIC`, `METRIC:min` or `METRIC:max`, or several: save when it was never better. Without a direction it
            is min for names that end in `loss`, and max for others. NaN is never best; of equals the first is.
        milestones: Save at these steps; `Due.pin` is a name to pin them with.
        final: Save the step that `due` is told is the last.
        group: A process group of torch.distributed, whose ranks save together: then the answer of its first rank
            counts for all, as clocks and metrics differ. All of its ranks have to ask at the same steps.
        clock: Seconds from any beginning, which never go back.

    Raises:
        ValueError: A number that isn't positive, or a direction that is neither min nor max.
    """

    def __init__(
        self,
        *,
        steps: int | None = None,
        epochs: float | None = None,
        seconds: float | None = None,
        best: str | Iterable[str] | None = None,
        milestones: Iterable[int] = (),
        final: bool = True,
        group: Any = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._milestones = sorted(set(milestones))
        for name, number in [("steps", steps), ("epochs", epochs), ("seconds", seconds)] + [
            ("milestones", milestone) for milestone in self._milestones
        ]:
            if number is not None and not 0 < number < math.inf:
                raise ValueError(f"{name} of a schedule have to be positive, not {number}")
        self._steps, self._epochs, self._seconds = steps, epochs, seconds
        self._metrics = [_direction(rule) for rule in ([best] if isinstance(best, str) else best or ())]
        self._final, self._group, self._clock = final, group, clock
        # Up to where all was asked about: the last step and epoch, and the last step that was due.
        self._step: int | None = None
        self._epoch: float | None = None
        self._saved: int | None = None
        self._since = 0.0
        self._best: dict[str, float] = {}

    def start(self, step: int = 0, epoch: float | None = None) -> None:
        """Begins, or goes on, after this step and epoch: nothing up to them is due, and the seconds count from now."""
        self._step = self._saved = operator.index(step)
        self._epoch = 0.0 if epoch is None and step == 0 else epoch
        self._since = self._clock()

    def due(
        self,
        step: int,
        epoch: float | None = None,
        metrics: Mapping[str, Any] | None = None,
        final: bool = False,
    ) -> Due:
        """Whether to save this step now. To be asked after each step, or whenever saving is possible.

        Args:
            step: The number of steps that are done. A smaller one than before means that training went back.
            epoch: The number of epochs that are done, with fractions; None where it isn't known at this step.
            metrics: What was measured at this step, by name: numbers, or whatever `float` takes.
            final: Whether this is the last step.
        """
        if self._group is None or not (self._seconds or self._metrics):
            return self._decide(step, epoch, metrics or {}, final)
        distributed = sys.modules["torch"].distributed
        answer: list[Any] = [None, None]
        first = distributed.get_rank(self._group) == 0
        if first:
            answer = [self._decide(step, epoch, metrics or {}, final), self.state_dict()]
        distributed.broadcast_object_list(
            answer, src=distributed.get_global_rank(self._group, 0), group=self._group
        )
        if not first:
            self.load_state_dict(answer[1])
        decided: Due = answer[0]
        return decided

    def state_dict(self) -> dict[str, Any]:
        """What a resumed training needs, as JSON values. Taken after `due`, it goes into the save of that step."""
        return {"step": self._step, "epoch": self._epoch, "saved": self._saved, "best": dict(self._best)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on as when `state_dict` was taken, also under other rules; the seconds count from now."""
        self._step, self._epoch, self._saved = state["step"], state["epoch"], state["saved"]
        self._best = dict(state["best"])
        self._since = self._clock()

    def _decide(self, step: int, epoch: float | None, metrics: Mapping[str, Any], final: bool) -> Due:
        step, epoch = operator.index(step), None if epoch is None else float(epoch)
        before = self._step_before(step)
        best = tuple(name for name, direction in self._metrics if self._is_best(name, direction, metrics))
        milestone = max((m for m in self._milestones if before < m <= step), default=None)
        rules = {
            "steps": self._steps is not None and step // self._steps > max(before // self._steps, 0),
            "epochs": self._reaches_epoch(epoch),
            "seconds": self._seconds is not None and self._clock() - self._since >= self._seconds,
            "best": bool(best),
            "milestone": milestone is not None,
            "final": final and self._final,
        }
        due = Due(
            step, tuple(name for name, says in rules.items() if says), best, milestone, step == self._saved
        )
        self._step, self._epoch = step, self._epoch if epoch is None else epoch
        if due:
            self._saved, self._since = step, self._clock()
        return due

    def _step_before(self, step: int) -> int:
        """The last step that was asked about; where there is none, or training went back, all before this one is done."""
        if self._step is None:
            self._since = self._clock()
        elif step >= self._step:
            return self._step
        self._epoch = self._saved = None
        return step - 1

    def _reaches_epoch(self, epoch: float | None) -> bool:
        if self._epochs is None or epoch is None:
            return False
        # Sums of fractions end a little below a whole number.
        place = epoch / self._epochs
        reached = math.floor(place + _NEARLY)
        if self._epoch is None or epoch < self._epoch:
            # Where in the epoch the step before was, nobody said: so only the very end of an interval is due.
            return reached > max(math.floor(place - _NEARLY), 0)
        return reached > math.floor(self._epoch / self._epochs + _NEARLY)

    def _is_best(self, name: str, direction: str, metrics: Mapping[str, Any]) -> bool:
        """Whether it is better than all before, which it then is remembered as."""
        if metrics.get(name) is None:
            return False
        value = float(metrics[name])
        # A direction that was changed begins anew, as the values of the other one say nothing about it.
        key = f"{name}:{direction}"
        best = self._best.get(key)
        is_better = best is None or (value < best if direction == "min" else value > best)
        if math.isnan(value) or not is_better:
            return False
        self._best[key] = value
        return True


def _direction(rule: str) -> tuple[str, str]:
    """The metric and the direction of `METRIC[:min|max]`, as in references of a store."""
    name, colon, direction = rule.rpartition(":")
    if not colon:
        name, direction = rule, "min" if rule.endswith("loss") else "max"
    if not name or direction not in ("min", "max"):
        raise ValueError(f"a schedule's best is METRIC, METRIC:min or METRIC:max, not {rule!r}")
    return name, direction
