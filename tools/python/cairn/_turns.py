"""Which save of a step it is, where several ranks save one more than once."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Optional

from .errors import Exists, Protected


class Turn:
    """The place of a save among a rank's saves of a step: each that replaces another is one more, on all ranks alike."""

    def __init__(self, of: Hashable, *, is_another: bool) -> None:
        self._of = of
        if is_another:
            _taken.setdefault(of, set()).add(self)
        self.number = len(_taken.get(of, ()))

    def give_back(self, error: Optional[BaseException]) -> None:
        """For a save that failed: when it is called again, it joins what the other ranks have of it."""
        # Of one that was refused they have nothing any more, and call it again as well.
        if not isinstance(error, (Exists, Protected)):
            _taken.get(self._of, set()).discard(self)


# Those that this process has taken, by store, run, step and rank.
_taken: dict[Hashable, set[Turn]] = {}
