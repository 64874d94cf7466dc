"""What torch.distributed.checkpoint knows of a checkpoint, as a file of JSON: nothing of it is unpickled."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any, Union

import torch
from torch.distributed.checkpoint.metadata import (
    BytesStorageMetadata,
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    TensorProperties,
    TensorStorageMetadata,
)

from ._dtypes import named_torch_dtype
from ._iteration import DCP_FILE
from .errors import Damage, NewerVersion, Usage

#: The files' names, in the coordinator's folder. Values change from one checkpoint to the next; all else does
#: not, so that it is stored once.
FILE, VALUES = DCP_FILE, "dcp_values.json"
FORMAT, VERSION = "cairn-dcp", 1


@dataclasses.dataclass(frozen=True)
class Stored:
    """Where an item of a checkpoint is: a tensor in a file of tensors, or the bytes of a file."""

    file: str
    tensor: str | None = None
    dtype: torch.dtype | None = None


@dataclasses.dataclass(frozen=True)
class Value:
    """An item that is plain data, as `_tree` writes it."""

    tree: Any


Place = Union[Stored, Value]


def encode(metadata: Metadata) -> bytes:
    """The document that `decode` reads, of all but the values.

    Raises Usage where the planner keeps data of its own.
    """
    places: Mapping[MetadataIndex, Place] = metadata.storage_data
    tensors, objects = [], []
    for name, entry in metadata.state_dict_metadata.items():
        if isinstance(entry, TensorStorageMetadata):
            tensors.append(_tensor(name, entry, places))
        else:
            objects.append({"name": name, **_place(places.get(MetadataIndex(name)))})
    document = {
        "format": FORMAT,
        "version": VERSION,
        "tensors": tensors,
        "objects": objects,
        "paths": _paths(metadata.planner_data),
    }
    return json.dumps(document, separators=(",", ":")).encode()


def _tensor(name: str, entry: TensorStorageMetadata, places: Mapping[MetadataIndex, Place]) -> dict[str, Any]:
    chunks = [
        {
            "offset": list(chunk.offsets),
            "shape": list(chunk.sizes),
            **_place(places.get(MetadataIndex(name, chunk.offsets)), entry.properties.dtype),
        }
        for chunk in entry.chunks
    ]
    described: dict[str, Any] = {
        "name": name,
        "dtype": _dtype_name(entry.properties.dtype),
        "shape": list(entry.size),
    }
    if entry.properties.requires_grad:
        described["requiresGrad"] = True
    return {**described, "chunks": chunks}


def _place(place: Place | None, expected: torch.dtype | None = None) -> dict[str, str]:
    if not isinstance(place, Stored):
        return {}
    found = {"file": place.file}
    if place.tensor is not None:
        found["tensor"] = place.tensor
    # Planners may store other dtypes than they say.
    if place.dtype is not None and place.dtype != expected:
        found["dtype"] = _dtype_name(place.dtype)
    return found


def _paths(planned: Any) -> dict[str, list[str | int]] | None:
    """The data of torch's planner: where in the nested state each item is."""
    if planned is None:
        return None
    if isinstance(planned, dict) and all(
        isinstance(name, str) and isinstance(path, tuple) and all(type(key) in (str, int) for key in path)
        for name, path in planned.items()
    ):
        return {name: list(path) for name, path in planned.items()}
    raise Usage(
        f"the planner keeps data of its own ({type(planned).__name__}), which only pickle could write: use one "
        "whose planner_data is as DefaultSavePlanner's, or None"
    )


def decode(document: bytes, values: Mapping[str, Any]) -> Metadata:
    """The metadata of a document, and of the values, which are trees by name."""
    content = json.loads(document)
    if content.get("format") != FORMAT:
        raise Damage(f"{FILE} is not what cairn.dcp writes", path=FILE)
    if content["version"] > VERSION:
        raise NewerVersion("this was saved by a newer cairn.dcp; install that here", path=FILE)
    entries: dict[str, TensorStorageMetadata | BytesStorageMetadata] = {}
    places: dict[MetadataIndex, Place] = {}
    for tensor in content["tensors"]:
        entries[tensor["name"]] = _entry(tensor)
        for chunk in tensor["chunks"]:
            if "file" in chunk:
                dtype = named_torch_dtype(chunk.get("dtype", tensor["dtype"]))
                places[MetadataIndex(tensor["name"], chunk["offset"])] = Stored(
                    chunk["file"], chunk["tensor"], dtype
                )
    for item in content["objects"]:
        entries[item["name"]] = BytesStorageMetadata()
        place = Stored(item["file"]) if "file" in item else Value(values[item["name"]])
        places[MetadataIndex(item["name"])] = place
    paths = content["paths"]
    planned = None if paths is None else {name: tuple(path) for name, path in paths.items()}
    return Metadata(entries, planner_data=planned, storage_data=places)


def _entry(tensor: dict[str, Any]) -> TensorStorageMetadata:
    return TensorStorageMetadata(
        TensorProperties(named_torch_dtype(tensor["dtype"]), requires_grad=tensor.get("requiresGrad", False)),
        torch.Size(tensor["shape"]),
        [
            ChunkStorageMetadata(torch.Size(chunk["offset"]), torch.Size(chunk["shape"]))
            for chunk in tensor["chunks"]
        ],
    )


def _dtype_name(dtype: torch.dtype) -> str:
    return str(dtype).rpartition(".")[2]
