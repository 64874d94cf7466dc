"""Whether a saved state fits an object, found out before anything of the object is changed."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

import numpy as np

from ._dtypes import numpy_dtype, torch_dtype
from ._iteration import Iteration
from ._tree import unflatten, wanted
from .errors import Mismatch

Tree = Any


def check(
    iteration: Iteration, part: str, tree: Tree, target: Any, rank: int, *, strict: bool, allow_pickle: bool
) -> None:
    """Raises Mismatch where a module or an optimizer of torch can't take the state. Others are not looked at."""
    torch = sys.modules.get("torch")
    if torch is None:
        return
    if isinstance(target, torch.nn.Module):
        state = _without_data(iteration, part, tree, rank, allow_pickle)
        try:
            with _unchanging():
                target.load_state_dict(state, strict=strict)
        except RuntimeError as error:
            raise Mismatch(
                f"{part} of {iteration.run}@{iteration.step} doesn't fit: {error}", path=part
            ) from None
    elif isinstance(target, torch.optim.Optimizer):
        _check_groups(iteration, part, tree, target)


def _without_data(iteration: Iteration, part: str, tree: Tree, rank: int, allow_pickle: bool) -> Any:
    """The state with tensors that have a type and a shape, and no memory."""
    torch = sys.modules["torch"]
    libraries = wanted({part: tree})

    def stored(*place: str) -> Any:
        one = iteration._stored_of((place[0], place[1]), rank)
        if libraries[place[0], place[1]] == "numpy":
            return np.zeros(one.shape, numpy_dtype(one.dtype))
        shape = (*one.shape[:-1], one.shape[-1] // 2) if one.dtype == "F4" else one.shape
        return torch.empty(shape, dtype=torch_dtype(one.dtype), device="meta")

    return unflatten({part: tree}, stored, allow_pickle=allow_pickle, map_location="meta")[part]


def _unchanging() -> Any:
    """Within this, a module's load_state_dict() compares, but copies nothing."""
    torch = sys.modules["torch"]

    class Unchanging(torch.overrides.TorchFunctionMode):  # type: ignore[name-defined]
        def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            return args[0] if function is torch.Tensor.copy_ else function(*args, **(kwargs or {}))

    return Unchanging()


def _check_groups(iteration: Iteration, part: str, tree: Tree, optimizer: Any) -> None:
    saved = tree.get("param_groups") if isinstance(tree, Mapping) else None
    if not isinstance(saved, list) or not all(
        isinstance(group, Mapping) and "params" in group for group in saved
    ):
        return
    before, now = ([len(group["params"]) for group in groups] for groups in (saved, optimizer.param_groups))
    if before != now:
        raise Mismatch(
            f"{part} of {iteration.run}@{iteration.step} doesn't fit: it has groups of {before} parameters, and the "
            f"optimizer has groups of {now}",
            path=part,
        )
