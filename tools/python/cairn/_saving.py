"""Saves: what a caller holds of one, and the thread that carries it out."""

from __future__ import annotations

import ctypes
import json
import os
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any, Callable, NamedTuple, Optional

from . import _library
from ._arrays import Leaf
from ._iteration import STATE_FILE, STATE_FORMAT, STATE_VERSION, part_file, rank_folder
from ._library import Control
from ._staging import HostMemory, Staged, staged_size
from ._tree import Flat
from .errors import CairnError, Interrupted, Usage


class Rank(NamedTuple):
    """Which of the processes that save one state together this is."""

    rank: int
    world_size: int
    attempt: str


class Plan(NamedTuple):
    """What is to be saved, and how."""

    step: int
    run: Optional[str]
    options: dict[str, Any]
    flat: Flat
    files: Mapping[str, bytes]
    rank: Optional[Rank]

    @property
    def folder(self) -> str:
        """Where this process has its files."""
        return "" if self.rank is None or self.rank.world_size == 1 else rank_folder(self.rank.rank)

    def state_file(self) -> bytes:
        """What says how the parts are put together again."""
        state = {
            "format": STATE_FORMAT,
            "version": STATE_VERSION,
            "step": self.step,
            "rank": 0 if self.rank is None else self.rank.rank,
            "worldSize": 1 if self.rank is None else self.rank.world_size,
            "parts": self.flat.trees,
        }
        if self.flat.shards:
            state["shards"] = self.flat.shards
        return json.dumps(state, separators=(",", ":")).encode()


class Session:
    """A save in the library."""

    def __init__(self, store: int, plan: Plan, base: Optional[Staged], reads_bases: bool) -> None:
        rank = {} if plan.rank is None else plan.rank._asdict()
        self._plan, self._base = plan, base
        self._address = _library.handle(
            "cairn_save_begin",
            store,
            _library.options(
                step=plan.step,
                run=plan.run,
                earlier=None if base is None else base.saved_as,
                readsBases=reads_bases,
                rank=rank.get("rank"),
                worldSize=rank.get("world_size"),
                attempt=rank.get("attempt"),
                **plan.options,
            ),
        )

    def add(self, leaves: Sequence[Leaf], staged: Optional[Staged]) -> None:
        """Adds tensors: as they lie in staging memory, else in their own."""
        for leaf in leaves:
            own = leaf.pointer if leaf.nbytes else None
            data = own if staged is None else staged.places[leaf.part, leaf.name][0]
            base = None if self._base is None else self._base.address(leaf.part, leaf.name, leaf.nbytes)
            _library.call(
                "cairn_save_add_tensor",
                self._address,
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
        _library.call("cairn_save_take", self._address, ctypes.byref(control))

    def commit(self, control: Control) -> dict[str, Any]:
        """Reads the rest and commits."""
        plan = self._plan
        files = {**plan.files, plan.folder + STATE_FILE: plan.state_file()}
        for path, data in files.items():
            _library.call("cairn_save_add_file", self._address, _library.text(path), data, len(data))
        result: dict[str, Any] = _library.answer("cairn_save_commit", self._address, ctypes.byref(control))
        return result

    def close(self) -> None:
        """Gives it up where it was not committed."""
        address, self._address = self._address, 0
        if address:
            _library.end("cairn_save_close", address)


class Saving:
    """A save that is under way, or has ended.

    `step` is its step, `skipped` whether nothing was done since another one was under way
    (`when_busy="skip"`), `stall` the seconds for which `save` kept its caller.
    """

    def __init__(self, step: int, *, skipped: bool = False) -> None:
        self.step = step
        self.skipped = skipped
        self.stall = 0.0
        self._control = Control()
        self._result: Optional[dict[str, Any]] = None
        self._error: Optional[BaseException] = None
        self._is_raised = False
        self._process = os.getpid()
        self._thread: Optional[threading.Thread] = None

    def __repr__(self) -> str:
        state = (
            "skipped"
            if self.skipped
            else "under way"
            if not self.done()
            else "failed"
            if self._error
            else "done"
        )
        return f"<cairn saving {self.step}: {state}>"

    def _start(self, work: Callable[[Control], dict[str, Any]]) -> None:
        def run() -> None:
            try:
                self._result = work(self._control)
            except BaseException as error:
                self._error = error

        # Not a daemon: an interpreter that ends waits for it.
        self._thread = threading.Thread(target=run, name=f"cairn-save-{self.step}", daemon=False)
        self._thread.start()

    def done(self) -> bool:
        """Whether it has ended, well or not."""
        return self._thread is None or not self._thread.is_alive() or self._process != os.getpid()

    def wait(self, timeout: Optional[float] = None) -> Optional[dict[str, Any]]:
        """Waits until it is durable, for at most `timeout` seconds.

        Returns what `cairn save --json` says, such as `storedBytes`; None where it was skipped. Raises what
        made it fail, and TimeoutError, when it goes on. An interruption (Ctrl-C) leaves it going on as well.
        """
        if self.skipped:
            return None
        if self._process != os.getpid():
            raise Usage("this save goes on in the process that began it; wait for it there")
        if self._thread is not None:
            self._thread.join(timeout)
            if self._thread.is_alive():
                raise TimeoutError(
                    f"the save of step {self.step} takes longer than {timeout} seconds; it goes on"
                )
        self._raise()
        return self._result

    def cancel(self) -> None:
        """Ends it soon, if it is still under way; nothing of it stays then. `wait` raises Interrupted."""
        self._control.cancel = 1

    def progress(self) -> tuple[int, int]:
        """The bytes that were read of what is saved, and how many there are; 0 where that is not known."""
        return int(self._control.done_bytes), int(self._control.total_bytes)

    def _raise(self) -> None:
        if self._error is not None:
            self._is_raised = True
            raise self._error

    def _raise_once(self) -> None:
        """At the next save: what nobody has heard of yet."""
        if self._error is not None and not self._is_raised and not isinstance(self._error, Interrupted):
            self._raise()


class Saver:
    """Carries out the saves of one store, one after the other."""

    def __init__(self) -> None:
        self.memory = HostMemory()
        self._last: Optional[Saving] = None
        self._lock = threading.Lock()

    def save(
        self,
        store: int,
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
        with self._lock:
            if not self._is_free(skips):
                return Saving(step, skipped=True)
            plan = make_plan()
            saving = Saving(step)
            self._last = saving
            if waits:
                self._begin_direct(saving, store, plan)
            elif limit is not None and staged_size(plan.flat.leaves) > limit:
                self._begin_in_waves(saving, store, plan, limit)
            else:
                self._begin_staged(saving, store, plan, copies)
        if waits:
            self._wait(saving)
        saving.stall = time.perf_counter() - start
        return saving

    def _is_free(self, skips: bool) -> bool:
        """Waits for the save before, and raises what it failed of. False where there is to be no waiting."""
        last = self._last
        if last is None:
            return True
        if not last.done():
            if skips:
                return False
            assert last._thread is not None
            last._thread.join()
        self._last = None
        last._raise_once()
        return True

    @staticmethod
    def _wait(saving: Saving) -> None:
        try:
            saving.wait()
        except KeyboardInterrupt:
            if not saving.done():
                saving.cancel()
                assert saving._thread is not None
                saving._thread.join()
            raise

    def wait(self) -> None:
        """Waits for what is under way, and raises what it failed of, unless somebody knows."""
        last = self._last
        if last is not None and last._thread is not None and not last.done():
            last._thread.join()
        if last is not None:
            last._raise_once()

    def forget(self) -> None:
        """In the child of a fork, where no thread of the parent's runs and none of its memory is."""
        self._last, self._lock = None, threading.Lock()
        self.memory = HostMemory()

    def _begin_direct(self, saving: Saving, store: int, plan: Plan) -> None:
        """From where the state lies: the caller waits, and changes nothing."""
        others = [leaf for leaf in plan.flat.leaves if leaf.pointer is None]
        staged = self.memory.room(staged_size(others))
        staged.take(others)

        def work(control: Control) -> dict[str, Any]:
            session = Session(store, plan, None, True)
            try:
                session.add([leaf for leaf in plan.flat.leaves if leaf.pointer is not None], None)
                session.add(others, staged)
                return session.commit(control)
            finally:
                session.close()
                self.memory.give_back(staged)

        saving._start(work)

    def _begin_staged(self, saving: Saving, store: int, plan: Plan, copies: int) -> None:
        """From a copy of the state."""
        if copies == 1:
            self._drop_base()
        leaves = plan.flat.leaves
        staged = self.memory.room(staged_size(leaves))
        base = self.memory.base
        staged.take(leaves, base, is_base=copies == 2)
        # The copy is all that is needed: the state's own memory may go.
        for leaf in leaves:
            leaf.array = None

        def work(control: Control) -> dict[str, Any]:
            session = Session(store, plan, base, base is None)
            try:
                session.add(leaves, staged)
                result = session.commit(control)
            except BaseException:
                session.close()
                self.memory.give_back(staged)
                raise
            session.close()
            staged.saved_as = result["id"]
            if copies == 1:
                self.memory.give_back(staged)
            else:
                self.memory.keep(staged)
            return result

        saving._start(work)

    def _drop_base(self) -> None:
        base, self.memory.base = self.memory.base, None
        if base is not None:
            self.memory.give_back(base)

    def _begin_in_waves(self, saving: Saving, store: int, plan: Plan, limit: int) -> None:
        """A state that is larger than the memory for its copy: all but the last of it is saved before this
        returns."""
        self._drop_base()
        leaves = list(plan.flat.leaves)
        session = Session(store, plan, None, True)
        staged = self.memory.room(limit)
        try:
            rest = _last_that_fit(leaves, limit)
            for wave in _waves(leaves[: len(leaves) - len(rest)], limit):
                direct = [leaf for leaf in wave if leaf.pointer is not None]
                others = [leaf for leaf in wave if leaf.pointer is None]
                staged.take(others)
                session.add(direct, None)
                session.add(others, staged)
                session.take(saving._control)
            staged.take(rest)
        except BaseException:
            session.close()
            self.memory.give_back(staged)
            raise

        def work(control: Control) -> dict[str, Any]:
            try:
                session.add(rest, staged)
                return session.commit(control)
            finally:
                session.close()
                self.memory.give_back(staged)

        saving._start(work)


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
        if needed > limit:
            raise CairnError(
                f"{leaf.part}.{leaf.name} takes {needed} bytes, more than the memory for staging; give more",
                code="usage",
            )
        if size + needed > limit:
            waves.append([])
            size = 0
        waves[-1].append(leaf)
        size += needed
    return [wave for wave in waves if wave]
