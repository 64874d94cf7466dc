"""Work on a thread of its own, so that the one that waits for it can be interrupted."""

from __future__ import annotations

import threading
import traceback
from typing import Any, Callable, Optional

from ._library import Control
from .errors import Interrupted

Work = Callable[[Control], Any]
# Seconds after which one that waits looks whether there was a signal.
_NAP = 0.25


class Background:
    """One piece of work: its result or error, once it `has_ended`."""

    def __init__(self, name: str, control: Optional[Control] = None) -> None:
        self.control = Control() if control is None else control
        self.result: Any = None
        self.error: Optional[BaseException] = None
        self._name = name
        self._ended = threading.Event()
        self._thread: Optional[threading.Thread] = None

    @property
    def has_ended(self) -> bool:
        """Whether nothing of it goes on. True before it was started, too."""
        return self._thread is None or self._ended.is_set()

    def start(self, work: Work, end: Callable[[], None] = lambda: None) -> None:
        """Begins it. Where this is interrupted, it is stopped. `end` follows, also where it was cancelled before it began."""

        def run() -> None:
            try:
                if self.control.cancel:
                    raise Interrupted("it was cancelled before it began")
                self.result = work(self.control)
            except BaseException as error:
                # It may be kept for long, and the state that was saved needn't be.
                traceback.clear_frames(error.__traceback__)
                self.error = error
            finally:
                try:
                    end()
                finally:
                    self._ended.set()

        # Not a daemon: an interpreter that ends waits for it.
        self._thread = threading.Thread(target=run, name=self._name, daemon=False)
        try:
            self._thread.start()
        except RuntimeError:
            # There are no more threads to be had.
            run()
        except BaseException:
            self.stop()
            raise

    def wait(self, timeout: Optional[float] = None) -> bool:
        """Waits for its end, for at most so many seconds. Returns whether it has come."""
        if self._thread is None or timeout is not None:
            return self._thread is None or self._ended.wait(timeout)
        # A signal that comes just before a thread falls asleep doesn't wake it: Python sees to it when it is awake again.
        while not self._ended.wait(_NAP):
            pass
        return True

    def stop(self) -> None:
        """Cancels it and waits for its end."""
        self.control.cancel = 1
        # One that hasn't begun sees that first of all, and touches nothing.
        if self._thread is not None and self._thread.ident is not None:
            self._ended.wait()
        self._ended.set()


def interruptible(work: Work, control: Optional[Control] = None) -> Any:
    """Does some work, which Ctrl-C ends soon: for that the main thread has to be awake. Gives its result."""
    background = Background("cairn", control)
    try:
        background.start(work)
        background.wait()
    except BaseException:
        background.stop()
        raise
    if background.error is not None:
        raise background.error
    return background.result
