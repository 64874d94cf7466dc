"""Cairn: a content-addressed checkpoint store for model training.

    import cairn
    store = cairn.open("checkpoints.cairn", create=True)
    saving = store.save(step, model=model, optimizer=optimizer, extra={"epoch": 3}, metrics={"loss": 2.1}, wait=False)
    saving.wait()
    store.load("latest", model=model, optimizer=optimizer)
    store["best:loss"].tensor("model.embed_tokens.weight")[100:200]
    store.export("latest", "out/", layout="hf")

Integrations, each imported by itself: `cairn.transformers`, `cairn.dcp`, `cairn.lightning`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ._iteration import Iteration as Iteration, Tensor as Tensor
    from ._library import version as __version__
    from ._saving import Saving as Saving
    from ._sigterm import on_sigterm as on_sigterm
    from ._store import Store as Store, open as open
    from .errors import (
        Ambiguous as Ambiguous,
        Busy as Busy,
        CairnError as CairnError,
        Damage as Damage,
        Exists as Exists,
        Interrupted as Interrupted,
        Mismatch as Mismatch,
        MissingPackage as MissingPackage,
        NewerVersion as NewerVersion,
        NotAStore as NotAStore,
        NotData as NotData,
        NotFound as NotFound,
        Protected as Protected,
        Usage as Usage,
    )
    from .safe import safe_open as safe_open
    from .schedule import Schedule as Schedule

# Where each name comes from. Loaded when it is first used: numpy alone takes longer than an import should.
_HOMES = {
    "Iteration": "_iteration",
    "Tensor": "_iteration",
    "Saving": "_saving",
    "on_sigterm": "_sigterm",
    "Store": "_store",
    "open": "_store",
    "Schedule": "schedule",
    "safe_open": "safe",
    **dict.fromkeys(
        [
            "Ambiguous",
            "Busy",
            "CairnError",
            "Damage",
            "Exists",
            "Interrupted",
            "Mismatch",
            "MissingPackage",
            "NewerVersion",
            "NotAStore",
            "NotData",
            "NotFound",
            "Protected",
            "Usage",
        ],
        "errors",
    ),
}
__all__ = [*sorted(_HOMES), "__version__"]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return importlib.import_module("._library", __name__).version
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return __all__
