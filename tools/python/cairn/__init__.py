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

from ._iteration import Iteration, Tensor
from ._library import version as __version__
from ._saving import Saving
from ._store import Store, open
from .errors import (
    Ambiguous,
    Busy,
    CairnError,
    Damage,
    Exists,
    Interrupted,
    Mismatch,
    MissingPackage,
    NewerVersion,
    NotAStore,
    NotData,
    NotFound,
    Protected,
    Usage,
)
from .schedule import Schedule

__all__ = [
    "Ambiguous",
    "Busy",
    "CairnError",
    "Damage",
    "Exists",
    "Interrupted",
    "Iteration",
    "Mismatch",
    "MissingPackage",
    "NewerVersion",
    "NotAStore",
    "NotData",
    "NotFound",
    "Protected",
    "Saving",
    "Schedule",
    "Store",
    "Tensor",
    "Usage",
    "__version__",
    "open",
]
