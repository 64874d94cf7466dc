"""States put together before their tensors are read, to find out what can't be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Callable

from ._dtypes import installed_torch
from ._unflatten import Making, Tree


def rehearse(trees: Mapping[str, Tree], *, allow_pickle: bool, map_location: Any) -> None:
    """Raises what `unflatten` would for these trees, before any tensor is read. What a function as `map_location`
    and what was pickled would raise is not found out, as only `unflatten` runs them."""
    rehearsal = _Rehearsal(lambda part, name: None, allow_pickle, map_location)
    for part, tree in trees.items():
        rehearsal.part_state(part, tree)


def without_data(part: str, tree: Tree, stored: Callable[[str, str], Any], *, allow_pickle: bool) -> Any:
    """A part's state of which `stored` gives the tensors on the meta device, without memory."""
    return _Shapes(stored, allow_pickle, "meta").part_state(part, tree)


class _Rehearsal(Making):
    """Makes all but tensors, and what was pickled."""

    def array(self, node: dict[str, Any]) -> Any:
        torch = installed_torch() if "$tensor" in node else None
        if torch is not None and not callable(self._location):
            self._moved(torch.empty(0, device="cpu"), node.get("device", "cpu"))

    def unpickled(self, data: bytes, path: str) -> Any:
        return None

    def sparse(self, node: dict[str, Any]) -> Any:
        for index, part in enumerate(node["parts"]):
            self.inner(index, part)

    def quantized(self, node: dict[str, Any]) -> Any:
        for name in ("$quantized", "scales", "zero_points"):
            self.inner(name, node.get(name))


class _Shapes(Making):
    """Makes quantized tensors of one element in memory, as the meta device has none."""

    def quantized(self, node: dict[str, Any]) -> Any:
        torch = installed_torch()
        values = self.inner("values", node["$quantized"])
        element = torch.zeros([1] * values.ndim, dtype=values.dtype, device="cpu")
        return torch._make_per_tensor_quantized_tensor(element, 1.0, 0).expand(values.shape)
