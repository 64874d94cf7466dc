"""The C interface (cairn.h), loaded with ctypes, which lets other threads run during each call."""

from __future__ import annotations

import ctypes
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Callable, NoReturn, Optional, Union

from ._sentences import in_python
from .errors import CairnError, Usage, of_code

PathLike = Union[str, "os.PathLike[str]"]

_INTERFACE = 1
_OK = 0


class Control(ctypes.Structure):
    """What a call and other threads share: set `cancel` to end the call."""

    _fields_ = [
        ("cancel", ctypes.c_int32),
        ("done_bytes", ctypes.c_uint64),
        ("total_bytes", ctypes.c_uint64),
    ]


class Read(ctypes.Structure):
    """`cairn_read`: bytes that are wanted in memory."""

    _fields_ = [
        ("file", ctypes.c_char_p),
        ("name", ctypes.c_char_p),
        ("start", ctypes.POINTER(ctypes.c_uint64)),
        ("stop", ctypes.POINTER(ctypes.c_uint64)),
        ("axes", ctypes.c_size_t),
        ("target", ctypes.c_void_p),
        ("bytes", ctypes.c_size_t),
    ]


_text, _handle, _bytes = ctypes.c_char_p, ctypes.c_void_p, ctypes.c_size_t
_handles = ctypes.POINTER(ctypes.c_void_p)
_control = ctypes.POINTER(Control)
_sizes = ctypes.POINTER(ctypes.c_uint64)
# Not c_char_p, which would be turned into bytes and its address lost.
_document = ctypes.POINTER(ctypes.c_void_p)

_FUNCTIONS: dict[str, list[Any]] = {
    "cairn_open": [_text, _text, _handles],
    "cairn_describe": [_handle, _document],
    "cairn_list": [_handle, _text, _document],
    "cairn_show": [_handle, _text, _document],
    "cairn_diff": [_handle, _text, _text, _control, _document],
    "cairn_stats": [_handle, _document],
    "cairn_pin": [_handle, _text, _text, _document],
    "cairn_unpin": [_handle, _text, _document],
    "cairn_pins": [_handle, _document],
    "cairn_annotate": [_handle, _text, _text, _text, _document],
    "cairn_rewind": [_handle, _text, _document],
    "cairn_delete": [_handle, _text, _document],
    "cairn_policy": [_handle, _text, _document],
    "cairn_set_policy": [_handle, _text, _text, _document],
    "cairn_gc": [_handle, ctypes.c_int32, _control, _document],
    "cairn_verify": [_handle, _text, ctypes.c_int32, _control, _document],
    "cairn_restore": [_handle, _text, _text, _text, _control, _document],
    "cairn_export": [_handle, _text, _text, _text, _control, _document],
    "cairn_save_begin": [_handle, _text, _handles],
    "cairn_save_add_tensor": [_handle, _text, _text, _text, _sizes, _bytes, _handle, _bytes, _handle],
    "cairn_save_add_file": [_handle, _text, _text, _bytes],
    "cairn_save_take": [_handle, _control],
    "cairn_save_commit": [_handle, _control, _document],
    "cairn_iteration_open": [_handle, _text, _handles],
    "cairn_iteration_describe": [_handle, _document],
    "cairn_iteration_tensor": [_handle, _text, _document],
    "cairn_iteration_read": [_handle, ctypes.POINTER(Read), _bytes, _control],
    "cairn_map": [_bytes, _handles],
    "cairn_copy": [_bytes, _handles, _handles, ctypes.POINTER(ctypes.c_size_t), ctypes.c_int32],
}
_ENDINGS: dict[str, list[Any]] = {
    "cairn_close": [_handle],
    "cairn_save_close": [_handle],
    "cairn_iteration_close": [_handle],
    "cairn_unmap": [_handle, _bytes],
    "cairn_free": [_handle],
}
_TEXTS = ["cairn_version", "cairn_error_message", "cairn_error_code", "cairn_error_path"]


def _load() -> ctypes.CDLL:
    beside = Path(__file__).with_name("libCairnC.so")
    path = os.environ.get("CAIRN_LIBRARY") or str(beside)
    try:
        library = ctypes.CDLL(path)
    except OSError as error:
        raise ImportError(
            f"cairn's library can't be loaded: {error}; install the package again, or build it with `swift build "
            "--product CairnC` and set CAIRN_LIBRARY to its path"
        ) from error
    for name, arguments in {**_FUNCTIONS, **_ENDINGS}.items():
        function = getattr(library, name)
        function.argtypes = arguments
        function.restype = None if name in _ENDINGS else ctypes.c_int
    for name in _TEXTS:
        getattr(library, name).restype = _text
    if library.cairn_interface_version() != _INTERFACE:
        raise ImportError(
            f"{path} has version {library.cairn_interface_version()} of the interface, and the package needs {_INTERFACE}: "
            "install both anew"
        )
    return library


_library = _load()
version: str = _library.cairn_version().decode()


def call(name: str, *arguments: Any) -> None:
    """Makes a call. Raises what its status says."""
    if getattr(_library, name)(*arguments) != _OK:
        raise last_error()


def answer(name: str, *arguments: Any) -> Any:
    """Makes a call that answers with a JSON document, and gives that."""
    text = ctypes.c_void_p()
    call(name, *arguments, ctypes.byref(text))
    try:
        document = json.loads(ctypes.string_at(text.value or 0))
    finally:
        _library.cairn_free(text)
    for kind in ("warnings", "problems"):
        if isinstance(document, dict) and kind in document:
            document[kind] = [in_python(sentence) for sentence in document[kind]]
    return document


def end(name: str, *arguments: Any) -> None:
    """Gives back a handle or memory."""
    getattr(_library, name)(*arguments)


def handle(name: str, *arguments: Any) -> int:
    """Makes a call that gives a handle."""
    made = ctypes.c_void_p()
    call(name, *arguments, ctypes.byref(made))
    assert made.value is not None
    return made.value


class Handle:
    """A handle that ends with this object, or before. In the child of a fork its end does nothing."""

    def __init__(self, address: int, ending: str) -> None:
        self.address, self._ending = address, ending

    def close(self, _end: Any = end) -> None:
        """Gives it back; `address` is 0 then."""
        address, self.address = self.address, 0
        if address:
            _end(self._ending, address)

    __del__ = close

    def __reduce__(self) -> NoReturn:
        # A copy would close what is in use, or be of another process.
        raise Usage("what is open in a store can't be copied or pickled; open it again there")


def last_error() -> CairnError:
    """The error of this thread's last call that failed."""
    message, code, path = (
        (getattr(_library, name)() or b"").decode("utf-8", "replace") for name in _TEXTS[1:]
    )
    return of_code(code)(in_python(message), code=code, path=path or None)


def text(value: str) -> bytes:
    """Text as an argument."""
    if not isinstance(value, str):
        raise Usage(f"{value!r} has to be text")
    return _whole(value.encode("utf-8", "surrogatepass"))


def optional_text(value: Optional[str]) -> Optional[bytes]:
    """The same; None is NULL."""
    return None if value is None else text(value)


def path(value: PathLike) -> bytes:
    """A path as an argument."""
    return _whole(os.fsencode(value))


def _whole(value: bytes) -> bytes:
    """C would take what is before a zero byte for all of it."""
    if 0 in value:
        raise Usage(f"{value!r} holds a zero byte, and no name does")
    return value


def options(**values: Any) -> bytes:
    """Options as an argument: those that are None are left out."""
    return json.dumps({name: value for name, value in values.items() if value is not None}).encode()


def numbers(values: Sequence[int]) -> Any:
    """An array of C's, of uint64_t."""
    return (ctypes.c_uint64 * len(values))(*values)


def copy(stretches: Sequence[tuple[int, int, int]], jobs: int = 0) -> None:
    """Copies memory on several threads: of each stretch (target address, source address, bytes)."""
    count = len(stretches)
    targets, sources, sizes = zip(*stretches) if count else ((), (), ())
    call(
        "cairn_copy",
        count,
        (ctypes.c_void_p * count)(*targets),
        (ctypes.c_void_p * count)(*sources),
        (ctypes.c_size_t * count)(*sizes),
        jobs,
    )


class Memory:
    """Host memory that forked children don't have. Given back with the object."""

    def __init__(self, size: int) -> None:
        self.size = max(size, 1)
        # None before anybody tried.
        self.is_pinned: Optional[bool] = None
        self.unpin: Optional[Callable[[], None]] = None
        self._process = os.getpid()
        self.address = handle("cairn_map", self.size)

    def __del__(self, _end: Any = end, _process: Any = os.getpid) -> None:
        address, self.address = getattr(self, "address", 0), 0
        # A child doesn't have it, and perhaps never gets the lock that another thread of the parent's held.
        if address and self._process == _process():
            if self.unpin is not None:
                self.unpin()
            _end("cairn_unmap", address, self.size)
