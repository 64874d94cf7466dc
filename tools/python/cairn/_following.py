"""Work that comes after saves, such as deleting what they replace, without training waiting for it."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Callable, Optional


class Following:
    """A thread that does one piece of work after the other. What fails is raised by the next `check` or `wait`."""

    def __init__(self) -> None:
        # Made where it is needed, as a process that was forked has no threads.
        self._thread: Optional[ThreadPoolExecutor] = None
        self._work: deque[Future[None]] = deque()

    def add(self, work: Callable[..., None], *arguments: Any) -> None:
        """Does this after all that was added before."""
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, "cairn-following")
        self._work.append(self._thread.submit(work, *arguments))

    def check(self) -> None:
        """Raises what the work that is done failed with, the first failure first."""
        while self._work and self._work[0].done():
            self._work.popleft().result()

    def wait(self) -> None:
        """Returns when all work is done; raises as `check` does."""
        thread, self._thread = self._thread, None
        work, self._work = self._work, deque()
        if thread is not None:
            thread.shutdown()
        for done in work:
            done.result()
