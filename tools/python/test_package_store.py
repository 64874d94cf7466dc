#!/usr/bin/env python3
"""What the package `cairn` promises of saving and loading, also where something fails in the middle."""
import contextlib
import copy
import functools
import gc
import io
import itertools
import json
import os
import pickle
import random
import shutil
import signal
import sys
import threading
import time
import types
import unittest
import warnings
from pathlib import Path
from unittest import mock

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent))
from children import ended, fork
from package_workbench import Gate, PackageTest

import cairn
from cairn import _iteration, _saving, _sigterm
from cairn._following import Following

# What a shell starts in the background ignores interruptions, and these tests are about them.
signal.signal(signal.SIGINT, signal.default_int_handler)
# A child of a process with more threads than one may wait for those that it doesn't have.
torch.set_num_threads(1)
IS_LONG = bool(os.environ.get("CAIRN_TEST_LONG"))
# (memory, staging): of a state of 2.5 MB, the waves of the third are a tenth.
MODES = [("two", "full"), ("one", "full"), ("two", 256 << 10), ("one", "wave")]


def state(seed=0):
    """Tensors of all kinds of memory: contiguous or not, larger than a wave, tiny, empty, of numpy."""
    made = torch.Generator().manual_seed(seed)
    random = np.random.default_rng(seed)
    return {
        "large": torch.randn(300, 1000, generator=made),
        "turned": torch.randn(200, 500, generator=made).t(),
        "every second": torch.randn(4000, generator=made)[::2],
        "small": [torch.tensor(float(seed)), torch.empty(0, 3), torch.arange(5) + seed],
        "array": random.normal(size=(100, 70)),
        "turned array": random.integers(0, 99, (300, 80)).T,
        "layers": {f"{number}": torch.randn(64, 64, generator=made).bfloat16() for number in range(10)},
    }


def leaves(value):
    """All tensors and arrays in a state."""
    if isinstance(value, (torch.Tensor, np.ndarray)):
        return [value]
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else []
    return [leaf for each in inner for leaf in leaves(each)]


def overwrite(value):
    for leaf in leaves(value):
        leaf[...] = 77


def changed(model):
    """Changes a hundredth of a module's elements, as training that hardly moves any more does."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.view(-1)[::100] += 0.01


def bits(model):
    return [tensor.clone() for tensor in model.state_dict().values()]


def bits_of(model):
    """Of its parameters and buffers, whatever its state is."""
    return [tensor.detach().clone() for tensor in (*model.parameters(), *model.buffers())]


class Tests(PackageTest):
    def assert_same(self, got, expected):
        self.assertEqual(type(got), type(expected))
        if isinstance(expected, dict):
            self.assertEqual(list(got), list(expected))
            for key, value in expected.items():
                self.assert_same(got[key], value)
        elif isinstance(expected, (list, tuple)):
            self.assertEqual(len(got), len(expected))
            for one, other in zip(got, expected):
                self.assert_same(one, other)
        elif isinstance(expected, torch.Tensor):
            self.assertEqual((got.dtype, got.shape), (expected.dtype, expected.shape))
            self.assertTrue(torch.equal(got, expected))
        elif isinstance(expected, np.ndarray):
            self.assertEqual(got.dtype, expected.dtype)
            np.testing.assert_array_equal(got, expected)
        else:
            self.assertEqual(got, expected)


class SavingTests(Tests):
    def test_what_makes_no_sense_is_refused_in_words_of_python(self):
        for step, parts in [(1, {}), (-1, {"extra": 1}), ("1", {"extra": 1}), (1.5, {"extra": 1})]:
            with self.subTest(step=step, parts=parts), self.assertRaises(cairn.Usage):
                self.store.save(step, **parts)
        self.store.save(np.int64(1), extra=1)
        for words, call in [
            ("replace=True", lambda: self.store.save(1, extra=2)),
            ('store.unpin("good")', lambda: (self.store.pin(1, "good"), self.store.delete(1))),
            ("create=True", lambda: cairn.open(self.store.path + "-other")),
        ]:
            with self.subTest(words), self.assertRaises(cairn.CairnError) as caught:
                call()
            self.assertIn(words, str(caught.exception))
            self.assertNotIn("--", str(caught.exception))

    def test_a_state_may_change_as_soon_as_save_returns(self):
        for memory, staging in MODES:
            for step in range(1, 4):
                with self.subTest(memory=memory, staging=staging, step=step):
                    given = state(step)
                    saving = self.store.save(step, extra=given, run=f"{memory}-{staging}", memory=memory, staging=staging,
                                             wait=False)
                    overwrite(given)
                    saving.wait()
                    self.assert_same(self.store.load(f"{memory}-{staging}@{step}")["extra"], state(step))

    def test_what_save_was_given_may_be_freed(self):
        with Gate.closed() as gate:
            given = state(1)
            alive = [leaf.data_ptr() for leaf in leaves(given) if isinstance(leaf, torch.Tensor)]
            saving = self.store.save(1, extra=given, wait=False)
            gone = [torch.Tensor.data_ptr(leaf) for leaf in leaves(given) if isinstance(leaf, torch.Tensor)]
            self.assertEqual(alive, gone)
            references = [sys.getrefcount(leaf) for leaf in given["layers"].values()]
            # Of the dictionary, of the loop, of the call.
            self.assertEqual(set(references), {3}, "the save holds on to what it has copied")
            del given
            gc.collect()
            others = [torch.full((300, 1000), 7.0) for _ in range(4)]
            gate.open()
            saving.wait()
        del others
        self.assert_same(self.store.load(1)["extra"], state(1))

    def test_metadata_may_change_as_soon_as_save_returns(self):
        metadata = {"data": {"seen": [1, 2]}}
        with Gate.closed() as gate:
            saving = self.store.save(1, extra={"a": 1}, metadata=metadata, wait=False)
            metadata["data"]["seen"].append(3)
            gate.open()
            saving.wait()
        self.assertEqual(self.store[1].metadata["data"], {"seen": [1, 2]})

    def test_a_save_that_is_waited_for_may_take_any_state(self):
        for staging in ("full", 256 << 10):
            with self.subTest(staging=staging):
                self.store.save(1, extra=state(1), run=f"r{staging}", staging=staging)
                self.assert_same(self.store[f"r{staging}@1"].state("extra"), state(1))

    def test_an_unchanged_state_costs_next_to_nothing(self):
        for memory, staging in MODES:
            for wait in (False, True):
                run = f"{memory}-{staging}-{wait}"
                self.store.save(1, extra=state(), run=run, memory=memory, staging=staging, wait=wait).wait()
                again = self.store.save(2, extra=state(), run=run, memory=memory, staging=staging, wait=wait).wait()
                self.assertEqual(again["newBytes"], 0, run)
                self.assertLess(again["storedBytes"], 20_000, run)

    def test_with_two_copies_no_old_bytes_are_read(self):
        program = """
def read(): return int(open("/proc/self/io").read().split()[1])
for number, memory in enumerate(("two", "one")):
    values = np.random.default_rng(number).normal(size=(800, 500))
    store.save(1, extra=values, run=memory, memory=memory, wait=False).wait()
    before = read()
    for step in range(2, 5):
        values[::7] += 0.001
        store.save(step, extra=values, run=memory, memory=memory, environment=False, wait=False).wait()
    print(read() - before)
"""
        two, one = map(int, self.run_program(program)[0].split())
        # What is left is the end of the journal.
        self.assertLess(two, 1_800_000)
        self.assertGreater(one, two + 3_000_000)

    def test_errors_are_raised_by_wait_and_else_once_by_the_next_save(self):
        self.store.save(1, extra={"a": 1})
        heard = self.store.save(1, extra={"a": 2}, wait=False)
        with self.assertRaises(cairn.Exists):
            heard.wait()
        self.store.save(2, extra={"a": 2}, wait=False).wait()

        failed = self.store.save(1, extra={"a": 3}, wait=False)
        said = r"^the save of step 1 failed, and that of step 3 was not begun \(call it again\): .*main@1"
        with self.assertRaisesRegex(cairn.Exists, said) as caught:
            self.store.save(3, extra={"a": 3}, wait=False)
        self.assertIs(caught.exception.__cause__, failed._background.error)
        self.assertEqual((caught.exception.code, caught.exception.path), (failed._background.error.code, failed._background.error.path))
        self.store.save(3, extra={"a": 3}, wait=False).wait()

        self.store.save(1, extra={"a": 3}, wait=False)
        with self.assertRaisesRegex(cairn.Exists, "^the save of step 1 failed: .*main@1"):
            self.store.wait()
        self.store.wait()
        self.store.save(1, extra={"a": 3}, wait=False)
        with self.assertRaises(cairn.Exists):
            self.store.close()
        with self.assertRaisesRegex(cairn.Usage, "closed"):
            self.store.save(4, extra={"a": 4})
        self.assert_whole(1, 2, 3)

    def test_a_failure_of_another_kind_is_told_alike(self):
        def fail():
            raise MemoryError("no room")

        with Gate.closed(before=fail) as gate:
            gate.open()
            self.store.save(1, extra={"a": 1}, wait=False)._background.wait()
        with self.assertRaisesRegex(cairn.CairnError, r"^the save of step 1 failed, .* step 2 .*: no room$") as caught:
            self.store.save(2, extra={"a": 2})
        self.assertIsInstance(caught.exception.__cause__, MemoryError)
        self.store.save(2, extra={"a": 2})
        self.assert_whole(2)

    def test_what_is_no_state_is_refused_at_once(self):
        for error, arguments in (
            (cairn.NotData, {"extra": {"a": [object()]}}),
            (cairn.Usage, {"extra": 1, "metadata": {"a": object()}}),
            (cairn.Usage, {"extra": 1, "when_busy": "no"}),
            (cairn.Usage, {"extra": 1, "memory": 3}),
            (cairn.Usage, {"extra": 1, "staging": "some"}),
            (cairn.Usage, {"extra": 1, "rank": 1}),
            (cairn.Usage, {"../a": 1}),
        ):
            for wait in (True, False):
                with self.subTest(arguments=arguments), self.assertRaises(error):
                    self.store.save(1, wait=wait, **arguments)
        with self.assertRaises(cairn.NotData) as caught:
            self.store.save(1, extra={"a": [object()]}, wait=False)
        self.assertEqual(caught.exception.path, "extra.a[0]")
        self.store.save(1, extra={"a": 1}, wait=False).wait()

    def test_the_same_step_again(self):
        for wait in (True, False):
            run = str(wait).lower()
            self.store.save(1, model={"a": torch.ones(9)}, run=run, wait=wait).wait()
            self.assertTrue(self.store.save(1, model={"a": torch.ones(9)}, run=run, wait=wait).wait()["unchanged"])
            with self.assertRaises(cairn.Exists):
                self.store.save(1, model={"a": torch.zeros(9)}, run=run, wait=wait).wait()
            self.store.save(1, model={"a": torch.zeros(9)}, run=run, wait=wait, replace=True).wait()
            self.assert_same(self.store[f"{run}@1"].state("model"), {"a": torch.zeros(9)})

    def test_a_save_is_skipped_while_another_is_under_way(self):
        with Gate.closed() as gate:
            first = self.store.save(1, extra={"a": 1}, wait=False)
            gate.wait()
            second = self.store.save(2, extra={"a": 2}, wait=False, when_busy="skip")
            self.assertEqual((first.done(), first.skipped, second.done(), second.skipped), (False, False, True, True))
            self.assertIsNone(second.wait())
            with self.assertRaises(TimeoutError):
                first.wait(timeout=0.01)
            gate.open()
            first.wait()
        third = self.store.save(3, extra={"a": 3}, wait=False, when_busy="skip")
        self.assertFalse(third.skipped)
        third.wait()
        self.assert_whole(1, 3)

    def test_what_is_asked_for_waits_for_the_save_under_way(self):
        with Gate.closed() as gate:
            self.store.save(1, extra={"a": 1}, wait=False)
            gate.wait()
            # Another thread doesn't wait.
            seen = []
            other = threading.Thread(target=lambda: seen.append(self.store.iterations()))
            other.start()
            other.join()
            self.assertEqual(seen, [[]])
            threading.Timer(0.05, gate.open).start()
            self.assertEqual(self.store.pin("latest", "good")["step"], 1)
        self.store.save(2, extra={"a": 2}, wait=False)
        self.assertEqual(self.store.load()["extra"], {"a": 2})
        self.store.save(2, extra={"a": 3}, wait=False)
        self.assertEqual(self.store["latest"].step, 2)
        with self.assertRaises(cairn.Exists):
            self.store.wait()

    def test_the_next_save_waits_for_the_last(self):
        with Gate.closed() as gate:
            first = self.store.save(1, extra=state(1), wait=False)
            gate.wait()
            threading.Timer(0.1, gate.open).start()
            self.store.save(2, extra=state(2), wait=False)
            self.assertTrue(first.done())
        self.store.wait()
        self.assert_whole(1, 2)

    def test_a_cancelled_save_leaves_nothing(self):
        with Gate.closed() as gate:
            saving = self.store.save(1, extra=state(1), wait=False)
            gate.wait()
            saving.cancel()
            with self.assertRaises(cairn.Interrupted):
                saving.wait()
        self.store.save(2, extra=state(2), wait=False).wait()
        self.assert_whole(2)

    def test_a_save_that_is_cancelled_before_it_begins_gives_back_all_it_has(self):
        start = threading.Thread.start

        def late(thread):
            if thread.name.startswith("cairn-save"):
                thread.name = "cancelled"
                self.store._saver._last.cancel()
            start(thread)

        memory = self.store._saver.memory
        for step, (copies, staging) in enumerate(MODES):
            with self.subTest(memory=copies, staging=staging), mock.patch.object(threading.Thread, "start", late):
                saving = self.store.save(step, extra=state(1), wait=False, memory=copies, staging=staging)
                saving._background.wait()
                self.assertEqual((len(memory._free), memory.base, saving in _saving._open), (1, None, False))
                # Of a save in waves most is written already.
                self.assertEqual(list(self.path.glob("packs/*")), [])
                with self.assertRaisesRegex(cairn.Interrupted, "before it began"):
                    saving.wait()
        self.assert_whole()

    def test_two_stores_save_into_one_run_in_turns(self):
        model = torch.nn.Linear(400, 500)
        stores = [self.store, self.open()]
        full = self.store.save(0, model=model, wait=False).wait()["storedBytes"]
        expected = {}
        for step in range(1, 9):
            changed(model)
            expected[step] = bits(model)
            saved = stores[step % 2].save(step, model=model, wait=False, memory="two").wait()
            # What the other one has saved is read where the own copy is an older one.
            self.assertLess(saved["storedBytes"], full / 4)
        for step, tensors in expected.items():
            self.assert_same(list(self.store[step].state("model").values()), tensors)

    def test_threads_share_a_store(self):
        def work(number):
            for step in range(5):
                self.store.save(step, extra=state(10 * number + step), run=f"r{number}", wait=step % 2 == 0)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.store.wait()
        for number in range(3):
            for step in range(5):
                self.assert_same(self.store[f"r{number}@{step}"].state("extra"), state(10 * number + step))

    def test_a_store_that_is_dropped_ends_its_save_first(self):
        store = self.open()
        with Gate.closed() as gate:
            saving = store.save(1, extra=state(1), wait=False)
            gate.wait()
            del store
            self._cleanups.pop()
            gc.collect()
            gate.open()
            saving.wait()
        self.assert_same(self.store.load()["extra"], state(1))

    def test_memory_is_kept_from_save_to_save_and_given_back(self):
        memory = self.store._saver.memory
        for step in range(4):
            self.store.save(step, extra=state(step), wait=False).wait()
        self.assertEqual((len(memory._free), memory.base is not None), (1, True))
        self.store.save(4, extra=state(4), wait=False, memory="one").wait()
        self.assertEqual((len(memory._free), memory.base), (1, None))
        self.store.close()
        self.assertEqual(memory._free, [])

    @unittest.skipUnless(IS_LONG, "takes a state of 1.2 GB")
    def test_memory_is_bounded(self):
        program = """
import threading, time
values = {str(n): np.random.default_rng(n).normal(size=(1000, 1250)) for n in range(120)}
def used():
    return int(next(line for line in open("/proc/self/status") if line.startswith("VmRSS")).split()[1]) << 10
before, most = used(), 0
def watch():
    global most
    while True:
        most = max(most, used()); time.sleep(0.002)
threading.Thread(target=watch, daemon=True).start()
for step in range(3):
    for one in values.values(): one[::50] += 1e-6
    store.save(step, extra=values, wait=False, **OPTIONS).wait()
print(most - before)
"""
        for options, copies in ((dict(memory="two"), 2400e6), (dict(memory="one"), 1200e6), (dict(staging=64 << 20), 64e6)):
            said, _ = self.run_program(program.replace("**OPTIONS", f"run='r{copies:.0f}', **{options!r}"))
            print(f"{options}: {int(said) / 1e6:.0f} MB beside the state of 1200 MB")
            self.assertLess(int(said), copies + (600 << 20))


class WeatherTests(Tests):
    def test_a_full_disk_fails_the_save_and_nothing_else(self):
        self.store.save(1, extra=state(1))
        program = """
given = np.arange(500_000.0)
saving = store.save(2, extra=given, wait=False)
try: saving.wait()
except cairn.CairnError as error: print("wait", error)
try: store.save(3, extra=given, wait=False)
except cairn.CairnError as error: print("save", error)
store.save(3, extra=given, wait=False).wait()
"""
        unheard = program.replace("saving.wait()", "raise LookupError").replace("except cairn", "except LookupError: pass\nexcept cairn", 1)
        # The first call of this kind below this path: to make the pack, to fill it, to make it durable, to commit.
        places = [("packs", "meta", program), ("packs", "write", unheard), ("packs", "sync", program), ("journal", "sync", unheard)]
        for number, (name, calls, which) in enumerate(places):
            faults = {"CAIRN_FAULT": "enospc:1", "CAIRN_FAULT_CALLS": calls, "CAIRN_FAULT_UNDER": str(self.path / name)}
            said, _ = self.run_program(which.replace("extra", f"run='r{number}', extra"), faults=faults)
            self.assertRegex(said, f"^{'wait' if which is program else 'save'} .*{self.path / name}.*space")
        self.assertEqual([one["step"] for one in self.store.iterations()], [1, 3, 3, 3, 3])
        self.assertTrue(self.cairn("verify")["ok"])
        self.assert_same(self.store.load("main@1")["extra"], state(1))

    def test_a_store_that_is_deleted_fails_the_save(self):
        self.store.save(1, extra=state(1), wait=False).wait()
        with Gate.closed(before=lambda: shutil.rmtree(self.path)) as gate:
            gate.open()
            saving = self.store.save(2, extra=state(2), wait=False)
            with self.assertRaises(cairn.CairnError):
                saving.wait()
        for wait in (False, True):
            with self.assertRaises(cairn.CairnError):
                self.store.save(3, extra=state(3), wait=wait).wait()
        self.store.close()
        self.store = self.open(create=True)
        self.store.save(4, extra=state(4), wait=False).wait()
        self.assert_whole(4)

    def test_a_killed_process_leaves_what_was_saved(self):
        self.store.save(1, extra=state(1))
        chance = random.Random(5)
        for step in range(2, 12 if IS_LONG else 6):
            def work():
                store = cairn.open(self.path)
                for number in itertools.count():
                    store.save(step, extra=state(number), wait=False, replace=True)

            child = fork(work)
            time.sleep(0.02 + chance.random() / 10)
            os.kill(child, signal.SIGKILL)
            self.assertEqual(ended(child), -signal.SIGKILL)
            self.store.save(step, extra=state(step), wait=False, replace=True).wait()
            self.assert_same(self.store.load()["extra"], state(step))
        self.assertEqual(self.cairn("verify")["problems"], [])
        self.assert_same(self.store.load(1)["extra"], state(1))

    def test_an_exception_in_the_training_leaves_the_save_alone(self):
        with self.assertRaises(ZeroDivisionError), self.open() as store, Gate.closed() as gate:
            threading.Timer(0.05, gate.open).start()
            store.save(1, extra=state(1), wait=False)
            1 / 0
        self.assert_same(self.store.load()["extra"], state(1))

    def test_an_interpreter_that_ends_finishes_the_save(self):
        program = "store.save(1, extra=np.arange(300_000), wait=False)\n"
        for number, end in enumerate(["sys.exit(0)", "del store"]):
            self.run_program(program.replace("extra", f"run='r{number}', extra") + end)
            np.testing.assert_array_equal(self.store[f"r{number}@1"].state("extra"), np.arange(300_000))
        self.run_program("import atexit; atexit.register(store.save, 1, extra=np.arange(9), run='exit', wait=False)")
        np.testing.assert_array_equal(self.store["exit@1"].state("extra"), np.arange(9))
        self.run_program(program.replace("extra", "run='error', extra") + "1 / 0", status=1)
        np.testing.assert_array_equal(self.store["error@1"].state("extra"), np.arange(300_000))

    def test_an_error_that_nobody_asked_for_is_printed_in_the_end(self):
        self.store.save(1, extra={"a": 1})
        _, said = self.run_program("store.save(1, extra={'a': 2}, wait=False)")
        self.assertRegex(said, "^cairn: the save of step 1 failed: .*main@1")
        _, said = self.run_program("try: store.save(1, extra={'a': 2}, wait=False).wait()\nexcept cairn.Exists: pass")
        self.assertEqual(said, "")

    def test_ctrl_c_gives_up_a_save_that_is_waited_for(self):
        with Gate.closed() as gate:
            interrupt = threading.Thread(target=lambda: (gate.wait(), os.kill(os.getpid(), signal.SIGINT)))
            interrupt.start()
            with self.assertRaises(KeyboardInterrupt):
                self.store.save(1, extra=state(1))
            interrupt.join()
        self.assert_whole()
        self.store.save(1, extra=state(2))
        self.assert_whole(1)

    def test_ctrl_c_gives_up_a_save_in_waves(self):
        take = _saving.Session.take

        def slow(session, control):
            os.kill(os.getpid(), signal.SIGINT)
            while not control.cancel:
                time.sleep(0.01)
            take(session, control)

        with mock.patch.object(_saving.Session, "take", slow), self.assertRaises(KeyboardInterrupt):
            self.store.save(1, extra=state(1), wait=False, staging=256 << 10)
        self.store.save(2, extra=state(2), wait=False, staging=256 << 10).wait()
        self.assert_whole(2)

    def test_ctrl_c_at_any_moment_leaves_all_or_nothing(self):
        """Also where the thread is just being started."""
        chance = random.Random(1)
        saved = 0
        for step in range(60 if IS_LONG else 15):
            given = state(step)
            # The first comes when all is saved, also where machines are slow.
            timer = threading.Timer(chance.random() / 40 if step else 0.9, os.kill, (os.getpid(), signal.SIGINT))
            try:
                timer.start()
                self.store.save(step, extra=given, wait=step % 3 > 0).wait()
                timer.join()
                time.sleep(1)
            except KeyboardInterrupt:
                # What was being read belongs to the training again.
                overwrite(given)
            else:
                self.fail("there was no interruption")
            with self.assertRaises(LookupError) if not self.has(step) else self.subTest(step):
                self.assert_same(self.store.load(step)["extra"], state(step))
                saved += 1
        self.store.wait()
        self.assertGreater(saved, 0)
        self.assertTrue(self.cairn("verify")["ok"])

    def has(self, step):
        self.store.wait()
        return any(one["step"] == step for one in self.store.iterations())

    def test_ctrl_c_in_closing_uses_nothing_that_is_closed(self):
        store = self.open()
        with Gate.closed() as gate:
            store.save(1, extra=state(1), wait=False)
            gate.wait()
            with self.assertRaises(KeyboardInterrupt):
                threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
                store.close()
        self.assert_whole()

    def test_a_store_of_a_newer_version_is_refused(self):
        self.store.close()
        described = json.loads((self.path / "cairn.json").read_text())
        described["format"] += 1
        (self.path / "cairn.json").write_text(json.dumps(described))
        with self.assertRaises(cairn.NewerVersion):
            cairn.open(self.path)

    def test_a_state_of_a_newer_version_is_refused(self):
        with mock.patch.object(_saving, "STATE_VERSION", 2):
            self.store.save(1, extra=state(1))
        with self.assertRaises(cairn.NewerVersion):
            self.store.load()
        self.assertEqual(self.store[1].tensor("extra.large").shape, (300, 1000))

    def test_processes_and_the_command_share_a_store(self):
        def work(number):
            store = cairn.open(self.path)
            for step in range(4):
                store.save(step, extra=state(step), run=f"r{number}", wait=False)
                # The same of both.
                store.save(step, extra=state(step), run="both", wait=False)
            store.close()

        (self.folder / "notes").mkdir()
        (self.folder / "notes/a.bin").write_bytes(b"a" * 1_000_000)
        children = [fork(lambda number=number: work(number)) for number in range(2)]
        for step in range(3):
            self.cairn("save", self.folder / "notes", "--run", "cli", "--step", step)
            self.cairn("list")
        self.assertEqual([ended(child) for child in children], [0, 0])
        self.assertEqual(len(self.cairn("list")), 4 + 4 + 4 + 3)
        self.assertTrue(self.cairn("verify")["ok"])
        for step in range(4):
            self.assert_same(self.store[f"both@{step}"].state("extra"), state(step))


class FollowingTests(Tests):
    """What plugins and callbacks do beside a training."""

    def test_a_failure_that_nobody_asked_for_is_printed_in_the_end(self):
        self.store.save(1, extra={"a": 1})
        program = """
from cairn._following import Following
following = Following()
following.add(store.save(1, extra={"a": 2}, wait=False).wait)
"""
        _, said = self.run_program(program + "1 / 0", status=1)
        self.assertRegex(said, "(?m)^cairn: a save, or what follows one, failed: .*main@1")
        # Each is said once, as a training that ends may hear of the first alone.
        two = program + "following.add(store.delete, 7)\ntry: following.wait()\nexcept cairn.Exists: pass"
        _, said = self.run_program(two)
        self.assertRegex(said, r"\Acairn: a save, or what follows one, failed: .*7.*\n\Z")

    def test_nothing_is_said_of_what_went_well_or_was_heard_or_is_a_parents(self):
        program = """
import threading
from cairn._following import Following
following, goes_on = Following(), threading.Event()
following.add(store.save(1, extra={"a": 2}, wait=False).wait)
following.add(goes_on.wait)
child = os.fork()
if child:
    assert os.waitpid(child, 0)[1] == 0
    goes_on.set()
    following.wait()
    following.add(store.save(1, extra={"a": 3}, wait=False).wait)
    try: following.wait()
    except cairn.Exists: pass
"""
        self.assertEqual(self.run_program(program), ("", ""))


    def test_a_child_waits_for_nothing_that_only_its_parent_does(self):
        following, goes_on = Following(), threading.Event()
        self.addCleanup(following.wait)
        self.addCleanup(goes_on.set)
        following.add(goes_on.wait)

        def work():
            signal.alarm(60)
            following.check()
            following.wait()
            following.add(self.folder.joinpath("child").touch)
            following.wait()

        self.assertEqual(ended(fork(work)), 0)
        self.assertTrue((self.folder / "child").exists())


class ForkTests(Tests):
    def test_a_child_has_to_open_the_store_itself(self):
        self.store.save(1, extra={"a": 1})
        iteration = self.store[1]
        with Gate.closed() as gate:
            saving = self.store.save(2, extra=state(2), wait=False)
            gate.wait()

            def work():
                for call in (
                    lambda: self.store.save(3, extra=1), lambda: self.store.save(3, extra=1, wait=False),
                    self.store.iterations, self.store.gc, self.store.load, lambda: iteration.read("cairn_state.json"), saving.wait,
                ):
                    try:
                        call()
                    except cairn.Usage as error:
                        assert "fork" in str(error) or "process" in str(error), error
                    else:
                        raise AssertionError("a child used its parent's store")
                self.store.wait()
                self.store.close()
                gate.open()
                with cairn.open(self.path) as own:
                    own.save(9, extra=state(9), wait=False).wait()
                    own.save(10, extra=state(10))
                    own.load(9)
                gc.collect()
                threading._shutdown()

            child = fork(work)
            self.assertEqual(ended(child), 0)
            gate.open()
            saving.wait()
        self.assert_whole(1, 2, 9, 10)

    def test_children_that_end_as_programs_do(self):
        program = """
children = []
for step in range(8):
    store.save(step, extra=np.random.default_rng(step).normal(size=20_000), wait=False)
    child = os.fork()
    if child == 0: break
    children.append(child)
else:
    store.wait()
    print([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children])
"""
        said, errors = self.run_program(program)
        self.assertEqual((json.loads(said), errors), ([0] * 8, ""))
        self.assert_whole(*range(8))

    def test_workers_of_a_data_loader_are_forked_while_saves_run(self):
        data = torch.utils.data.TensorDataset(torch.arange(64.0))
        for step in range(3):
            self.store.save(step, extra=state(step), wait=False)
            loader = torch.utils.data.DataLoader(data, batch_size=16, num_workers=2)
            self.assertEqual(sum(batch.sum().item() for batch, in loader), 2016)
        self.store.wait()
        self.assert_whole(0, 1, 2)


class SignalTests(Tests):
    def test_a_handler_that_saves_while_a_save_begins_is_told_what_to_do(self):
        class Signalling:
            def state_dict(self):
                signal.raise_signal(signal.SIGUSR1)
                return {"a": 1}

        def work():
            # Where it waits for itself.
            signal.alarm(30)
            store, heard = cairn.open(self.path), []

            def handler(*_):
                try:
                    store.save(9, extra=1)
                except cairn.Usage as error:
                    heard.append(str(error))

            signal.signal(signal.SIGUSR1, handler)
            for step, wait in enumerate((True, False)):
                store.save(step, model=Signalling(), wait=wait)
                assert len(heard) == step + 1 and "set a flag" in heard[step], heard
            store.wait()
            # While one goes on it may.
            with Gate.closed() as gate:
                store.save(2, extra=2, wait=False)
                gate.wait()
                gate.open()
                signal.raise_signal(signal.SIGUSR1)
            assert len(heard) == 2, heard

        self.assertEqual(ended(fork(work)), 0)
        self.assert_whole(0, 1, 2, 9)


class SigtermTests(Tests):
    def terminated(self, work):
        """The status of a child that says when it is ready for its SIGTERM."""
        reader, writer = os.pipe()
        child = fork(lambda: work(cairn.open(self.path), lambda: os.write(writer, b".")))
        os.read(reader, 1)
        os.kill(child, signal.SIGTERM)
        os.close(reader), os.close(writer)
        return ended(child)

    def test_by_default_the_process_ends(self):
        def work(store, ready):
            store.save(1, extra=state(1))
            with Gate.closed() as gate:
                store.save(2, extra=state(2), wait=False)
                gate.wait()
                ready()
                time.sleep(60)

        self.assertEqual(self.terminated(work), -signal.SIGTERM)
        self.assert_whole(1)

    def test_a_last_save_is_made_before_the_process_ends(self):
        def work(store, ready, wait):
            with cairn.on_sigterm(lambda: store.save(7, extra=state(7), wait=wait)):
                ready()
                time.sleep(60)

        for wait in (True, False):
            self.assertEqual(self.terminated(lambda *given: work(*given, wait)), -signal.SIGTERM)
            self.assert_same(self.store.load(7)["extra"], state(7))

    def test_no_step_is_cut_in_half(self):
        def work(store, ready):
            done = torch.zeros(2)
            with cairn.on_sigterm(lambda: store.save(int(done[1]), extra=done)) as sigterm:
                for _ in range(300):
                    with sigterm.hold(), sigterm.hold():
                        done[0] += 1
                        ready()
                        time.sleep(0.2)
                        done[1] += 1

        self.assertEqual(self.terminated(work), -signal.SIGTERM)
        begun, ended = self.store.load()["extra"]
        self.assertEqual(begun, ended)

    def test_a_save_under_way_ends_first(self):
        def work(store, ready):
            with cairn.on_sigterm(lambda: store.save(2, extra=state(2))), Gate.closed() as gate:
                def go():
                    gate.wait()
                    ready()
                    while not _sigterm._state.due:
                        time.sleep(0.01)
                    gate.open()

                threading.Thread(target=go).start()
                store.save(1, extra=state(1))
                raise AssertionError("it goes on")

        self.assertEqual(self.terminated(work), -signal.SIGTERM)
        self.assert_whole(1, 2)

    def test_the_last_save_is_made_though_one_before_has_failed(self):
        self.store.save(1, extra={"a": 1})

        def work(store, ready):
            os.dup2(os.open(self.folder / "said", os.O_WRONLY | os.O_CREAT), 2)
            with cairn.on_sigterm(lambda: store.save(7, extra=state(7))):
                store.save(1, extra={"a": 2}, wait=False)
                ready()
                time.sleep(60)

        self.assertEqual(self.terminated(work), -signal.SIGTERM)
        self.assert_whole(1, 7)
        self.assertRegex((self.folder / "said").read_text(), r"\Acairn: the save of step 1 failed: main@1 .*\n\Z")

    def test_a_last_save_that_fails_ends_the_process_as_well(self):
        def work(store, ready):
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            with cairn.on_sigterm(lambda: store.save(1, extra=object())):
                ready()
                time.sleep(60)

        self.assertEqual(self.terminated(work), -signal.SIGTERM)
        self.assert_whole()

    def test_whoever_handled_it_before_gets_it_then(self):
        def work(store, ready):
            signal.signal(signal.SIGTERM, lambda *_: os._exit(int(store.latest_step())))
            store.latest_step = lambda: store.iterations()[-1]["step"]
            with cairn.on_sigterm(lambda: store.save(5, extra=1)):
                ready()
                time.sleep(60)

        self.assertEqual(self.terminated(work), 5)

    def test_one_within_another_saves_and_then_the_other_does(self):
        def work(store, ready, holds):
            def save():
                return store.save(len(store.iterations()), extra=1)

            with cairn.on_sigterm(save), cairn.on_sigterm(save), cairn.on_sigterm(save) as sigterm:
                with sigterm.hold() if holds else contextlib.nullcontext():
                    ready()
                    time.sleep(1 if holds else 60)
                time.sleep(60)

        for count, holds in ((3, False), (6, True)):
            self.assertEqual(self.terminated(lambda *given: work(*given, holds)), -signal.SIGTERM)
            self.assert_whole(*range(count))

    def test_other_signals_are_handled_alike_and_none_is_lost(self):
        def work(store, ready):
            heard = []
            signal.signal(signal.SIGUSR1, lambda *_: (heard.append(1), store.save(10 + len(heard), extra=1)))
            signals = signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR1
            with cairn.on_sigterm(lambda: store.save(1, extra=1), signals=signals):
                signal.raise_signal(signal.SIGUSR1)
                assert heard == [1], heard
            with cairn.on_sigterm(lambda: store.save(2, extra=1), signals=signals) as sigterm, sigterm.hold():
                signal.raise_signal(signal.SIGUSR1)
                ready()
                while len(_sigterm._state.due) < 2:
                    time.sleep(0.01)

        self.assertEqual(self.terminated(work), -signal.SIGTERM)
        self.assert_whole(1, 2, 11, 12)

    def test_children_save_nothing(self):
        def work(store, ready):
            with cairn.on_sigterm(lambda: store.save(1, extra=1)):
                reader, writer = os.pipe()
                # What comes before a child of Python's runs is lost.
                child = fork(lambda: (os.write(writer, b"."), time.sleep(60)))
                os.read(reader, 1)
                os.kill(child, signal.SIGTERM)
                os._exit(9 if ended(child) == -signal.SIGTERM else 1)

        child = fork(lambda: work(cairn.open(self.path), None))
        self.assertEqual(ended(child), 9)
        self.assert_whole()

    def test_it_ends_with_its_block_and_is_for_the_main_thread(self):
        before = signal.getsignal(signal.SIGTERM)
        with cairn.on_sigterm(lambda: None):
            self.assertNotEqual(signal.getsignal(signal.SIGTERM), before)
        self.assertEqual(signal.getsignal(signal.SIGTERM), before)
        caught = []

        def work():
            try:
                cairn.on_sigterm(lambda: None).__enter__()
            except cairn.Usage as error:
                caught.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        self.assertEqual(len(caught), 1)

    def test_what_can_not_be_handled_leaves_all_as_it_was(self):
        before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGUSR1)
        for bad in (signal.SIGKILL, 0, 9999, "SIGTERM"):
            with self.subTest(bad), self.assertRaisesRegex(cairn.Usage, "no signal that a process can handle.*signals="):
                cairn.on_sigterm(lambda: None, signals=(signal.SIGTERM, bad, signal.SIGUSR1)).__enter__()
            self.assertEqual((signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGUSR1)), before)

    def test_one_is_entered_again_only_when_it_was_left(self):
        before = signal.getsignal(signal.SIGTERM)
        sigterm = cairn.on_sigterm(lambda: None)
        for _ in range(2):
            with sigterm:
                handler = signal.getsignal(signal.SIGTERM)
                with self.assertRaisesRegex(cairn.Usage, "in use already; make another"):
                    sigterm.__enter__()
                self.assertEqual(signal.getsignal(signal.SIGTERM), handler)
            self.assertEqual(signal.getsignal(signal.SIGTERM), before)


def network(width=40):
    return torch.nn.Sequential(torch.nn.Linear(30, width), torch.nn.BatchNorm1d(width), torch.nn.Linear(width, 2))


def train(model, optimizer, scheduler=None, steps=2):
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.randn(8, 30)).square().mean().backward()
        optimizer.step()
        if scheduler:
            scheduler.step()


class LoadingTests(Tests):
    def test_a_training_goes_on_as_if_it_had_not_been_stopped(self):
        torch.manual_seed(3)
        random.seed(3)
        np.random.seed(3)

        def parts(seed):
            torch.manual_seed(seed)
            model = network()
            optimizer = torch.optim.AdamW([
                {"params": model[0].parameters(), "lr": 0.1}, {"params": model[2].parameters(), "weight_decay": 0.5}], amsgrad=True)
            return model, optimizer, torch.optim.lr_scheduler.StepLR(optimizer, 2, 0.5), torch.Generator().manual_seed(seed)

        model, optimizer, scheduler, generator = parts(1)
        train(model, optimizer, scheduler)
        torch.randn(3, generator=generator)
        self.store.save(2, model=model, optimizer=optimizer, scheduler=scheduler, rng={
            "torch": torch.get_rng_state(), "numpy": np.random.get_state(), "python": random.getstate(),
            "own": generator.get_state()}, extra={"epoch": 3, "name": "a", "seen": (1, 2)}, wait=False)
        train(model, optimizer, scheduler)
        drawn = torch.rand(1).item(), np.random.rand(), random.random(), torch.rand(1, generator=generator).item()

        other, other_optimizer, other_scheduler, other_generator = parts(2)
        places = [tensor.data_ptr() for tensor in other.state_dict().values()]
        rest = self.store.load(model=other, optimizer=other_optimizer, scheduler=other_scheduler)
        self.assertEqual([tensor.data_ptr() for tensor in other.state_dict().values()], places)
        self.assertEqual(rest["extra"], {"epoch": 3, "name": "a", "seen": (1, 2)})
        torch.set_rng_state(rest["rng"]["torch"])
        np.random.set_state(rest["rng"]["numpy"])
        random.setstate(rest["rng"]["python"])
        other_generator.set_state(rest["rng"]["own"])
        train(other, other_optimizer, other_scheduler)
        self.assertEqual(
            drawn, (torch.rand(1).item(), np.random.rand(), random.random(), torch.rand(1, generator=other_generator).item()))
        self.assert_same(other.state_dict(), model.state_dict())
        self.assert_same(other_optimizer.state_dict(), optimizer.state_dict())
        self.assert_same(other_scheduler.state_dict(), scheduler.state_dict())

    def test_a_module_is_read_to_where_its_tensors_lie(self):
        model, other = network(), network()
        self.store.save(1, model=model, wait=False)
        with mock.patch.object(_iteration, "empty", side_effect=AssertionError("memory for a copy")):
            self.store.load(model=other)
        self.assert_same(bits(other), bits(model))

    def test_damage_is_an_error_that_names_the_tensor(self):
        self.store.save(1, model=network(), extra=np.random.default_rng(0).bytes(100))
        self.store.save(2, model={"w": torch.randn(100_000, generator=torch.Generator().manual_seed(1))})
        pack = max((self.path / "packs").iterdir(), key=lambda path: path.stat().st_size)
        data = bytearray(pack.read_bytes())
        data[20_000] ^= 1
        pack.write_bytes(data)
        with self.assertRaisesRegex(cairn.Damage, "w"):
            self.store.load(2)
        self.store.load(1)

    def test_a_model_of_other_shapes_stays_as_it_is(self):
        self.store.save(1, model=network(), optimizer=torch.optim.SGD(network().parameters()))
        other = torch.nn.Sequential(torch.nn.Linear(30, 41), torch.nn.BatchNorm1d(40), torch.nn.Identity(), torch.nn.Linear(1, 1))
        before = bits(other)
        for strict in (True, False):
            with self.assertRaises(cairn.Mismatch) as caught:
                self.store.load(model=other, strict=strict)
            said = str(caught.exception)
            self.assertRegex(said, r"size mismatch for 0.weight.*\[40, 30\].*\[41, 30\]")
            self.assertEqual('Missing key(s) in state_dict: "3.weight", "3.bias"' in said, strict)
            self.assertEqual('Unexpected key(s) in state_dict: "2.weight", "2.bias"' in said, strict)
            self.assert_same(bits(other), before)

    def test_a_model_that_has_only_some_of_it(self):
        self.store.save(1, model=network())
        other = torch.nn.Sequential(torch.nn.Linear(30, 40), torch.nn.BatchNorm1d(40))
        with self.assertRaises(cairn.Mismatch):
            self.store.load(model=other)
        self.store.load(model=other, strict=False)
        saved = self.store[1].state("model")
        self.assert_same(dict(other.state_dict()), {name: tensor for name, tensor in saved.items() if name[0] != "2"})

    def test_nothing_is_changed_where_one_of_several_does_not_fit(self):
        model = network()
        self.store.save(1, model=model, optimizer=torch.optim.SGD(model.parameters()))
        other = network()
        before = bits(other)
        with self.assertRaisesRegex(cairn.Mismatch, r"groups of \[6\].*groups of \[2\]"):
            self.store.load(model=other, optimizer=torch.optim.SGD(other[0].parameters()))
        with self.assertRaisesRegex(cairn.NotFound, "no part scheduler: it has model, optimizer"):
            self.store.load(model=other, scheduler=torch.optim.SGD(other.parameters()))
        with self.assertRaisesRegex(cairn.Usage, "load_state_dict"):
            self.store.load(model=other, optimizer={})
        self.assert_same(bits(other), before)

    def test_nothing_is_changed_where_something_of_it_can_not_be_made_here(self):
        model = network()
        optimizer = torch.optim.AdamW(model.parameters())
        train(model, optimizer)
        held = types.SimpleNamespace(a=1)
        self.store.save(1, model=model, optimizer=optimizer, extra={"a": [torch.ones(3)]})
        self.store.save(2, model=model, optimizer=optimizer, extra={"held": [held]}, allow_pickle=True)
        self.store.save(3, model={**model.state_dict(), "held": held}, optimizer=optimizer, allow_pickle=True)
        other = network()
        other_optimizer = torch.optim.AdamW(other.parameters(), lr=7)
        before = bits(other)
        targets = {"model": other, "optimizer": other_optimizer}
        for reference, options, said in (
            (1, {"map_location": "cuda:77"}, r"(?s)^optimizer\.state.*was on cpu: .*; pass map_location="),
            (1, {"map_location": {"cpu": "cuda:77"}}, "was on cpu: "),
            (1, {"map_location": "no device"}, "was on cpu: "),
            (1, {"map_location": torch.float16}, "was on cpu: "),
            (2, {}, r"^extra\.held\[0\] was kept as a pickle: pass allow_pickle=True"),
            (3, {"strict": False}, r"^model\.held was kept as a pickle: pass allow_pickle=True"),
        ):
            for chosen in (targets, {"model": other}):
                with self.subTest(reference=reference, options=options, chosen=list(chosen)):
                    with self.assertRaisesRegex(cairn.Usage, said):
                        self.store.load(reference, **chosen, **options)
                    self.assert_same(bits(other), before)
                    self.assertEqual((other_optimizer.param_groups[0]["lr"], len(other_optimizer.state)), (7, 0))
        rest = self.store.load(2, **targets, allow_pickle=True)
        self.assertEqual(rest["extra"], {"held": [held]})
        self.assert_same(bits(other), bits(model))

    def test_a_function_says_where_tensors_go_that_are_not_read_to_where_they_lie(self):
        model, asked = network(), []

        def location(storage, device):
            asked.append(device)
            return storage.clone()

        self.store.save(1, model=model, extra={"a": torch.arange(6).view(2, 3), "b": [1]})
        other = network()
        rest = self.store.load(model=other, map_location=location)
        self.assert_same(bits(other), bits(model))
        self.assert_same(rest["extra"], {"a": torch.arange(6).view(2, 3), "b": [1]})
        self.assertEqual(asked, ["cpu"])

    def test_an_optimizer_for_parameters_of_other_shapes_is_refused(self):
        def stepped(kind, width, **options):
            model = torch.nn.Sequential(torch.nn.Linear(width, 4), torch.nn.Linear(4, 1))
            optimizer = kind(model.parameters(), **options)
            model(torch.ones(2, width)).sum().backward()
            optimizer.step()
            return optimizer

        class Projecting(torch.optim.AdamW):
            """Such as one that keeps a projection of what it learns."""

        kinds = [
            (torch.optim.AdamW, {"amsgrad": True}, "exp_avg"), (torch.optim.SGD, {"momentum": 0.9}, "momentum_buffer"),
            (torch.optim.RMSprop, {}, "square_avg"), (torch.optim.Adagrad, {}, "sum"), (torch.optim.Rprop, {}, "prev"),
            (torch.optim.Adadelta, {}, "square_avg"), (torch.optim.Adamax, {}, "exp_avg"), (torch.optim.ASGD, {}, "ax"),
        ]
        for step, (kind, options, key) in enumerate(kinds):
            with self.subTest(kind.__name__):
                saved = stepped(kind, 3, **options)
                self.store.save(step, optimizer=saved)
                other = stepped(kind, 5, **options)
                before = copy.deepcopy(other.state_dict())
                said = rf"optimizer of main@{step} doesn't fit: state.0.{key} was saved as \[4, 3\], and its parameter is \[4, 5\]$"
                with self.assertRaisesRegex(cairn.Mismatch, said):
                    self.store.load(step, optimizer=other)
                self.assert_same(other.state_dict(), before)
                same = stepped(kind, 3, **options)
                self.store.load(step, optimizer=same)
                self.assert_same(same.state_dict(), saved.state_dict())
        # Where it can't be known that it is wrong, it is loaded.
        self.store.load(0, optimizer=Projecting(stepped(torch.optim.AdamW, 5).param_groups[0]["params"]))
        hooked = stepped(torch.optim.AdamW, 5)
        hooked.register_load_state_dict_pre_hook(lambda optimizer, state: {**state, "state": {}})
        self.store.load(0, optimizer=hooked)
        for step, kind in enumerate((torch.optim.LBFGS, torch.optim.Adafactor), 50):
            saved, same = (kind(torch.nn.Linear(9, 2).parameters()) for _ in range(2))
            for parameter in saved.param_groups[0]["params"]:
                parameter.grad = torch.ones_like(parameter)
            saved.step(lambda: torch.tensor(1.0))
            self.store.save(step, optimizer=saved)
            self.store.load(step, optimizer=same)
            self.assert_same(same.state_dict(), saved.state_dict())

    def test_weights_that_are_tied_stay_tied(self):
        model = torch.nn.Sequential(torch.nn.Linear(9, 9), torch.nn.Linear(9, 9))
        model[1].weight = model[0].weight
        saved = self.store.save(1, model=model).wait()
        self.assertEqual(saved["tensors"], 3)
        other = torch.nn.Sequential(torch.nn.Linear(9, 9), torch.nn.Linear(9, 9))
        self.store.load(model=other)
        self.assert_same(bits(other), bits(model))
        self.assertIsNot(other[0].weight, other[1].weight)
        other[1].weight = other[0].weight
        with torch.no_grad():
            other[0].weight.zero_()
        self.store.load(model=other)
        self.assertIs(other[0].weight, other[1].weight)
        self.assert_same(bits(other), bits(model))
        got = self.store[1].state("model")
        self.assertEqual(got["0.weight"].data_ptr(), got["1.weight"].data_ptr())

    def test_tied_weights_that_only_one_side_has_are_missing_or_unexpected(self):
        linear = torch.nn.Linear(9, 9)
        for step, saved, other, key in (
            (1, torch.nn.Sequential(linear), torch.nn.Sequential(linear, linear), "Missing"),
            (2, torch.nn.Sequential(linear, linear), torch.nn.Sequential(linear), "Unexpected"),
        ):
            self.store.save(step, model=saved)
            with self.assertRaisesRegex(cairn.Mismatch, f'{key} key.* "1.weight", "1.bias"'):
                self.store.load(step, model=other)
            self.store.load(step, model=other, strict=False)

    def test_what_shares_memory_across_parts_is_loaded_whole(self):
        model = network()
        self.store.save(1, extra={"again": model[0].weight}, model=model)
        self.store.save(2, model=model, extra={"again": model[0].weight})
        for step in (1, 2):
            other = network()
            rest = self.store.load(step, model=other)
            self.assert_same(bits(other), bits(model))
            self.assertTrue(torch.equal(rest["extra"]["again"], model[0].weight))
            self.assertNotEqual(rest["extra"]["again"].data_ptr(), other[0].weight.data_ptr())

    def test_a_model_of_another_type_gets_the_values(self):
        model = network()
        self.store.save(1, model=model)
        other = network().to(torch.bfloat16)
        self.store.load(model=other)
        self.assert_same(other[0].weight.data, model[0].weight.data.to(torch.bfloat16))

    def test_models_whose_memory_is_arranged_otherwise(self):
        model = torch.nn.Conv2d(3, 8, 3).to(memory_format=torch.channels_last)
        self.store.save(1, model=model, wait=False).wait()
        for other in (torch.nn.Conv2d(3, 8, 3), torch.nn.Conv2d(3, 8, 3).to(memory_format=torch.channels_last)):
            self.store.load(model=other)
            self.assert_same(bits(other), bits(model))
        self.assertTrue(other.weight.is_contiguous(memory_format=torch.channels_last))
        self.assertTrue(self.store[1].state("model")["weight"].is_contiguous(memory_format=torch.channels_last))

    def test_hooks_and_extra_state_have_their_say(self):
        class Counting(torch.nn.Linear):
            count = 0

            def get_extra_state(self):
                return {"count": self.count}

            def set_extra_state(self, state):
                self.count = state["count"]

        model = Counting(4, 4)
        model.count = 5
        self.store.save(1, model=model)
        other = Counting(4, 4)
        other.register_load_state_dict_pre_hook(lambda module, state, *_: state.update(weight=state["weight"] + 1))
        self.store.load(model=other)
        self.assertEqual(other.count, 5)
        self.assertTrue(torch.equal(other.weight, model.weight + 1))

    def test_what_a_module_says_of_its_own_state_comes_through_its_own_code(self):
        class Own(torch.nn.Linear):
            """Holds tensors in its extra state, or all of its state in another form."""

        class Extra(Own):
            def __init__(self):
                super().__init__(3, 2)
                self.scale = torch.ones(2)

            def get_extra_state(self):
                return self.scale.clone()

            def set_extra_state(self, state):
                assert not state.is_meta
                self.scale = state.clone()

        class Nested(Extra):
            def get_extra_state(self):
                return {"scale": self.scale.clone()}

            def set_extra_state(self, state):
                self.scale = torch.tensor(state["scale"].tolist())

        class Cloned(Own):
            def state_dict(self, *arguments, **options):
                return {name: tensor.clone() for name, tensor in super().state_dict(*arguments, **options).items()}

        class Packed(Own):
            def _save_to_state_dict(self, destination, prefix, keep_vars):
                destination[prefix + "both"] = torch.cat([self.weight.flatten(), self.bias]).detach()
                destination[prefix + "kind"] = "packed"

            def _load_from_state_dict(self, state, prefix, *_):
                assert state[prefix + "kind"] == "packed"
                with torch.no_grad():
                    self.weight.copy_(state[prefix + "both"][:6].view(2, 3))
                    self.bias.copy_(state[prefix + "both"][6:])

        class Swapped(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.a, self.b = torch.nn.Parameter(torch.randn(4)), torch.nn.Parameter(torch.randn(4))

            def state_dict(self, *arguments, **options):
                state = super().state_dict(*arguments, **options)
                return {"a": state["b"], "b": state["a"]}

        class Asking(Own):
            """Reckons anew where something changed."""

            def _load_from_state_dict(self, state, prefix, *others):
                self.has_changed = not torch.equal(self.weight, state[prefix + "weight"])
                super()._load_from_state_dict(state, prefix, *others)

        def hooked(*hooks):
            model = torch.nn.Linear(3, 2)
            for register, hook in hooks:
                getattr(model, register)(hook)
            return model

        def cloned(module, state, prefix, local):
            for name in state:
                state[name] = state[name].cpu().clone()

        def doubled(module, state, prefix, local):
            state["weight"] = state["weight"] * 2

        def halved(module, state, *_):
            assert state["weight"].sum().item() != 0
            state["weight"] = state["weight"] / 2

        def counted(module, *_):
            module.rows = module.weight.sum(1).tolist()

        for step, make in enumerate((
            Extra, Nested, lambda: Cloned(3, 2), lambda: Packed(3, 2), Swapped, lambda: Asking(3, 2),
            lambda: torch.nn.Sequential(Extra(), torch.nn.BatchNorm1d(2)),
            lambda: hooked(("register_state_dict_post_hook", cloned)),
            lambda: hooked(("register_state_dict_post_hook", doubled), ("register_load_state_dict_pre_hook", halved)),
            lambda: hooked(("register_load_state_dict_post_hook", counted)),
        )):
            model, other, reference = make(), make(), make()
            for one in (model, other, reference):
                for place, tensor in enumerate([*one.parameters(), *(own.scale for own in one.modules() if hasattr(own, "scale"))]):
                    tensor.detach().fill_({id(model): 3, id(other): 7, id(reference): 7}[id(one)] + place)
            with self.subTest(step):
                self.store.save(step, model=model)
                reference.load_state_dict(model.state_dict())
                self.store.load(step, model=other)
                self.assert_same(bits_of(other), bits_of(reference))
                known = [{name: value for name, value in vars(one).items() if name in ("scale", "rows", "has_changed")}
                         for one in (*other.modules(), *reference.modules())]
                self.assert_same(known[: len(known) // 2], known[len(known) // 2 :])

    def test_modules_whose_code_is_torchs_are_read_to_where_their_tensors_lie(self):
        class Tied(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.first, self.last = torch.nn.Embedding(5, 4), torch.nn.Linear(4, 5)
                self.last.weight = self.first.weight
                self.register_buffer("mask", torch.ones(3), persistent=False)
                self.register_buffer("count", torch.tensor(2))

        def wrapped():
            return torch.nn.parallel.DistributedDataParallel(network())

        torch.distributed.init_process_group("gloo", init_method=f"file://{self.folder}/group", rank=0, world_size=1)
        self.addCleanup(torch.distributed.destroy_process_group)
        for step, make in enumerate((
            network, Tied, wrapped, lambda: torch.compile(network(), backend="eager"),
            lambda: torch.nn.utils.parametrizations.weight_norm(torch.nn.Linear(3, 2)),
            lambda: torch.nn.utils.parametrizations.spectral_norm(torch.nn.Linear(3, 2)),
        )):
            model, other = make(), make()
            with torch.no_grad():
                for tensor in other.parameters():
                    tensor += 1
            with self.subTest(step):
                self.store.save(step, model=model)
                with mock.patch.object(_iteration, "empty", side_effect=AssertionError("memory for a copy")):
                    self.store.load(step, model=other)
                self.assert_same(bits(other), bits(model))

    def test_a_module_without_memory_is_refused(self):
        self.store.save(1, model=network())
        with torch.device("meta"):
            other = network()
        with self.assertRaisesRegex(cairn.Usage, r"model.0.weight is on the meta device.*to_empty"):
            self.store.load(model=other)
        self.store.load(model=other.to_empty(device="cpu"))
        self.assert_same(bits(other), list(self.store[1].state("model").values()))

    def test_a_module_whose_shapes_are_found_out_gets_them(self):
        model = torch.nn.Linear(3, 2)
        self.store.save(1, model=model)
        other = torch.nn.LazyLinear(2)
        self.store.load(model=other)
        self.assert_same(bits(other), bits(model))

    def test_extra_state_stays_where_something_else_does_not_fit(self):
        class Counting(torch.nn.Linear):
            count = 0

            def get_extra_state(self):
                return self.count

            def set_extra_state(self, state):
                self.count = state

        model, other = Counting(3, 2), Counting(3, 2)
        model.count = 5
        self.store.save(1, model=model, optimizer=torch.optim.SGD(model.parameters()))
        with self.assertRaises(cairn.Mismatch):
            self.store.load(model=other, optimizer=torch.optim.SGD([other.weight]))
        self.assertEqual(other.count, 0)

    def test_parts_are_read_by_name(self):
        self.store.save(1, model=network(), extra=state(1), more=[1, 2])
        with self.store[1] as iteration:
            self.assert_same(iteration.state("extra"), state(1))
            self.assertEqual(list(iteration.state("more", "extra")), ["more", "extra"])
            self.assertEqual(list(iteration.state()), ["model", "extra", "more"])
            with self.assertRaisesRegex(cairn.NotFound, "no part optimizer: it has model, extra, more"):
                iteration.state("optimizer")
        with self.assertRaisesRegex(cairn.Usage, "closed"):
            iteration.state("extra")
        with self.assertRaises(cairn.NotFound):
            self.store[5]

    def test_torchs_default_device_changes_nothing(self):
        made = torch.randn(3, 3).relu()
        everything = {
            "large": torch.randn(300_000), "complex": torch.randn(2, 2, dtype=torch.complex128), "coo": made.to_sparse(),
            "csr": made.to_sparse_csr(), "quantized": torch.quantize_per_tensor(made, 0.1, 0, torch.qint8), "conj": torch.randn(2, 2) + 0j,
            "channels": torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last), "view": made[1:], "whole": made}
        everything["conj"] = everything["conj"].conj()
        model, other = network(), network()
        optimizer, second = (torch.optim.AdamW(one.parameters()) for one in (model, other))
        train(model, optimizer)
        narrow = network().half()
        with torch.device("meta"):
            self.store.save(1, model=model, optimizer=optimizer, everything=everything)
            loaded = self.store.load(1, model=other, optimizer=second)
            self.store.load(1, model=narrow)
            row = self.store[1].tensor("everything.large")[2:4]
        self.assertEqual({tensor.device.type for tensor in loaded["everything"].values()}, {"cpu"})
        for tensors in (loaded["everything"], everything):
            tensors.update(coo=tensors["coo"].to_dense(), csr=tensors["csr"].to_dense())
        self.assert_same(loaded["everything"], everything)
        self.assert_same(bits(other), bits(model))
        self.assert_same(bits(narrow), bits(copy.deepcopy(model).half()))
        self.assert_same(second.state_dict(), optimizer.state_dict())
        self.assert_same(row, everything["large"][2:4])

    def test_large_tensors_are_as_any_others(self):
        """Though they have pages of their own, which go with them."""
        saved = {"a": torch.randn(3, 500_000), "b": torch.randn(600_000).bfloat16(), "c": torch.randint(9, (2_000_000,), dtype=torch.uint8)}
        self.store.save(1, model=saved)
        loaded = self.store[1].state("model")
        for name, tensor in loaded.items():
            self.assertEqual(
                (tensor.untyped_storage().nbytes(), tensor.storage_offset(), tensor._is_view(), tensor.is_leaf),
                (tensor.nbytes, 0, False, True))
            tensor.requires_grad_(tensor.is_floating_point())
        self.assert_same(copy.deepcopy(loaded["c"]), saved["c"])
        (loaded["a"] * 2).sum().backward()
        self.assertEqual(loaded["a"].grad[0, 0], 2)
        file = io.BytesIO()
        torch.save(loaded["b"].detach(), file)
        self.assertLess(file.tell(), 1_250_000)
        shared = loaded["c"].share_memory_()
        self.assertTrue(shared.is_shared())
        self.assert_same(shared.add_(1), saved["c"] + 1)
        del shared

        def resident():
            return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

        self.store.save(2, model={"large": torch.ones(20_000_000)})
        before = resident()
        large = self.store[2].state("model")["large"]
        self.assertGreater(resident(), before + 60_000_000)
        del large
        self.assertLess(resident(), before + 20_000_000)

    def test_without_torch_tensors_are_arrays(self):
        self.store.save(1, model=network(), extra={"numbers": torch.arange(6).view(2, 3), "b": b"c"})
        said, _ = self.run_program("""
extra = store.load()["extra"]
print(type(extra["numbers"]).__name__, extra["numbers"].tolist(), extra["b"], store[1].tensor("0.weight")[:2].shape)
store.save(2, extra=extra, wait=False).wait()
assert store.diff(1, 2)["changed"] == [], store.diff(1, 2)
""")
        self.assertEqual(said.strip(), "ndarray [[0, 1, 2], [3, 4, 5]] b'c' (2, 30)")

    def test_an_iteration_outlives_its_store(self):
        self.store.save(1, extra=state(1))
        iteration = self.store[1]
        self.store.close()
        self.assert_same(iteration.state("extra"), state(1))


class RankTests(Tests):
    def test_an_iteration_is_there_when_all_ranks_are_in(self):
        stores = [self.store, self.open(), self.open()]
        for step, order in ((1, (0, 1, 2)), (2, (2, 0, 1))):
            for place, rank in enumerate(order):
                saving = stores[rank].save(step, model={"w": torch.full((9,), rank + step)}, extra={"rank": rank}, rank=rank,
                                           world_size=3, attempt="a", wait=False)
                self.assertEqual(saving.wait().get("isPart", False), place < 2)
                self.assertEqual([one["step"] for one in self.store.iterations()], list(range(1, step + (place == 2))))
        for rank in range(3):
            got = self.store.load(2, rank=rank)
            self.assert_same(got, {"model": {"w": torch.full((9,), rank + 2)}, "extra": {"rank": rank}})
        with self.assertRaises(cairn.NotFound):
            self.store.load(2, rank=3)
        self.assert_whole(1, 2)

    def test_ranks_that_save_at_once(self):
        def work(rank):
            store = cairn.open(self.path)
            for step in range(3):
                store.save(step, model=state(step), extra={"rank": rank}, rank=rank, world_size=3, attempt="a", wait=False)
            store.close()

        children = [fork(lambda rank=rank: work(rank)) for rank in range(3)]
        self.assertEqual([ended(child) for child in children], [0, 0, 0])
        self.assert_whole(0, 1, 2)
        for rank in range(3):
            self.assert_same(self.store.load(1, rank=rank), {"model": state(1), "extra": {"rank": rank}})

    def test_a_rank_of_another_attempt_completes_nothing(self):
        self.store.save(1, extra=0, rank=0, world_size=2, attempt="a")
        self.assertTrue(self.store.save(1, extra=1, rank=1, world_size=2, attempt="b").wait()["isPart"])
        self.assertEqual(self.store.iterations(), [])
        # It comes twice, and the other one again.
        self.store.save(1, extra=1, rank=1, world_size=2, attempt="b")
        self.assertNotIn("isPart", self.store.save(1, extra=5, rank=0, world_size=2, attempt="b").wait())
        self.assertEqual([self.store.load(1, rank=rank)["extra"] for rank in (0, 1)], [5, 1])
        self.assert_whole(1)

    def test_replicas_that_are_saved_at_once_cost_nothing(self):
        def used():
            return sum(path.stat().st_blocks * 512 for path in (self.path / "packs").iterdir())

        values = torch.randn(1_000_000, generator=torch.Generator().manual_seed(1))
        self.store.save(0, model={"w": values[:1]})
        empty = used()

        def work(rank):
            store = cairn.open(self.path)
            with Gate.closed() as gate:
                saving = store.save(1, model={"w": values}, rank=rank, world_size=2, attempt="a", wait=False)
                gate.wait()
                os.kill(os.getpid(), signal.SIGSTOP)
                gate.open()
                saving.wait()

        children = [fork(lambda rank=rank: work(rank)) for rank in range(2)]
        for child in children:
            os.waitpid(child, os.WUNTRACED)
        for child in children:
            os.kill(child, signal.SIGCONT)
        self.assertEqual([ended(child) for child in children], [0, 0])
        self.assertEqual(len(self.store.iterations()), 2)
        for _ in range(2):
            stored, on_disk = self.store.stats()["storedBytes"], used() - empty
            print(f"replicas of {values.nbytes:,} bytes: {stored:,} stored, {on_disk:,} on disk")
            self.store.gc()
        self.assertLess(on_disk, 1.03 * values.nbytes)


class ArgumentTests(Tests):
    def refused(self, expected, **options):
        with self.subTest(options=options), self.assertRaisesRegex(cairn.Usage, expected):
            self.store.save(1, **{"extra": [1], **options})

    def test_what_can_not_be_meant_is_refused_before_anything_is_saved(self):
        self.refused("no option memroy; write memory=", memroy="one")
        self.refused(r"no option metric; write metrics=\.\.\., or for a part of the state extra=\{'metric': ", metric={"loss": 1})
        self.refused("the metric loss has to be a number, not None", metrics={"loss": None})
        self.refused("the metric loss has to be a number, not tensor", metrics={"loss": torch.ones(2)})
        self.refused("metrics are numbers by name", metrics=[1])
        self.refused("the file x has to be bytes, text, or a Path, not int", files={"x": 5})
        self.refused("what cairn keeps there itself", files={"cairn_state.json": "{}"})
        self.refused("holds a zero byte", files={"a\0b": "x"})
        self.refused("zero bytes", run="a\0b")
        self.refused("can't be the name of a part", **{"a\nb": [1]})
        self.refused(r"no option overwrite, .* write extra=\{'overwrite': True\}", overwrite=True)
        self.refused("model is the class Linear; give the object", model=torch.nn.Linear)
        self.refused("model is 'out/model.pt', and no state", model="out/model.pt")
        with self.assertRaisesRegex(cairn.Usage, "5 has to be text"):
            self.store.iterations(5)
        with self.assertRaisesRegex(cairn.Usage, "on_sigterm calls a function, and 5 is none"):
            cairn.on_sigterm(5)
        for step in (1 << 53, True, 1.0, -1, None):
            with self.subTest(step=step), self.assertRaisesRegex(cairn.Usage, "step"):
                self.store.save(step, extra=[1])
        for reference in (None, True, 1.0):
            with self.subTest(reference=reference), self.assertRaisesRegex(cairn.Usage, "a step is a whole number"):
                self.store[reference]
        with self.assertRaises(TypeError):
            iter(self.store)
        with self.assertRaisesRegex(cairn.Usage, "zero byte"):
            cairn.open(f"{self.path}\0x")
        self.assertEqual(self.store.iterations(), [])

    def test_only_where_a_store_could_be_made_it_is_said_how(self):
        (self.folder / "empty").mkdir()
        (self.folder / "full").mkdir()
        (self.folder / "full/file").touch()
        with self.assertRaisesRegex(cairn.NotAStore, "empty is not a store; pass create=True to make one"):
            cairn.open(self.folder / "empty")
        for path in ("full", "full/file"):
            with self.assertRaisesRegex(cairn.NotAStore, f"{path} is not a store, and not an empty folder"):
                cairn.open(self.folder / path)

    def test_what_ends_a_block_is_not_hidden_by_a_save_that_failed(self):
        self.store.save(1, extra=[1])
        said = io.StringIO()
        with contextlib.redirect_stderr(said), self.assertRaises(KeyError), cairn.open(self.path) as store:
            store.save(1, extra=[2], wait=False)
            raise KeyError
        self.assertRegex(said.getvalue(), "^cairn: the save of step 1 failed: .*main@1")
        with self.assertRaises(cairn.Exists), cairn.open(self.path) as store:
            store.save(1, extra=[2], wait=False)

    def test_what_is_not_loaded_where_that_is_allowed_is_told(self):
        saved, target = torch.nn.Linear(2, 2), torch.nn.Sequential(torch.nn.Linear(2, 2))
        self.store.save(1, model=saved)
        with self.assertWarns(UserWarning) as warned:
            self.store.load(1, model=target, strict=False)
        self.assertEqual([str(one.message) for one in warned.warnings], [
            "model keeps what was not saved: 0.weight, 0.bias", "model has no place for what was saved: weight, bias"])
        self.assertEqual(warned.filename, __file__)

    def test_a_warning_that_is_an_error_comes_when_all_is_loaded(self):
        scheduler = types.SimpleNamespace(load_state_dict=mock.Mock())
        self.store.save(1, model=torch.nn.Linear(2, 2), scheduler={"step": 5})
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with self.assertRaisesRegex(UserWarning, "model keeps what was not saved"):
                self.store.load(1, model=torch.nn.Sequential(torch.nn.Linear(2, 2)), scheduler=scheduler, strict=False)
        scheduler.load_state_dict.assert_called_once_with({"step": 5})

    def test_files_are_texts_bytes_and_the_content_of_paths(self):
        (self.folder / "config.yaml").write_text("a: 1")
        self.store.save(np.int64(1), extra=[1], metrics={"loss": torch.tensor(2.0)}, files={
            "text": "one", "bytes": memoryview(b"two"), "conf/config.yaml": self.folder / "config.yaml"})
        with self.store[np.int64(1)] as iteration:
            self.assertEqual([iteration.read(name) for name in ("text", "bytes", "conf/config.yaml")], [b"one", b"two", b"a: 1"])
            self.assertEqual(iteration.metrics, {"loss": 2.0})


class WrapperTests(Tests):
    def test_what_is_wrapped_around_a_module_is_no_part_of_its_names(self):
        made = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3))
        for step, wrap in enumerate((torch.compile, torch.nn.DataParallel, lambda one: torch.nn.DataParallel(torch.compile(one)))):
            with self.subTest(step=step):
                self.store.save(step, model=wrap(made))
                self.assertEqual(sorted(self.store[step].tensors), sorted(made.state_dict()))
                for other in (lambda one: one, wrap):
                    plain = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3))
                    self.store.load(step, model=other(plain))
                    self.assert_same(plain.state_dict(), made.state_dict())


class CopyTests(Tests):
    def test_nothing_that_is_open_can_be_copied_deeply_or_pickled(self):
        self.store.save(1, model={"w": torch.ones(3)})
        iteration = self.store[1]
        for one in (self.store, iteration, iteration.tensor("w")):
            for make in (copy.deepcopy, pickle.dumps):
                with self.subTest(one=repr(one), make=make), self.assertRaisesRegex(cairn.Usage, "can't be copied or pickled"):
                    make(one)
        gc.collect()
        # What was begun of a copy has closed nothing.
        self.assertEqual(iteration.tensor("w").torch().tolist(), [1, 1, 1])
        self.assertEqual(len(self.store.iterations()), 1)

    def test_what_is_open_or_closed_can_be_printed(self):
        self.store.save(1, extra=[1])
        iteration = self.store[1]
        self.assertEqual(repr(iteration), "<cairn iteration main@1>")
        other = self.store[1]
        shutil.rmtree(self.path)
        self.assertEqual(repr(other), "<cairn iteration>")
        for each in (iteration, other):
            each.close()
        self.assertEqual([repr(iteration), repr(other)], ["<cairn iteration main@1, closed>", "<cairn iteration, closed>"])


class TensorTests(Tests):
    def test_slices_are_those_of_numpy(self):
        arrays = {
            "cube": np.arange(7 * 6 * 5, dtype=np.int32).reshape(7, 6, 5), "row": np.arange(100_000, dtype=np.float64),
            "number": np.array(3.5, np.float32), "empty": np.empty((0, 4), np.float32), "table": np.random.rand(300, 200),
        }
        self.store.save(1, extra=arrays)
        chance = random.Random(2)

        def part(length):
            if length and chance.random() < 0.3:
                return chance.randrange(-length, length)
            first, last = (chance.choice([None, chance.randrange(-length - 2, length + 3)]) for _ in range(2))
            return slice(first, last, chance.choice([None, 1, 2, 3, length + 1]))

        with self.store[1] as iteration:
            self.assertEqual(iteration.tensor("extra.cube").numpy().tolist(), arrays["cube"].tolist())
            for name, array in arrays.items():
                tensor = iteration.tensor(f"extra.{name}")
                self.assertEqual((tensor.shape, tensor.nbytes), (array.shape, array.nbytes))
                for _ in range(40):
                    index = tuple(part(length) for length in array.shape[:chance.randint(0, array.ndim)])
                    if chance.random() < 0.4:
                        place = chance.randint(0, len(index))
                        index = (*index[:place], ..., *[part(length) for length in array.shape[array.ndim - len(index) + place:]])
                    if len(index) == 1 and chance.random() < 0.5:
                        index = index[0]
                    expected, got = array[index], np.asarray(tensor[index])
                    self.assertEqual(got.shape, expected.shape, (name, index))
                    np.testing.assert_array_equal(got, expected, str((name, index)))
                self.assertEqual(np.asarray(tensor).tolist(), array.tolist())

    def test_what_is_no_box_is_refused(self):
        self.store.save(1, extra={"a": np.arange(6).reshape(2, 3)})
        tensor = self.store[1].tensor("extra.a")
        for index in (2, -3, (0, 3), (0, 0, 0), (0, ..., 0, 0), (..., ...), slice(None, None, -1), None, True, 1.0, "a", [0, 1],
                      np.array([True, False]), slice(0, 1.5), np.True_, np.array(True), torch.tensor(True), torch.tensor([1]), range(2),
                      (0, ..., 0, ...), (slice(None), (0, 1))):
            with self.subTest(index=index), self.assertRaises((IndexError, TypeError)):
                tensor[index]
        with self.assertRaisesRegex(IndexError, "extra.a has `...` at most once"):
            tensor[0, ..., 0, ...]
        with self.assertRaisesRegex(IndexError, "by integers, slices and `...`, not by NoneType"):
            tensor[None]
        self.assertEqual(tensor[np.int64(1), torch.tensor(2)], 5)
        self.assertEqual(tensor[np.array(1), np.uint8(2)], 5)
        self.assertEqual(tensor[slice(np.int64(1), torch.tensor(2)), torch.Size([2])[0]], 5)
        self.assertEqual(len(tensor), 2)

    def test_elements_of_half_a_byte_are_read_by_whole_bytes(self):
        bytes_ = torch.arange(16, dtype=torch.uint8).view(2, 8)
        self.store.save(1, extra={"a": bytes_.view(torch.float4_e2m1fn_x2)})
        tensor = self.store[1].tensor("extra.a")
        for index, expected in (((), bytes_), (1, bytes_[1]), ((..., slice(2, 6)), bytes_[:, 1:3]), ((0, slice(8, 2)), bytes_[0, :0])):
            self.assertTrue(torch.equal(tensor[index].view(torch.uint8), expected), index)
        for last in (0, slice(0, 1), slice(1, 4), slice(2, 8, 2)):
            with self.subTest(last=last), self.assertRaisesRegex(IndexError, "two elements of extra.a are a byte"):
                tensor[0, last]

    def test_tensors_are_found_by_their_names(self):
        model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Linear(3, 3))
        model[1].weight = model[0].weight
        optimizer = torch.optim.AdamW(model.parameters())
        model(torch.ones(1, 3)).sum().backward()
        optimizer.step()
        self.store.save(1, model=model, optimizer=optimizer)
        with self.store[1] as iteration:
            for name in ("0.weight", "model.0.weight", "1.weight", "model.1.weight"):
                self.assertTrue(torch.equal(iteration.tensor(name)[...], model[0].weight), name)
            self.assertTrue(torch.equal(iteration.tensor("optimizer.state.0.exp_avg")[1], optimizer.state[model[0].weight]["exp_avg"][1]))
            with self.assertRaisesRegex(cairn.NotFound, "no tensor exp_avg; there is optimizer.state.0.exp_avg"):
                iteration.tensor("exp_avg")

    def test_a_name_that_two_parts_could_have_means_the_same_however_much_was_looked_at(self):
        for step, parts in ((1, ("a", "a.b")), (2, ("model", "model.b"))):
            self.store.save(step, **{parts[0]: {"b": {"c": np.zeros(2)}}, parts[1]: {"c": np.ones(2)}})
            with self.store[step] as iteration:
                name = f"{parts[1]}.c"
                before = iteration.tensor(name)[...]
                self.assertTrue(np.array_equal(iteration.tensors[name][...], before), parts)
                self.assertTrue(np.array_equal(iteration.tensor(name)[...], before), parts)


class KeepingTests(Tests):
    def test_a_store_that_was_made_anew_while_it_was_open_has_to_be_opened_again(self):
        self.store.save(1, extra=[1])
        shutil.rmtree(self.store.path)
        with cairn.open(self.store.path, create=True) as other:
            other.save(1, extra=[2])
            for call in (self.store.iterations, self.store.verify, lambda: self.store.pin(1, "a"), lambda: self.store.save(2, extra=[3])):
                with self.assertRaisesRegex(cairn.NotAStore, "was replaced by another since it was opened; open it again"):
                    call()
            self.assertEqual(([one["step"] for one in other.iterations()], other.pins(), other.verify()["ok"]), ([1], [], True))

    def test_metrics_may_be_any_number_and_metadata_only_what_json_has(self):
        for step, metric in ((1, float("inf")), (2, 5.0), (3, float("nan")), (4, float("-inf"))):
            self.store.save(step, extra=[step], metrics={"loss": metric})
        self.assertEqual([self.store[f"best:{one}"].step for one in ("loss:max", "loss:min")], [1, 4])
        self.assertEqual([str(self.store[step].metrics["loss"]) for step in (1, 2, 3, 4)], ["inf", "5.0", "nan", "-inf"])
        self.store.annotate(2, metrics={"loss": float("inf"), "other": float("nan")})
        self.assertEqual(str(self.store[2].metrics), "{'loss': inf, 'other': nan}")
        with self.assertRaisesRegex(cairn.NotFound, "has a value of the metric 'other'"):
            self.store["best:other"]
        for number in ("inf", "-inf", "nan"):
            with self.subTest(number), self.assertRaisesRegex(cairn.Usage, "metadata .* JSON, without NaN and infinities"):
                self.store.save(5, extra=[5], metadata={"a": [float(number)]})
        self.store.save(5, extra=[5], metadata={"a": [1e300, None]})
        self.assertEqual(self.store[5].metadata["a"], [1e300, None])

    def test_the_best_is_what_a_schedule_takes_for_it_unless_the_policy_or_the_reference_says_otherwise(self):
        names = ("loss", "eval_loss", "Loss", "losses", "wer", "accuracy")
        values = (0.5, 0.3, 0.4)
        for step, value in enumerate(values):
            self.store.save(step, extra=[step], metrics=dict.fromkeys(names, value))
        for name in names:
            schedule = cairn.Schedule(best=name, final=False)
            schedule.start()
            best = [step for step, value in enumerate(values) if "best" in schedule.due(step, metrics={name: value}).reasons][-1]
            self.assertEqual(self.store[f"best:{name}"].step, best, name)
            self.assertEqual([self.store[f"best:{name}:{direction}"].step for direction in ("min", "max")], [1, 0])
        self.store.policy(keep_best=["1:wer:min"])
        self.assertEqual([self.store[name].step for name in ("best", "best:wer", "best:wer:max")], [1, 1, 0])

    def test_metadata_and_metrics_are_kept_as_they_are_or_refused(self):
        kept = {"a": [2**64 - 1, -(2**63), -0.0, 5e-324, True, "é\0"], "b": {"": None}, "1": 3}
        self.store.save(1, extra=[1], metadata=kept)
        saved = self.store[1].metadata
        self.assertEqual(repr({name: saved[name] for name in kept}), repr(kept))
        for metadata, reason in [
            ({1: 2, "1": 3}, "'1' as text"), ({"a": {None: 1, "null": 2}}, "'null' as text"), ({"é": 1, "e\u0301": 2}, "as text"),
            ({"a": 2**64}, "18446744073709551616"), ({"a": [-(2**63) - 1]}, "64 bits"), ({"a": 2**2000}, "64 bits"),
            ({"a": "\ud800"}, "surrogates"), ({"\ud800": 1}, "surrogates")]:
            with self.subTest(reason), self.assertRaisesRegex(cairn.Usage, f"metadata.*{reason}"):
                self.store.save(2, extra=[2], metadata=metadata)
        for levels in (200, 9999):
            with self.subTest(levels), self.assertRaises(cairn.Usage):
                self.store.save(2, extra=[2], metadata={"a": functools.reduce(lambda inner, _: [inner], range(levels))})
        for metrics in ({1: 2.0, "1": 3.0}, {"é": 1, "e\u0301": 2}, {"a": 10**400}):
            with self.subTest(metrics=metrics), self.assertRaisesRegex(cairn.Usage, "as text|the metric a"):
                self.store.save(2, extra=[2], metrics=metrics)
            with self.subTest(metrics=metrics), self.assertRaisesRegex(cairn.Usage, "as text|the metric a"):
                self.store.annotate(1, metrics=metrics)
        self.assert_whole(1)

    def test_rules_are_taken_away_where_that_is_asked_for_and_never_else(self):
        self.store.save(1, extra=[1])
        kept = self.store.policy(keep_last=5, keep_first=True)["policy"]
        self.assertEqual(kept["keepLast"], 5)
        self.assertEqual(self.store.policy("main", clear=False)["policy"], kept)
        with self.assertRaisesRegex(cairn.Usage, "clear=True.* keep_last"):
            self.store.policy(clear=True, keep_last=2)
        self.assertEqual([one["policy"] for one in self.store.policy()], [kept])
        self.assertEqual(self.store.policy(clear=False, keep_last=2)["policy"], {"keepLast": 2})
        self.store.policy(clear=True)
        self.assertEqual(self.store.policy(), [])

    def test_rules_may_be_there_before_the_first_save(self):
        with self.assertRaises(cairn.NotFound):
            self.store.policy(clear=True)
        kept = self.store.policy(keep_last=1, auto=True)
        self.assertEqual((kept["run"], self.store.policy()), ("main", [kept]))
        for step in (1, 2):
            self.store.save(step, extra=[step])
        self.assert_whole(2)

    def test_every_rule_of_the_command_has_a_name_and_a_misspelled_one_has_none(self):
        self.store.save(1, extra=[1])
        kept = self.store.policy(
            keep_last=5, keep_every=100, keep_best="3:wer:min", keep_within="36h", keep_first=True, milestones=[7],
            max_size="500GB", keep_optimizer_last=2, auto=True)["policy"]
        self.assertEqual(kept, {
            "keepLast": 5, "keepEvery": 100, "keepBest": [{"count": 3, "metric": "wer", "direction": "min"}], "keepWithin": "36h",
            "keepFirst": True, "milestones": [7], "maxSize": 500 * 10**9, "keepOptimizerLast": 2, "auto": True})
        with self.assertRaisesRegex(TypeError, "keep_lst"):
            self.store.policy(keep_lst=3)
        self.assertEqual(self.store.policy("main", keep_last=None)["policy"], kept)


class ExportTests(Tests):
    def test_shards_have_a_size_as_the_command_and_hugging_face_write_it(self):
        self.store.save(1, model={str(name): torch.zeros(1024) for name in range(8)})
        for size, shards in ((8192, 4), ("8192", 4), ("8KiB", 4), ("9kb", 4), ("16KiB", 2), ("5GB", 1)):
            out = self.folder / f"out-{size!r}"
            self.store.export(1, out, layout="hf", max_shard_size=size)
            self.assertEqual(len(list(out.glob("*.safetensors"))), shards, size)
        for size in ("GB", "5X", "5 GB", "1.5GB", "-1GB", ""):
            with self.subTest(size), self.assertRaisesRegex(cairn.Usage, "is not a size"):
                self.store.export(1, self.folder / "no", layout="hf", max_shard_size=size)

    def test_all_of_an_export_says_what_was_recorded(self):
        saved = self.store.save(3, model=network(), extra={"a": 1}, metrics={"loss": 2.5}, metadata={"data": "wiki"}).wait()
        out = self.folder / "out"
        self.store.export("latest", out, layout="hf", all=True)
        recorded = json.loads((out / "training_metadata.json").read_text())
        self.assertEqual([recorded[name] for name in ("run", "step", "id", "metrics")], ["main", 3, saved["id"], {"loss": 2.5}])
        self.assertEqual(recorded["createdAt"], self.store.show("latest")["createdAt"])
        self.assertEqual(recorded["metadata"], self.store["latest"].metadata)
        self.assertEqual((recorded["metadata"]["data"], "python" in str(recorded["metadata"]["environment"]).lower()), ("wiki", True))
        self.cairn("export", "latest", self.folder / "again", "--layout", "safetensors", "--all")
        self.assertEqual((self.folder / "again/training_metadata.json").read_bytes(), (out / "training_metadata.json").read_bytes())

        self.store.export("latest", self.folder / "model", layout="hf")
        self.assertFalse((self.folder / "model/training_metadata.json").exists())
        self.store.save(4, model=network(), environment=False)
        self.store.export("latest", self.folder / "bare", layout="hf", all=True)
        self.assertFalse((self.folder / "bare/training_metadata.json").exists())


if __name__ == "__main__":
    unittest.main(warnings="ignore")
