"""A store, from Python."""

from __future__ import annotations

import ctypes
import difflib
import json
import operator
import os
import re
import sys
import warnings
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Optional, Union

from . import _library, _ranks, environment
from ._background import interruptible
from ._iteration import STATE_FILE, Iteration
from ._library import Handle, PathLike
from ._loading import load
from ._saving import Plan, Rank, Saver, Saving
from ._sentences import camel
from ._state import as_json, bare, config_files, named_once, states_of
from ._tree import Flat, flatten
from ._turns import Turn
from .errors import CairnError, Usage

# Bytes of host memory that `staging="wave"` takes.
WAVE = 512 << 20


def open(
    path: PathLike,
    *,
    create: bool = False,
    memory: Optional[int] = None,
    jobs: Optional[int] = None,
    chunk_size: Optional[int] = None,
) -> Store:
    """Opens the store in a folder; with `create`, makes it where the folder is missing or empty.

    `memory` is the most bytes of buffers in one call (default 512 MiB), `jobs` the most threads (default: the
    processors that this process may use), `chunk_size` that of a store that is made now, in bytes. Raises
    NotAStore and NewerVersion.
    """
    options = _library.options(create=create or None, memory=memory, jobs=jobs, chunkSize=chunk_size)
    return Store(_library.handle("cairn_open", _library.path(path), options))


class Store:
    """An open checkpoint store. Any number of processes and threads may use one at once.

    Whatever the thread that saves asks of it then, waits until that save has ended.
    In the child of a fork, such as a data loader's worker, it has to be opened again.
    """

    def __init__(self, address: int) -> None:
        self._opened = Handle(address, "cairn_close")
        self._process = os.getpid()
        self._saver = Saver(self._opened)
        description = _library.answer("cairn_describe", address)
        self.path: str = description["path"]
        self.id: str = description["id"]
        self.chunk_size: int = description["chunkSize"]
        _stores.add(self)

    def close(self) -> None:
        """Waits for what is being saved, and closes. Raises what that failed of."""
        try:
            self._saver.wait()
        except BaseException:
            # Also where the waiting was interrupted: nothing may use what is closed.
            self._saver.stop()
            raise
        finally:
            self._saver.memory.clear()
            self._opened.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, kind: object, error: Optional[BaseException], trace: object) -> None:
        try:
            self.close()
        except CairnError as failure:
            if error is None:
                raise
            # What is on its way out counts: whoever waits for it would miss it.
            print(f"cairn: {failure}", file=sys.stderr)

    def __repr__(self) -> str:
        return f"<cairn store {self.path}>"

    def _handle(self) -> int:
        """For calls that look at the store or change it: what this thread is saving with it is there first."""
        self._check()
        self._saver.settle()
        return self._opened.address

    def _check(self) -> None:
        if not self._opened.address:
            raise Usage(f"the store {self.path} was closed; open it again")
        if self._process != os.getpid():
            raise Usage(f"the store {self.path} was opened before a fork; open it in this process, too")

    # Saving

    def save(
        self,
        step: int,
        *,
        model: Any = None,
        optimizer: Any = None,
        extra: Any = None,
        metrics: Optional[Mapping[str, float]] = None,
        metadata: Optional[Mapping[str, Any]] = None,
        run: Optional[str] = None,
        pin: Optional[str] = None,
        replace: bool = False,
        wait: bool = True,
        when_busy: str = "wait",
        memory: str = "two",
        staging: Union[str, int] = "full",
        files: Optional[Mapping[str, Union[bytes, str, Path]]] = None,
        environment: bool = True,
        allow_pickle: bool = False,
        rank: Optional[int] = None,
        world_size: Optional[int] = None,
        attempt: Optional[str] = None,
        **parts: Any,
    ) -> Saving:
        """Saves a state as the iteration of a step. Only what changed since the last one is written.

        A part (`model`, `optimizer`, `extra`, and any other name) is nested data (dictionaries, lists, tuples,
        numbers, texts, bytes, None, tensors, arrays, states of random generators), or an object with a
        `state_dict()`; of a module that is compiled or in DataParallel, the module itself counts. `files` are kept beside them, by their paths: bytes, texts, or
        the `Path` of a file whose content is taken.

        With `wait` it returns when the iteration survives a power cut. Without, it copies the state and returns:
        the training may go on and change it; what goes wrong is raised by `wait()` of the result, else by the next
        save, which is not begun then: call it again. A save that is under way is waited for, or with
        `when_busy="skip"` this one is left out.
        `memory="two"` keeps two copies of the state in host memory, so that no old bytes are read; `"one"` a
        single one. `staging="wave"` (512 MiB), or a number of bytes, bounds the copy: what has no room is saved
        before this returns. (A tensor that has to be copied in one piece, being on a device or not contiguous,
        takes the room that it needs.)

        Ctrl-C while this waits gives the save up, and nothing of it stays. A process that ends by itself ends its
        saves first; one that is killed leaves what was saved before. See also `on_sigterm`.

        `rank`, `world_size`: several processes save one state together, each its own; the iteration is there as
        soon as all ranks are in. `attempt` is a text that all ranks of one launch share (found by itself where
        there is a launcher or a process group); ranks that go back without a new launch need another one. Where a
        save fails on a rank, that one can call it again as it was; a save with `replace` all ranks have to call as
        often, also one that was refused (Exists, Protected).
        `environment=False` leaves out what is recorded of versions, command line and commit. Objects that aren't
        data are refused, unless `allow_pickle` has them pickled. `metrics` may be NaN, which is never the best, or
        infinite. `metadata` is JSON, which has neither, and no integers of more than 64 bits.

        Raises NotData with the path of what can't be saved; Exists where the run has another iteration at this
        step, unless `replace`.
        """
        if when_busy not in ("wait", "skip"):
            raise Usage(f'when_busy is "wait" or "skip", not {when_busy!r}')
        if memory not in ("two", "one"):
            raise Usage(f'memory is "two" or "one", not {memory!r}')
        limit = _limit(staging)
        step = _step(step)
        given = {"model": model, "optimizer": optimizer, "extra": extra, **parts}
        if all(value is None for value in given.values()):
            raise Usage("there is nothing to save; give parts, such as model=model, optimizer=optimizer")
        for part in parts:
            _check_spelling(part)
        numbers = _numbers(metrics or {})
        whose = _rank(rank, world_size, attempt)

        def make_plan() -> Plan:
            states, allows = states_of(given), allow_pickle
            kept = config_files(bare(model)) if whose is None or whose.rank == 0 else {}
            kept.update({path: _content(path, data) for path, data in (files or {}).items()})
            described = as_json(metadata or {})
            if environment:
                described.setdefault("environment", _environment())
            options = {
                "metrics": None if metrics is None else numbers,
                "metadata": described or None,
                "pin": pin,
                "replace": replace or None,
            }
            flat = flatten(states, allow_pickle=allows)
            if whose is None:
                _check_whole(flat)
                return Plan(step, run, options, flat, kept, None)
            # Last, as what failed until here was no save.
            turn = self._turn(run, step, whose, replace)
            return Plan(step, run, options, flat, kept, whose._replace(turn=turn.number), turn)

        self._check()
        saving = self._saver.save(
            make_plan,
            step,
            waits=wait,
            copies=1 if memory == "one" or limit is not None else 2,
            limit=limit,
            skips=when_busy == "skip",
        )
        if saving.skipped and whose is not None:
            # Other ranks may not have skipped it.
            self._turn(run, step, whose, replace)
        return saving

    def _turn(self, run: Optional[str], step: int, whose: Rank, is_another: bool) -> Turn:
        return Turn((self.id, run, step, whose), is_another=is_another)

    def wait(self) -> None:
        """Waits until nothing is being saved, and raises what failed and nobody has heard of."""
        self._saver.wait()

    # Reading

    def __getitem__(self, reference: Union[str, int]) -> Iteration:
        """Opens an iteration: `"latest"`, `"best:loss"`, a step, a pin's name, `"RUN@..."`, `"#id"`.

        `"best:METRIC:min"` and `"best:METRIC:max"` say what is best of a metric. Without either it is what the run's policy
        says (`keep_best`), else the least of one whose name ends in "loss", and the greatest of any other.
        """
        return Iteration(self, reference if isinstance(reference, str) else str(_step(reference)))

    # Without it, a loop would ask for the steps 0, 1, ...
    __iter__ = None

    def load(
        self,
        reference: Union[str, int] = "latest",
        *,
        model: Any = None,
        optimizer: Any = None,
        strict: bool = True,
        map_location: Any = None,
        allow_pickle: bool = False,
        rank: Optional[int] = None,
        group: Any = None,
        balanced: bool = False,
        **targets: Any,
    ) -> dict[str, Any]:
        """Loads an iteration's state into what is given, by part; returns the parts for which nothing was.

        A target has a `load_state_dict()`. `strict` and `map_location` (a device, a dictionary of devices, or a
        function of a storage and its device) are as in torch; without `map_location`, what is returned is where it
        was, whatever torch's default device is. A module's tensors are read to where they lie, if they are just those
        that were saved and its state goes through no code but torch's own; else that code is given a copy. `rank` says
        whose part is wanted of a state that several saved. With `balanced`, each byte is read by one rank of the
        process `group` (None: torch's default one) and sent to the others.

        Raises Mismatch, which names what is missing, unexpected, or of another shape, NotFound, and Usage, all
        before any module or optimizer of torch is changed; Damage, after which targets may hold anything. What a
        module can't take that is lazy, or has code of its own for loading, be it a hook, it says itself, and only then.
        Warns where a library had another major version when it was saved.
        """
        given = {"model": model, "optimizer": optimizer, **targets}
        ranks = _group(group) if balanced else None

        def opened() -> tuple[Iteration, list[str]]:
            iteration = self[reference]
            return iteration, _differences(iteration)

        # Where one rank can't open it, the others would wait for what it was to read.
        iteration, differences = opened() if ranks is None else _ranks.together(opened, ranks, "open it")
        with iteration:
            for difference in differences:
                warnings.warn(f"{iteration.run}@{iteration.step}: {difference}", stacklevel=2)
            return load(
                iteration,
                {part: bare(target) for part, target in given.items() if target is not None},
                strict=strict,
                map_location=map_location,
                allow_pickle=allow_pickle,
                rank=rank,
                group=ranks,
            )

    def iterations(self, run: Optional[str] = None) -> list[dict[str, Any]]:
        """All iterations, or those of a run, by run and step: the fields of `cairn list --json`."""
        return list(_library.answer("cairn_list", self._handle(), _library.optional_text(run)))

    def show(self, reference: Union[str, int]) -> dict[str, Any]:
        """One iteration with its tensors and files: the fields of `cairn show --json`."""
        return dict(_library.answer("cairn_show", self._handle(), _library.text(str(reference))))

    def diff(self, before: Union[str, int], after: Union[str, int]) -> dict[str, Any]:
        """What changed between two iterations: the fields of `cairn diff --json`."""
        pair = _library.text(str(before)), _library.text(str(after))
        return dict(_interruptible("cairn_diff", self._handle(), *pair))

    def stats(self) -> dict[str, Any]:
        """Where the store's bytes are: the fields of `cairn stats --json`."""
        return dict(_library.answer("cairn_stats", self._handle()))

    # Keeping

    def pin(self, reference: Union[str, int], name: str) -> dict[str, Any]:
        """Gives an iteration a name that protects it from every deletion."""
        arguments = _library.text(str(reference)), _library.text(name)
        return dict(_library.answer("cairn_pin", self._handle(), *arguments))

    def unpin(self, name: str) -> dict[str, Any]:
        """Takes a pin away."""
        return dict(_library.answer("cairn_unpin", self._handle(), _library.text(name)))

    def pins(self) -> list[dict[str, Any]]:
        """All pins, by name."""
        return list(_library.answer("cairn_pins", self._handle()))

    def annotate(
        self,
        reference: Union[str, int],
        *,
        metrics: Optional[Mapping[str, float]] = None,
        note: Optional[str] = None,
    ) -> dict[str, Any]:
        """Adds what is known only later, such as an evaluation's metrics."""
        numbers = json.dumps(_numbers(metrics or {})).encode()
        arguments = _library.text(str(reference)), numbers, _library.optional_text(note)
        return dict(_library.answer("cairn_annotate", self._handle(), *arguments))

    def rewind(self, reference: Union[str, int]) -> Any:
        """Goes back: what came after an iteration is superseded, never `latest`, and makes room."""
        return _library.answer("cairn_rewind", self._handle(), _library.text(str(reference)))

    def delete(self, *references: Union[str, int]) -> Any:
        """Forgets iterations. Raises Protected for a pinned one and the newest."""
        return _library.answer(
            "cairn_delete", self._handle(), json.dumps([str(one) for one in references]).encode()
        )

    def policy(
        self,
        run: Optional[str] = None,
        *,
        keep_last: Optional[int] = None,
        keep_every: Optional[int] = None,
        keep_best: Union[str, Sequence[str], None] = None,
        keep_within: Optional[str] = None,
        keep_first: Optional[bool] = None,
        milestones: Optional[Sequence[int]] = None,
        max_size: Union[str, int, None] = None,
        keep_optimizer_last: Optional[int] = None,
        auto: Optional[bool] = None,
        clear: bool = False,
    ) -> Any:
        """The retention rules of a run; sets them where some are given, all others being none.

        `keep_best` is `"3:loss"`, `"3:wer:min"` or a list of such; `keep_within` a time such as `"36h"` or `"7d"`; `max_size`
        bytes, or a text such as `"500GB"`. With `auto` every save applies them, else `gc` does. `clear=True` takes all away.
        """
        rules = {
            "keep_last": keep_last,
            "keep_every": keep_every,
            "keep_best": [keep_best] if isinstance(keep_best, str) else keep_best,
            "keep_within": keep_within,
            "keep_first": keep_first,
            "milestones": milestones,
            "max_size": max_size,
            "keep_optimizer_last": keep_optimizer_last,
            "auto": auto,
        }
        given = {name: rule for name, rule in rules.items() if rule is not None}
        if clear and given:
            raise Usage(
                f"clear=True takes all rules away, and {', '.join(given)} would set some; give one or the other"
            )
        if not given and not clear:
            return _library.answer("cairn_policy", self._handle(), _library.optional_text(run))
        policy = None if clear else json.dumps({camel(name): rule for name, rule in given.items()}).encode()
        return _library.answer("cairn_set_policy", self._handle(), _library.optional_text(run), policy)

    def gc(self, *, dry_run: bool = False) -> dict[str, Any]:
        """Applies the policies and gives space back: the fields of `cairn gc --json`."""
        return dict(_interruptible("cairn_gc", self._handle(), int(dry_run)))

    def verify(self, *references: Union[str, int], quick: bool = False) -> dict[str, Any]:
        """Checks iterations, or everything: `ok`, and what is damaged."""
        chosen = json.dumps([str(one) for one in references]).encode() if references else None
        return dict(_interruptible("cairn_verify", self._handle(), chosen, int(quick)))

    # Handing out

    def restore(self, reference: Union[str, int], destination: PathLike, **options: Any) -> dict[str, Any]:
        """Writes the saved files, as they were: `path="GLOB"`, `force=True`."""
        return self._write("cairn_restore", reference, destination, options)

    def export(
        self, reference: Union[str, int], destination: PathLike, *, layout: str, **options: Any
    ) -> dict[str, Any]:
        """Writes an iteration's tensors in a layout, such as `hf`: `max_shard_size="5GB"`, `only`, `rename`, ... as the options
        of `cairn export`. With `all=True` also `training_metadata.json`: what was recorded of the training.

        Raises Usage for layout `hf` of a PEFT model that was saved whole, as its names aren't those of its base.
        """
        size = options.get("max_shard_size")
        if isinstance(size, str):
            options["max_shard_size"] = _bytes(size)
        return self._write("cairn_export", reference, destination, {"layout": layout, **options})

    def _write(
        self, call: str, reference: Union[str, int], destination: PathLike, options: Mapping[str, Any]
    ) -> dict[str, Any]:
        named = _library.options(**{camel(name): value for name, value in options.items()})
        arguments = _library.text(str(reference)), _library.path(destination), named
        return dict(_interruptible(call, self._handle(), *arguments))


def _interruptible(call: str, *arguments: Any) -> Any:
    """A call that may take long, and that Ctrl-C ends."""
    return interruptible(lambda control: _library.answer(call, *arguments, ctypes.byref(control)))


def _bytes(size: str) -> int:
    """The bytes of a size as the command takes it: 5GB (decimal), 5GiB (binary), or a number."""
    match = re.fullmatch(r"(\d+)(?:(?:([KMGTP])(I?))?B)?", size.upper())
    if match is None:
        raise Usage(f"{size!r} is not a size: write a whole number and a unit, such as 5GB or 5GiB")
    number, unit, binary = match.groups()
    factor: int = (1024 if binary else 1000) ** " KMGTP".index(unit or " ")
    return int(number) * factor


def _content(path: str, data: Any) -> bytes:
    if path.rpartition("/")[2] == STATE_FILE:
        raise Usage(f"a file {path} is what cairn keeps there itself; give it another name")
    if isinstance(data, Path):
        return data.read_bytes()
    if isinstance(data, str):
        return data.encode()
    if isinstance(data, (bytes, bytearray, memoryview)):
        return bytes(data)
    raise Usage(f"the file {path} has to be bytes, text, or a Path, not {type(data).__name__}")


def _numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Metrics as plain numbers."""
    if not isinstance(metrics, Mapping):
        raise Usage(f"metrics are numbers by name, such as {{'loss': 2.1}}, not {metrics!r}")
    numbers = []
    for name, value in metrics.items():
        try:
            numbers.append((str(name), float(value)))
        except (TypeError, ValueError, RuntimeError, OverflowError):
            raise Usage(f"the metric {name} has to be a number, not {value!r}") from None
    try:
        return named_once(numbers)
    except ValueError as error:
        raise Usage(f"the metrics can't be told apart: {error}") from None


def _check_spelling(part: str) -> None:
    """Every name that isn't an option is that of a part; hardly one that is almost an option's."""
    near = difflib.get_close_matches(part, _OPTIONS, n=1, cutoff=0.8)
    if near:
        raise Usage(
            f"save has no option {part}; write {near[0]}=..., or for a part of the state extra={{{part!r}: ...}}"
        )


def _step(step: Any) -> int:
    try:
        number = -1 if isinstance(step, bool) else operator.index(step)
    except TypeError:
        number = -1
    if number < 0:
        raise Usage(f"a step is a whole number, 0 or more, not {step!r}")
    return number


def _check_whole(flat: Flat) -> None:
    """What one process has of a tensor that is sharded is a state that nothing loads."""
    for leaf in flat.leaves:
        if leaf.box and tuple(leaf.array.shape) != leaf.box.shape:
            raise Usage(
                f"{leaf.part}.{leaf.name} is sharded, and this process has {list(leaf.array.shape)} of "
                f"{list(leaf.box.shape)}: save it on every rank with rank= and world_size=, or with cairn.dcp"
            )


def _limit(staging: Union[str, int]) -> Optional[int]:
    if staging == "full":
        return None
    if staging == "wave":
        return WAVE
    if isinstance(staging, int) and staging > 0:
        return staging
    raise Usage(f'staging is "full", "wave" or a number of bytes, not {staging!r}')


def _rank(rank: Optional[int], world_size: Optional[int], attempt: Optional[str]) -> Optional[Rank]:
    if rank is None and world_size is None:
        return None
    if rank is None or world_size is None:
        raise Usage("rank and world_size belong together")
    if world_size == 1:
        return None
    if attempt is None:
        attempt = _ranks.attempt()
    return Rank(rank, world_size, attempt)


def _group(group: Any) -> Any:
    """The process group, by default that of all ranks."""
    if group is not None:
        return group
    torch = sys.modules.get("torch")
    if torch is None or not torch.distributed.is_available() or not torch.distributed.is_initialized():
        raise Usage(
            "balanced=True is for the ranks of a process group, and there is none; initialize torch.distributed"
        )
    return torch.distributed.group.WORLD


def _differences(iteration: Iteration) -> list[str]:
    """What isn't as it was when an iteration was saved."""
    saved = iteration.metadata.get("environment")
    return environment.differences(saved, _environment()) if isinstance(saved, Mapping) else []


def _environment() -> dict[str, Any]:
    return environment.capture(_library.version)


_stores: weakref.WeakSet[Store] = weakref.WeakSet()


def _after_fork() -> None:
    for store in _stores:
        store._saver.forget()


os.register_at_fork(after_in_child=_after_fork)

_OPTIONS = [name for name in Store.save.__kwdefaults__ or () if name not in ("model", "optimizer", "extra")]

__all__: Sequence[str] = ["Store", "open"]
