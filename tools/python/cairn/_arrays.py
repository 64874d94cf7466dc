"""Memory of arrays: of numpy's arrays and torch's tensors, for saving, and for reading into.

What is stored of an array is its elements in the order of its shape (the last axis fastest), little-endian,
under a type of safetensors. What that loses is in the node of the tree: the type's own name, the stride of a
layout such as channels_last.
"""

from __future__ import annotations

import contextlib
import ctypes
import math
import mmap
from collections.abc import Sequence
from typing import Any, NamedTuple, Optional

import numpy as np

from ._dtypes import (
    installed_torch,
    is_swapped,
    named_torch_dtype,
    numpy_dtype,
    spelled_dtype,
    stored_numpy,
    stored_torch,
    torch_dtype,
)

Array = np.ndarray[Any, "np.dtype[Any]"]

# Bytes from which a fresh tensor has pages of its own.
_OWN_PAGES = 1 << 20


class Box(NamedTuple):
    """Which part of a larger tensor a stored one is: the larger one's shape, and where in it this begins."""

    shape: tuple[int, ...]
    offset: tuple[int, ...]


class Leaf:
    """One tensor to be stored, whose memory lives as long as this does.

    `part` and `name` say which, `dtype` (as safetensors spells it) and `shape` what is stored, `nbytes` how
    much. `pointer` is the address of exactly those bytes in host memory, or None: then `copy_to` makes them,
    from a device or from an array that isn't contiguous. `array` is the numpy array or torch tensor itself,
    of the stored elements, perhaps under another type of the same size. `box` is set where it is a shard.
    """

    __slots__ = ("array", "box", "dtype", "name", "nbytes", "part", "pointer", "shape")

    def __init__(
        self, array: Any, dtype: str, shape: tuple[int, ...], nbytes: int, pointer: Optional[int]
    ) -> None:
        self.part = self.name = ""
        self.array, self.dtype, self.shape, self.nbytes, self.pointer = array, dtype, shape, nbytes, pointer
        self.box: Optional[Box] = None

    def __repr__(self) -> str:
        return f"Leaf({self.part}, {self.name}, {self.dtype}, {list(self.shape)})"

    def copy_to(self, address: int) -> None:
        """Writes the stored bytes, `nbytes` of them, to an address in host memory."""
        if not self.nbytes:
            return
        memory: Any = (ctypes.c_char * self.nbytes).from_address(address)
        if isinstance(self.array, np.ndarray):
            dtype = self.array.dtype
            little = dtype.newbyteorder("<") if is_swapped(dtype) else dtype
            np.copyto(np.ndarray(self.array.shape, little, buffer=memory), self.array)
        else:
            torch = installed_torch()
            flat = torch.frombuffer(memory, dtype=torch.uint8)
            flat.view(self.array.dtype).view(self.array.shape).copy_(self.array)


class Target(NamedTuple):
    """Memory to read a stored tensor into: `array` has its type and shape, and owns `nbytes` at `pointer`."""

    array: Any
    pointer: int
    nbytes: int


def empty(dtype: str, shape: Sequence[int], library: str) -> Target:
    """Memory for a stored tensor of a type (as safetensors spells it), in host memory, its bytes not set.

    `library` is "torch" or "numpy"; numpy it is as well where torch isn't installed. Raises MissingPackage
    where numpy lacks the type.
    """
    torch = installed_torch() if library == "torch" else None
    if torch is None:
        array = np.empty(tuple(shape), numpy_dtype(dtype))
        return Target(array, address(array), array.nbytes)
    if dtype == "F4":
        shape = (*shape[:-1], shape[-1] // 2)
    tensor = fresh(shape, torch_dtype(dtype))
    return Target(tensor, tensor.data_ptr(), tensor.nbytes)


def fresh(shape: Sequence[int], dtype: Any) -> Any:
    """A tensor in host memory, whatever torch's default device is, its elements not set.

    From 1 MiB on it has pages of its own, huge ones where the kernel gives them on request: to fill fresh
    memory then takes a fifth of the time. As with safetensors, such a storage can't be resized.
    """
    torch = installed_torch()
    nbytes = math.prod(shape) * dtype.itemsize
    memory = _pages(nbytes) if nbytes >= _OWN_PAGES else None
    if memory is None:
        return torch.empty(tuple(shape), dtype=dtype, device="cpu")
    storage = torch.frombuffer(memory, dtype=torch.uint8).untyped_storage()
    return torch.empty(0, dtype=dtype, device="cpu").set_(storage, 0, tuple(shape))


def _pages(nbytes: int) -> Optional[mmap.mmap]:
    try:
        memory = mmap.mmap(-1, nbytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except OSError:
        return None
    # A kernel may lack them.
    with contextlib.suppress(OSError):
        memory.madvise(mmap.MADV_HUGEPAGE)
    return memory


def address(array: Array) -> int:
    """Where an array's first element is. (`array.ctypes` takes ten times as long.)"""
    pointer: int = array.__array_interface__["data"][0]
    return pointer


def dense_stride(shape: Sequence[int], stride: Sequence[int]) -> Optional[list[int]]:
    """The stride, in elements, if it arranges the axes in some order without a gap; else None."""
    expected = 1
    for axis in reversed(axes_by_stride(shape, stride)):
        if shape[axis] != 1 and stride[axis] != expected:
            return None
        expected *= shape[axis]
    return list(stride)


def axes_by_stride(shape: Sequence[int], stride: Sequence[int]) -> list[int]:
    """The axes from the slowest to the fastest; those of length 1 don't matter, and come first."""
    return sorted(range(len(shape)), key=lambda axis: (shape[axis] != 1, -stride[axis]))


def numpy_leaf(array: Array) -> tuple[Leaf, dict[str, Any]]:
    """What to store of an array, and the attributes of its node. Raises Unstorable."""
    name, more, spelled = stored_numpy(array.dtype)
    attributes: dict[str, Any] = {} if spelled is None else {"dtype": spelled}
    contiguous = array.flags.c_contiguous
    if not contiguous:
        steps = [divmod(step, array.itemsize) for step in array.strides]
        stride = dense_stride(array.shape, [-1 if rest else step for step, rest in steps])
        if stride is not None:
            attributes["stride"] = stride
    pointer = address(array) if contiguous and not is_swapped(array.dtype) else None
    return Leaf(array, name, array.shape + more, array.nbytes, pointer), attributes


def torch_leaf(tensor: Any) -> tuple[Leaf, dict[str, Any]]:
    """What to store of a strided tensor on any device, and the attributes of its node. Raises Unstorable."""
    dtype = tensor.dtype
    name, more, spelled = stored_torch(dtype)
    shape, nbytes = tuple(tensor.shape), tensor.nbytes
    attributes: dict[str, Any] = {}
    if name == "F4":
        if shape:
            shape = (*shape[:-1], shape[-1] * 2)
        else:
            name, spelled = "U8", "float4_e2m1fn_x2"
    if spelled is not None:
        attributes["dtype"] = spelled
    plain = not (tensor.is_conj() or tensor.is_neg())
    if tensor.is_contiguous():
        pointer = tensor.data_ptr() if plain and tensor.is_cpu else None
    else:
        pointer = None
        stride = dense_stride(shape, tensor.stride()) if name != "F4" else None
        if stride is not None:
            attributes["stride"] = stride
    if not tensor.is_cpu:
        attributes["device"] = str(tensor.device)
    if spelled is not None and not more:
        # Torch doesn't copy such elements.
        tensor = tensor.view(torch_dtype(name))
    return Leaf(tensor, name, shape + more, nbytes, pointer), attributes


def as_saved(stored: Any, spelled: Any, stride: Optional[list[int]]) -> Any:
    """The array that was saved, under its own type and stride; in the stored one's memory where it can be."""
    is_numpy = isinstance(stored, np.ndarray)
    if spelled is not None:
        stored = _numpy_typed(stored, spelled) if is_numpy else _torch_typed(stored, spelled)
    if stride is None:
        return stored
    if len(stride) != len(stored.shape) or dense_stride(stored.shape, stride) is None:
        raise ValueError(f"{stride} is no stride of a tensor of shape {list(stored.shape)}")
    return _numpy_arranged(stored, stride) if is_numpy else _torch_arranged(stored, stride)


def _torch_typed(stored: Any, spelled: str) -> Any:
    dtype = named_torch_dtype(spelled)
    return installed_torch().view_as_complex(stored) if dtype.is_complex else stored.view(dtype)


def _torch_arranged(stored: Any, stride: list[int]) -> Any:
    torch = installed_torch()
    arranged = torch.empty_strided(stored.shape, stride, dtype=stored.dtype, device=stored.device)
    # Torch doesn't copy elements of every type.
    is_byte = stored.dtype.itemsize == 1
    (arranged.view(torch.uint8) if is_byte else arranged).copy_(
        stored.view(torch.uint8) if is_byte else stored
    )
    return arranged


def _numpy_typed(stored: Array, spelled: Any) -> Array:
    dtype = spelled_dtype(spelled)
    _, more, _ = stored_numpy(dtype)
    shape = stored.shape[: len(stored.shape) - len(more)]
    if is_swapped(dtype):
        stored.byteswap(inplace=True)
    return np.ndarray(shape, dtype, buffer=stored) if stored.nbytes else np.empty(shape, dtype)


def _numpy_arranged(stored: Array, stride: list[int]) -> Array:
    order = axes_by_stride(stored.shape, stride)
    back = [order.index(axis) for axis in range(len(order))]
    arranged: Array = np.empty([stored.shape[axis] for axis in order], stored.dtype).transpose(back)
    np.copyto(arranged, stored)
    return arranged
