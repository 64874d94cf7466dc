"""A last save when the process is asked to end."""

from __future__ import annotations

import os
import signal
import threading
import traceback
from collections.abc import Iterable
from types import FrameType
from typing import Any, Callable, Optional

from .errors import Usage


class Hold:
    """Within this, no signal is acted upon by `on_sigterm`; one that comes meanwhile is, when it ends."""

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
    is a `Saving`. What it raises is printed, and so is what an earlier save failed of that nobody has heard of:
    here that keeps no other from being begun. Then whoever handled SIGTERM before gets it, so that by default
    the process ends with its status; another `on_sigterm` around this one saves as well. A second SIGTERM
    changes nothing; SIGKILL, which schedulers send a while later, ends it at once, and leaves the store whole.

    `signals` are those that it is about: with `(signal.SIGTERM, signal.SIGUSR1)` also the warning that Slurm
    sends on request (`--signal=USR1@90`). The process ends of that, too, unless something handled it before.

    Raises Usage for what is no function; in another thread than the main one, where Python allows no handlers of signals; for a signal that none can
    handle; and within itself.
    """

    def __init__(self, function: Callable[[], Any], *, signals: Iterable[int] = (signal.SIGTERM,)) -> None:
        if not callable(function):
            raise Usage(
                f"on_sigterm calls a function, and {function!r} is none; write on_sigterm(lambda: store.save(...))"
            )
        self._function, self._signals = function, frozenset(signals)
        self._process = os.getpid()
        self._is_entered = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> on_sigterm:
        if not _is_main():
            raise Usage("on_sigterm is for the main thread: Python handles signals there alone")
        if self._is_entered:
            raise Usage("this on_sigterm is in use already; make another one for what is within")
        self._is_entered, self._before = True, {}
        try:
            for number in self._signals:
                self._take(number)
        except BaseException:
            self.__exit__()
            raise
        return self

    def _take(self, number: int) -> None:
        """Handles a signal from now on."""
        try:
            # Noted first, as it may come at once.
            self._before[number] = signal.getsignal(number) or signal.SIG_DFL
            signal.signal(number, self._handle)
        except (OSError, TypeError, ValueError):
            self._before.pop(number, None)
            raise Usage(
                f"{number!r} is no signal that a process can handle; leave it out of signals="
            ) from None

    def __exit__(self, *_: object) -> None:
        self._is_entered = False
        for number, before in self._before.items():
            signal.signal(number, before)

    @staticmethod
    def hold() -> Hold:
        """For `with`: what must not be interrupted, such as a step of the training."""
        return Hold()

    def _handle(self, number: int, frame: Optional[FrameType]) -> None:
        if self._process != os.getpid():
            # A child, such as a worker of a data loader, which has nothing to save.
            self._pass_on(number)
        elif (self, number) not in _state.due:
            _state.due.append((self, number))
            _state.act()

    def _save(self) -> None:
        try:
            saving = self._function()
            if callable(getattr(saving, "wait", None)):
                saving.wait()
        except BaseException:
            traceback.print_exc()

    def _pass_on(self, number: int) -> None:
        signal.signal(number, self._before[number])
        # Now, as it may go to another one, which is due then.
        _state.due = [one for one in _state.due if one != (self, number)]
        os.kill(os.getpid(), number)


class _State:
    """Of the main thread, which alone changes it."""

    def __init__(self) -> None:
        self.holds = 0
        self.is_saving = False
        # Who has to save, and of which signal.
        self.due: list[tuple[on_sigterm, int]] = []

    def act(self) -> None:
        """Does what is due, unless it has to wait."""
        while self.due and self.holds == 0:
            due, number = self.due[0]
            # Saves of its own don't begin it once more.
            self.holds += 1
            self.is_saving = True
            try:
                due._save()
            finally:
                self.is_saving = False
                self.holds -= 1
                due._pass_on(number)


def is_ending() -> bool:
    """Whether this is within the last save of an `on_sigterm`, after which there is no other."""
    return _state.is_saving and _is_main()


def _is_main() -> bool:
    return threading.current_thread() is threading.main_thread()


_state = _State()
