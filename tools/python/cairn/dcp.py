"""torch.distributed.checkpoint with a store: FSDP2 and DTensor, saved by some ranks, loaded by others.

    dcp.save(state, storage_writer=cairn.dcp.StorageWriter(store, step=100))
    dcp.load(state, storage_reader=cairn.dcp.StorageReader(store, "latest"))

Each rank adds its boxes of the tensors to one iteration, which is there once all ranks have done so, and not
before. Of a state `{"model": ..., "optim": ...}` the tensors have the names that the model gives them, so that it
can be exported in any layout. Numbers, texts and other plain data are kept without pickle; what else the planner
pickles stays as it is.
"""

from ._dcp_reader import StorageReader
from ._dcp_writer import StorageWriter

__all__ = ["StorageReader", "StorageWriter"]
