"""Element types: what numpy and torch call them, and as what safetensors keeps them."""

from __future__ import annotations

import functools
import importlib
import sys
from typing import Any, Optional

import numpy as np
from numpy.lib import format as npy

from .errors import MissingPackage

# safetensors' name: (numpy's, torch's). Those that numpy lacks are in ml_dtypes, as torch calls them.
_NAMES: dict[str, tuple[Optional[str], str]] = {
    "BOOL": ("|b1", "bool"),
    "U8": ("|u1", "uint8"),
    "I8": ("|i1", "int8"),
    "U16": ("<u2", "uint16"),
    "I16": ("<i2", "int16"),
    "U32": ("<u4", "uint32"),
    "I32": ("<i4", "int32"),
    "U64": ("<u8", "uint64"),
    "I64": ("<i8", "int64"),
    "F16": ("<f2", "float16"),
    "F32": ("<f4", "float32"),
    "F64": ("<f8", "float64"),
    "C64": ("<c8", "complex64"),
    "BF16": (None, "bfloat16"),
    "F8_E4M3": (None, "float8_e4m3fn"),
    "F8_E5M2": (None, "float8_e5m2"),
    "F8_E4M3FNUZ": (None, "float8_e4m3fnuz"),
    "F8_E5M2FNUZ": (None, "float8_e5m2fnuz"),
    "F8_E8M0": (None, "float8_e8m0fnu"),
}
_FROM_NUMPY = {spelled: name for name, (spelled, _) in _NAMES.items() if spelled}
_FROM_ML_DTYPES = {torch_name: name for name, (spelled, torch_name) in _NAMES.items() if not spelled}
_RAW = {1: "U8", 2: "U16", 4: "U32", 8: "U64"}
_ML_DTYPES = "ml_dtypes."


class Unstorable(Exception):
    """A value that can't be kept; the text says why, and what to do instead.

    Never leaves the package: whoever knows the path turns it into NotData, or keeps a pickle.
    """


class WithoutData(Unstorable):
    """The same where a pickle would be of no use."""


@functools.lru_cache(maxsize=1024)
def stored_numpy(dtype: np.dtype[Any]) -> tuple[str, tuple[int, ...], Any]:
    """How an array of a numpy type is kept.

    Numbers are little-endian whatever the array is, so that others can read the file; text, dates and
    structures are bytes.
    """
    if dtype.isbuiltin == 2:
        name = _FROM_ML_DTYPES.get(dtype.name)
        return (name, (), None) if name else ("U8", (dtype.itemsize,), spelling(dtype))
    name = _FROM_NUMPY.get(dtype.newbyteorder("<").str)
    if name:
        return name, (), dtype.str if is_swapped(dtype) else None
    if dtype.kind == "c" and dtype.itemsize == 16:
        return "F64", (2,), dtype.str
    return "U8", (dtype.itemsize,), spelling(dtype)


def is_swapped(dtype: np.dtype[Any]) -> bool:
    """Whether the elements are numbers in the other byte order than they are kept in."""
    return (
        dtype.byteorder == ">" and dtype.kind in "iufc" and dtype.itemsize <= (16 if dtype.kind == "c" else 8)
    )


def numpy_dtype(name: str) -> np.dtype[Any]:
    """The numpy type of what safetensors calls `name`.

    Raises MissingPackage where numpy has none, and no package that does is installed.
    """
    spelled, other = _NAMES.get(name, (None, ""))
    if spelled:
        return np.dtype(spelled)
    try:
        return _ml_dtype(other)
    except MissingPackage:
        raise MissingPackage(
            f"numpy has no type for tensors of {name}: install torch (or ml_dtypes) to read them"
        ) from None


@functools.lru_cache(maxsize=1024)
def spelling(dtype: np.dtype[Any]) -> Any:
    """A numpy type as JSON: a string, or for a structure a list of fields.

    Raises Unstorable where it doesn't come back from that.
    """
    if dtype.hasobject:
        raise Unstorable("its elements are Python objects, not data: save its tolist()")
    if dtype.isbuiltin == 2 and dtype.type.__module__ == "ml_dtypes":
        return _ML_DTYPES + dtype.name
    if dtype.char in "gG":
        # Not the same format on every processor: its precision tells.
        return f"{dtype.str}:{np.finfo(dtype).nmant}"
    try:
        descr = npy.dtype_to_descr(dtype)
        if npy.descr_to_dtype(descr) == dtype:
            return descr
    except (TypeError, ValueError):
        pass
    raise Unstorable(f"numpy's type {dtype} can't be written down")


def spelled_dtype(spelled: Any) -> np.dtype[Any]:
    """The numpy type that `spelling` wrote."""
    if isinstance(spelled, str) and spelled.startswith(_ML_DTYPES):
        return _ml_dtype(spelled[len(_ML_DTYPES) :])
    if not isinstance(spelled, str):
        dtype = npy.descr_to_dtype([_field(field) for field in spelled])
        precision = ""
    else:
        text, _, precision = spelled.partition(":")
        dtype = np.dtype(text)
    if dtype.hasobject:
        # Their bytes would be taken for addresses.
        raise ValueError(f"{spelled} is no type of data")
    if precision and np.finfo(dtype).nmant != int(precision):
        raise MissingPackage(
            f"this machine has no long double of {precision} bits: read it on one like that which saved it"
        )
    return dtype


def _field(field: Any) -> tuple[Any, ...]:
    """What JSON made of a field: lists, where numpy wants tuples."""
    name, kind, *shape = field
    kind = kind if isinstance(kind, str) else [_field(inner) for inner in kind]
    return (tuple(name) if isinstance(name, list) else name, kind, *(tuple(axes) for axes in shape))


def _ml_dtype(name: str) -> np.dtype[Any]:
    try:
        package = importlib.import_module("ml_dtypes")
    except ImportError:
        raise MissingPackage(
            f"arrays of {name} need the package ml_dtypes: install it to read them"
        ) from None
    made: np.dtype[Any] = np.dtype(getattr(package, name))
    return made


def imported_torch() -> Any:
    """torch where this process has imported it, else None: nothing can be a tensor then."""
    return sys.modules.get("torch")


@functools.cache
def installed_torch() -> Any:
    """torch, imported if it is installed, else None."""
    try:
        return importlib.import_module("torch")
    except ImportError:
        return None


def stored_torch(dtype: Any) -> tuple[str, tuple[int, ...], Optional[str]]:
    """How a tensor of a torch type is kept. An `F4` is half a byte, so its last axis is twice torch's."""
    return _torch_types()[1].get(dtype) or _stored_shell(dtype)


def torch_dtype(name: str) -> Any:
    """The torch type of what safetensors calls `name`."""
    return _torch_types()[0][name]


def named_torch_dtype(name: str) -> Any:
    """The torch type that is called `name`, without the `torch.`."""
    torch = installed_torch()
    dtype = getattr(torch, name, None)
    if not isinstance(dtype, torch.dtype):
        raise MissingPackage(
            f"torch {torch.__version__} has no type {name}: install a newer one to read such tensors"
        )
    return dtype


@functools.cache
def _torch_types() -> tuple[dict[str, Any], dict[Any, tuple[str, tuple[int, ...], Optional[str]]]]:
    """Types by safetensors' name, and how tensors of a type are kept: those that the installed torch has."""
    torch = installed_torch()
    named = {name: getattr(torch, other) for name, (_, other) in _NAMES.items() if hasattr(torch, other)}
    if hasattr(torch, "float4_e2m1fn_x2"):
        named["F4"] = torch.float4_e2m1fn_x2
    stored: dict[Any, Any] = {dtype: (name, (), None) for name, dtype in named.items()}
    stored[torch.complex128] = ("F64", (2,), "complex128")
    stored[torch.complex32] = ("F16", (2,), "complex32")
    return named, stored


def _stored_shell(dtype: Any) -> tuple[str, tuple[int, ...], Optional[str]]:
    """Types that torch can hardly compute with, such as `uint4`: their bytes."""
    name = str(dtype).rpartition(".")[2]
    if dtype.itemsize not in _RAW:
        raise Unstorable(f"tensors of {name} are not known to this version")
    return _RAW[dtype.itemsize], (), name
