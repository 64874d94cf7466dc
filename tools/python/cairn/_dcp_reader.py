"""Loading through torch.distributed.checkpoint."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import re
import uuid
from collections.abc import Sequence
from typing import Any, Optional, Union

import torch
from torch.distributed.checkpoint import storage
from torch.distributed.checkpoint.metadata import Metadata, MetadataIndex, StorageMeta
from torch.distributed.checkpoint.planner import LoadItemType, LoadPlan, LoadPlanner, ReadItem
from torch.futures import Future

from . import _dcp_metadata
from ._arrays import fresh, torch_leaf
from ._dcp_metadata import Place, Stored
from ._dcp_source import Source, StoreLike
from ._iteration import Iteration, Wanted, rank_folder
from ._tree import unflatten
from .errors import CairnError, Damage, NotFound, Usage

#: Bytes of copies that are held at a time: for tensors that can't be read where they are.
_COPIES = 256 << 20


class StorageReader(storage.StorageReader):
    """Loads an iteration that a `StorageWriter` saved into a state, whichever ranks have which part of it.

    Each rank reads the boxes that it needs and no more: straight into the tensors, where these are contiguous in
    host memory.

    Args:
        store: The store, open or its folder.
        reference: The iteration, `[RUN@]SELECTOR`, such as "latest", "best:loss" or "main@500". Where the load has
            a `checkpoint_id`, that is the reference. All ranks load what the coordinator finds.
    """

    def __init__(self, store: StoreLike, reference: str = "latest") -> None:
        super().__init__()
        self._source = Source(store)
        self._reference = reference
        self._iteration: Optional[Iteration] = None
        self._metadata: Optional[Metadata] = None

    @property
    def checkpoint_id(self) -> str:
        """The reference of what is loaded."""
        return self._reference

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: Union[str, os.PathLike[str]]) -> bool:
        """Whether this may be a reference."""
        return (
            re.fullmatch(r"([A-Za-z0-9._-]{1,128}@)?[A-Za-z0-9._:#-]+", os.fspath(checkpoint_id)) is not None
        )

    def reset(self, checkpoint_id: Union[str, os.PathLike[str], None] = None) -> None:
        """Goes to another iteration."""
        self._close()
        if checkpoint_id is not None:
            self._reference = os.fspath(checkpoint_id)

    # Without a parameter that is called kwargs, torch doesn't ask for the metadata of single ranks.
    def read_metadata(self, *_: Any, **__: Any) -> Metadata:
        """What is in the iteration, which stays open until `read_data` is done: nothing removes it meanwhile.

        Raises NotFound where there is no such iteration, or where it was not saved through this module.
        """
        self._open(self._reference)
        assert self._metadata is not None
        return self._metadata

    def set_up_storage_reader(
        self, metadata: Metadata, is_coordinator: bool, *args: Any, **kwargs: Any
    ) -> None:
        """Nothing is left to do."""

    def prepare_local_plan(self, plan: LoadPlan) -> LoadPlan:
        """As it is."""
        return plan

    def prepare_global_plan(self, plans: list[LoadPlan]) -> list[LoadPlan]:
        """Tells each rank which iteration the coordinator found."""
        assert self._iteration is not None
        return [dataclasses.replace(plan, storage_data=_reference(self._iteration)) for plan in plans]

    def read_data(self, plan: LoadPlan, planner: LoadPlanner) -> Future[None]:
        """Fills what the plan names."""
        try:
            self._follow(plan.storage_data)
            tensors = []
            for item in plan.items:
                if item.type == LoadItemType.BYTE_IO:
                    planner.load_bytes(item, self._content(item))
                else:
                    tensors.append(item)
            self._read_tensors(tensors, planner)
        finally:
            self._close()
        future: Future[None] = Future()
        future.set_result(None)
        return future

    def _open(self, reference: str) -> None:
        self._close()
        iteration = self._iteration = self._source.store[reference]
        folders = [
            folder for folder in ("", rank_folder(0)) if folder + _dcp_metadata.FILE in iteration.files
        ]
        if not folders:
            self._close()
            raise NotFound(f"{reference} was not saved through cairn.dcp: load it with store.load")
        document = iteration.read(folders[0] + _dcp_metadata.FILE)
        values = json.loads(iteration.read(folders[0] + _dcp_metadata.VALUES))
        self._metadata = _dcp_metadata.decode(document, values)
        self._metadata.storage_meta = StorageMeta(checkpoint_id=self._reference, load_id=str(uuid.uuid4()))

    def _follow(self, reference: Optional[str]) -> None:
        """Goes to the coordinator's iteration, where a new one has appeared since it looked."""
        assert self._iteration is not None and self._metadata is not None
        if reference is None or reference == _reference(self._iteration):
            return
        planned = self._metadata.state_dict_metadata
        self._open(reference)
        if planned != self._metadata.state_dict_metadata:
            raise CairnError(
                f"{self._reference} became another iteration while the ranks began to load it: name its step",
                code="changed",
            )

    def _content(self, item: ReadItem) -> io.BytesIO:
        """An item as its planner wrote it."""
        place = self._stored(item.storage_index)
        if isinstance(place, Stored):
            assert self._iteration is not None
            return io.BytesIO(self._iteration.read(place.file))
        content = io.BytesIO()
        torch.save(unflatten({"value": place.tree}, _no_tensor)["value"], content)
        content.seek(0)
        return content

    def _read_tensors(self, items: Sequence[ReadItem], planner: LoadPlanner) -> None:
        reads: list[_Read] = []
        copied = 0
        for item in items:
            reads.append(_Read(item, self._stored(item.storage_index), planner.resolve_tensor(item)))
            copied += reads[-1].copied
            if copied >= _COPIES:
                self._fill(reads, planner)
                reads, copied = [], 0
        self._fill(reads, planner)

    def _fill(self, reads: Sequence[_Read], planner: LoadPlanner) -> None:
        """Reads them all at once, and hands them over."""
        assert self._iteration is not None
        self._iteration._read([read.wanted() for read in reads])
        for read in reads:
            if read.place is not read.target:
                read.target.copy_(read.place)
            planner.commit_tensor(read.item, read.target)

    def _stored(self, index: MetadataIndex) -> Place:
        assert self._metadata is not None
        place: Optional[Place] = self._metadata.storage_data.get(index)
        if place is None:
            raise NotFound(f"{self._reference} has no bytes for {index.fqn} at {index.offset}")
        return place

    def _close(self) -> None:
        iteration, self._iteration, self._metadata = self._iteration, None, None
        if iteration is not None:
            iteration.close()


def _reference(iteration: Iteration) -> str:
    """A reference to this very iteration."""
    return f"{iteration.run}@#{iteration.id}"


def _no_tensor(part: str, name: str) -> Any:
    raise Damage(f"plain data of a checkpoint names the tensor {name}")


class _Read:
    """A box of a stored tensor, and where it goes."""

    def __init__(self, item: ReadItem, stored: Place, target: torch.Tensor) -> None:
        assert isinstance(stored, Stored) and stored.dtype is not None
        self.item, self.stored, self.target = item, stored, target.detach()
        if self.target.shape != item.lengths:
            raise Usage(
                f"{item.storage_index.fqn} is planned to be read into {tuple(item.lengths)} elements, and the "
                f"planner gives room for {tuple(self.target.shape)}"
            )
        is_plain = (
            target.device.type == "cpu"
            and target.dtype == stored.dtype
            and not target.is_conj()
            and not target.is_neg()
        )
        #: The memory that the bytes are read into.
        self.place = self.target if is_plain and target.is_contiguous() else fresh(item.lengths, stored.dtype)
        self.copied = 0 if self.place is self.target else self.place.nbytes

    def wanted(self) -> Wanted:
        """The box of what is stored: some types have an axis more there."""
        leaf, _ = torch_leaf(self.place)
        start = (*self.item.storage_offsets, *[0] * (len(leaf.shape) - len(self.item.lengths)))
        stop = tuple(first + length for first, length in zip(start, leaf.shape))
        address = self.place.data_ptr()
        return Wanted(self.stored.file, self.stored.tensor, address, leaf.nbytes, start, stop)
