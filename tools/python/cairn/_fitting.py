"""Whether a saved state fits an object, found out before anything of the object is changed."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

from ._dtypes import numpy_dtype, torch_dtype
from ._iteration import Iteration
from ._optimizers import check_optimizer
from ._tree import unflatten, wanted
from .errors import Mismatch

Tree = Any

_METHODS = ("state_dict", "load_state_dict", "_save_to_state_dict", "_load_from_state_dict")
_HOOKS = (
    "_state_dict_pre_hooks",
    "_state_dict_hooks",
    "_load_state_dict_pre_hooks",
    "_load_state_dict_post_hooks",
)


def check(
    iteration: Iteration, part: str, tree: Tree, target: Any, rank: int, *, strict: bool, allow_pickle: bool
) -> None:
    """Raises Mismatch where a module or an optimizer of torch can't take the state. Others are not looked at."""
    torch = sys.modules.get("torch")
    if torch is None:
        return
    if isinstance(target, torch.nn.Module):
        if not has_only_code_of_torch(target, hooks=False):
            return
        state = _without_data(iteration, part, tree, rank, allow_pickle)
        try:
            with _unchanging(), _extra_states_left_out(target):
                target.load_state_dict(state, strict=strict)
        except Exception as error:
            # Anything else is of a hook, which may ask for the values of the tensors: it sees them later.
            if not str(error).startswith("Error(s) in loading state_dict"):
                return
            raise Mismatch(
                f"{part} of {iteration.run}@{iteration.step} doesn't fit: {error}", path=part
            ) from None
    elif isinstance(target, torch.optim.Optimizer):
        check_optimizer(iteration, part, tree, target, rank)


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


@contextlib.contextmanager
def _extra_states_left_out(module: Any) -> Iterator[None]:
    """Within this, no extra state is set, of which tensors have no values yet."""
    torch = sys.modules["torch"]
    setters = [
        one for one in module.modules() if type(one).set_extra_state is not torch.nn.Module.set_extra_state
    ]
    for one in setters:
        vars(one)["set_extra_state"] = lambda state: None
    try:
        yield
    finally:
        for one in setters:
            del vars(one)["set_extra_state"]


def own_tensors(target: Any) -> dict[str, Any]:
    """A module's parameters and buffers by the names that they have in its state; of another object none."""
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(target, torch.nn.Module):
        return {}
    tensors = dict(target.named_parameters(remove_duplicate=False))
    for path, module in target.named_modules(remove_duplicate=False):
        for name, buffer in module._buffers.items():
            if buffer is not None and name not in module._non_persistent_buffers_set:
                tensors[f"{path}.{name}" if path else name] = buffer
    return tensors


def has_only_code_of_torch(module: Any, *, hooks: bool = True) -> bool:
    """Whether a module's state is given and taken by torch's own code: methods, and hooks too."""
    for one in module.modules():
        codes = [getattr(one, method) for method in _METHODS]
        if hooks:
            codes += [hook for name in _HOOKS for hook in getattr(one, name).values()]
        if not all(str(getattr(code, "__module__", "")).startswith("torch.") for code in codes):
            return False
    return True
