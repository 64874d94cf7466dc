#!/usr/bin/env python3
"""Ranks find a name that they have in common and no other launch has, and share what they read."""

import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import unittest
import warnings
import weakref
from pathlib import Path
from unittest import mock

import numpy as np

os.environ.update(OMP_NUM_THREADS="1", TORCH_CPP_LOG_LEVEL="ERROR")
sys.path.insert(0, str(Path(__file__).parent))
import torch
import torch.distributed as dist

import cairn
from cairn import _ranks
from cairn._iteration import Iteration

BOOT = "0f2b"
AGENT = {"PATH": "/bin"}
RANK = {"PATH": "/bin", "RANK": "0", "TORCHELASTIC_RUN_ID": "none", "TORCHELASTIC_RESTART_COUNT": "0"}


class Processes:
    """A folder like /proc with a few processes."""

    def __init__(self, folder):
        self.path = Path(folder)
        (self.path / "sys/kernel/random").mkdir(parents=True)
        (self.path / "sys/kernel/random/boot_id").write_text(BOOT + "\n")

    def add(self, number, parent, began, variables=None):
        process = self.path / str(number)
        process.mkdir(exist_ok=True)
        # A program's name may hold blanks and parentheses.
        fields = ["S", str(parent), *["0"] * 17, str(began), "0", "0"]
        (process / "stat").write_text(f"{number} (a (b) c) {' '.join(fields)}\n")
        if variables is not None:
            (process / "environ").write_bytes(b"\0".join(f"{k}={v}".encode() for k, v in variables.items()))


class AttemptTests(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="cairn-ranks.")
        self.addCleanup(folder.cleanup)
        self.processes = Processes(folder.name)
        self.processes.add(1, 0, 10, {})
        self.processes.add(100, 1, 500, AGENT)

    def attempt(self, variables, parent=100):
        self.processes.add("self", parent, 900)
        return _ranks.attempt(variables, self.processes.path)

    def test_ranks_of_one_parent_have_the_same_and_those_of_another_do_not(self):
        first = self.attempt({})
        self.assertEqual(self.attempt({}), first)
        self.assertEqual(first, f"{BOOT}-100-500")
        self.processes.add(200, 1, 500, AGENT)
        self.assertNotEqual(self.attempt({}, parent=200), first)

    def test_a_number_that_came_again_is_another_process(self):
        first = self.attempt({})
        self.processes.add(100, 1, 501, AGENT)
        self.assertNotEqual(self.attempt({}), first)

    def test_scripts_around_ranks_are_not_what_started_them(self):
        first = self.attempt(RANK)
        for script in (101, 102):
            self.processes.add(script, 100, 600 + script, RANK)
            self.assertEqual(self.attempt(RANK, parent=script), first)
        self.processes.add(101, 100, 600, {"PATH": "/bin", "PMI_RANK": "1"})
        self.assertEqual(self.attempt({"PMI_RANK": "1"}, parent=101), f"{BOOT}-100-500")

    def test_a_process_of_another_user_is_what_started_the_ranks(self):
        self.processes.add(300, 1, 700)
        self.assertEqual(self.attempt({}, parent=300), f"{BOOT}-300-700")

    def test_the_first_process_of_a_container_is_its_own(self):
        self.processes.add(1, 0, 10, RANK)
        self.assertEqual(self.attempt(RANK, parent=1), f"torchrun-0-{BOOT}-1-10")
        self.assertEqual(self.attempt(RANK, parent=0), f"torchrun-0-{BOOT}-self-900")

    def test_torchrun_that_starts_its_ranks_again_makes_another_attempt(self):
        first = self.attempt(RANK)
        self.assertNotEqual(self.attempt({**RANK, "TORCHELASTIC_RESTART_COUNT": "1"}), first)
        # The same id, from another agent.
        self.processes.add(200, 1, 800, AGENT)
        self.assertNotEqual(self.attempt(RANK, parent=200), first)

    def test_torchrun_in_a_batch_job_is_known_by_its_agent(self):
        job = {"SLURM_JOB_ID": "7", "SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "1"}
        self.processes.add(100, 1, 500, job)
        first = self.attempt({**job, **RANK})
        self.processes.add(200, 1, 800, job)
        self.assertNotEqual(self.attempt({**job, **RANK}, parent=200), first)

    def test_steps_of_slurm_have_names(self):
        step = {"SLURM_JOB_ID": "7", "SLURM_STEP_ID": "2", "SLURM_STEP_NUM_TASKS": "4"}
        self.assertEqual(self.attempt(step), "slurm-7-2-0")
        self.assertEqual(self.attempt({**step, "SLURM_RESTART_COUNT": "1"}), "slurm-7-2-1")

    def test_a_shell_in_a_step_of_slurm_starts_what_it_likes(self):
        step = {"SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "1"}
        first = self.attempt(step)
        self.processes.add(200, 1, 800, AGENT)
        self.assertNotEqual(self.attempt(step, parent=200), first)

    def test_mpirun_has_names(self):
        self.assertEqual(self.attempt({"PMIX_NAMESPACE": "prterun-n1-77@1", "PMIX_RANK": "3"}), "mpi-prterun-n1-77@1")

    def test_this_process_has_one(self):
        self.assertEqual(_ranks.attempt(), _ranks.attempt())


def state(seed):
    """Parts of several dtypes, shapes and sizes; two names of one tensor."""
    generator = torch.Generator().manual_seed(seed)
    kinds = [torch.float32, torch.bfloat16, torch.uint8, torch.bool, torch.complex64, torch.float8_e4m3fn]
    shapes = [(), (50, 8), (0, 3), (1000,), (7, 2, 3)]
    tensors = [
        torch.randn(shape, generator=generator).mul(50).to(kind).requires_grad_(False) for kind in kinds for shape in shapes]
    model = torch.nn.Linear(30, 20)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, generator=generator)
    return {"model": model, "extra": {"tensors": tensors, "again": tensors[1], "step": seed, "transposed": tensors[1].t()}}


def raw(tensor):
    return tensor.detach().contiguous().view(-1).view(torch.uint8)


def same(loaded, seed):
    """Whether that is the state of a seed."""
    expected = state(seed)
    flat = lambda parts: [*parts["extra"]["tensors"], parts["extra"]["transposed"], *parts["model"].state_dict().values()]
    return loaded["extra"]["step"] == seed and all(
        one.dtype == other.dtype and torch.equal(raw(one), raw(other))
        for one, other in zip(flat(loaded), flat(expected), strict=True))


class Counted:
    """Counts the bytes of tensors that this process reads, and of how many."""

    def __enter__(self):
        self.bytes, self.reads, self.original = 0, 0, Iteration._read

        def read(iteration, wanted, *arguments):
            wanted = list(wanted)
            self.bytes += sum(one.nbytes for one in wanted if one.name is not None)
            self.reads += sum(one.name is not None for one in wanted)
            return self.original(iteration, wanted, *arguments)

        Iteration._read = read
        return self

    def __exit__(self, *_):
        Iteration._read = self.original


def balanced(store, reference, **options):
    """Loads so. Returns the state."""
    model = torch.nn.Linear(30, 20)
    loaded = store.load(reference, model=model, balanced=True, **{"group": dist.group.WORLD, **options})
    return {"model": model, **loaded}


def whole(store):
    """Whether a state came, in small pieces as well, and what this rank has read of it."""
    with Counted() as counted:
        is_same = same(balanced(store, "main@1"), 1)
    with mock.patch.object(_ranks, "_PIECE", 100):
        is_same = is_same and same(balanced(store, "main@2"), 2)
    return is_same, counted.bytes, counted.reads


def of_ranks(store):
    """Whether each rank gets its own part of what ranks have saved; the group is all of them where none is named."""
    return same(balanced(store, "parts@1", rank=dist.get_rank(), group=None), 10 + dist.get_rank())


def by_default(store):
    """What this rank has read of a state where no group is named."""
    with Counted() as counted:
        balanced(store, "main@1", group=None)
    return counted.bytes


def failing(store):
    """The error where one rank can't read, and whether the next load is as if nothing had been."""

    def read(*_):
        raise OSError("the disk is gone")

    original = Iteration._read
    with store["main@1"] as iteration:
        iteration.state("model")
    try:
        if dist.get_rank() == 1:
            Iteration._read = lambda self, wanted, *more: read() if len(list(wanted)) > 1 else original(self, wanted, *more)
        balanced(store, "main@1")
    except Exception as error:
        Iteration._read = original
        return type(error).__name__, str(error), same(balanced(store, "main@1"), 1)


def differing(store):
    """The error where the ranks load different iterations."""
    try:
        balanced(store, f"main@{1 + dist.get_rank()}")
    except cairn.Usage as error:
        return str(error)


def misfit(store):
    """The error where what was saved fits one rank's module alone, and whether the next load is as if nothing had been."""
    try:
        store.load("main@1", model=torch.nn.Linear(30, 20 + dist.get_rank()), balanced=True)
    except cairn.CairnError as error:
        return type(error).__name__, str(error), same(balanced(store, "main@1"), 1)


def missing(store):
    """The error where one rank doesn't find the iteration, whether it is open then, and whether the next load is as if nothing had
    been."""
    opened, init = weakref.WeakSet(), Iteration.__init__

    def noted(iteration, *arguments):
        opened.add(iteration)
        init(iteration, *arguments)

    try:
        with mock.patch.object(Iteration, "__init__", noted):
            store.load(f"main@{1 + 6 * dist.get_rank()}", balanced=True)
    except cairn.CairnError as error:
        is_open = any(iteration._opened.address for iteration in opened if hasattr(iteration, "_opened"))
        return type(error).__name__, str(error), is_open, same(balanced(store, "main@1"), 1)


def attempts(store):
    """The name of the attempt, twice."""
    return _ranks.attempt(), _ranks.attempt()


class Seen(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.seen = torch.zeros(3)

    def get_extra_state(self):
        return self.seen.clone()

    def set_extra_state(self, state):
        self.seen = state.clone()


class Sharded(torch.nn.Module):
    """With two rows or more on each rank, and two extra states: of numbers, and of a tensor."""

    def __init__(self, fill, rows=10):
        super().__init__()
        self.linear, self.last = torch.nn.Linear(7, rows), Seen()
        self.register_buffer("count", torch.tensor(fill))
        self.scale = fill
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.arange(float(parameter.numel())).view_as(parameter) + fill)

    def forward(self, values):
        return self.linear(values)

    def get_extra_state(self):
        return {"scale": self.scale}

    def set_extra_state(self, state):
        self.scale = state["scale"]

    @classmethod
    def of(cls, fill, rows=10):
        from torch.distributed.fsdp import fully_shard
        module = cls(fill, rows)
        module.last.seen += fill
        return fully_shard(module, mesh=dist.init_device_mesh("cpu", (dist.get_world_size(),)))

    def values(self):
        locals_ = [parameter.to_local().tolist() for parameter in self.parameters()]
        return [*locals_, self.count.item(), self.scale, self.last.seen.tolist()]


def sharded(store):
    """Whether a sharded module gets all that was saved of it, and the errors where it can't be."""
    model, number = Sharded.of(5.0), dist.get_rank()
    store.save(1, run="sharded", model=model, rank=number, world_size=dist.get_world_size())
    dist.barrier()
    same, errors = [], []
    for options in ({}, {"balanced": True}):
        other = Sharded.of(1.0)
        store.load("sharded@1", model=other, rank=number, **options)
        same.append(other.values() == model.values())
    smaller, copying, half = Sharded.of(1.0, rows=8), Sharded.of(1.0), Sharded.of(1.0).bfloat16()
    copying.register_state_dict_post_hook(lambda module, state, *_: state.update({"linear.bias": state["linear.bias"].clone()}))
    more = Sharded.of(1.0)
    more.register_buffer("another", torch.zeros(2))
    for other in (smaller, copying, half, more):
        before = other.values()
        try:
            store.load("sharded@1", model=other, rank=number)
        except cairn.CairnError as error:
            errors.append(f"{type(error).__name__}: {error}")
        same.append(other.values() == before)
    return same, errors


def optimized(store):
    """Whether a sharded module and its optimizer go on as they would have, from what the ranks and from what one process has saved,
    and the errors where the state is of other pieces."""
    number, ranks = dist.get_rank(), dist.get_world_size()

    def training(fill, module=Sharded.of):
        model = module(fill)
        return model, torch.optim.AdamW(model.parameters(), lr=0.1)

    def step(model, optimizer):
        model(torch.ones(3, 7)).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()

    def goes_on(reference, model, rank):
        other = training(1.0)
        store.load(reference, model=other[0], optimizer=other[1], rank=rank)
        kinds = {type(value) for state in other[1].state.values() for key, value in state.items() if key != "step"}
        step(*other)
        return kinds == {type(model.linear.weight)} and all(
            torch.allclose(one.to_local(), after.to_local()) for one, after in zip(other[0].parameters(), model.parameters()))

    model, optimizer = training(5.0)
    step(model, optimizer)
    store.save(1, run="optimized", model=model, optimizer=optimizer, rank=number, world_size=ranks)
    alone = training(5.0, Sharded)
    step(*alone)
    if number == 0:
        store.save(1, run="alone", model=alone[0], optimizer=alone[1])
    step(model, optimizer)
    dist.barrier()
    same = [goes_on("optimized@1", model, number), goes_on("alone@1", model, 0)]
    errors = []
    for other, options in ((training(1.0), {"rank": 1 - number}), (alone, {"rank": number})):
        before = str(other[1].state_dict())
        try:
            store.load("optimized@1", optimizer=other[1], **options)
        except cairn.CairnError as error:
            errors.append(f"{type(error).__name__}: {error}")
        same.append(str(other[1].state_dict()) == before)
    return same, errors


def alone(store):
    """The errors where one rank saves what it has of sharded parameters and optimizer states, and what is loaded of a tensor that this
    rank has whole."""
    from torch.distributed.tensor import Replicate, Shard, distribute_tensor
    model, errors = Sharded.of(5.0), []
    optimizer = torch.optim.Adam(model.parameters())
    sum(parameter.sum() for parameter in model.parameters()).backward()
    optimizer.step()
    for parts in ({"model": model}, {"optimizer": optimizer}):
        try:
            store.save(1, run="pieces", **parts)
        except cairn.Usage as error:
            errors.append(str(error))
    mesh = dist.init_device_mesh("cpu", (dist.get_world_size(), 1))
    whole = distribute_tensor(torch.ones(3, 2), mesh, [Replicate(), Shard(0)])
    dist.barrier()
    store.save(dist.get_rank(), run="pieces", model={"w": whole}, optimizer=None)
    dist.barrier()
    return errors, [one["step"] for one in store.iterations("pieces")], store.load("pieces@0")["model"]["w"].tolist()


CHECKS = [whole, of_ranks, by_default, failing, differing, misfit, missing, attempts, sharded, optimized, alone]


def rank(number, ranks, folder):
    """What a rank of the tests below does."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/group", rank=number, world_size=ranks)
    store = cairn.open(f"{folder}/store")
    found = {check.__name__: check(store) for check in CHECKS}
    Path(f"{folder}/{number}.json").write_text(json.dumps(found))
    dist.destroy_process_group()


class GroupTests(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        with tempfile.TemporaryDirectory(prefix="cairn-ranks.") as folder:
            with cairn.open(f"{folder}/store", create=True) as store:
                for step in (1, 2):
                    store.save(step, run="main", **state(step))
                for number in range(2):
                    store.save(1, run="parts", rank=number, world_size=2, attempt="once", **state(10 + number))
            # Forks, which need not import torch anew.
            context = multiprocessing.get_context("fork")
            processes = [context.Process(target=rank, args=(number, 2, folder)) for number in range(2)]
            for process in processes:
                process.start()
            for process in processes:
                process.join(60)
                assert process.exitcode == 0, process.exitcode
            cls.answers = [json.loads(Path(f"{folder}/{number}.json").read_text()) for number in range(2)]

    def of(self, check):
        return [answer[check.__name__] for answer in self.answers]

    def test_each_byte_is_read_by_one_rank_and_comes_to_all(self):
        (first, first_bytes, first_reads), (second, second_bytes, second_reads) = self.of(whole)
        self.assertTrue(first and second)
        parts = state(1)
        tensors = [*parts["extra"]["tensors"], *parts["model"].state_dict().values()]
        self.assertEqual(first_bytes + second_bytes, sum(tensor.nbytes for tensor in tensors))
        self.assertLess(abs(first_bytes - second_bytes), max(tensor.nbytes for tensor in tensors))
        self.assertTrue(first_reads and second_reads)

    def test_the_group_is_that_of_all_ranks_unless_one_is_named(self):
        self.assertEqual(self.of(by_default), [read for _, read, _ in self.of(whole)])
        with self.assertRaisesRegex(cairn.Usage, "there is none; initialize torch.distributed"), \
                tempfile.TemporaryDirectory() as folder, cairn.open(f"{folder}/store", create=True) as store:
            store.save(1, extra=[1])
            store.load(balanced=True)

    def test_parts_of_ranks_are_read_by_each(self):
        self.assertEqual(self.of(of_ranks), [True, True])

    def test_a_sharded_module_gets_all_that_was_saved_or_says_why_not(self):
        for same, errors in self.of(sharded):
            self.assertEqual(same, [True] * 6)
            smaller, copying, half, more = errors
            self.assertRegex(smaller, r"Mismatch: .*linear.weight was saved as F32 \[10, 7\], .* it is F32 \[8, 7\];")
            self.assertRegex(copying, "Usage: .*the linear.bias of its state_dict.. is none of its own")
            self.assertRegex(half, r"Mismatch: .* was saved as F32 .* it is BF16 ")
            self.assertRegex(more, r'(?s)Mismatch: .*Missing key.* "another"')

    def test_a_sharded_optimizer_gets_its_own_pieces_or_says_why_not(self):
        for same, errors in self.of(optimized):
            self.assertEqual(same, [True] * 4)
            for said in errors:
                self.assertRegex(said, r"Usage: .* state.0.exp_avg is another piece of \[10, 7\] .*rank=.*cairn.dcp")
            self.assertEqual(len(errors), 2)

    def test_what_one_rank_has_of_a_sharded_state_is_not_saved_as_the_whole(self):
        for errors, steps, loaded in self.of(alone):
            self.assertEqual((len(errors), steps, loaded), (2, [0, 1], [[1, 1]] * 3))
            self.assertRegex(errors[0], r"^model\.linear\.weight is sharded, .* has \[5, 7\] of \[10, 7\]: .* rank= and world_size=")
            self.assertRegex(errors[1], r"^optimizer\..*exp_avg is sharded")

    def test_where_one_rank_fails_all_do_and_go_on(self):
        said = "rank 1 could not read what it was to send: the disk is gone"
        self.assertEqual(self.of(failing), [["CairnError", said, True], ["OSError", "the disk is gone", True]])

    def test_where_the_module_of_one_rank_does_not_fit_none_waits_for_it(self):
        (first, said, first_same), (second, why, second_same) = self.of(misfit)
        self.assertEqual((first, second, first_same, second_same), ("CairnError", "Mismatch", True, True))
        self.assertRegex(said, "(?s)^rank 1 could not load it: .*size mismatch for weight")
        self.assertIn(why, said)

    def test_where_one_rank_does_not_find_it_none_waits_for_it(self):
        (first, said, *first_after), (second, why, *second_after) = self.of(missing)
        self.assertEqual((first, second, first_after, second_after), ("CairnError", "NotFound", [False, True], [False, True]))
        self.assertRegex(said, "^rank 1 could not open it: .*7")
        self.assertIn(why, said)

    def test_ranks_that_load_different_iterations_are_told_so(self):
        first, second = self.of(differing)
        self.assertIn("the ranks have opened different iterations", first)
        self.assertEqual(first, second)

    def test_the_ranks_of_a_group_have_one_attempt(self):
        first, second = self.of(attempts)
        self.assertEqual(len({*first, *second}), 1)
        self.assertNotEqual(first[0], _ranks.attempt())

    def test_sizes_are_dealt_out_evenly(self):
        sizes = [7, 1, 9, 3, 3, 5, 0]
        owners = _ranks._deal(sizes, 3)
        loads = [sum(size for size, owner in zip(sizes, owners) if owner == rank) for rank in range(3)]
        self.assertEqual(sorted(loads), [9, 9, 10])


class LaunchTests(unittest.TestCase):
    """Launches of two ranks, of which each saves what it has by itself."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="cairn-ranks.")
        self.addCleanup(folder.cleanup)
        self.path = f"{folder.name}/store"
        self.store = cairn.open(self.path, create=True)
        self.addCleanup(self.store.close)

    def save(self, rank, value, attempt, step=10, **options):
        saving = self.store.save(
            step, extra=np.full(9, value), rank=rank, world_size=2, attempt=attempt, environment=False, **options)
        return saving.wait()

    def loaded(self, step=10):
        return [self.store.load(step, rank=rank)["extra"][0] for rank in range(2)]

    def test_the_same_step_is_there_after_a_crash_and_a_launch_that_saves_the_same(self):
        for order in ((0, 1), (1, 0)):
            for value, last in ((1, "a"), (1, "b"), (2, "c")):
                with self.subTest(order=order, value=value):
                    step = 10 * order[0] + value + ord(last)
                    self.save(0, 1, last, step)
                    for rank in order:
                        answer = self.save(rank, value, f"{last}, again", step)
                    self.assertIn("iteration", answer)
                    self.assertEqual(self.loaded(step), [value, value])

    def test_after_a_refused_save_the_next_replaces_all_of_it(self):
        for number, order in enumerate(((0, 1), (1, 0))):
            for rank in range(2):
                self.save(rank, 1, "a", number)
            self.save(0, 2, "b", number)
            with self.assertRaises(cairn.Exists):
                self.save(1, 2, "b", number)
            self.assertTrue(self.save(order[0], 3, "b", number, replace=True)["isPart"])
            self.assertEqual(self.loaded(number), [1, 1])
            self.save(order[1], 3, "b", number, replace=True)
            self.assertEqual(self.loaded(number), [3, 3])

    def test_a_rank_that_is_ahead_by_a_save_gets_no_part_of_the_one_before(self):
        self.save(0, 1, "a")
        self.save(0, 2, "a", replace=True)
        self.assertTrue(self.save(1, 1, "a")["isPart"])
        self.assertEqual(self.store.iterations(), [])
        self.save(1, 2, "a", replace=True)
        self.assertEqual(self.loaded(), [2, 2])

    def test_saves_that_are_skipped_count_as_well(self):
        self.save(0, 1, "a", replace=True)
        with mock.patch.object(self.store._saver, "_is_free", lambda *_: False):
            self.assertIsNone(self.save(1, 1, "a", replace=True))
        for rank in range(2):
            self.save(rank, 2, "a", replace=True)
        self.assertEqual(self.loaded(), [2, 2])

    def test_a_rank_whose_save_failed_can_call_it_again(self):
        self.save(0, 1, "a")
        with self.assertRaises(cairn.NotData):
            self.store.save(10, extra=self, rank=1, world_size=2, attempt="a")
        self.save(1, 1, "a")
        self.assertEqual(self.loaded(), [1, 1])

    def test_a_rank_whose_replacing_save_failed_can_call_it_again(self):
        def is_no_data():
            with self.assertRaises(cairn.NotData):
                self.store.save(10, extra=self, rank=1, world_size=2, attempt="a", replace=True)

        commit = cairn._saving.Session.commit

        def commit_cancelled(session, control):
            while not control.cancel:
                time.sleep(0.001)
            return commit(session, control)

        def is_cancelled():
            with mock.patch.object(cairn._saving.Session, "commit", commit_cancelled):
                saving = self.store.save(
                    10, extra=np.ones(9), rank=1, world_size=2, attempt="a", replace=True, wait=False)
                saving.cancel()
                with self.assertRaises(cairn.Interrupted):
                    saving.wait()

        def is_not_staged():
            with mock.patch.object(self.store._saver.memory, "stage", side_effect=MemoryError), \
                    self.assertRaises(MemoryError):
                self.save(1, 1, "a", replace=True)

        def is_not_written():
            with mock.patch.object(cairn._saving.Session, "commit", side_effect=OSError("the disk is gone")):
                for wait in (True, False):
                    with self.assertRaisesRegex(OSError, "the disk is gone"):
                        self.save(1, 1, "a", replace=True, wait=wait)

        for value, fails in enumerate((is_no_data, is_cancelled, is_not_staged, is_not_written)):
            with self.subTest(fails=fails.__name__):
                fails()
                self.save(0, value, "a", replace=True)
                fails()
                self.save(1, value, "a", replace=True)
                self.assertEqual(self.loaded(), [value, value])

    def test_after_a_refused_replacing_save_all_ranks_call_it_again(self):
        for rank in range(2):
            self.save(rank, 1, "a")
        self.store.pin(10, "good")
        self.save(0, 2, "a", replace=True)
        with self.assertRaises(cairn.Protected):
            self.save(1, 2, "a", replace=True)
        self.store.unpin("good")
        for rank in range(2):
            self.save(rank, 2, "a", replace=True)
        self.assertEqual(self.loaded(), [2, 2])

    def test_a_rank_that_is_behind_is_warned_also_of_a_save_in_the_background(self):
        said = "rank 0 has saved main@10 more often with replace than rank 1.* save it with replace on rank 1 again"
        self.save(0, 1, "a", replace=True)

        def begin():
            saving = self.store.save(
                10, extra=np.full(9, 1), rank=1, world_size=2, attempt="a", environment=False, wait=False)
            while not saving.done():
                time.sleep(0.001)
            return saving

        for hear in (lambda saving: saving.wait(), lambda _: self.store.wait(), lambda _: self.save(0, 1, "b", 11)):
            saving = begin()
            with self.assertWarnsRegex(UserWarning, said):
                hear(saving)
            with warnings.catch_warnings(record=True) as again:
                warnings.simplefilter("always")
                saving.wait()
            self.assertEqual(again, [])
        with self.assertWarnsRegex(UserWarning, said):
            self.save(1, 1, "a")
        self.save(1, 1, "a", replace=True)
        self.assertEqual(self.loaded(), [1, 1])

    def test_a_warning_that_nobody_has_heard_is_printed_at_the_end(self):
        self.save(0, 1, "a", replace=True)
        script = (
            "import sys, cairn\n"
            "store = cairn.open(sys.argv[1])\n"
            "store.save(10, extra=[1], rank=1, world_size=2, attempt='a', wait=False)\n")
        done = subprocess.run(
            [sys.executable, "-c", script, self.path], cwd=os.path.dirname(os.path.abspath(__file__)), capture_output=True, text=True,
            timeout=60, check=True)
        self.assertRegex(done.stderr, "^cairn: the save of step 10: rank 0 has saved main@10 more often")

    def test_a_step_is_there_whenever_a_rank_was_killed_in_the_launch_before(self):
        seed = random.randrange(1 << 32)
        chosen = random.Random(seed)

        def start(step, rank, attempt):
            process = os.fork()
            if process == 0:
                with cairn.open(self.path) as store:
                    store.save(step, extra=np.full(50_000, 2 * step + rank), rank=rank, world_size=2, attempt=attempt)
                os._exit(0)
            return process

        for step in range(6):
            for attempt in "ab":
                processes = [start(step, rank, attempt) for rank in range(2)]
                if attempt == "a":
                    time.sleep(chosen.uniform(0.003, 0.03))
                    os.kill(chosen.choice(processes), signal.SIGKILL)
                for process in processes:
                    os.waitpid(process, 0)
            self.assertEqual([one["step"] for one in self.store.iterations()], [*range(step + 1)], f"seed {seed}")
            self.assertEqual(self.loaded(step), [2 * step, 2 * step + 1], f"seed {seed}")


if __name__ == "__main__":
    unittest.main(warnings="ignore")
