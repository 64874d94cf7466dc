"""What the ranks of one launch have in common: a name of their attempt, and bytes that only one of them has to read."""

from __future__ import annotations

import functools
import hashlib
import heapq
import os
import secrets
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable

if TYPE_CHECKING:
    import torch

#: Variables that launchers give each rank: the first ancestor without them started the ranks.
_RANK_VARIABLES = {"RANK", "OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK"}


def attempt(variables: Mapping[str, str] | None = None, processes: Path = Path("/proc")) -> str:
    """A name for this launch of the ranks: the same in all of them, another one in the next launch.

    It comes from torch's process group where there is one, and needs no collective call. Else it comes from what the launcher
    says (torchrun, SLURM, Open MPI), or from the process that started the ranks: those of one node have the same.

    Args:
        variables: The environment; that of the process by default.
        processes: Where the kernel describes processes.
    """
    variables = os.environ if variables is None else variables
    return _of_process_group(variables) or _of_launcher(variables, processes)


def _of_process_group(variables: Mapping[str, str]) -> str | None:
    torch = sys.modules.get("torch")
    if torch is None or not torch.distributed.is_available() or not torch.distributed.is_initialized():
        return None
    store = torch.distributed.distributed_c10d._get_default_store()
    # An agent may keep its store when it starts the ranks again.
    key = "cairn/attempt/" + variables.get("TORCHELASTIC_RESTART_COUNT", "0")
    agreed: bytes = store.compare_set(key, "", secrets.token_hex(8))
    return agreed.decode()


def _of_launcher(variables: Mapping[str, str], processes: Path) -> str:
    # A torchrun's id is often "none", and may come again in the next launch: the process of its agent does not.
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
    """The process that started the ranks: the kernel's boot, its number, and when it began (numbers come again)."""
    process = "self"
    while (parent := _status(process, processes)[1]) != "0":
        process = parent
        if not _is_rank(process, processes, marks):
            break
    began = _status(process, processes)[19]
    boot = (processes / "sys/kernel/random/boot_id").read_text().strip()
    return f"{boot}-{process}-{began}"


def _status(process: str, processes: Path) -> list[str]:
    """The fields after the program's name, which may hold blanks: the state, the parent's number, ... (proc(5), stat)"""
    return (processes / process / "stat").read_text().rpartition(")")[2].split()


def _is_rank(process: str, processes: Path, marks: set[str]) -> bool:
    """Whether it was started as a rank too, as a script around the program is. Of other users' processes it can't be seen."""
    try:
        variables = (processes / process / "environ").read_bytes().split(b"\0")
    except OSError:
        return False
    names = {variable.partition(b"=")[0].decode(errors="replace") for variable in variables}
    return not names.isdisjoint(marks)


def balanced_read(
    targets: Sequence[torch.Tensor],
    read: Callable[[Sequence[int], Sequence[torch.Tensor]], None],
    group: Any | None = None,
    limit: int = 256 << 20,
) -> None:
    """Fills tensors that all ranks want: each is read by one rank, and goes from there to the others.

    Args:
        targets: The tensors to fill, on any device: on every rank as many, in the same order, of the same shapes and dtypes.
        read: Called with positions in `targets`, and for each with a contiguous tensor on the CPU that takes its elements; on
            every rank for other positions.
        group: The process group; torch's default group where None.
        limit: Bytes of memory, beside the targets, for those that can't be filled where they are.

    Raises:
        ValueError: On every rank, where the ranks want different tensors.
        RuntimeError: On the other ranks, where `read` raised an error on one.
    """
    import torch.distributed as dist

    group = group or dist.group.WORLD
    targets = [target.detach() for target in targets]
    extra = _agree(targets, group)
    for positions in _waves(targets, None if extra <= limit else limit):
        owners = _deal([_bytes(targets[position]) for position in positions], dist.get_world_size(group))
        own = [position for position, owner in zip(positions, owners) if owner == dist.get_rank(group)]
        held = {position: _readable(targets[position]) for position in own}
        _together(functools.partial(read, own, list(held.values())), group)
        parts = [(targets[position], held.get(position), owner) for position, owner in zip(positions, owners)]
        _spread(parts, group)


def _agree(targets: Sequence[torch.Tensor], group: Any) -> int:
    """Makes sure that all ranks want the same. Returns how many bytes of memory the rank needs that needs most."""
    wanted = [(str(target.dtype), tuple(target.shape)) for target in targets]
    more = sum(_bytes(target) for target in targets if not _is_plain(target))
    answers: list[tuple[bytes, int, int]] = _gather(
        (hashlib.sha256(repr(wanted).encode()).digest(), len(wanted), more), group
    )
    if len({answer[:2] for answer in answers}) > 1:
        counts = ", ".join(str(answer[1]) for answer in answers)
        raise ValueError(
            f"The ranks want different tensors ({counts} of them): a balanced load needs the same state on each"
        )
    return max(answer[2] for answer in answers)


def _together(work: Callable[[], None], group: Any) -> None:
    """Does the work of this rank. Where it fails on one rank, all raise an error."""
    failure: Exception | None = None
    try:
        work()
    except Exception as error:
        failure = error
    said = _gather(failure and str(failure), group)
    if failure:
        raise failure
    for rank, text in enumerate(said):
        if text is not None:
            raise RuntimeError(f"Rank {rank} could not read its part of a balanced load: {text}")


def _gather(value: Any, group: Any) -> list[Any]:
    import torch.distributed as dist

    values: list[Any] = [None] * dist.get_world_size(group)
    dist.all_gather_object(values, value, group=group)
    return values


def _waves(targets: Sequence[torch.Tensor], limit: int | None) -> Iterator[list[int]]:
    """Positions that go together: all where there is no limit, else up to so many bytes, the same on every rank."""
    wave: list[int] = []
    size = 0
    for position, target in enumerate(targets):
        if limit is not None and wave and size + _bytes(target) > limit:
            yield wave
            wave, size = [], 0
        wave.append(position)
        size += _bytes(target)
    if wave:
        yield wave


def _deal(sizes: Sequence[int], ranks: int) -> list[int]:
    """The rank that takes each: the largest first, each to the rank that has least so far."""
    loads = [(0, rank) for rank in range(ranks)]
    owners = [0] * len(sizes)
    for position in sorted(range(len(sizes)), key=lambda position: -sizes[position]):
        load, rank = heapq.heappop(loads)
        owners[position] = rank
        heapq.heappush(loads, (load + sizes[position], rank))
    return owners


def _spread(parts: Sequence[tuple[torch.Tensor, torch.Tensor | None, int]], group: Any) -> None:
    """Sends each tensor from the rank that has it: (the target, what was read where this rank is the owner, the owner)."""
    import torch
    import torch.distributed as dist

    devices = [device.type for device in group._device_types]
    moved = []
    for target, held, owner in parts:
        if target.numel() == 0:
            continue
        device = target.device if target.device.type in devices else torch.device(devices[0])
        if held is not None:
            sent = held.to(device)
        elif target.is_contiguous() and target.device == device:
            sent = target
        else:
            sent = torch.empty(target.shape, dtype=target.dtype, device=device)
        # As bytes, as not every backend knows every dtype.
        content = sent.view(-1).view(torch.uint8)
        work = dist.broadcast(content, dist.get_global_rank(group, owner), group=group, async_op=True)
        moved.append((work, sent, target))
    for work, sent, target in moved:
        work.wait()
        if sent.data_ptr() != target.data_ptr():
            target.copy_(sent)


def _readable(target: torch.Tensor) -> torch.Tensor:
    """The target itself where a read can fill it, else memory like it."""
    import torch

    return target if _is_plain(target) else torch.empty(target.shape, dtype=target.dtype)


def _is_plain(target: torch.Tensor) -> bool:
    return bool(target.device.type == "cpu" and target.is_contiguous())


def _bytes(target: torch.Tensor) -> int:
    size: int = target.numel() * target.element_size()
    return size
