"""Whether a saved state fits an object, found out before anything of the object is changed."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterable, Iterator
from typing import Any, Optional

import numpy as np

from ._dtypes import numpy_dtype, torch_dtype
from ._iteration import Iteration
from ._optimizers import check_optimizer
from ._tree import wanted, without_data
from .errors import Mismatch

Tree = Any

_LOADING = ("load_state_dict", "_load_from_state_dict")
_LOADING_HOOKS = ("_load_state_dict_pre_hooks", "_load_state_dict_post_hooks")
_SAVING = ("state_dict", "_save_to_state_dict")
_SAVING_HOOKS = ("_state_dict_pre_hooks", "_state_dict_hooks")
# Where torch has code for loading that changes nothing of a module but by copying to its tensors.
_COPYING = (
    *("torch.nn.modules.", "torch.nn.utils."),
    *("torch.distributed.fsdp._fully_shard.", "torch.distributed._composable.fsdp."),
    "torch.distributed.algorithms._checkpoint.",
)
# It gives parameters their memory.
_LAZY = "torch.nn.modules.lazy"


def check(
    iteration: Iteration, part: str, tree: Tree, target: Any, rank: int, *, strict: bool, allow_pickle: bool
) -> None:
    """Raises Mismatch where a module or an optimizer of torch can't take the state. Others are not looked at."""
    torch = sys.modules.get("torch")
    if torch is None:
        return
    if isinstance(target, torch.nn.Module):
        if not _can_be_tried(target):
            return
        state = _without_data(iteration, part, tree, rank, allow_pickle)
        try:
            with _unchanging(), _extra_states_left_out(target):
                target.load_state_dict(state, strict=strict)
        except Exception as error:
            # Anything else is of a hook of torch's, which asks for the values of the tensors: it sees them later.
            if not str(error).startswith(("Error(s) in loading state_dict", "Expected state_dict")):
                return
            raise Mismatch(
                f"{part} of {iteration.run}@{iteration.step} doesn't fit: {error}", path=part
            ) from None
    elif isinstance(target, torch.optim.Optimizer):
        check_optimizer(iteration, part, tree, target, rank)


def _without_data(iteration: Iteration, part: str, tree: Tree, rank: int, allow_pickle: bool) -> Any:
    """The state with tensors that have a kind, a type and a shape, and no values."""
    torch = sys.modules["torch"]
    libraries = wanted({part: tree})

    def stored(*place: str) -> Any:
        one = iteration._stored_of((place[0], place[1]), rank)
        if libraries[place[0], place[1]] == "numpy":
            return np.zeros(one.shape, numpy_dtype(one.dtype))
        shape = (*one.shape[:-1], one.shape[-1] // 2) if one.dtype == "F4" else one.shape
        return torch.empty(shape, dtype=torch_dtype(one.dtype), device="meta")

    state = without_data(part, tree, stored, allow_pickle=allow_pickle)
    versions = getattr(state, "_metadata", None)
    for about in versions.values() if isinstance(versions, dict) else ():
        # What was once loaded with assign=True would be again, and not copied.
        about.pop("assign_to_params_buffers", None)
    return state


@contextlib.contextmanager
def _unchanging() -> Iterator[None]:
    """Within this, a module's load_state_dict() compares, but copies nothing."""
    torch = sys.modules["torch"]
    swaps = torch.__future__.get_swap_module_params_on_conversion()

    class Unchanging(torch.overrides.TorchFunctionMode):  # type: ignore[name-defined]
        def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if function is not torch.Tensor.copy_:
                return function(*args, **(kwargs or {}))
            refusal = _refusal(args[0], args[1])
            if refusal:
                raise RuntimeError(refusal)
            return args[0]

    torch.__future__.set_swap_module_params_on_conversion(False)
    try:
        with Unchanging():
            yield
    finally:
        torch.__future__.set_swap_module_params_on_conversion(swaps)


def _refusal(own: Any, saved: Any) -> Optional[str]:
    """Why torch copies nothing from a tensor to one of the same shape, or None where it does."""
    torch = sys.modules["torch"]
    if is_locked(own):
        return "it was made under inference_mode(), and can't be changed outside of that"
    is_made = own.is_quantized and saved.dtype == torch.float32 and saved.layout is torch.strided
    if _kind(own) != _kind(saved) and not is_made:
        return f"it is {_kind(own)}, and was saved as {_kind(saved)}"
    if own.layout is torch.strided:
        is_expanded = any(step == 0 and length > 1 for length, step in zip(own.shape, own.stride()))
        return "elements of it share memory, as those of expand() do: clone() it" if is_expanded else None
    if own.layout is not torch.sparse_coo and own._nnz() != saved._nnz():
        return f"it has {own._nnz()} values, and {saved._nnz()} were saved"
    return None


def _kind(tensor: Any) -> str:
    layout = str(tensor.layout).rpartition(".")[2]
    kind = f"{tensor.dtype}, quantized" if tensor.is_quantized else layout
    return f"{kind}, and a DTensor" if hasattr(tensor, "to_local") else kind


def is_locked(tensor: Any) -> bool:
    """Whether torch refuses to change a tensor's values."""
    return bool(tensor.is_inference()) and not sys.modules["torch"].is_inference_mode_enabled()


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


def has_only_code_of_torch(module: Any) -> bool:
    """Whether a module's state is given and taken by torch's own code, hooks too."""
    homes = _homes(module, (*_SAVING, *_LOADING), (*_SAVING_HOOKS, *_LOADING_HOOKS))
    return all(home.startswith("torch.") for home in homes)


def _can_be_tried(module: Any) -> bool:
    """Whether load_state_dict() changes nothing of a module but by copying to its tensors."""
    homes = _homes(module, _LOADING, _LOADING_HOOKS)
    return all(home.startswith(_COPYING) and home != _LAZY for home in homes)


def _homes(module: Any, methods: Iterable[str], hooks: Iterable[str]) -> Iterator[str]:
    """Where the code of a module and of those in it is from."""
    for one in module.modules():
        codes = [getattr(one, method) for method in methods]
        codes += [hook for name in hooks for hook in getattr(one, name).values()]
        yield from (str(getattr(code, "__module__", "")) for code in codes)
