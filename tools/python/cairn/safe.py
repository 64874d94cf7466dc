"""Models of iterations, opened as safetensors opens files.

    with cairn.safe_open("checkpoints.cairn@sft@best:eval_loss", framework="pt", device="cpu") as f:
        for name in f.keys():
            tensor = f.get_tensor(name)
        rows = f.get_slice("model.embed_tokens.weight")[100:200]

Nothing is read before it is asked for.
"""

from __future__ import annotations

import json
import os
from typing import Any, Optional, Union

from ._iteration import Iteration, Tensor
from ._store import Store, open as open_store
from .errors import NotAStore, Usage

_PathLike = Union[str, "os.PathLike[str]"]
_LIBRARIES = {"pt": "torch", "torch": "torch", "pytorch": "torch", "np": "numpy", "numpy": "numpy"}


class safe_open:  # noqa: N801
    """Opens the model of an iteration as `safetensors.safe_open` opens a file: names first, tensors and slices when they
    are asked for, every byte checked.

    Args:
        place: `STORE@REFERENCE`, such as "checkpoints.cairn@latest" or "checkpoints.cairn@sft@500", or `STORE` alone for
            its latest; or a pair of a store, or its path, and a reference.
        framework: "pt" for tensors of torch, "np" for arrays of numpy.
        device: Where torch's tensors go, as torch has it.

    Raises:
        NotAStore: The path is none.
        NotFound: The store has no such iteration.
        ImportError: The framework isn't installed.
    """

    def __init__(
        self,
        place: Union[_PathLike, tuple[Union[Store, _PathLike], str]],
        framework: str = "pt",
        device: Any = "cpu",
    ) -> None:
        if framework not in _LIBRARIES:
            raise Usage(f'framework is "pt" or "np", not {framework!r}')
        self._library, self._device = _LIBRARIES[framework], device
        if self._library == "torch":
            import torch  # noqa: F401
        store, reference = place if isinstance(place, tuple) else _parsed(os.fspath(place))
        self._opened: Optional[Store] = None
        if not isinstance(store, Store):
            store = self._opened = open_store(store)
        self._iteration = store[reference]
        self._tensors = _model(self._iteration)

    def __enter__(self) -> safe_open:
        return self

    def __exit__(self, *_: object) -> None:
        self._iteration.close()
        if self._opened is not None:
            self._opened.close()

    def keys(self) -> list[str]:
        """The names of the tensors, in order."""
        return sorted(self._tensors)

    def offset_keys(self) -> list[str]:
        """The names of the tensors as their files have them one behind the other."""
        return list(self._tensors)

    def metadata(self) -> dict[str, str]:
        """Text that says what it is: `run`, `step`, `id`, and metrics by name as JSON; `format` as transformers writes it."""
        iteration = self._iteration
        metrics = {f"metrics.{name}": json.dumps(value) for name, value in iteration.metrics.items()}
        return {
            "format": "pt",
            "run": iteration.run,
            "step": str(iteration.step),
            "id": iteration.id,
            **metrics,
        }

    def get_tensor(self, name: str) -> Any:
        """A tensor, all of it. Raises NotFound."""
        return self.get_slice(name)[...]

    def get_slice(self, name: str) -> Slice:
        """A tensor of which nothing is read before it is indexed. Raises NotFound."""
        tensor = self._tensors[name] if name in self._tensors else self._iteration.tensor(name)
        return Slice(tensor, self._library, self._device)


class Slice:
    """A tensor that is read by indexing it: what is asked for along each axis, and no more."""

    def __init__(self, tensor: Tensor, library: str, device: Any) -> None:
        self._tensor, self._library, self._device = tensor, library, device

    def get_shape(self) -> list[int]:
        """The length of each axis, in elements."""
        return list(self._tensor.shape)

    def get_dtype(self) -> str:
        """The type as safetensors spells it, such as "BF16"."""
        return self._tensor.dtype

    def __getitem__(self, index: Any) -> Any:
        """As `Tensor[index]`."""
        read = self._tensor._read_index(index, self._library)
        return read.to(self._device) if self._library == "torch" else read


def _parsed(place: str) -> tuple[str, str]:
    """The store and the reference: names of both may have an @, and the store is one."""
    ends = [number for number, letter in enumerate(place) if letter == "@"]
    for end in [*ends, len(place)]:
        if os.path.isfile(os.path.join(place[:end], "cairn.json")):
            return place[:end], place[end + 1 :] or "latest"
    raise NotAStore(
        f"{place} names no store: give STORE@REFERENCE, such as checkpoints.cairn@latest", path=place
    )


def _model(iteration: Iteration) -> dict[str, Tensor]:
    """The tensors of the model, by their own names."""
    tensors: dict[str, Tensor] = {}
    for info in iteration._details["tensors"]:
        if info["group"] == "model" and info["name"] not in tensors:
            tensors[info["name"]] = Tensor(iteration, info["name"], info)
    return tensors
