"""The store of a writer or a reader, in whichever process uses it."""

from __future__ import annotations

import os
from typing import Any, Optional, Union

from . import _store
from ._library import PathLike
from ._store import Store

StoreLike = Union[Store, PathLike]


class Source:
    """A store that is open here, or is opened where it is used: in the process of an asynchronous save too."""

    def __init__(self, store: StoreLike, *, creates: bool = False) -> None:
        self._creates = creates
        self._opened: Optional[Store] = store if isinstance(store, Store) else None
        self._process = os.getpid()
        self.path = store.path if isinstance(store, Store) else os.path.abspath(os.fsdecode(store))

    @property
    def store(self) -> Store:
        """The open store."""
        if self._opened is None or self._process != os.getpid():
            self._opened, self._process = _store.open(self.path, create=self._creates), os.getpid()
        return self._opened

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": None}
