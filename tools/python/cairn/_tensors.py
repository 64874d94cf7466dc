"""Tensors of torch as nodes of a tree: plain ones, parameters, shards, and those that are made of others."""

from __future__ import annotations

import sys
from typing import Any, Callable, Optional, Protocol

from ._arrays import Box
from ._dtypes import Unstorable, WithoutData, imported_torch, installed_torch

_COMPRESSED = {"sparse_csr": "row", "sparse_bsr": "row", "sparse_csc": "col", "sparse_bsc": "col"}
_OTHER = {"row": "col", "col": "row"}


class Walk(Protocol):
    """What a tensor needs of the walk through a state."""

    def store_tensor(self, tensor: Any, box: Optional[Box]) -> dict[str, Any]:
        """Stores a strided tensor. Returns its node."""

    def inner(self, name: str, value: Any) -> Any:
        """The node of a value that belongs to this one, under a name."""


def tensor_encoders() -> dict[type, Callable[[Walk, Any], Any]]:
    """Encoders for the kinds of tensors that the imported torch has. Other subclasses are objects."""
    torch = imported_torch()
    kinds: dict[type, Callable[[Walk, Any], Any]] = {torch.Tensor: _tensor, torch.nn.Parameter: _parameter}
    distributed = sys.modules.get("torch.distributed.tensor")
    if distributed is not None:
        kinds[distributed.DTensor] = _shard
    return kinds


def _tensor(walk: Walk, tensor: Any) -> Any:
    torch = imported_torch()
    if tensor.is_meta:
        raise WithoutData(
            "it is on the meta device and has no data: materialize it first, with to_empty() and values"
        )
    if tensor.is_quantized:
        return _quantized(walk, tensor)
    if tensor.layout is not torch.strided:
        return _sparse(walk, tensor)
    if tensor.is_nested:
        raise Unstorable("it is a nested tensor: save its .unbind()")
    if tensor.untyped_storage().nbytes() == 0 and tensor.nbytes:
        raise WithoutData(
            "its memory was given back: save it while it has any, such as the full or sharded state of FSDP"
        )
    if not tensor.requires_grad:
        return walk.store_tensor(tensor, None)
    return {**walk.store_tensor(tensor.detach(), None), "requires_grad": True}


def _parameter(walk: Walk, parameter: Any) -> Any:
    node = _tensor(walk, parameter.detach())
    node["parameter"] = True
    if parameter.requires_grad:
        node["requires_grad"] = True
    return node


def _sparse(walk: Walk, tensor: Any) -> Any:
    name = str(tensor.layout).rpartition(".")[2]
    plain = tensor.detach()
    node: dict[str, Any] = {"$sparse": name, "shape": list(tensor.shape)}
    if name == "sparse_coo":
        node["coalesced"] = tensor.is_coalesced()
        parts = {"indices": plain._indices(), "values": plain._values()}
    elif name in _COMPRESSED:
        first = _COMPRESSED[name]
        parts = {
            f"c{first}_indices": getattr(plain, f"c{first}_indices")(),
            f"{_OTHER[first]}_indices": getattr(plain, f"{_OTHER[first]}_indices")(),
            "values": plain.values(),
        }
    else:
        raise Unstorable(f"its layout is {tensor.layout}: save its .to_dense()")
    node["parts"] = [walk.inner(part, value) for part, value in parts.items()]
    if tensor.requires_grad:
        node["requires_grad"] = True
    return node


def _quantized(walk: Walk, tensor: Any) -> Any:
    torch = imported_torch()
    if tensor.dtype not in (torch.qint8, torch.quint8, torch.qint32):
        raise Unstorable(f"it is quantized as {tensor.dtype}: save its .int_repr() and scales")
    node: dict[str, Any] = {"$quantized": walk.inner("values", tensor.int_repr())}
    scheme = tensor.qscheme()
    if scheme == torch.per_tensor_affine:
        node.update(scale=tensor.q_scale(), zero_point=tensor.q_zero_point())
    elif scheme == torch.per_channel_affine:
        node["axis"] = tensor.q_per_channel_axis()
        node["scales"] = walk.inner("scales", tensor.q_per_channel_scales())
        node["zero_points"] = walk.inner("zero_points", tensor.q_per_channel_zero_points())
    else:
        raise Unstorable(f"it is quantized by {scheme}: save its .int_repr() and scales")
    return node


def _shard(walk: Walk, tensor: Any) -> Any:
    """A DTensor: what this process has of it, which is what comes back."""
    torch = imported_torch()
    with torch.no_grad():
        local = tensor.to_local()
    if local.is_meta:
        return _tensor(walk, local)
    if type(local) is not torch.Tensor:
        raise Unstorable(
            f"its local part is a {type(local).__qualname__}, which isn't data: save its full_tensor()"
        )
    return walk.store_tensor(local, box_of_shard(tensor, local))


def box_of_shard(tensor: Any, local: Any) -> Optional[Box]:
    """Where the local part of a DTensor is in the whole; None where it is all of it."""
    utils = sys.modules["torch.distributed.tensor._utils"]
    if any(placement.is_partial() for placement in tensor.placements):
        raise Unstorable("it is a DTensor whose sum is still to be taken (Partial): redistribute it first")
    if all(placement.is_replicate() for placement in tensor.placements):
        return None
    offset = _strided_offset(tensor)
    if offset is None:
        shape, offset = utils.compute_local_shape_and_global_offset(
            tensor.shape, tensor.device_mesh, tensor.placements
        )
        if tuple(shape) != tuple(local.shape):
            raise Unstorable(f"its local part is {list(local.shape)}, where its placements say {list(shape)}")
    return Box(tuple(tensor.shape), tuple(int(first) for first in offset))


def _strided_offset(tensor: Any) -> Optional[list[int]]:
    """The same where a placement deals a tensor out in turns, as FSDP over tensor parallelism does.

    Such a part may have gaps; then this raises Unstorable.
    """
    if all(type(placement).__name__ != "_StridedShard" for placement in tensor.placements):
        return None
    torch = imported_torch()
    rows = [torch.arange(length, device="cpu") for length in tensor.shape]
    coordinate = tensor.device_mesh.get_coordinate()
    for dimension, placement in enumerate(tensor.placements):
        if placement.is_replicate():
            continue
        shape = [1] * tensor.ndim
        shape[placement.dim] = -1
        split, _ = placement._split_tensor(
            rows[placement.dim].view(shape),
            tensor.device_mesh.size(dimension),
            with_padding=False,
            contiguous=False,
        )
        rows[placement.dim] = split[coordinate[dimension]].flatten()
    if any(len(axis) and not _is_run(axis) for axis in rows):
        raise Unstorable(
            "its local part isn't one box of the whole tensor: save its full_tensor(), or redistribute it"
        )
    return [int(axis[0]) if len(axis) else length for axis, length in zip(rows, tensor.shape)]


def _is_run(indices: Any) -> bool:
    """Whether each index is by one greater than the one before it."""
    torch = imported_torch()
    return bool(torch.equal(indices, torch.arange(len(indices), device="cpu") + indices[0]))


def finish(tensor: Any, node: dict[str, Any]) -> Any:
    """Gives a loaded tensor what the attributes of its node say."""
    if node.get("parameter"):
        return installed_torch().nn.Parameter(tensor, requires_grad=node.get("requires_grad", False))
    return tensor.detach().requires_grad_() if node.get("requires_grad") else tensor


def moved(tensor: Any, device: str, location: Any) -> Any:
    """A loaded tensor that was on a device, where `map_location` has it now. All of its storage is its own."""
    torch = installed_torch()
    if callable(location):
        storage = location(tensor.untyped_storage(), device)
        if isinstance(storage, torch.UntypedStorage):
            made = torch.empty(0, dtype=tensor.dtype, device=storage.device)
            return made.set_(storage, 0, tensor.shape, tensor.stride())
        if storage is not None:
            raise TypeError(f"map_location gives a storage or None, not a {type(storage).__name__}")
        location = None
    elif isinstance(location, dict):
        location = location.get(device)
    return tensor.to(torch.device(device if location is None else location))


def sparse(node: dict[str, Any], parts: list[Any]) -> Any:
    """A sparse tensor from its loaded parts, which are checked where they have values."""
    torch = installed_torch()
    # Named, as torch's default device may be another one.
    where = {"device": parts[-1].device, "check_invariants": not any(part.is_meta for part in parts)}
    if node["$sparse"] == "sparse_coo":
        made = torch.sparse_coo_tensor(*parts, node["shape"], is_coalesced=node["coalesced"], **where)
    elif node["$sparse"] in _COMPRESSED:
        layout = getattr(torch, node["$sparse"])
        made = torch.sparse_compressed_tensor(*parts, node["shape"], layout=layout, **where)
    else:
        raise ValueError(f"{node['$sparse']} is no layout of sparse tensors")
    return finish(made, node)


def quantized(node: dict[str, Any], values: Any, scales: Any, zero_points: Any) -> Any:
    """A quantized tensor from its loaded parts."""
    torch = installed_torch()
    if scales is None:
        return torch._make_per_tensor_quantized_tensor(values, node["scale"], node["zero_point"])
    return torch._make_per_channel_quantized_tensor(values, scales, zero_points, node["axis"])
