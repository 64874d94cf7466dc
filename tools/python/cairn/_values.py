"""Values that are neither containers nor arrays, as JSON and back, without loss.

What JSON has is itself: null, booleans, text, integers of 64 bits and finite floats. Everything else is an
object whose first key begins with `$` and says what it is.
"""

from __future__ import annotations

import base64
import datetime
import math
import pathlib
import uuid
from typing import Any, Callable

import numpy as np

from ._dtypes import Unstorable, imported_torch, installed_torch, named_torch_dtype, spelled_dtype, spelling


def text64(data: bytes) -> str:
    """Bytes as base64."""
    return base64.b64encode(data).decode("ascii")


def bytes64(text: str) -> bytes:
    """Bytes from base64."""
    return base64.b64decode(text, validate=True)


def is_plain(text: str) -> bool:
    """Whether JSON keeps a string; lone surrogates come back joined, or not at all."""
    if text.isascii():
        return True
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _int(value: int) -> Any:
    # Other readers of JSON have no larger ones; and in hexadecimal Python has no limit on its length.
    return value if -(2**63) <= value < 2**63 else {"$int": hex(value)}


def _float(value: float) -> Any:
    return value if math.isfinite(value) else {"$float": repr(value)}


def _str(value: str) -> Any:
    return value if is_plain(value) else {"$str": text64(value.encode("utf-8", "surrogatepass"))}


def _same(value: Any) -> Any:
    return value


def _range(value: range) -> Any:
    return {"$range": [_int(value.start), _int(value.stop), _int(value.step)]}


def _path(value: pathlib.PurePath) -> Any:
    return {"$path": _str(str(value)), "type": type(value).__name__}


def _moment(key: str) -> Callable[[Any], Any]:
    def encode(value: Any) -> Any:
        zone = value.tzinfo
        if zone is not None and type(zone) is not datetime.timezone:
            raise Unstorable(
                "its time zone is an object, not an offset: save it with .astimezone(datetime.timezone.utc)"
            )
        node: dict[str, Any] = {key: value.isoformat()}
        if value.fold:
            node["fold"] = value.fold
        return node

    return encode


def numpy_scalar(value: Any) -> Any:
    """A numpy scalar. Text is kept as such, as an array of it would lose its trailing zeros."""
    if isinstance(value, np.str_):
        # str() would strip them too.
        return {"$numpy.str": _str(str.__str__(value))}
    if isinstance(value, np.bytes_):
        return {"$numpy.bytes": text64(bytes(value))}
    return {"$numpy": text64(value.tobytes()), "dtype": spelling(value.dtype)}


def numpy_type(value: np.dtype[Any]) -> Any:
    """A numpy type."""
    return {"$numpy.dtype": spelling(value)}


ENCODERS: dict[type, Callable[[Any], Any]] = {
    type(None): _same,
    bool: _same,
    int: _int,
    float: _float,
    str: _str,
    complex: lambda value: {"$complex": [_float(value.real), _float(value.imag)]},
    bytes: lambda value: {"$bytes": text64(value)},
    bytearray: lambda value: {"$bytearray": text64(value)},
    range: _range,
    datetime.date: lambda value: {"$date": value.isoformat()},
    datetime.datetime: _moment("$datetime"),
    datetime.time: _moment("$time"),
    datetime.timedelta: lambda value: {"$timedelta": [value.days, value.seconds, value.microseconds]},
    uuid.UUID: lambda value: {"$uuid": value.hex},
}
_PATHS = {
    kind.__name__: kind
    for kind in (pathlib.PosixPath, pathlib.WindowsPath, pathlib.PurePosixPath, pathlib.PureWindowsPath)
}
ENCODERS.update(dict.fromkeys(_PATHS.values(), _path))


def torch_encoders() -> dict[type, Callable[[Any], Any]]:
    """The same for the values of torch that aren't tensors, once it is imported."""
    torch = imported_torch()

    def named(key: str) -> Callable[[Any], Any]:
        return lambda value: {key: str(value).rpartition(".")[2]}

    return {
        torch.Size: lambda value: {"$torch.Size": list(value)},
        torch.dtype: named("$torch.dtype"),
        torch.layout: named("$torch.layout"),
        torch.memory_format: named("$torch.memory_format"),
        torch.device: lambda value: {"$torch.device": str(value)},
    }


def _decode_path(node: dict[str, Any]) -> pathlib.PurePath:
    return _PATHS[node["type"]](decode(node["$path"]))


def _decode_scalar(node: dict[str, Any]) -> Any:
    dtype = spelled_dtype(node["dtype"])
    return np.ndarray((), dtype, buffer=bytearray(bytes64(node["$numpy"])))[()]


def _decode_torch(key: str) -> Callable[[dict[str, Any]], Any]:
    """Without torch a size is a tuple, and the names of types and devices are text."""

    def value(node: dict[str, Any]) -> Any:
        torch, name = installed_torch(), node[key]
        if key == "$torch.Size":
            return torch.Size(name) if torch else tuple(name)
        if not torch:
            return name if key == "$torch.device" else f"torch.{name}"
        if key == "$torch.device":
            return torch.device(name)
        if key == "$torch.dtype":
            return named_torch_dtype(name)
        found, kind = getattr(torch, name), torch.layout if key == "$torch.layout" else torch.memory_format
        if not isinstance(found, kind):
            raise ValueError(f"{name} is none of torch's")
        return found

    return value


DECODERS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "$int": lambda node: int(node["$int"], 16),
    "$float": lambda node: float(node["$float"]),
    "$str": lambda node: bytes64(node["$str"]).decode("utf-8", "surrogatepass"),
    "$complex": lambda node: complex(*map(decode, node["$complex"])),
    "$bytes": lambda node: bytes64(node["$bytes"]),
    "$bytearray": lambda node: bytearray(bytes64(node["$bytearray"])),
    "$range": lambda node: range(*map(decode, node["$range"])),
    "$date": lambda node: datetime.date.fromisoformat(node["$date"]),
    "$datetime": lambda node: datetime.datetime.fromisoformat(node["$datetime"]).replace(
        fold=node.get("fold", 0)
    ),
    "$time": lambda node: datetime.time.fromisoformat(node["$time"]).replace(fold=node.get("fold", 0)),
    "$timedelta": lambda node: datetime.timedelta(*node["$timedelta"]),
    "$uuid": lambda node: uuid.UUID(node["$uuid"]),
    "$path": _decode_path,
    "$numpy": _decode_scalar,
    "$numpy.str": lambda node: np.str_(decode(node["$numpy.str"])),
    "$numpy.bytes": lambda node: np.bytes_(bytes64(node["$numpy.bytes"])),
    "$numpy.dtype": lambda node: spelled_dtype(node["$numpy.dtype"]),
}
for _key in ("$torch.Size", "$torch.dtype", "$torch.layout", "$torch.memory_format", "$torch.device"):
    DECODERS[_key] = _decode_torch(_key)


def decode(node: Any) -> Any:
    """A value from its JSON, where it is one of those above."""
    return DECODERS[next(iter(node))](node) if isinstance(node, dict) else node
