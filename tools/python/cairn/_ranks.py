"""What the ranks of one launch have in common: a name for it, and bytes that only one of them has to read."""

from __future__ import annotations

import ctypes
import heapq
import os
import secrets
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Optional, TypeVar

from .errors import CairnError, Usage

if TYPE_CHECKING:
    from ._iteration import Iteration, Wanted

_T = TypeVar("_T")

# Bytes that go from rank to rank at a time.
_PIECE = 64 << 20
#: Variables that launchers give each rank: the first ancestor without them started the ranks.
_RANK_VARIABLES = {"RANK", "OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK"}


def attempt(variables: Optional[Mapping[str, str]] = None, processes: Path = Path("/proc")) -> str:
    """A name for this launch of the ranks: the same in all of them, another one in the next launch.

    It comes from torch's process group where there is one, and needs no collective call. Else it comes from what
    the launcher says (torchrun, SLURM, Open MPI), or from the process that started the ranks: those of one node
    have the same.

    Args:
        variables: The environment; that of the process by default.
        processes: Where the kernel describes processes.
    """
    variables = os.environ if variables is None else variables
    return _of_process_group(variables) or _of_launcher(variables, processes)


def _of_process_group(variables: Mapping[str, str]) -> Optional[str]:
    torch = sys.modules.get("torch")
    if torch is None or not torch.distributed.is_available() or not torch.distributed.is_initialized():
        return None
    store = torch.distributed.distributed_c10d._get_default_store()
    # An agent may keep its store when it starts the ranks again.
    key = "cairn/attempt/" + variables.get("TORCHELASTIC_RESTART_COUNT", "0")
    agreed: bytes = store.compare_set(key, "", secrets.token_hex(8))
    return agreed.decode()


def _of_launcher(variables: Mapping[str, str], processes: Path) -> str:
    # A torchrun's id is often "none", and may come again with the next launch: its agent's process does not.
    if "TORCHELASTIC_RUN_ID" in variables:
        restarts = variables.get("TORCHELASTIC_RESTART_COUNT", "0")
        return f"torchrun-{restarts}-{_starter(processes, {'TORCHELASTIC_RUN_ID'})}"
    # In a step of one task, such as a shell, people start what they like.
    if variables.get("SLURM_STEP_NUM_TASKS", "1") != "1":
        names = ["SLURM_JOB_ID", "SLURM_STEP_ID", "SLURM_RESTART_COUNT"]
        return "-".join(["slurm", *(variables.get(name, "0") for name in names)])
    if variables.get("PMIX_NAMESPACE"):
        return "mpi-" + variables["PMIX_NAMESPACE"]
    return _starter(processes, _RANK_VARIABLES)


def _starter(processes: Path, marks: set[str]) -> str:
    """The process that started the ranks: the boot, its number, and when it began, as numbers come again."""
    process = "self"
    while (parent := _status(process, processes)[1]) != "0":
        process = parent
        if not _is_rank(process, processes, marks):
            break
    began = _status(process, processes)[19]
    boot = (processes / "sys/kernel/random/boot_id").read_text().strip()
    return f"{boot}-{process}-{began}"


def _status(process: str, processes: Path) -> list[str]:
    """What `stat` has after the program's name, which may hold blanks: state, parent, ... (proc(5))"""
    return (processes / process / "stat").read_text().rpartition(")")[2].split()


def _is_rank(process: str, processes: Path, marks: set[str]) -> bool:
    """Whether it was started as a rank too, as a script around the program is. Of other users' it can't be seen."""
    try:
        variables = (processes / process / "environ").read_bytes().split(b"\0")
    except OSError:
        return False
    names = {variable.partition(b"=")[0].decode(errors="replace") for variable in variables}
    return not names.isdisjoint(marks)


def balanced_read(iteration: Iteration, wanted: Sequence[Wanted], group: Any) -> None:
    """Reads bytes so that those which all ranks of a group want are read by one, and sent to the others.

    What only some want, such as shards, each reads itself. All ranks call it, with the same iteration.

    Args:
        iteration: The iteration, open on this rank.
        wanted: What this rank wants.
        group: The process group of torch.distributed.

    Raises:
        Usage: On every rank, where the ranks have opened different iterations.
        CairnError: On every rank, where one of them could not read.
    """
    import torch.distributed as dist

    asked = _gather((iteration.id, [_what(one) for one in wanted]), group)
    if len({identity for identity, _ in asked}) > 1:
        raise Usage("the ranks have opened different iterations: name the step that is to be loaded")
    places = {_what(one): one for one in wanted}
    everywhere = set(places).intersection(*(whats for _, whats in asked))
    # In the same order on every rank.
    shared = [places[what] for what in dict.fromkeys(asked[0][1]) if what in everywhere]
    owners = _deal([one.nbytes for one in shared], len(asked))
    others = [one for one, owner in zip(shared, owners) if owner != dist.get_rank(group)]
    left = {id(one) for one in others}
    own = [one for one in wanted if id(one) not in left]
    together(lambda: iteration._read(own), group, "read what it was to send")
    _send([(one, owner) for one, owner in zip(shared, owners) if one.nbytes], group)


def _what(one: Wanted) -> tuple[Any, ...]:
    """What is wanted, without where it goes."""
    return (one.file, one.name, one.nbytes, one.start, one.stop)


def _gather(value: Any, group: Any) -> list[Any]:
    import torch.distributed as dist

    values: list[Any] = [None] * dist.get_world_size(group)
    dist.all_gather_object(values, value, group=group)
    return values


def _deal(sizes: Sequence[int], ranks: int) -> list[int]:
    """The rank that takes each: the largest first, each to the rank that has least so far."""
    loads = [(0, rank) for rank in range(ranks)]
    owners = [0] * len(sizes)
    for position in sorted(range(len(sizes)), key=lambda position: -sizes[position]):
        load, rank = heapq.heappop(loads)
        owners[position] = rank
        heapq.heappush(loads, (load + sizes[position], rank))
    return owners


def together(work: Callable[[], _T], group: Any, task: str) -> _T:
    """Does the work of this rank. Where it fails on one rank, all raise an error, which names the task."""
    done: list[_T] = []
    failure: Optional[Exception] = None
    try:
        done.append(work())
    except Exception as error:
        failure = error
    failures = _gather(failure and str(failure), group)
    if failure is not None:
        raise failure
    for rank, text in enumerate(failures):
        if text is not None:
            # The error would keep what this rank has, such as an open iteration.
            done.clear()
            raise CairnError(f"rank {rank} could not {task}: {text}")
    return done[0]


def _send(parts: Sequence[tuple[Wanted, int]], group: Any) -> None:
    """Sends bytes in host memory, each from the rank that has them."""
    import torch
    import torch.distributed as dist

    kinds = [device.type for device in group._device_types]
    device = torch.device("cpu" if "cpu" in kinds else kinds[0])
    for one, owner in parts:
        memory = torch.frombuffer((ctypes.c_char * one.nbytes).from_address(one.target), dtype=torch.uint8)
        # Where the group can't send host memory, through a little of the device's.
        for piece in memory.split(_PIECE):
            sent = piece.to(device)
            dist.broadcast(sent, dist.get_global_rank(group, owner), group=group)
            if sent.data_ptr() != piece.data_ptr():
                piece.copy_(sent)
