"""Saves: what a caller holds of one, and the thread that carries it out."""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import json
import os
import sys
import threading
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Callable, NamedTuple, Optional

from . import _library
from ._arrays import Leaf
from ._background import Background, Work, interruptible
from ._iteration import STATE_FILE, STATE_FORMAT, STATE_VERSION, part_file, rank_folder
from ._library import Control
from ._sigterm import Hold, is_ending
from ._staging import HostMemory, Staged, aligned, staged_size
from ._tree import Flat
from ._turns import Turn
from .errors import CairnError, Interrupted, Usage


class Rank(NamedTuple):
    """Which of the processes that save one state together this is."""

    rank: int
    world_size: int
    attempt: str
    #: Which save of the step it is within the attempt: one more for each that replaces another.
    turn: int = 0


class Plan(NamedTuple):
    """What is to be saved, and how. Nothing but the leaves belongs to the caller, who may change the state."""

    step: int
    run: Optional[str]
    options: dict[str, Any]
    flat: Flat
    files: Mapping[str, bytes]
    rank: Optional[Rank]
    turn: Optional[Turn] = None

    @property
    def folder(self) -> str:
        """Where this process has its files."""
        return "" if self.rank is None or self.rank.world_size == 1 else rank_folder(self.rank.rank)

    def state_file(self) -> bytes:
        """What says how the parts are put together again. The same from save to save where they are."""
        state = {
            "format": STATE_FORMAT,
            "version": STATE_VERSION,
            "rank": 0 if self.rank is None else self.rank.rank,
            "worldSize": 1 if self.rank is None else self.rank.world_size,
            "parts": self.flat.trees,
        }
        if self.flat.shards:
            state["shards"] = self.flat.shards
        return json.dumps(state, separators=(",", ":")).encode()


class Session:
    """A save in the library."""

    def __init__(self, store: int, plan: Plan, base: Optional[Staged], is_private: bool) -> None:
        rank = {} if plan.rank is None else plan.rank._asdict()
        self._plan, self._base = plan, base
        address = _library.handle(
            "cairn_save_begin",
            store,
            _library.options(
                step=plan.step,
                run=plan.run,
                earlier=None if base is None else base.saved_as,
                # Where another iteration is compared with, such as one of another process, it reads them after all.
                readsBases=base is None,
                isPrivate=is_private,
                rank=rank.get("rank"),
                worldSize=rank.get("world_size"),
                attempt=rank.get("attempt"),
                turn=rank.get("turn"),
                **plan.options,
            ),
        )
        self._begun = _library.Handle(address, "cairn_save_close")

    def add(self, leaves: Sequence[Leaf], staged: Optional[Staged]) -> None:
        """Adds tensors: as they lie in staging memory, else in their own."""
        for leaf in leaves:
            own = leaf.pointer if leaf.nbytes else None
            data = own if staged is None else staged.places[leaf.part, leaf.name][0]
            base = None if self._base is None else self._base.address(leaf.part, leaf.name, leaf.nbytes)
            _library.call(
                "cairn_save_add_tensor",
                self._begun.address,
                _library.text(part_file(self._plan.folder, leaf.part)),
                _library.text(leaf.name),
                _library.text(leaf.dtype),
                _library.numbers(leaf.shape),
                len(leaf.shape),
                data,
                leaf.nbytes,
                base,
            )

    def take(self, control: Control) -> None:
        """Reads what was added; its memory may change then."""
        _library.call("cairn_save_take", self._begun.address, ctypes.byref(control))

    def commit(self, control: Control) -> dict[str, Any]:
        """Reads the rest and commits."""
        plan = self._plan
        files = {**plan.files, plan.folder + STATE_FILE: plan.state_file()}
        for path, data in files.items():
            _library.call("cairn_save_add_file", self._begun.address, _library.text(path), data, len(data))
        result: dict[str, Any] = _library.answer(
            "cairn_save_commit", self._begun.address, ctypes.byref(control)
        )
        return result

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Gives it up where it was not committed."""
        self._begun.close()


class Saving:
    """A save that is under way, or has ended.

    `step` is its step, `skipped` whether nothing was done since another one was under way
    (`when_busy="skip"`), `stall` the seconds for which `save` kept its caller.
    """

    def __init__(self, step: int, *, skipped: bool = False) -> None:
        self.step = step
        self.skipped = skipped
        self.stall = 0.0
        self._background = Background(f"cairn-save-{step}")
        self._is_heard = False
        self._is_told = False
        self._turn: Optional[Turn] = None
        self._process, self._thread = os.getpid(), threading.get_ident()

    def __repr__(self) -> str:
        failed = self._background.error is not None
        state = (
            "skipped" if self.skipped else "under way" if not self.done() else "failed" if failed else "done"
        )
        return f"<cairn saving {self.step}: {state}>"

    def done(self) -> bool:
        """Whether it has ended, well or not."""
        return self._background.has_ended or self._process != os.getpid()

    def wait(self, timeout: Optional[float] = None) -> Optional[dict[str, Any]]:
        """Waits until it is durable, for at most `timeout` seconds.

        Returns what `cairn save --json` says, such as `storedBytes`; None where it was skipped. Raises what
        made it fail, and TimeoutError, when it goes on. An interruption (Ctrl-C) leaves it going on as well.
        The `warnings` in it are given as Python's warnings too: here, by the next save, or when the store is closed.
        """
        if self.skipped:
            return None
        if self._process != os.getpid():
            raise Usage("this save goes on in the process that began it; wait for it there")
        if not self._background.wait(timeout):
            raise TimeoutError(
                f"the save of step {self.step} takes longer than {timeout} seconds; it goes on"
            )
        self._raise()
        self._tell(stacklevel=3)
        result: Optional[dict[str, Any]] = self._background.result
        return result

    def cancel(self) -> None:
        """Ends it soon, if it is still under way; nothing of it stays then. `wait` raises Interrupted."""
        self._background.control.cancel = 1

    def progress(self) -> tuple[int, int]:
        """The bytes that were read of what is saved, and how many there are; 0 where that is not known."""
        control = self._background.control
        return int(control.done_bytes), int(control.total_bytes)

    def _start(self, work: Work, end: Callable[[], None]) -> None:
        _open.add(self)

        def ended() -> None:
            end()
            error = self._background.error
            if error is not None:
                self._give_back_turn()
            if isinstance(error, Interrupted) or (error is None and not self._warnings):
                _open.discard(self)

        self._background.start(work, ended)

    def _stop(self) -> None:
        """Cancels it, waits for its end, and hears of what that was."""
        self._background.stop()
        self._hear()
        # It may have ended well before.
        if self._background.result is None:
            self._give_back_turn()

    def _give_back_turn(self) -> None:
        if self._turn is not None:
            self._turn.give_back(self._background.error)

    @property
    def _warnings(self) -> list[str]:
        """What it has to tell and nobody was told."""
        result = self._background.result
        sentences: list[str] = [] if self._is_told or not isinstance(result, dict) else result["warnings"]
        return [f"the save of step {self.step}: {sentence}" for sentence in sentences]

    def _tell(self, *, stacklevel: int) -> None:
        """Warns of what a save that went well has to tell, once."""
        sentences = self._warnings
        self._is_told = True
        if self._background.error is None:
            _open.discard(self)
        for sentence in sentences:
            warnings.warn(sentence, stacklevel=stacklevel + 1)

    def _hear(self) -> None:
        self._is_heard = True
        _open.discard(self)

    def _raise(self) -> None:
        if self._background.error is not None:
            self._hear()
            raise self._background.error

    def _raise_unheard(self) -> None:
        failure = self._unheard()
        if failure is not None:
            raise failure

    def _unheard(self, consequence: str = "") -> Optional[CairnError]:
        """What nobody has heard of yet, with what comes of it; None where there is nothing."""
        error = self._background.error
        if error is None or self._is_heard or isinstance(error, Interrupted):
            return None
        self._hear()
        kind: type[CairnError] = CairnError
        details = {}
        if isinstance(error, CairnError):
            kind, details = type(error), {"code": error.code, "path": error.path}
        failure = kind(f"the save of step {self.step} failed{consequence}: {error}", **details)
        failure.__cause__ = error
        return failure


# Those that are under way, and those that have something to say that nobody has heard.
_open: set[Saving] = set()


def _at_exit() -> None:
    """What nobody will ask for any more is at least said."""
    for saving in list(_open):
        # Begun by what ran at the exit as well, when the interpreter has already waited for its threads.
        saving._background.wait()
        error = saving._background.error
        if error is not None:
            print(f"cairn: the save of step {saving.step} failed: {error}", file=sys.stderr)
        for sentence in saving._warnings:
            print(f"cairn: {sentence}", file=sys.stderr)


atexit.register(_at_exit)
os.register_at_fork(after_in_child=_open.clear)


class Saver:
    """Carries out the saves of one store, one after the other."""

    def __init__(self, opened: _library.Handle) -> None:
        self.memory = HostMemory()
        # Stays open while something is being saved.
        self._opened = opened
        self._last: Optional[Saving] = None
        # Reentrant, as a signal's handler runs in the middle of whatever the main thread does.
        self._lock = threading.RLock()
        self._is_beginning = False

    def save(
        self,
        make_plan: Callable[[], Plan],
        step: int,
        *,
        waits: bool,
        copies: int,
        limit: Optional[int],
        skips: bool,
    ) -> Saving:
        """`copies` is how many of the state are kept in memory, `limit` the most bytes of one."""
        start = time.perf_counter()
        with Hold():
            with self._alone():
                if not self._is_free(skips, step):
                    return Saving(step, skipped=True)
                saving = Saving(step)
                self._begin(saving, make_plan(), waits, copies, limit)
            if waits:
                self._wait(saving)
        saving.stall = time.perf_counter() - start
        return saving

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Within this one thread begins one save. Raises Usage where it is beginning another one."""
        with self._lock:
            if self._is_beginning:
                raise Usage(
                    "save was called while the same thread was beginning a save, as from the handler of a signal: let "
                    "that set a flag and save after the step, or let cairn.on_sigterm handle the signal (signals=)"
                )
            try:
                self._is_beginning = True
                yield
            finally:
                self._is_beginning = False

    def _is_free(self, skips: bool, step: int) -> bool:
        """Waits for the save before, and raises what it failed of. False where there is to be no waiting."""
        last = self._last
        if last is None:
            return True
        if skips and not last.done():
            return False
        last._background.wait()
        self._last = None
        last._tell(stacklevel=4)
        is_last = is_ending()
        failure = last._unheard("" if is_last else f", and that of step {step} was not begun (call it again)")
        if failure is not None:
            if not is_last:
                raise failure
            # Nobody could call it again.
            print(f"cairn: {failure}", file=sys.stderr)
        return True

    def _begin(self, saving: Saving, plan: Plan, waits: bool, copies: int, limit: Optional[int]) -> None:
        self._last = saving
        saving._turn = plan.turn
        leaves = plan.flat.leaves
        # Where the caller waits and changes nothing, only what isn't contiguous in host memory.
        copied = [leaf for leaf in leaves if leaf.pointer is None] if waits else leaves
        try:
            if limit is not None and staged_size(copied) > limit:
                self._begin_in_waves(saving, plan, limit)
            elif waits:
                self._begin_direct(saving, plan, copied)
            else:
                self._begin_staged(saving, plan, copies)
        except BaseException:
            saving._stop()
            raise

    @staticmethod
    def _wait(saving: Saving) -> None:
        try:
            saving._background.wait()
        except BaseException:
            # What is being read is the caller's again.
            saving._stop()
            raise
        saving._raise()
        saving._tell(stacklevel=4)

    def settle(self) -> None:
        """Waits for what this thread is saving. Others, such as one that cleans up, would wait for ever new saves."""
        last = self._last
        if last is not None and last._thread == threading.get_ident():
            last._background.wait()

    def wait(self) -> None:
        """Waits for what is under way, and raises what it failed of, unless somebody knows."""
        last = self._last
        if last is not None:
            last._background.wait()
            last._raise_unheard()
            last._tell(stacklevel=3)

    def stop(self) -> None:
        """Gives up what is under way."""
        last = self._last
        if last is not None:
            last._stop()

    def forget(self) -> None:
        """In the child of a fork, where no thread of the parent's runs and none of its memory is."""
        self._last, self._lock, self._is_beginning = None, threading.RLock(), False
        self.memory = HostMemory()

    def _begin_direct(self, saving: Saving, plan: Plan, copied: Sequence[Leaf]) -> None:
        """From where the state lies."""
        staged = self.memory.stage(copied)

        def work(control: Control) -> dict[str, Any]:
            with self._session(plan) as session:
                session.add([leaf for leaf in plan.flat.leaves if leaf.pointer is not None], None)
                session.add(copied, staged)
                return session.commit(control)

        saving._start(work, lambda: self.memory.give_back(staged))

    def _begin_staged(self, saving: Saving, plan: Plan, copies: int) -> None:
        """From a copy of the state."""
        if copies == 1:
            self.memory.drop_base()
        leaves = plan.flat.leaves
        staged = self.memory.stage(leaves, is_base=copies == 2)
        base = self.memory.base
        # The copy is all that is needed: the state's own memory may go.
        for leaf in leaves:
            leaf.array = None

        def work(control: Control) -> dict[str, Any]:
            with self._session(plan, base, is_private=True) as session:
                session.add(leaves, staged)
                result = session.commit(control)
            if copies == 2:
                self.memory.keep(staged, result["id"])
            return result

        def end() -> None:
            if self.memory.base is not staged:
                self.memory.give_back(staged)

        saving._start(work, end)

    def _begin_in_waves(self, saving: Saving, plan: Plan, limit: int) -> None:
        """A state whose copy is larger than the memory for it: all but the last of it is saved before this
        returns."""
        leaves = plan.flat.leaves
        # What has to be copied can't be cut.
        limit = max([limit, *(aligned(leaf.nbytes) for leaf in leaves if leaf.pointer is None)])
        self.memory.drop_base()
        staged = self.memory.room(limit)
        session = self._session(plan)
        try:
            rest = _last_that_fit(leaves, limit)
            for wave in _waves(leaves[: len(leaves) - len(rest)], limit):
                copied = [leaf for leaf in wave if leaf.pointer is None]
                staged.take(copied)
                session.add([leaf for leaf in wave if leaf.pointer is not None], None)
                session.add(copied, staged)
                interruptible(session.take, saving._background.control)
            staged.take(rest)
        except BaseException:
            session.close()
            self.memory.give_back(staged)
            raise
        for leaf in leaves:
            leaf.array = None

        def work(control: Control) -> dict[str, Any]:
            session.add(rest, staged)
            return session.commit(control)

        def end() -> None:
            session.close()
            self.memory.give_back(staged)

        saving._start(work, end)

    def _session(self, plan: Plan, base: Optional[Staged] = None, *, is_private: bool = False) -> Session:
        return Session(self._opened.address, plan, base, is_private)


def _last_that_fit(leaves: Sequence[Leaf], limit: int) -> list[Leaf]:
    """As many of the last as a copy has room for."""
    rest: list[Leaf] = []
    for leaf in reversed(leaves):
        limit -= staged_size([leaf])
        if limit < 0:
            break
        rest.append(leaf)
    return rest[::-1]


def _waves(leaves: Sequence[Leaf], limit: int) -> list[list[Leaf]]:
    """Cuts so that what has to be copied of each has room."""
    waves: list[list[Leaf]] = [[]]
    size = 0
    for leaf in leaves:
        needed = staged_size([leaf]) if leaf.pointer is None else 0
        if size + needed > limit:
            waves.append([])
            size = 0
        waves[-1].append(leaf)
        size += needed
    return [wave for wave in waves if wave]
