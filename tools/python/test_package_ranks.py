#!/usr/bin/env python3
"""Ranks find a name that they have in common and no other launch has, and share what they read."""

import sys
import tempfile
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from cairn import _ranks

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


class DealTests(unittest.TestCase):
    def test_sizes_are_dealt_out_evenly(self):
        sizes = [7, 1, 9, 3, 3, 5, 0]
        owners = _ranks._deal(sizes, 3)
        loads = [sum(size for size, owner in zip(sizes, owners) if owner == rank) for rank in range(3)]
        self.assertEqual(sorted(loads), [9, 9, 10])

    def test_waves_hold_to_a_limit_but_for_what_is_larger(self):
        import torch

        targets = [torch.empty(size, dtype=torch.uint8) for size in (3, 4, 20, 5, 5, 1)]
        self.assertEqual(list(_ranks._waves(targets, 10)), [[0, 1], [2], [3, 4], [5]])
        self.assertEqual(list(_ranks._waves(targets, None)), [[0, 1, 2, 3, 4, 5]])
        self.assertEqual(list(_ranks._waves([], 10)), [])


def rank(number, ranks, file, answers):
    """What a rank of the tests below does."""
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{file}", rank=number, world_size=ranks)
    answers.put((number, {name: check() for name, check in CHECKS.items()}))
    dist.destroy_process_group()


def source(position):
    """What is stored at a position: of several dtypes, shapes and sizes, which the ranks make anew."""
    import torch

    generator = torch.Generator().manual_seed(position)
    kinds = [torch.float32, torch.bfloat16, torch.uint8, torch.bool, torch.complex64, torch.float8_e4m3fn]
    shape = [(), (5, 8), (0, 3), (1000,), (7, 2, 3)][position % 5]
    return torch.randn(shape, generator=generator).mul(50).to(kinds[position % len(kinds)])


def fill(count, limit, strided=False):
    """Reads the sources in a balanced way. Returns whether they came, and which this rank read."""
    import torch

    read = []

    def reader(positions, places):
        for position, place in zip(positions, places):
            assert place.is_contiguous()
            read.append(position)
            place.copy_(source(position))

    targets = [torch.zeros_like(source(position)) for position in range(count)]
    if strided:
        targets = [target.t().contiguous().t() if target.dim() == 2 else target for target in targets]
    _ranks.balanced_read(targets, reader, limit=limit)
    raw = lambda tensor: tensor.contiguous().view(-1).view(torch.uint8)
    return all(torch.equal(raw(target), raw(source(n))) for n, target in enumerate(targets)), read


def failing():
    """The error where one rank can't read, and the balanced read after it."""
    import torch
    import torch.distributed as dist

    def reader(positions, places):
        if dist.get_rank() == 1:
            raise OSError("the disk is gone")

    try:
        _ranks.balanced_read([torch.zeros(3), torch.zeros(4)], reader)
    except Exception as error:
        return type(error).__name__, str(error), fill(10, 1 << 20)[0]


def differing():
    """The error where the ranks want different tensors."""
    import torch
    import torch.distributed as dist

    try:
        _ranks.balanced_read([torch.zeros(3 + dist.get_rank())], lambda positions, places: None)
    except ValueError as error:
        return str(error)


def attempts():
    """The name of the attempt, twice."""
    return _ranks.attempt(), _ranks.attempt()


CHECKS = {
    "whole": lambda: fill(30, 1 << 20),
    "strided": lambda: fill(30, 1 << 20, strided=True),
    "waves": lambda: fill(30, 300, strided=True),
    "failing": failing,
    "differing": differing,
    "attempts": attempts,
}


class GroupTests(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        import torch.multiprocessing

        context = torch.multiprocessing.get_context("spawn")
        answers = context.SimpleQueue()
        with tempfile.TemporaryDirectory(prefix="cairn-ranks.") as folder:
            processes = [context.Process(target=rank, args=(n, 2, f"{folder}/group", answers)) for n in range(2)]
            for process in processes:
                process.start()
            for process in processes:
                process.join(60)
                assert process.exitcode == 0, process.exitcode
        cls.answers = [answer for _, answer in sorted(answers.get() for _ in processes)]

    def test_each_tensor_is_read_by_one_rank_and_comes_to_all(self):
        for name in ("whole", "strided", "waves"):
            first, second = (answer[name] for answer in self.answers)
            self.assertTrue(first[0] and second[0], name)
            self.assertEqual(sorted(first[1] + second[1]), list(range(30)), name)
            self.assertTrue(first[1] and second[1], name)

    def test_where_one_rank_fails_all_do_and_go_on(self):
        first, second = (answer["failing"] for answer in self.answers)
        said = "Rank 1 could not read its part of a balanced load: the disk is gone"
        self.assertEqual(first, ("RuntimeError", said, True))
        self.assertEqual(second, ("OSError", "the disk is gone", True))

    def test_ranks_that_want_different_tensors_are_told_so(self):
        first, second = (answer["differing"] for answer in self.answers)
        self.assertIn("The ranks want different tensors", first)
        self.assertEqual(first, second)

    def test_the_ranks_of_a_group_have_one_attempt(self):
        first, second = (answer["attempts"] for answer in self.answers)
        self.assertEqual(len({*first, *second}), 1)
        self.assertNotEqual(first[0], _ranks.attempt())


if __name__ == "__main__":
    unittest.main(warnings="ignore")
