"""Tensors on an accelerator, on their way to host memory: of what did not change since the last save, nothing
crosses the bus.

Each stretch of 256 KiB gets a keyed fingerprint of 128 bits, which is computed on the device, and stays there
until the next save. Where it is the same, the bytes come from the copy in host memory that it was taken of.

The hash is the multilinear one of Lemire and Kaser, "Strongly universal string hashing is fast" (The Computer
Journal, 2014): of 32-bit words x and random 64-bit keys a, the high 32 bits of a[0] + a[1] x[1] + a[2] x[2] + ...
modulo 2^64. Two different stretches have the same with a probability of 2^-32, so with four independent hashes of
2^-128. That holds for words of either sign: to take another range of them adds the same to both sums. The keys
are drawn by each process, and never leave it.
"""

from __future__ import annotations

import ctypes
import functools
import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Optional

import numpy as np

from ._arrays import Leaf
from ._dtypes import installed_torch

if TYPE_CHECKING:
    from ._library import Memory

STRETCH = 256 << 10
_HASHES = 4
# A product of each word and a key of each hash is eight times what is hashed: 64 MiB on the device.
_BATCH = 8 << 20
# What isn't contiguous is made so on the device up to this size, else by torch's own copy.
_MOST_REARRANGED = 64 << 20
# To look at less takes longer than to copy it.
_LEAST = 64 << 10
# cudaHostRegisterPortable: for all devices.
_PORTABLE = 1
# Tests on machines without a device look at tensors in host memory the same way.
_takes_host_tensors = False

Place = tuple[str, str]
# Of bytes in memory: target address, source address, how many.
Stretches = list[tuple[int, int, int]]


class Fingerprints(NamedTuple):
    """Of a tensor's stretches, as it was when it was last copied: `values` is (stretches, 4), int32, on the device."""

    dtype: str
    shape: tuple[int, ...]
    values: Any

    def fits(self, other: Fingerprints) -> bool:
        """Whether they can be compared."""
        same = self.dtype == other.dtype and self.shape == other.shape
        return same and bool(self.values.device == other.values.device)


class Base(NamedTuple):
    """Host memory with the bytes of a state, and their fingerprints: where each tensor begins and how long it is."""

    places: dict[Place, tuple[int, int]]
    fingerprints: dict[Place, Fingerprints]


def is_on_device(leaf: Leaf) -> bool:
    """Whether a tensor has to cross a bus."""
    if not leaf.nbytes or isinstance(leaf.array, np.ndarray):
        return False
    return not leaf.array.is_cpu or _takes_host_tensors


def fingerprints(leaves: Iterable[Leaf]) -> dict[Place, Fingerprints]:
    """Those of tensors on devices, as far as it is worth while and the devices can."""
    found: dict[Place, Fingerprints] = {}
    for leaf in leaves:
        if leaf.nbytes < _LEAST:
            continue
        try:
            values = _tensor_values(leaf.array)
        except RuntimeError:
            # No memory left on the device: then all crosses.
            return {}
        if values is not None:
            found[leaf.part, leaf.name] = Fingerprints(leaf.dtype, leaf.shape, values)
    return found


class Crossing:
    """The copies of tensors on devices to addresses in host memory.

    `kept` is what is there already, in the base, and is copied from there; `sent` counts the bytes that cross.
    """

    def __init__(
        self, placed: Sequence[tuple[Leaf, int]], new: dict[Place, Fingerprints], base: Optional[Base]
    ) -> None:
        self.kept: Stretches = []
        self.sent = 0
        self._copies: list[tuple[Leaf, int, list[tuple[int, int]]]] = []
        self._devices = {leaf.array.device for leaf, _ in placed}
        changes = {} if base is None else _changes(new, base)
        for leaf, target in placed:
            changed = changes.get((leaf.part, leaf.name))
            ranges = [(0, leaf.nbytes)]
            if changed is not None and base is not None:
                source = base.places[leaf.part, leaf.name][0]
                same = _ranges(~changed, leaf.nbytes)
                self.kept += [(target + first, source + first, last - first) for first, last in same]
                ranges = _ranges(changed, leaf.nbytes)
            self.sent += sum(last - first for first, last in ranges)
            if ranges:
                self._copies.append((leaf, target, ranges))

    def start(self, is_pinned: bool) -> None:
        """Begins; with pinned memory, the copies go on until `finish`, which has to be called in any case."""
        for leaf, target, ranges in self._copies:
            is_whole = ranges == [(0, leaf.nbytes)]
            flat = None if is_whole and not is_pinned else _flat(leaf.array)
            if flat is None:
                leaf.copy_to(target)
                continue
            for first, last in ranges:
                memory: Any = (ctypes.c_char * (last - first)).from_address(target + first)
                host = installed_torch().frombuffer(memory, dtype=installed_torch().uint8)
                host.copy_(flat[first:last], non_blocking=is_pinned)

    def finish(self) -> None:
        """Waits for the copies."""
        for device in self._devices:
            if device.type == "cuda":
                installed_torch().cuda.current_stream(device).synchronize()


def pin(memory: Memory, placed: Sequence[tuple[Leaf, int]]) -> bool:
    """Pins memory for copies from NVIDIA's and AMD's devices, once. False where that can't be."""
    if memory.is_pinned is None and any(leaf.array.device.type == "cuda" for leaf, _ in placed):
        torch = installed_torch()
        runtime = torch.cuda.cudart()
        memory.is_pinned = int(runtime.cudaHostRegister(memory.address, memory.size, _PORTABLE)) == 0
        if memory.is_pinned:
            memory.unpin = functools.partial(runtime.cudaHostUnregister, memory.address)
        else:
            # CUDA says so once more to whoever asks next: better here than in the training.
            try:
                torch.zeros(1, device="cuda")
            except RuntimeError:
                pass
    return bool(memory.is_pinned)


def _changes(new: dict[Place, Fingerprints], base: Base) -> dict[Place, Any]:
    """Of tensors that the base has as well, which stretches changed. Waits once for each device."""
    by_device: dict[Any, list[Place]] = {}
    for place, prints in new.items():
        old = base.fingerprints.get(place)
        if old is not None and prints.fits(old):
            by_device.setdefault(prints.values.device, []).append(place)
    torch = installed_torch()
    changes: dict[Place, Any] = {}
    for places in by_device.values():
        differ = [(new[place].values != base.fingerprints[place].values).any(dim=1) for place in places]
        flags = torch.cat(differ).cpu().numpy()
        ends = np.cumsum([len(one) for one in differ])
        changes.update(zip(places, np.split(flags, ends[:-1])))
    return changes


def _ranges(flags: Any, nbytes: int) -> list[tuple[int, int]]:
    """The bytes of the stretches that are flagged; neighbours in one."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    bounds = edges.reshape(-1, 2) * STRETCH
    return [(int(first), min(int(last), nbytes)) for first, last in bounds]


def _flat(tensor: Any) -> Any:
    """A tensor's bytes as they are stored, on its device; None where that would take too much memory there."""
    if not tensor.is_contiguous() or tensor.is_conj() or tensor.is_neg():
        if tensor.nbytes > _MOST_REARRANGED:
            return None
        tensor = tensor.resolve_conj().resolve_neg().contiguous()
    return tensor.detach().reshape(-1).view(installed_torch().uint8)


def _tensor_values(tensor: Any) -> Any:
    keys = _keys(tensor.device)
    flat = _flat(tensor) if keys is not None else None
    if flat is None:
        return None
    rows = []
    for start in range(0, len(flat), _BATCH):
        piece = flat[start : start + _BATCH]
        whole = len(piece) // STRETCH * STRETCH
        if whole:
            rows.append(_hashed(piece[:whole].view(-1, STRETCH), keys))
        if whole < len(piece):
            rows.append(_hashed(piece[whole:].view(1, -1), keys))
    return rows[0] if len(rows) == 1 else installed_torch().cat(rows)


def _hashed(rows: Any, keys: Any) -> Any:
    """The fingerprints of rows of bytes, all of one length."""
    torch = installed_torch()
    if rows.shape[1] % 4:
        rows = torch.nn.functional.pad(rows, (0, -rows.shape[1] % 4))
    elif rows.storage_offset() % 4 or rows.data_ptr() % 4:
        rows = rows.clone()
    words = rows.view(torch.int32).unsqueeze(1)
    sums = (words * keys[:, 1 : words.shape[2] + 1]).sum(dim=2)
    return ((sums + keys[:, 0]) >> 32).to(torch.int32)


# By device; None where it does not reckon as it should.
_keys_of_devices: dict[str, Any] = {}


def _keys(device: Any) -> Any:
    """The keys of this process on a device: (4, 1 + words of a stretch), int64."""
    name = str(device)
    if name not in _keys_of_devices:
        torch = installed_torch()
        size = _HASHES * (1 + STRETCH // 4) * 8
        keys = torch.frombuffer(bytearray(os.urandom(size)), dtype=torch.int64).view(_HASHES, -1)
        there = keys.to(device)
        # Some devices have integers of 64 bits in name only.
        sample = torch.frombuffer(bytearray(os.urandom(STRETCH)), dtype=torch.uint8).view(1, -1)
        try:
            is_right = torch.equal(_hashed(sample.to(device), there).cpu(), _hashed(sample, keys))
        except RuntimeError:
            is_right = False
        _keys_of_devices[name] = there if is_right else None
    return _keys_of_devices[name]
