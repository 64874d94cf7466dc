"""Whether a saved state fits an optimizer of torch, and what of it belongs to sharded parameters."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, Optional

from ._iteration import Iteration
from ._tensors import box_of_shard
from .errors import Mismatch, Usage

Tree = Any

# What torch's own optimizers keep of a parameter in its shape.
_LIKE_PARAMETER = (
    *("exp_avg", "exp_avg_sq", "max_exp_avg_sq", "exp_inf", "momentum_buffer", "square_avg", "grad_avg"),
    *("acc_delta", "sum", "prev", "step_size", "ax"),
)


class _Shard(NamedTuple):
    """A tensor that the state has of a DTensor: the parameter's name in the state, its own one there, the parameter, and what is
    to be cut out of it where it was saved whole."""

    parameter_name: Any
    key: str
    parameter: Any
    cut: Optional[tuple[slice, ...]]


def check_optimizer(iteration: Iteration, part: str, tree: Tree, optimizer: Any, rank: int) -> None:
    """Raises Mismatch where an optimizer can't take the state, and Usage where that is of other shards than its
    parameters are."""
    before, now = _groups(tree), [group["params"] for group in optimizer.param_groups]
    if before is None:
        return
    # Such hooks may change the state before it is loaded.
    is_hooked = bool(getattr(optimizer, "_optimizer_load_state_dict_pre_hooks", None))
    counts, counts_now = ([len(group) for group in groups] for groups in (before, now))
    if counts == counts_now:
        list(_shards(iteration, part, tree, optimizer, rank))
        misfits = list(_state_misfits(iteration, part, tree, optimizer, rank))
    else:
        misfits = [f"it has groups of {counts} parameters, and the optimizer has groups of {counts_now}"]
    if misfits and not is_hooked:
        raise Mismatch(
            f"{part} of {iteration.run}@{iteration.step} doesn't fit: {'; '.join(misfits)}", path=part
        )


def shard(iteration: Iteration, part: str, state: Any, optimizer: Any, rank: int) -> None:
    """Makes what a loaded state of an optimizer has of DTensors such again, as its parameters are."""
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(optimizer, torch.optim.Optimizer):
        return
    for name, key, parameter, cut in _shards(iteration, part, iteration._parts(rank)[part], optimizer, rank):
        local = state["state"][name][key]
        local = local if cut is None else local[cut].clone()
        state["state"][name][key] = torch.distributed.tensor.DTensor.from_local(
            local.to(parameter.to_local().device),
            parameter.device_mesh,
            parameter.placements,
            run_check=False,
            shape=parameter.shape,
            stride=parameter.stride(),
        )


def _groups(tree: Tree) -> Optional[list[list[Any]]]:
    """The names of parameters that a state of torch's has, by group; None where it is none."""
    groups = tree.get("param_groups") if isinstance(tree, Mapping) else None
    if not isinstance(groups, list) or not all(
        isinstance(group, Mapping) and isinstance(group.get("params"), list) for group in groups
    ):
        return None
    return [group["params"] for group in groups]


def _states(tree: Tree, optimizer: Any) -> Iterator[tuple[Any, Any, Mapping[str, Any]]]:
    """What is saved of parameters: their names in the state, the optimizer's own, and the nodes."""
    before, saved = _groups(tree) or [], tree.get("state")
    if not isinstance(saved, Mapping):
        return
    states = {
        name: state for name, state in saved.get("$dict", saved.items()) if isinstance(name, (int, str))
    }
    now = [group["params"] for group in optimizer.param_groups]
    if [len(group) for group in before] != [len(group) for group in now]:
        return
    for name, parameter in zip(itertools.chain(*before), itertools.chain(*now)):
        state = states.get(name) if isinstance(name, (int, str)) else None
        if isinstance(state, Mapping):
            yield name, parameter, state


def _state_misfits(iteration: Iteration, part: str, tree: Tree, optimizer: Any, rank: int) -> Iterator[str]:
    """What is said of parameters whose state has another shape, with which torch would fail in the next step."""
    torch = sys.modules["torch"]
    # Others may keep what they like under the same names, such as a projection.
    if type(optimizer).__module__.split(".")[:2] != ["torch", "optim"]:
        return
    for name, parameter, state in _states(tree, optimizer):
        if type(parameter) not in (torch.Tensor, torch.nn.Parameter):
            continue
        for key in _LIKE_PARAMETER:
            place = _place(part, state.get(key))
            shape = None if place is None else iteration._stored_of(place, rank).shape
            if shape is not None and shape != tuple(parameter.shape):
                yield f"state.{name}.{key} was saved as {list(shape)}, and its parameter is {list(parameter.shape)}"
                break


def _shards(iteration: Iteration, part: str, tree: Tree, optimizer: Any, rank: int) -> Iterator[_Shard]:
    """What of a state is of DTensors. Raises Usage where it is of another piece than the parameter is here."""
    distributed = sys.modules.get("torch.distributed.tensor")
    for name, parameter, state in _states(tree, optimizer):
        is_shard = distributed is not None and isinstance(parameter, distributed.DTensor)
        own = box_of_shard(parameter, parameter.to_local()) if is_shard else None
        for key, node in state.items():
            place = _place(part, node)
            # Of a step there is one for all.
            if place is None or key == "step":
                continue
            saved = iteration._box(*place, rank)
            if saved != own and saved is not None and saved.shape != iteration._stored_of(place, rank).shape:
                raise Usage(
                    f"{part} of {iteration.run}@{iteration.step} doesn't fit: state.{name}.{key} is another piece of "
                    f"{list(saved.shape)} than this process has of the parameter; load it on the ranks that saved it, "
                    "each with its own rank=, and for others save with torch.distributed.checkpoint and cairn.dcp"
                )
            if is_shard and iteration._whole_shape(*place, rank) == tuple(parameter.shape):
                is_whole = own is not None and saved != own
                yield _Shard(name, key, parameter, _slices(own, parameter) if is_whole else None)


def _slices(box: Any, parameter: Any) -> tuple[slice, ...]:
    lengths = parameter.to_local().shape
    return tuple(slice(first, first + length) for first, length in zip(box.offset, lengths))


def _place(part: str, node: Tree) -> Optional[tuple[str, str]]:
    """Where a tensor is, if it is stored as it is; else None."""
    if not isinstance(node, Mapping) or "$tensor" not in node or "view" in node or "dtype" in node:
        return None
    return node.get("part", part), node["$tensor"]
