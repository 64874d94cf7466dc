#!/usr/bin/env python3
"""torch.distributed.checkpoint with a store: FSDP2 on gloo, saved by four ranks, loaded by four, two and one.

The ranks run this file too: they do what `RANKS` names, and the tests look at what is in the store afterwards.
"""

import dataclasses
import json
import logging
import multiprocessing
import os
import subprocess
import sys
import tempfile
import unittest
import time
import warnings
import zlib
from pathlib import Path
from unittest import mock

os.environ.update(OMP_NUM_THREADS="1", TORCH_CPP_LOG_LEVEL="ERROR")
sys.path.insert(0, str(Path(__file__).parent))
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from safetensors.torch import load_file
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.default_planner import DefaultSavePlanner, _EmptyStateDictLoadPlanner
from torch.distributed.checkpoint.state_dict import get_state_dict
from torch.distributed.checkpoint.staging import BlockingAsyncStager, DefaultStager, StagingOptions
from torch.distributed.checkpoint.state_dict_loader import _load_state_dict
from torch.distributed.checkpoint.state_dict_saver import AsyncCheckpointerType, AsyncSaveResponse
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor

import cairn
import cairn.dcp
from cairn.dcp import StorageReader, StorageWriter

torch.set_num_threads(1)
warnings.simplefilter("ignore")
# What torch warns of before it raises.
logging.disable(logging.WARNING)


class Model(torch.nn.Module):
    """Of shapes that four ranks can't share evenly: three rows leave one of them without any."""

    def __init__(self):
        super().__init__()
        self.embed = torch.nn.Embedding(12000, 66)
        self.up = torch.nn.Linear(66, 3001)
        self.down = torch.nn.Linear(3001, 3, dtype=torch.bfloat16)
        self.scale = torch.nn.Parameter(torch.ones(1))
        self.register_buffer("count", torch.zeros(5, dtype=torch.int64))


def values(name, like, seed):
    """The whole of a tensor, the same in every process."""
    generator = torch.Generator().manual_seed(zlib.crc32(name.encode()) + seed)
    if not like.dtype.is_floating_point:
        return torch.randint(0, 100, like.shape, generator=generator, dtype=like.dtype)
    return torch.randn(like.shape, generator=generator).to(like.dtype)


def walk(state, path=()):
    """The tensors of a state, by path."""
    items = state.items() if isinstance(state, dict) else enumerate(state) if isinstance(state, list) else ()
    for key, value in items:
        if isinstance(value, torch.Tensor):
            yield ".".join(map(str, (*path, key))), value
        else:
            yield from walk(value, (*path, key))


def fill(state, seed):
    """Gives all tensors of a state the values of a seed, or zeros."""
    with torch.no_grad():
        for name, tensor in walk(state):
            whole = torch.zeros(tensor.shape, dtype=tensor.dtype) if seed is None else values(name, tensor, seed)
            if isinstance(tensor, DTensor):
                # Without a collective call, which would come in between those of an asynchronous save.
                whole = distribute_tensor(whole, tensor.device_mesh, tensor.placements, src_data_rank=None).to_local()
                tensor = tensor.to_local()
            tensor.copy_(whole)


def different(state, seed):
    """Names of tensors that haven't the values of a seed."""
    whole = lambda tensor: tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
    return [name for name, tensor in walk(state) if not torch.equal(whole(tensor), values(name, tensor, seed))]


def state(seed, more=True):
    """A model and its optimizer, among all ranks there are."""
    # Takes a second, which the processes beside have no need to spend.
    from torch.distributed.fsdp import fully_shard

    model = Model()
    if dist.is_initialized():
        fully_shard(model, mesh=init_device_mesh("cpu", (dist.get_world_size(),)))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.25)
    model_state, optimizer_state = get_state_dict(model, optimizer)
    result = {"model": model_state, "optim": optimizer_state}
    fill(result, seed)
    if more:
        result["extra"] = extra(seed)
        if seed is not None:
            result["optim"]["param_groups"][0]["lr"] = 0.125
    return result


def extra(seed):
    """What else a training has, or nothing of it."""
    data = {"epoch": 3, "name": "größe", "numbers": [1, 2.5, (3, True)], "rng": (torch.arange(5), {"x": b"1"})}
    return {**(dict.fromkeys(data) if seed is None else data), "plain": torch.zeros(2, 0, 3)}


def save(store):
    """Four ranks: a save, one that fails on a rank, that again, and an asynchronous one."""
    saved = state(1)
    dcp.save(saved, storage_writer=StorageWriter(store + ".shards", 1))
    dcp.save(saved, storage_writer=Watched(store, 1, "fsdp", metrics={"loss": 2.5}))

    failed = {}
    try:
        dcp.save(saved, storage_writer=StorageWriter(store, 2, "fsdp"), planner=FailingPlanner())
    except CheckpointException as error:
        failed = {rank: str(failure[0]) for rank, failure in error.failures.items()}
    steps_then = steps(store, "fsdp")
    dist.barrier()
    writer = StorageWriter(store, 2, "fsdp")
    fill(saved, 2)
    # The plan of the first is used for the second.
    planner = DefaultSavePlanner(enable_plan_caching=True)
    dcp.save(saved, storage_writer=writer, planner=planner)

    fill(saved, 3)
    future = dcp.async_save(saved, checkpoint_id="fsdp@3", storage_writer=writer, planner=planner)
    fill(saved, 4)
    future.result()
    dcp.save(grid(1), storage_writer=StorageWriter(store, 1, "grid"))
    loaded = load_all(store)
    return {"failed": failed, "steps": steps_then, "loaded": loaded, "seen": Watched.seen, "saved": writer.saved}


def grid(seed):
    """Tensors that are cut along both axes of four ranks, or are the same on some of them."""
    mesh = init_device_mesh("cpu", (2, 2))
    placements = {
        "both": [Shard(0), Shard(1)], "twice": [Shard(0), Shard(0)], "across": [Shard(1), Shard(0)],
        "rows": [Replicate(), Shard(0)], "columns": [Shard(1), Replicate()], "whole": [Replicate(), Replicate()]}
    tensors = {
        name: distribute_tensor(torch.zeros(7, 5), mesh, where, src_data_rank=None) for name, where in placements.items()}
    fill({"model": tensors}, seed)
    return {"model": tensors}


def pieces(seed):
    """A tensor of which each of two ranks has two boxes that don't meet: as FSDP of old has them."""
    from torch.distributed._shard.sharded_tensor import Shard as Box, init_from_local_shards
    from torch.distributed._shard.sharding_spec import ShardMetadata

    rank = dist.get_rank()
    whole = values("model.w", torch.zeros(10, 3), seed)
    starts = {0: [(0, 2), (5, 3)], 1: [(2, 3), (8, 2)]}[rank]
    boxes = [
        Box(whole[first : first + count].clone(), ShardMetadata([first, 0], [count, 3], f"rank:{rank}/cpu"))
        for first, count in starts]
    return {"model": {"w": init_from_local_shards(boxes, 10, 3)}}


def load_all(store):
    """What differs in each iteration, loaded by the ranks there are."""
    found, loaded = {}, state(None)
    for step in (1, 2, 3):
        fill(loaded, None)
        loaded["extra"] = extra(None)
        loaded["optim"]["param_groups"][0]["lr"] = None
        dcp.load(loaded, storage_reader=StorageReader(store, f"fsdp@{step}"))
        found[str(step)] = different(loaded, step) + wrong_values(loaded)
    return found


def wrong_values(loaded):
    extra = loaded["extra"]
    expected = {"epoch": 3, "name": "größe", "numbers": [1, 2.5, (3, True)]}
    wrong = [name for name, value in expected.items() if extra[name] != value]
    if not torch.equal(extra["rng"][0], torch.arange(5)) or extra["rng"][1] != {"x": b"1"}:
        wrong.append("rng")
    if loaded["optim"]["param_groups"][0]["lr"] != 0.125:
        wrong.append("lr")
    return wrong


def resharded(store):
    """Two ranks: what four have saved, in other boxes too, and a save by processes beside them."""
    found = {"loaded": load_all(store), "columns": columns(store), "moved": moved(store), "replaced": replaced(store)}
    dcp.save(pieces(1), storage_writer=StorageWriter(store, 1, "pieces"))

    saved = state(5, more=False)
    process = AsyncCheckpointerType.PROCESS
    for step in (1, 2):
        future = dcp.async_save(
            saved, storage_writer=StorageWriter(store, step, "beside"), async_checkpointer_type=process)
        fill(saved, 6)
        future.result()
    return found


def columns(store):
    """What differs where boxes aren't contiguous in what they are read from, or into."""
    mesh = init_device_mesh("cpu", (2,))
    loaded = {
        "model": {
            "up.weight": distribute_tensor(torch.zeros(3001, 66), mesh, [Shard(1)]),
            "embed.weight": distribute_tensor(torch.zeros(12000, 66), mesh, [Replicate()])}}
    dcp.load(loaded, storage_reader=StorageReader(store, "fsdp@2"))
    found = different(loaded, 2)
    dcp.save(loaded, storage_writer=StorageWriter(store, 1, "columns"))
    fill(loaded, None)
    dcp.load(loaded, checkpoint_id="columns@latest", storage_reader=StorageReader(store))
    return found + different(loaded, 2)


def moved(store):
    """What is loaded where "latest" becomes another iteration after the first rank has looked, and before the second."""

    class Reader(StorageReader):
        """The first rank saves another iteration once it has looked; the second waits for that."""

        def read_metadata(self):
            if dist.get_rank():
                while after not in steps(store, "moving"):
                    time.sleep(0.01)
                return super().read_metadata()
            metadata = super().read_metadata()
            alone(after, **more)
            return metadata

    def alone(step, **more):
        saved = {"w": torch.full((5,), float(step)), **more}
        dcp.save(saved, no_dist=True, storage_writer=StorageWriter(store, step, "moving"))

    if dist.get_rank() == 0:
        alone(1)
    dist.barrier()
    after, more, loaded = 2, {}, {"w": torch.zeros(5)}
    dcp.load(loaded, storage_reader=Reader(store, "moving@latest"))
    after, more, said = 3, {"another": torch.ones(2)}, "nothing"
    try:
        dcp.load({"w": torch.zeros(5)}, storage_reader=Reader(store, "moving@latest"))
    except CheckpointException as error:
        said = str(error.failures)
    return [loaded["w"].tolist(), said]


def replaced(store):
    """What each save of one step says, of which the second doesn't replace the first, and what is loaded after each."""
    answers = []
    for number, replace in ((1, False), (2, False), (3, True)):
        said = ""
        try:
            dcp.save(among_all(1, number=number), storage_writer=StorageWriter(store, 1, "replaced", replace=replace))
        except CheckpointException as error:
            said = str(error.failures)
        loaded = among_all(0, number=0)
        dcp.load(loaded, storage_reader=StorageReader(store, "replaced@1"))
        answers.append([said, loaded["number"], different({"model": loaded["model"]}, 1)])
        dist.barrier()
    return answers


def crash(store):
    """Two ranks, of which the first dies when the part of the second is in."""

    class Writer(StorageWriter):
        def finish(self, metadata, results):
            os._exit(9)

    try:
        dcp.save(among_all(1), storage_writer=Writer(store, 1, "crash"))
    except RuntimeError as error:
        (Path(store).parent / "crash.1").write_text(json.dumps(str(error)))
        # What else this rank would do needs the other.
        os._exit(0)


def again(store):
    """The next launch saves what the last one could not."""
    dcp.save(among_all(2), storage_writer=StorageWriter(store, 1, "crash"))


def among_all(seed, **more):
    state = {**more, "model": {"w": distribute_tensor(torch.zeros(100, 8), init_device_mesh("cpu", (2,)), [Shard(0)])}}
    fill(state, seed)
    return state


class FailingPlanner(DefaultSavePlanner):
    """Fails where a rank that is not the coordinator has nearly all in."""

    def resolve_data(self, item):
        if dist.get_rank() == 2 and item.index.fqn.endswith("up.weight"):
            raise OSError("the memory is gone")
        return super().resolve_data(item)


class Watched(StorageWriter):
    """Notes which iterations are there before the last rank's part is in."""

    seen = None

    def finish(self, metadata, results):
        Watched.seen = steps(self._source.path, "fsdp")
        super().finish(metadata, results)


def steps(store, run):
    """Those of a run that are there."""
    return sorted(iteration["step"] for iteration in cairn.open(store).iterations() if iteration["run"] == run)


RANKS = {"save": save, "resharded": resharded, "crash": crash, "again": again}


def main(what, store, answer, **group):
    """One rank."""
    dist.init_process_group("gloo", **group)
    found = RANKS[what](store)
    Path(f"{answer}.{dist.get_rank()}").write_text(json.dumps(found))
    dist.barrier()
    dist.destroy_process_group()


class DcpTests(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        folder = tempfile.TemporaryDirectory(prefix="cairn-dcp.")
        cls.addClassCleanup(folder.cleanup)
        cls.folder = Path(folder.name)
        cls.store = str(cls.folder / "store")
        cairn.open(cls.store, create=True)
        cairn.open(cls.store + ".shards", create=True)
        cls.saved = cls.torchrun("save", 4)
        # Each fork would load it with its first optimizer or sharded tensor, and so do the tests.
        import torch._dynamo  # noqa: F401
        cls.resharded = cls.fork("resharded", 2)
        cls.crashed = cls.fork("crash", 2, codes={0, 9})
        cls.steps_after_crash = steps(cls.store, "crash")
        cls.again = cls.fork("again", 2)

    @classmethod
    def torchrun(cls, what, ranks):
        """Runs this file under torchrun. Returns what the ranks say."""
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
        command += [__file__, what, cls.store, str(cls.folder / what)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr
        return cls.answers(what, ranks)

    @classmethod
    def fork(cls, what, ranks, codes={0}):
        """Runs ranks in forks of this process, which need not import torch anew, to one of the codes. Returns what they say."""
        os.environ["MASTER_ADDR"] = "127.0.0.1"
        context = multiprocessing.get_context("fork")
        common = {"init_method": f"file://{cls.folder}/{what}-group", "world_size": ranks}
        processes = [
            context.Process(target=main, args=(what, cls.store, cls.folder / what), kwargs={**common, "rank": rank})
            for rank in range(ranks)]
        for process in processes:
            process.start()
        for process in processes:
            process.join(300)
            assert process.exitcode in codes, process.exitcode
        return cls.answers(what, ranks)

    @classmethod
    def answers(cls, what, ranks):
        files = [cls.folder / f"{what}.{rank}" for rank in range(ranks)]
        return [json.loads(file.read_text()) if file.exists() else None for file in files]

    def test_a_step_can_be_replaced_after_it_was_refused(self):
        for first, second, third in (answer["replaced"] for answer in self.resharded):
            self.assertEqual((first, second[1:], third), (["", 1, []], [1, []], ["", 3, []]))
            self.assertIn("exists with other content", second[0])

    def test_all_that_four_ranks_saved_comes_back_on_four_two_and_one(self):
        for ranks in (self.saved, self.resharded):
            for answer in ranks:
                self.assertEqual(answer["loaded"], {"1": [], "2": [], "3": []})
        self.assertEqual(load_all(self.store), {"1": [], "2": [], "3": []})

    def test_an_iteration_is_there_when_all_ranks_are_in_and_not_before(self):
        self.assertEqual([answer["seen"] for answer in self.saved], [[], None, None, None])

    def test_where_one_rank_fails_all_do_and_nothing_is_there(self):
        for answer in self.saved:
            self.assertEqual(answer["failed"], {"2": "the memory is gone"})
            self.assertEqual(answer["steps"], [1])

    def test_a_launch_that_crashed_leaves_nothing_that_the_next_one_could_mix_up(self):
        self.assertIsNotNone(self.crashed[1])
        self.assertEqual(self.steps_after_crash, [])
        loaded = {"model": {"w": torch.zeros(100, 8)}}
        dcp.load(loaded, storage_reader=StorageReader(self.store, "crash@1"))
        self.assertEqual(different(loaded, 2), [])

    def test_the_coordinator_knows_what_was_saved(self):
        listed = [one for one in cairn.open(self.store).iterations("fsdp") if one["step"] == 3]
        self.assertEqual([answer["saved"] for answer in self.saved], [*listed, None, None, None])

    def test_boxes_of_all_kinds_make_whole_tensors(self):
        cases = {"grid": ((7, 5), ["both", "twice", "across", "rows", "columns", "whole"]), "pieces": ((10, 3), ["w"])}
        for run, (shape, names) in cases.items():
            loaded = {"model": {name: torch.zeros(shape) for name in names}}
            dcp.load(loaded, storage_reader=StorageReader(self.store, f"{run}@1"))
            self.assertEqual(different(loaded, 1), [])
            # As anybody else sees them.
            with cairn.open(self.store)[f"{run}@1"] as iteration:
                self.assertEqual(sorted(iteration.tensors), sorted(names))
                read = {"model": {name: iteration.tensor(name).torch() for name in names}}
            self.assertEqual(different(read, 1), [])

    def test_boxes_across_the_saved_ones_come_back(self):
        self.assertEqual([answer["columns"] for answer in self.resharded], [[], []])

    def test_a_save_by_processes_beside_is_of_what_was_there_when_it_began(self):
        for step, seed in ((1, 5), (2, 6)):
            loaded = state(None, more=False)
            dcp.load(loaded, storage_reader=StorageReader(self.store, f"beside@{step}"))
            self.assertEqual(different(loaded, seed), [])

    def test_all_ranks_load_the_iteration_that_the_first_one_found(self):
        for answer in self.resharded:
            loaded, said = answer["moved"]
            self.assertEqual(loaded, [1.0] * 5)
            self.assertIn("became another iteration while the ranks began to load it: name its step", said)

    def test_shards_take_no_more_room_than_the_whole_state(self):
        whole = cairn.open(str(self.folder / "whole"), create=True)
        dcp.save(state(1), storage_writer=StorageWriter(whole, 1))
        shards = cairn.open(self.store + ".shards")
        sizes = [store.stats()["storedBytes"] for store in (whole, shards)]
        self.assertLessEqual(sizes[1], sizes[0] * 1.03)

    def test_the_model_can_be_exported(self):
        out = self.folder / "exported"
        cairn.open(self.store).export("fsdp@1", out, layout="hf")
        exported = load_file(out / "model.safetensors")
        self.assertEqual(sorted(exported), sorted(Model().state_dict()))
        self.assertEqual(different({"model": exported}, 1), [])

    def test_a_state_is_made_anew_of_what_was_saved(self):
        found = {}
        planner = _EmptyStateDictLoadPlanner()
        _load_state_dict(found, StorageReader(self.store, "fsdp@1"), no_dist=True, planner=planner)
        self.assertEqual(different(found, 1) + wrong_values(found), [])


class OneProcessTests(unittest.TestCase):
    """What needs no ranks."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="cairn-dcp.")
        self.addCleanup(folder.cleanup)
        self.store = folder.name + "/store"
        cairn.open(self.store, create=True)

    def save(self, state, *arguments, planner=None, **options):
        dcp.save(state, storage_writer=StorageWriter(self.store, *arguments, **options), planner=planner)

    def load(self, state, reference="latest", planner=None):
        dcp.load(state, storage_reader=StorageReader(self.store, reference), planner=planner)
        return state

    def test_tensors_of_every_dtype_and_shape_come_back(self):
        kinds = [
            torch.bool, torch.uint8, torch.int16, torch.uint32, torch.int64, torch.float16, torch.bfloat16, torch.float64,
            torch.complex64, torch.complex128, torch.float8_e4m3fn, torch.float8_e5m2]
        saved = {str(kind): torch.arange(24).reshape(4, 6).to(kind) for kind in kinds}
        saved.update(
            scalar=torch.tensor(3.5), empty=torch.empty(0, 4), transposed=torch.arange(6.0).reshape(2, 3).t(),
            conjugate=torch.tensor([1 + 2j]).conj(), expanded=torch.ones(1, 3).expand(4, 3),
            parameter=torch.nn.Parameter(torch.ones(2)))
        self.save(saved, 1)
        loaded = self.load({name: torch.zeros_like(tensor) for name, tensor in saved.items()})
        for name, tensor in saved.items():
            self.assertEqual(loaded[name].dtype, tensor.dtype)
            raw = lambda tensor: tensor.detach().resolve_conj().contiguous().reshape(-1).view(torch.uint8)
            self.assertTrue(torch.equal(raw(loaded[name]), raw(tensor)), name)

    def test_targets_of_other_strides_and_dtypes_are_filled(self):
        self.save({"w": torch.arange(12.0).reshape(3, 4)}, 1)
        into = {"w": torch.zeros(4, 3, dtype=torch.float64).t()}
        self.load(into)
        self.assertEqual(into["w"].tolist(), torch.arange(12.0).reshape(3, 4).tolist())

    def test_large_copies_are_taken_and_read_in_turns(self):
        saved = {str(number): torch.randn(40, 30).t() for number in range(9)}
        with mock.patch.object(cairn._dcp_part, "COPIES", 10_000), mock.patch.object(cairn._dcp_reader, "_COPIES", 10_000):
            self.save(saved, 1)
            loaded = self.load({name: torch.zeros(40, 30).t() for name in saved})
        for name, tensor in saved.items():
            self.assertTrue(torch.equal(loaded[name], tensor))

    def test_one_writer_does_for_many_saves(self):
        writer = StorageWriter(self.store)
        with self.assertRaisesRegex(CheckpointException, "this save has no step"):
            dcp.save({"w": torch.ones(1)}, storage_writer=writer)
        for step in (5, 6):
            dcp.save({"w": torch.full((1,), float(step))}, checkpoint_id=f"{step}", storage_writer=writer)
        dcp.save({"w": torch.full((1,), 7.0)}, checkpoint_id="other@7", storage_writer=writer)
        for reference, value in (("main@5", 5), ("main@latest", 6), ("other@latest", 7)):
            self.assertEqual(self.load({"w": torch.zeros(1)}, reference)["w"].item(), value)
        with self.assertRaisesRegex(ValueError, "checkpoint_id"):
            writer.reset("checkpoint-7")
        self.assertFalse(StorageWriter.validate_checkpoint_id("/some/folder"))
        self.assertTrue(StorageReader.validate_checkpoint_id("best:loss"))

    def test_saves_in_the_background_are_of_what_was_there_when_they_began(self):
        stagers = [None, BlockingAsyncStager(), DefaultStager(StagingOptions(False, False, True, False))]
        for step, stager in enumerate(stagers):
            state = {"w": torch.full((1000,), float(step)), "step": step}
            writer = StorageWriter(self.store, step)
            saving = dcp.async_save(state, storage_writer=writer, async_stager=stager)
            if isinstance(saving, AsyncSaveResponse):
                saving.staging_completion.result()
                saving = saving.upload_completion
            state["w"].fill_(-1)
            saving.result()
            loaded = self.load({"w": torch.zeros(1000), "step": None}, f"main@{step}")
            self.assertEqual((set(loaded["w"].tolist()), loaded["step"]), ({float(step)}, step))

    def test_what_is_known_of_the_training_is_kept(self):
        files = {"config.json": "{}", "notes/a.txt": b"a"}
        self.save({"w": torch.ones(1)}, 4, "sft", metrics={"loss": 2}, metadata={"lr": [1]}, pin="good", files=files)
        with cairn.open(self.store)["good"] as iteration:
            self.assertEqual((iteration.run, iteration.step, iteration.metrics), ("sft", 4, {"loss": 2.0}))
            self.assertEqual(iteration.metadata["lr"], [1])
            self.assertIn("torch", iteration.metadata["environment"]["versions"])
            self.assertEqual((iteration.read("config.json"), iteration.read("notes/a.txt")), (b"{}", b"a"))
        with self.assertRaisesRegex(cairn.Usage, "metadata has to be JSON, without NaN and infinities"):
            StorageWriter(self.store, 9, metadata={"best": float("inf")})

    def test_another_state_at_the_same_step_is_refused_unless_it_is_to_replace_it(self):
        self.save({"w": torch.ones(2)}, 1)
        self.save({"w": torch.ones(2)}, 1)
        with self.assertRaisesRegex(CheckpointException, "main@1"):
            self.save({"w": torch.zeros(2)}, 1)
        self.save({"w": torch.zeros(2)}, 1, replace=True)
        self.assertEqual(self.load({"w": torch.ones(2)})["w"].tolist(), [0, 0])

    def test_an_iteration_that_was_saved_otherwise_is_said_to_be(self):
        cairn.open(self.store).save(1, model={"w": torch.ones(2)})
        with self.assertRaisesRegex(CheckpointException, "load it with store.load"):
            self.load({"w": torch.ones(2)})
        self.save({"model": {"w": torch.ones(2)}}, 2)
        store = cairn.open(self.store)
        for load in (lambda: store.load("latest", model=torch.nn.Linear(1, 1)), lambda: store["latest"].state("model")):
            with self.assertRaisesRegex(cairn.Usage, "cairn.dcp.StorageReader"):
                load()

    def test_the_model_and_its_optimizer_are_found_below_other_names_too(self):
        wrapped = {"app": {"model": {"a": torch.ones(2)}, "optim": {"state": {"a": {"exp_avg": torch.ones(3)}}}}, "b": torch.ones(4)}
        self.save(wrapped, 1)
        self.assertEqual(self.stored(), {"model": ["a"], "optimizer": ["state.a.exp_avg"], "extra": ["b"]})
        # A name that merely begins so is the model's own.
        self.save({"model.a": torch.ones(2), "head": torch.ones(3)}, 2)
        self.assertEqual(self.stored(), {"model": ["head", "model.a"]})
        # Of two models neither is the one.
        self.save({"a": {"model": {"w": torch.ones(2)}}, "b": {"model": {"w": torch.ones(3)}}}, 3)
        self.assertEqual(self.stored(), {"model": ["a.model.w", "b.model.w"]})

    def test_plain_data_is_kept_as_such_and_other_objects_as_the_planner_wrote_them(self):
        data = {"lr": 0.1, "big": 2**70, "nan": float("inf"), "none": None, "list": [1, "a", (2, b"x")], "range": range(3)}
        odd = {"lambda": Odd(4), "tuple": (torch.arange(3), 1)}
        self.save({"a": {**data, **odd}}, 1)
        loaded = self.load({"a": dict.fromkeys([*data, *odd])})["a"]
        self.assertEqual({name: loaded[name] for name in data}, data)
        self.assertEqual(loaded["lambda"].value, 4)
        self.assertEqual(loaded["tuple"][0].tolist(), [0, 1, 2])

    def test_planners_that_keep_data_of_their_own_are_refused(self):
        class Planner(DefaultSavePlanner):
            def create_global_plan(self, plans):
                plans, metadata = super().create_global_plan(plans)
                return plans, dataclasses.replace(metadata, planner_data={"own": object()})

        with self.assertRaisesRegex(CheckpointException, "keeps data of its own"):
            self.save({"w": torch.ones(1)}, 1, planner=Planner())
        with self.assertRaisesRegex(CheckpointException, "no iteration yet"):
            self.load({"w": torch.ones(1)})

    def test_planners_that_change_what_is_saved_are_followed(self):
        class Halved(DefaultSavePlanner):
            def transform_object(self, item, object):
                if isinstance(object, torch.Tensor):
                    return object.to(torch.bfloat16)
                return super().transform_object(item, [object])

        self.save({"w": torch.full((3,), 1.5), "n": 4}, 1, planner=Halved())
        loaded = self.load({"w": torch.zeros(3), "n": None})
        self.assertEqual((loaded["w"].tolist(), loaded["w"].dtype, loaded["n"]), ([1.5] * 3, torch.float32, [4]))

    def test_states_that_are_not_nested_and_plans_that_are_kept_are_saved(self):
        planner = DefaultSavePlanner(flatten_state_dict=False, enable_plan_caching=True)
        for step in (1, 2, 3):
            self.save({"w": torch.full((2,), float(step)), "step": step}, step, planner=planner)
        for step in (1, 2, 3):
            loaded = self.load({"w": torch.zeros(2), "step": 0}, f"main@{step}")
            self.assertEqual((loaded["w"].tolist(), loaded["step"]), ([step] * 2, step))

    def test_tensors_without_data_and_of_several_arrays_are_refused(self):
        for tensor in (torch.ones(2, device="meta"), torch.ones(2, 2).to_sparse()):
            with self.assertRaisesRegex(CheckpointException, "model.w is"):
                self.save({"model": {"w": tensor}}, 1)

    def test_what_is_not_there_or_of_another_kind_is_said(self):
        self.save({"w": torch.ones(2)}, 1)
        with self.assertRaisesRegex(CheckpointException, "no iteration at step 2"):
            self.load({"w": torch.ones(2)}, "main@2")
        with self.assertRaisesRegex(CheckpointException, "Missing key"):
            self.load({"v": torch.ones(2)})
        with self.assertRaisesRegex(CheckpointException, "Size mismatch"):
            self.load({"w": torch.ones(3)})

    def stored(self):
        """The names of the tensors in the latest iteration, by file."""
        found = {}
        for file, name in cairn.open(self.store)["latest"]._stored:
            found.setdefault(file.split(".")[0], []).append(name)
        return {part: sorted(names) for part, names in found.items()}


class Odd:
    """No plain data."""

    def __init__(self, value):
        self.value = value


if __name__ == "__main__":
    if len(sys.argv) > 3:
        main(*sys.argv[1:])
    else:
        unittest.main(warnings="ignore")
