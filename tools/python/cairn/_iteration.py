"""Iterations as they are read: tensors one by one, slices of them, states, files."""

from __future__ import annotations

import contextlib
import ctypes
import json
import sys
from collections.abc import Container, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Optional

from . import _library
from ._arrays import Box, Target, empty
from ._library import Control, Read
from ._slices import box_of, is_of_whole_bytes
from ._tree import unflatten, wanted
from .errors import CairnError, Damage, NewerVersion, NotFound, Usage

if TYPE_CHECKING:
    from ._store import Store

STATE_FILE = "cairn_state.json"
# What cairn.dcp keeps beside its state.
DCP_FILE = "dcp.json"
STATE_FORMAT, STATE_VERSION = "cairn-state", 1


class Wanted(NamedTuple):
    """Bytes that are read: of a stored tensor of `file`, or where that is None, of one of the layout's; all,
    or from `start` to `stop` along each axis. They go to an address, and are `nbytes`."""

    file: Optional[str]
    name: Optional[str]
    target: int
    nbytes: int
    start: Optional[tuple[int, ...]] = None
    stop: Optional[tuple[int, ...]] = None


class Stored(NamedTuple):
    """A tensor as a file holds it: its dtype as safetensors spells it, its shape, its bytes."""

    dtype: str
    shape: tuple[int, ...]
    nbytes: int


class Iteration:
    """A saved iteration, which nothing removes while it is open. Closes with the object, or `with`.

    `run`, `step`, `id` (64 hex digits), `layout`, `metrics`, `metadata`, `pins` and `notes` are what was
    known when it was opened.
    """

    def __init__(self, store: Store, reference: str) -> None:
        self._store = store
        address = _library.handle("cairn_iteration_open", store._handle(), _library.text(reference))
        self._opened = _library.Handle(address, "cairn_iteration_close")
        self._described: Optional[dict[str, Any]] = None
        self._sizes: Optional[dict[str, int]] = None
        self._infos: Optional[dict[str, dict[str, Any]]] = None
        self._states: dict[int, dict[str, Any]] = {}
        self._stored_tensors: Optional[dict[tuple[str, str], Stored]] = None

    def close(self) -> None:
        """Lets it go. What was read stays."""
        self._opened.close()

    def __enter__(self) -> Iteration:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        name = ""
        # Whatever has become of the store, it can be printed.
        with contextlib.suppress(CairnError):
            name = f" {self.run}@{self.step}"
        return f"<cairn iteration{name}{'' if self._opened.address else ', closed'}>"

    def _handle(self) -> int:
        if not self._opened.address:
            raise Usage("this iteration was closed; open it again")
        return self._opened.address

    @property
    def _details(self) -> dict[str, Any]:
        if self._described is None:
            self._described = _library.answer("cairn_iteration_describe", self._handle())
        return self._described

    @property
    def run(self) -> str:
        """The run's name."""
        return str(self._details["run"])

    @property
    def step(self) -> int:
        """The step."""
        return int(self._details["step"])

    @property
    def id(self) -> str:
        """The SHA-256 over all that it is, in hex."""
        return str(self._details["id"])

    @property
    def layout(self) -> str:
        """How its files are arranged: `cairn` where Python saved it from memory."""
        return str(self._details["layout"])

    @property
    def metrics(self) -> dict[str, float]:
        """Metrics by name; later annotations count. NaN and infinities are what they were."""
        return metrics_of(self._details)

    @property
    def metadata(self) -> dict[str, Any]:
        """What was recorded beside it, such as `environment`."""
        return dict(self._details["metadata"])

    @property
    def pins(self) -> list[str]:
        """The names that protect it."""
        return list(self._details["pins"])

    @property
    def notes(self) -> list[str]:
        """What `annotate` noted."""
        return list(self._details["notes"])

    @property
    def files(self) -> dict[str, int]:
        """The bytes of each file, by its path."""
        return dict(self._file_sizes)

    @property
    def _file_sizes(self) -> dict[str, int]:
        if self._sizes is None:
            files = self._details["files"]
            self._sizes = {file["path"]: file["bytes"] for file in files if file["kind"] == "file"}
        return self._sizes

    def read(self, path: str) -> bytes:
        """A file's bytes. Raises NotFound."""
        size = self._file_sizes.get(path)
        if size is None:
            raise NotFound(f"{self.run}@{self.step} has no file {path}", path=path)
        buffer = bytearray(size)
        if buffer:
            memory = (ctypes.c_char * len(buffer)).from_buffer(buffer)
            self._read([Wanted(path, None, ctypes.addressof(memory), len(buffer))])
        return bytes(buffer)

    @property
    def tensors(self) -> Mapping[str, Tensor]:
        """Its tensors by name: those of the model as its layout puts them together, whole, then all others.

        Of a state that Python saved, those of other parts than the model have their part before their name:
        `optimizer.state.0.exp_avg`.
        """
        return {name: Tensor(self, name, info) for name, info in self._tensor_infos.items()}

    @property
    def _tensor_infos(self) -> dict[str, dict[str, Any]]:
        # Not the tensors themselves, which would keep this one open.
        if self._infos is None:
            self._infos = {}
            for info in self._details["tensors"]:
                self._infos.setdefault(_public_name(info), info)
        return self._infos

    def tensor(self, name: str) -> Tensor:
        """A tensor, of which nothing is read before it is asked for: `tensor(name)[100:200]`.

        Raises NotFound.
        """
        if self._infos is None:
            # Mostly it is at hand, where a list of all may be long.
            stored = _library.answer("cairn_iteration_tensor", self._handle(), _library.text(name))
            if stored is not None:
                return Tensor(self, _state_name(stored), stored)
        infos = self._tensor_infos
        # By its own name, as one of the part `model`, or as one that is the same memory as another.
        names = [name, name.removeprefix("model.")]
        if not any(known in infos for known in names):
            names = [self._aliases().get(known, "") for known in names]
        for known in names:
            if known in infos:
                return Tensor(self, known, infos[known])
        near = [other for other in infos if other.endswith("." + name) or name.endswith("." + other)]
        hint = f"; there is {', '.join(near[:3])}" if near else ""
        raise NotFound(f"{self.run}@{self.step} has no tensor {name}{hint}", path=name)

    def _aliases(self) -> dict[str, str]:
        """Of names of the model that share memory with another, that one's."""
        if STATE_FILE not in self._file_sizes:
            return {}
        aliases: dict[str, str] = {}
        tree = self._tree(0)["parts"].get("model")
        while isinstance(tree, dict) and next(iter(tree), "") == "$ordered":
            tree = tree["$ordered"]
        for name, node in tree.items() if isinstance(tree, dict) else ():
            if isinstance(node, dict) and node.get("alias") and node.get("part", "model") == "model":
                aliases[name] = str(next(iter(node.values())))
        return aliases

    # States

    def state(self, *parts: str, rank: int = 0, map_location: Any = None, allow_pickle: bool = False) -> Any:
        """The state of a part, or of several: a dictionary by part; without any, of all.

        Lists, numbers and all else come back with the types that they had. `rank` says whose, where several
        ranks saved. torch's default device has no say. Tensors from 1 MiB on have pages of their own, and as those of
        safetensors a storage that can't be resized. Raises NotFound, and Usage where it was not saved from Python.
        """
        trees = self._parts(rank)
        for part in parts:
            if part not in trees:
                raise NotFound(f"{self.run}@{self.step} has no part {part}: it has {', '.join(trees)}")
        chosen = {part: trees[part] for part in parts or trees}
        targets = self._targets(chosen, rank)
        self._read(self._wanted(targets, rank))
        states = unflatten(
            chosen,
            lambda *place: targets[place].array,
            allow_pickle=allow_pickle,
            map_location=map_location,
        )
        return states[parts[0]] if len(parts) == 1 else states

    def _parts(self, rank: int) -> dict[str, Any]:
        """The trees of the parts that a rank has."""
        parts: dict[str, Any] = self._tree(rank)["parts"]
        if not parts and any(folder + DCP_FILE in self.files for folder in ("", rank_folder(0))):
            raise Usage(
                f"{self.run}@{self.step} was saved by torch.distributed.checkpoint: load it with that and "
                "cairn.dcp.StorageReader, or read its tensors with tensor()"
            )
        return parts

    def _tree(self, rank: int) -> dict[str, Any]:
        """What `cairn_state.json` of a rank says."""
        if rank not in self._states:
            path = self._folder(rank) + STATE_FILE
            if path not in self._file_sizes:
                if self.layout == "cairn":
                    raise NotFound(f"{self.run}@{self.step} has no state of rank {rank}")
                raise Usage(
                    f"{self.run}@{self.step} was not saved from Python, but as {self.layout}: read its tensors with tensor(), "
                    "or export it"
                )
            state = json.loads(self.read(path))
            if state.get("format") != STATE_FORMAT:
                raise Damage(f"{path} of {self.run}@{self.step} is no state", path=path)
            if state["version"] > STATE_VERSION:
                raise NewerVersion(f"{self.run}@{self.step} was saved by a newer cairn; install that here")
            self._states[rank] = state
        return self._states[rank]

    def _folder(self, rank: int) -> str:
        return "" if rank == 0 and STATE_FILE in self._file_sizes else rank_folder(rank)

    @property
    def _stored(self) -> dict[tuple[str, str], Stored]:
        """The tensors as files hold them, by file and name."""
        if self._stored_tensors is None:
            self._stored_tensors = {
                (info["file"], info["name"]): Stored(info["dtype"], tuple(info["shape"]), info["bytes"])
                for info in self._details["stored"]
            }
        return self._stored_tensors

    def _stored_of(self, place: tuple[str, str], rank: int) -> Stored:
        """The stored tensor of a part's name."""
        file = part_file(self._folder(rank), place[0])
        try:
            return self._stored[file, place[1]]
        except KeyError:
            raise Damage(f"{self.run}@{self.step} lacks the tensor {place[1]} in {file}", path=file) from None

    def _box(self, part: str, name: str, rank: int) -> Optional[Box]:
        """Where a stored tensor is in a larger one; None where it is whole."""
        boxes = self._tree(rank).get("shards", {}).get(name, [])
        for box in boxes if isinstance(boxes, list) else [boxes]:
            if box["file"] == part_file("", part):
                return Box(tuple(box["shape"]), tuple(box["offset"]))
        return None

    def _whole_shape(self, part: str, name: str, rank: int) -> tuple[int, ...]:
        """The shape of a stored tensor, or of that of which it is a box."""
        box = self._box(part, name, rank)
        return self._stored_of((part, name), rank).shape if box is None else box.shape

    def _targets(
        self, trees: Mapping[str, Any], rank: int, known: Container[tuple[str, str]] = ()
    ) -> dict[tuple[str, str], Target]:
        """Fresh memory for all tensors of trees that have none, by part and name."""
        targets: dict[tuple[str, str], Target] = {}
        for place, library in wanted(trees).items():
            if place not in known:
                stored = self._stored_of(place, rank)
                targets[place] = empty(stored.dtype, stored.shape, library)
        return targets

    def _wanted(self, targets: Mapping[tuple[str, str], Target], rank: int) -> Iterator[Wanted]:
        for (part, name), target in targets.items():
            yield Wanted(part_file(self._folder(rank), part), name, target.pointer, target.nbytes)

    def _read(self, wanted: Iterable[Wanted], control: Optional[Control] = None) -> None:
        """Reads into memory, all in one go."""
        reads = [
            Read(
                file=None if one.file is None else _library.text(one.file),
                name=None if one.name is None else _library.text(one.name),
                start=None if one.start is None else _library.numbers(one.start),
                stop=None if one.stop is None else _library.numbers(one.stop),
                axes=0 if one.start is None else len(one.start),
                target=one.target,
                bytes=one.nbytes,
            )
            for one in wanted
            if one.nbytes
        ]
        if reads:
            _library.call(
                "cairn_iteration_read",
                self._handle(),
                (Read * len(reads))(*reads),
                len(reads),
                None if control is None else ctypes.byref(control),
            )


class Tensor:
    """A tensor of an iteration; indexing it reads what is asked for, and no more than that along each axis.

    `shape` is in elements, `dtype` as safetensors spells it (`BF16`), `nbytes` what all of it takes. What is
    read is a torch tensor where torch was imported, else a numpy array; `numpy()` and `torch()` say which.
    """

    def __init__(self, iteration: Iteration, name: str, info: Mapping[str, Any]) -> None:
        self._iteration = iteration
        self._stored_name, self._file = str(info["name"]), info["file"]
        self.name = name
        self.dtype = str(info["dtype"])
        self.shape: tuple[int, ...] = tuple(info["shape"])
        self.nbytes = int(info["bytes"])

    def __repr__(self) -> str:
        return f"<cairn tensor {self.name} {self.dtype} {list(self.shape)}>"

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError(f"{self.name} has no axes")
        return self.shape[0]

    def __getitem__(self, index: Any) -> Any:
        """As numpy's and torch's own: integers, slices with steps above 0, `...`; fewer indices than axes."""
        return self._read_index(index, "torch" if "torch" in sys.modules else "numpy")

    def numpy(self) -> Any:
        """All of it as a numpy array. Raises MissingPackage where numpy lacks the type."""
        return self._read_index((), "numpy")

    def torch(self) -> Any:
        """All of it as a torch tensor in host memory."""
        import torch  # noqa: F401

        return self._read_index((), "torch")

    def __array__(self, dtype: Any = None, copy: Optional[bool] = None) -> Any:
        array = self.numpy()
        return array if dtype is None else array.astype(dtype)

    def _read_index(self, index: Any, library: str) -> Any:
        box = box_of(index if isinstance(index, tuple) else (index,), self.shape, self.name)
        if self.dtype == "F4" and not is_of_whole_bytes(box):
            raise IndexError(
                f"two elements of {self.name} are a byte: along its last axis it is read by slices, "
                "without a step, from an even element to an even one"
            )
        start = tuple(one.start for one in box)
        stop = tuple(max(one.start, one.stop) for one in box)
        target = empty(self.dtype, [last - first for first, last in zip(start, stop)], library)
        self._iteration._read(
            [Wanted(self._file, self._stored_name, target.pointer, target.nbytes, start, stop)]
        )
        rest = tuple(0 if one.is_single else slice(None, None, one.step) for one in box)
        return target.array[rest] if any(one.is_single or one.step > 1 for one in box) else target.array


def metrics_of(described: Mapping[str, Any]) -> dict[str, float]:
    """The metrics in what is told of an iteration: JSON has no NaN and no infinities, so they are null there."""
    infinite = described.get("infiniteMetrics", {})
    return {
        name: float(infinite.get(name, "nan")) if value is None else value
        for name, value in described["metrics"].items()
    }


def _public_name(info: Mapping[str, Any]) -> str:
    if info["file"] is None or info["group"] == "model":
        return str(info["name"])
    return _state_name(info)


def _state_name(info: Mapping[str, Any]) -> str:
    part = str(info["file"]).rsplit("/", 1)[-1].rsplit(".", 1)[0]
    return str(info["name"]) if part == "model" else f"{part}.{info['name']}"


def rank_folder(rank: int) -> str:
    """Where one of several ranks has its files."""
    return f"rank_{rank:05d}/"


def part_file(folder: str, part: str) -> str:
    """The file with a part's tensors."""
    return f"{folder}{part}.safetensors"
