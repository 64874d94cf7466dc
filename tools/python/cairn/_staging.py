"""Host memory that a state is copied to, so that training may go on while it is saved."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional

from . import _device, _library
from ._arrays import Leaf

# Tensors begin at a multiple of this.
_ALIGNMENT = 64


class Staged:
    """A state in host memory: where each tensor lies in `memory`, by part and name."""

    def __init__(self, memory: _library.Memory) -> None:
        self.memory = memory
        self.places: dict[tuple[str, str], tuple[int, int]] = {}
        # Of the iteration that has these bytes, once it is committed.
        self.saved_as: Optional[str] = None
        # Of what lies on a device, as it was when it was copied here.
        self.fingerprints: dict[_device.Place, _device.Fingerprints] = {}

    def address(self, part: str, name: str, nbytes: int) -> Optional[int]:
        """Where as many bytes of a tensor lie; None where there are none, or others."""
        found = self.places.get((part, name))
        return found[0] if found is not None and found[1] == nbytes else None

    def take(self, leaves: Sequence[Leaf], base: Optional[Staged] = None, *, is_base: bool = False) -> None:
        """Copies tensors one behind the other. The memory has room for `staged_size(leaves)` bytes.

        What is contiguous in host memory is copied on all cores, the rest by numpy and torch. What is on a device
        and did not change since `base` is taken from there; `is_base` says that this is to be such a base.
        """
        self.places = {}
        stretches: list[tuple[int, int, int]] = []
        others: list[tuple[Leaf, int]] = []
        distant: list[tuple[Leaf, int]] = []
        address = self.memory.address
        for leaf in leaves:
            self.places[leaf.part, leaf.name] = address, leaf.nbytes
            if _device.is_on_device(leaf):
                distant.append((leaf, address))
            elif leaf.pointer is None:
                others.append((leaf, address))
            elif leaf.nbytes:
                stretches.append((address, leaf.pointer, leaf.nbytes))
            address += aligned(leaf.nbytes)
        crossing = self._crossing(distant, base, is_base)
        try:
            crossing.start(_device.pin(self.memory, distant))
            _library.copy(stretches + crossing.kept)
            for leaf, target in others:
                leaf.copy_to(target)
        finally:
            crossing.finish()

    def _crossing(
        self, distant: Sequence[tuple[Leaf, int]], base: Optional[Staged], is_base: bool
    ) -> _device.Crossing:
        self.fingerprints = _device.fingerprints(leaf for leaf, _ in distant) if is_base else {}
        compared = None if base is None else _device.Base(base.places, base.fingerprints)
        return _device.Crossing(distant, self.fingerprints, compared)


def aligned(nbytes: int) -> int:
    """The bytes that a tensor takes among others."""
    return -(-nbytes // _ALIGNMENT) * _ALIGNMENT


def staged_size(leaves: Sequence[Leaf]) -> int:
    """The bytes that all take one behind the other."""
    return sum(aligned(leaf.nbytes) for leaf in leaves)


class HostMemory:
    """The memory of a store's asynchronous saves: kept from save to save, as large as the largest state.

    With two copies, one is what the last save saved, which the next is compared with, and the other takes
    the next state.
    """

    def __init__(self) -> None:
        self._free: list[_library.Memory] = []
        self.base: Optional[Staged] = None

    def room(self, size: int) -> Staged:
        """Room for a state."""
        fitting = [memory for memory in self._free if memory.size >= size]
        # What is too small goes before there is more.
        self._free = []
        return Staged(fitting[0] if fitting else _library.Memory(size))

    def stage(self, leaves: Sequence[Leaf], *, is_base: bool = False) -> Staged:
        """A copy of a state; `is_base` says that the next one may be compared with it."""
        staged = self.room(staged_size(leaves))
        try:
            staged.take(leaves, self.base, is_base=is_base)
        except BaseException:
            self.give_back(staged)
            raise
        return staged

    def keep(self, staged: Staged, saved_as: str) -> None:
        """A state that was saved, as the iteration with this id, is what the next one is compared with."""
        self.drop_base()
        staged.saved_as, self.base = saved_as, staged

    def drop_base(self) -> None:
        """Nothing is compared with."""
        base, self.base = self.base, None
        if base is not None:
            self.give_back(base)

    def give_back(self, staged: Staged) -> None:
        """A state that is of no use any more."""
        self._free.append(staged.memory)

    def clear(self) -> None:
        """Gives all memory back."""
        self._free, self.base = [], None
