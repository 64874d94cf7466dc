"""Work that comes after saves, such as deleting what they replace, without training waiting for it."""

from __future__ import annotations

import atexit
import os
import sys
import weakref
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Callable, Optional

# What is not done yet, and what failed of what nobody has heard of.
_open: set[Future[None]] = set()


class Following:
    """A thread that does one piece of work after the other.

    What fails is raised by the next `check` or `wait`, and printed at the end of the process where there is none.
    """

    def __init__(self) -> None:
        self._forget()
        _all.add(self)

    def _forget(self) -> None:
        # Made where it is needed.
        self._thread: Optional[ThreadPoolExecutor] = None
        self._work: deque[Future[None]] = deque()

    def add(self, work: Callable[..., None], *arguments: Any) -> None:
        """Does this after all that was added before."""
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, "cairn-following")
        done = self._thread.submit(work, *arguments)
        _open.add(done)
        done.add_done_callback(_forget_success)
        self._work.append(done)

    def check(self) -> None:
        """Raises what the work that is done failed with, the first failure first."""
        while self._work and self._work[0].done():
            _raise(self._work.popleft())

    def wait(self) -> None:
        """Returns when all work is done; raises as `check` does."""
        thread, self._thread = self._thread, None
        work, self._work = self._work, deque()
        if thread is not None:
            thread.shutdown()
        for done in work:
            _raise(done)


def _forget_success(done: Future[None]) -> None:
    if done.exception() is None:
        _open.discard(done)


def _raise(done: Future[None]) -> None:
    _open.discard(done)
    done.result()


def _at_exit() -> None:
    for done in list(_open):
        # One that still goes on is waited for.
        error = done.exception()
        if error is not None:
            print(f"cairn: a save, or what follows one, failed: {error}", file=sys.stderr)


def _after_fork() -> None:
    # A child has none of its parent's threads, and nothing ends what they were about to do.
    _open.clear()
    for following in _all:
        following._forget()


_all: weakref.WeakSet[Following] = weakref.WeakSet()

atexit.register(_at_exit)
os.register_at_fork(after_in_child=_after_fork)
