"""A last save when the process is asked to end."""

from __future__ import annotations

import os
import signal
import threading
import traceback
from types import FrameType
from typing import Any, Callable, Optional

from .errors import Usage


class Hold:
    """Within this, no SIGTERM is acted upon by `on_sigterm`; one that comes meanwhile is, when it ends."""

    def __enter__(self) -> None:
        if _is_main():
            _state.holds += 1

    def __exit__(self, *_: object) -> None:
        if _is_main():
            _state.holds -= 1
            _state.act()


class on_sigterm:  # noqa: N801
    """Within this, a SIGTERM makes the process save and then end of that signal.

        with cairn.on_sigterm(lambda: store.save(step, model=model, optimizer=optimizer)) as sigterm:
            for step in range(step, last):
                with sigterm.hold():
                    train()

    `function` is called in the main thread: at once, or at the end of a `hold()`, which keeps it from seeing
    half of a step. It never runs inside of a save that is under way. What it returns is waited for, if that
    is a `Saving`. What it raises is printed. Then whoever handled SIGTERM before gets it, so that by
    default the process ends with its status. A second SIGTERM changes nothing; SIGKILL, which schedulers
    send a while later, ends it at once, and leaves the store whole.

    Raises Usage in another thread than the main one, where Python allows no handlers of signals.
    """

    def __init__(self, function: Callable[[], Any]) -> None:
        self._function = function
        self._process = os.getpid()
        self._before: Any = signal.SIG_DFL

    def __enter__(self) -> on_sigterm:
        if not _is_main():
            raise Usage("on_sigterm is for the main thread: Python handles signals there alone")
        self._before = signal.signal(signal.SIGTERM, self._handle) or signal.SIG_DFL
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGTERM, self._before)

    @staticmethod
    def hold() -> Hold:
        """For `with`: what must not be interrupted, such as a step of the training."""
        return Hold()

    def _handle(self, number: int, frame: Optional[FrameType]) -> None:
        if self._process != os.getpid():
            # A child, such as a worker of a data loader, which has nothing to save.
            self._pass_on()
        elif _state.due is None:
            _state.due = self
            _state.act()

    def _save(self) -> None:
        try:
            saving = self._function()
            if callable(getattr(saving, "wait", None)):
                saving.wait()
        except BaseException:
            traceback.print_exc()
        self._pass_on()

    def _pass_on(self) -> None:
        signal.signal(signal.SIGTERM, self._before)
        os.kill(os.getpid(), signal.SIGTERM)


class _State:
    """Of the main thread, which alone changes it."""

    def __init__(self) -> None:
        self.holds = 0
        self.due: Optional[on_sigterm] = None

    def act(self) -> None:
        """Does what is due, unless it has to wait."""
        due = self.due
        if due is not None and self.holds == 0:
            # Saves of its own don't begin it once more.
            self.holds += 1
            try:
                due._save()
            finally:
                self.holds -= 1
                self.due = None


def _is_main() -> bool:
    return threading.current_thread() is threading.main_thread()


_state = _State()
