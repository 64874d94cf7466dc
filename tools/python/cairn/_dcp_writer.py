"""Saving through torch.distributed.checkpoint."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import re
import uuid
from collections.abc import Mapping
from typing import Any, Optional, Union

import torch
from torch.distributed.checkpoint import storage
from torch.distributed.checkpoint.metadata import Metadata, StorageMeta
from torch.distributed.checkpoint.planner import SavePlan, SavePlanner
from torch.distributed.checkpoint.storage import WriteResult
from torch.futures import Future

from . import _dcp_metadata, _ranks
from ._dcp_metadata import Value
from ._dcp_part import Part, Share, find_parts, path_of
from ._dcp_source import Source, StoreLike
from ._saving import Plan, Rank
from ._state import as_json
from ._store import _environment
from ._tree import Flat
from .errors import CairnError, Usage


class StorageWriter(storage.StorageWriter):
    """Saves what `dcp.save` and `dcp.async_save` are given as an iteration of a store.

    The iteration appears, durable, when all ranks are in. Where one of them fails, the call raises on all,
    and nothing appears. One writer does for many saves, with the step as their `checkpoint_id`:
    `dcp.save(state, checkpoint_id="200", storage_writer=writer)`.

    Args:
        store: The store, open or its folder, which is made where there is none.
        step: The iteration's step; not needed where saves have a `checkpoint_id`: "STEP" or "RUN@STEP".
        run: The iteration's run; by default the store's only one, or "main".
        metrics: Numbers to keep with it, by name, such as {"loss": 2.1}.
        metadata: Anything of JSON to keep with it, by name.
        pin: A name that protects it from every deletion.
        replace: Whether another iteration of that run and step is replaced; else that is an error.
        files: Files to keep with it, by path, such as the model's "config.json".
        environment: Whether versions, command line and commit are recorded.
    """

    def __init__(
        self,
        store: StoreLike,
        step: Optional[int] = None,
        run: Optional[str] = None,
        *,
        metrics: Optional[Mapping[str, float]] = None,
        metadata: Optional[Mapping[str, Any]] = None,
        pin: Optional[str] = None,
        replace: bool = False,
        files: Optional[Mapping[str, Union[bytes, str]]] = None,
        environment: bool = True,
    ) -> None:
        super().__init__()
        self._source = Source(store, creates=True)
        self._step, self._run = step, run
        self._options = {"metrics": metrics, "pin": pin, "replace": replace or None}
        self._metadata = as_json(metadata or {})
        self._files = dict(files or {})
        self._records_environment = environment
        self._is_coordinator = False
        self._number = 0
        self._part: Optional[Part] = None
        #: What `cairn list --json` says of the last iteration that this rank has coordinated; else None.
        self.saved: Optional[dict[str, Any]] = None

    @property
    def checkpoint_id(self) -> str:
        """`[RUN@]STEP` of what is saved next."""
        return f"{self._run}@{self._step}" if self._run else str(self._step)

    @classmethod
    def validate_checkpoint_id(cls, checkpoint_id: Union[str, os.PathLike[str]]) -> bool:
        """Whether this is `[RUN@]STEP`."""
        return _parse(checkpoint_id) is not None

    def reset(self, checkpoint_id: Union[str, os.PathLike[str], None] = None) -> None:
        """Goes to another step, and run where the id has one. Raises Usage for an id that is none."""
        self._give_up()
        if checkpoint_id is None:
            return
        found = _parse(checkpoint_id)
        if found is None:
            raise Usage(f"{checkpoint_id} can't be a checkpoint_id of a store: give a step, or RUN@STEP")
        self._run, self._step = found[0] or self._run, found[1]

    def set_up_storage_writer(self, is_coordinator: bool, *args: Any, **kwargs: Any) -> None:
        """Begins a save. What an earlier one left is given up."""
        self._give_up()
        if self._step is None:
            raise Usage("this save has no step: give the StorageWriter one, or the save a checkpoint_id")
        if not kwargs.get("use_collectives", True) and torch.distributed.is_initialized():
            raise Usage(
                "an iteration appears when all ranks are in, for which they need use_collectives=True"
            )
        self._is_coordinator = is_coordinator
        self._number = _count(self._source.path, self._run, self._step)

    def storage_meta(self) -> StorageMeta:
        """The id of what is saved, and one that no other save has."""
        return StorageMeta(checkpoint_id=self.checkpoint_id, save_id=str(uuid.uuid4()))

    def prepare_local_plan(self, plan: SavePlan) -> SavePlan:
        """As it is."""
        return plan

    def prepare_global_plan(self, plans: list[SavePlan]) -> list[SavePlan]:
        """Tells each rank which it is, and where the model and the optimizer are in the state."""
        parts = find_parts(path_of(plan, item) for plan in plans for item in plan.items)
        return [
            dataclasses.replace(plan, storage_data=Share(rank, len(plans), parts))
            for rank, plan in enumerate(plans)
        ]

    def write_data(self, plan: SavePlan, planner: SavePlanner) -> Future[list[WriteResult]]:
        """Saves what this rank has: it is durable when this returns. The coordinator's is with `finish`."""
        part = self._begin(plan.storage_data)
        try:
            results = [part.add(item, path_of(plan, item), planner) for item in plan.items]
            if self._is_coordinator:
                part.take()
                self._part = part
            else:
                part.commit()
        except BaseException:
            part.close()
            raise
        future: Future[list[WriteResult]] = Future()
        future.set_result(results)
        return future

    def finish(self, metadata: Metadata, results: list[list[WriteResult]]) -> None:
        """Adds what describes the whole, and commits: now the iteration is there."""
        part, self._part = self._part, None
        assert part is not None, "write_data comes before finish"
        places = {result.index: result.storage_data for result in itertools.chain.from_iterable(results)}
        metadata.storage_data, metadata.storage_meta = places, self.storage_meta()
        values = {index.fqn: place.tree for index, place in places.items() if isinstance(place, Value)}
        try:
            part.files[part.folder + _dcp_metadata.FILE] = _dcp_metadata.encode(metadata)
            part.files[part.folder + _dcp_metadata.VALUES] = json.dumps(values).encode()
            for path, content in self._files.items():
                part.files[path] = content.encode() if isinstance(content, str) else bytes(content)
            saved = part.commit()
        finally:
            part.close()
        if saved.get("isPart"):
            raise CairnError(
                f"what other ranks have saved of {self.checkpoint_id} was collected meanwhile: save it again",
                code="changed",
            )
        listed = self._source.store.iterations(saved["run"])
        self.saved = next((one for one in listed if one["step"] == self._step), None)

    def _begin(self, share: Share) -> Part:
        rank = None
        if share.ranks > 1:
            rank = Rank(share.rank, share.ranks, f"{_ranks.attempt()}-{self._number}")
        assert self._step is not None
        options: dict[str, Any] = {}
        if self._is_coordinator:
            described = dict(self._metadata)
            if self._records_environment:
                described.setdefault("environment", _environment())
            options = {**self._options, "metadata": described or None}
        plan = Plan(self._step, self._run, options, Flat({}, [], {}), {}, rank)
        return Part(self._source.store, plan, share)

    def _give_up(self) -> None:
        part, self._part = self._part, None
        if part is not None:
            part.close()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_part": None}


def _parse(checkpoint_id: Union[str, os.PathLike[str]]) -> Optional[tuple[Optional[str], int]]:
    match = re.fullmatch(r"(?:([A-Za-z0-9._-]{1,128})@)?([0-9]+)", os.fspath(checkpoint_id))
    return (match[1], int(match[2])) if match else None


_saves: dict[tuple[str, Optional[str], int], int] = {}


def _count(path: str, run: Optional[str], step: int) -> int:
    """How often this process has begun to save an iteration: as often as the other ranks, which do so too."""
    key = (path, run, step)
    _saves[key] = _saves.get(key, 0) + 1
    return _saves[key]
