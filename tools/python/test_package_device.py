#!/usr/bin/env python3
"""States on an accelerator: what did not change is found there, and does not cross the bus.

Without an accelerator the same code looks at tensors in host memory, which it never does by itself.
"""
import random
import sys
import tempfile
import types
import unittest
from pathlib import Path
from unittest import mock

sys.path.insert(0, str(Path(__file__).parent))
import torch

import cairn
from cairn import _device, _saving
from cairn._arrays import torch_leaf

torch.set_num_threads(1)
STRETCH = _device.STRETCH


def fingerprint(tensor):
    leaf, _ = torch_leaf(tensor)
    return _device.fingerprints([leaf])["", ""].values


def reckoned(data, keys):
    """The same in Python's own integers."""
    hashes = []
    for row in keys.tolist():
        words = (int.from_bytes(data[at : at + 4].ljust(4, b"\0"), "little", signed=True) for at in range(0, len(data), 4))
        sum_ = row[0] + sum(word * key for word, key in zip(words, row[1:]))
        hashes.append((sum_ % 2**64) >> 32)
    return hashes


class Fingerprints(unittest.TestCase):
    def setUp(self):
        enterContext(self, mock.patch.object(_device, "_LEAST", 0))

    def test_they_are_the_sums_that_the_source_describes_and_those_of_large_tensors_have_a_row_a_stretch(self):
        data = random.Random(1).randbytes(2 * STRETCH + 7)
        values = fingerprint(torch.frombuffer(bytearray(data), dtype=torch.uint8))
        pieces = [data[:STRETCH], data[STRETCH : 2 * STRETCH], data[2 * STRETCH :]]
        keys = _device._keys(torch.device("cpu"))
        self.assertEqual([[one % 2**32 for one in row] for row in values.tolist()], [reckoned(one, keys) for one in pieces])

    def test_batches_of_large_tensors_give_the_same_as_one(self):
        tensor = torch.randint(0, 256, [5 * STRETCH + 9], dtype=torch.uint8)
        whole = fingerprint(tensor)
        with mock.patch.object(_device, "_BATCH", 2 * STRETCH):
            self.assertTrue(torch.equal(fingerprint(tensor), whole))

    def test_each_bit_counts_and_no_other_stretch_changes(self):
        tensor = torch.randint(0, 256, [3 * STRETCH + 3], dtype=torch.uint8)
        before = fingerprint(tensor)
        for place in (0, STRETCH - 1, STRETCH, 2 * STRETCH + 5, 3 * STRETCH + 2):
            for bit in range(8):
                tensor[place] ^= 1 << bit
                differ = (fingerprint(tensor) != before).any(dim=1)
                self.assertEqual(differ.nonzero().flatten().tolist(), [place // STRETCH], (place, bit))
                tensor[place] ^= 1 << bit

    def test_places_and_signs_that_sum_up_to_the_same_are_told_apart(self):
        kinds = [[1, 2], [2, 1], [-1, 1], [1, -1], [0, 0], [2**31 - 1, 0], [-(2**31), 0]]
        values = [tuple(fingerprint(torch.tensor(one, dtype=torch.int32))[0].tolist()) for one in kinds]
        self.assertEqual(len(set(values)), len(kinds))
        # Four numbers that don't hang together.
        self.assertEqual(len({number for row in values for number in row}), 4 * len(kinds))

    def test_a_device_that_reckons_wrong_has_none(self):
        with mock.patch.dict(_device._keys_of_devices, clear=True):
            answers = iter([torch.zeros(1, 4, dtype=torch.int32), torch.ones(1, 4, dtype=torch.int32)])
            with mock.patch.object(_device, "_hashed", lambda rows, keys: next(answers)):
                self.assertEqual(_device.fingerprints([torch_leaf(torch.ones(9))[0]]), {})


def states():
    """Tensors of each kind: what is saved of them is in `bytes_of`."""
    torch.manual_seed(2)
    base = torch.randint(0, 255, [4 * STRETCH + 13], dtype=torch.uint8)
    return {
        "large": torch.randn(9 * STRETCH // 16, 5),
        "half": torch.randn(STRETCH + 77).to(torch.bfloat16),
        "odd": base[5:],
        "bool": torch.rand(STRETCH + 3) > 0.5,
        "fp8": torch.randn(STRETCH + 1).to(torch.float8_e4m3fn),
        "complex": torch.randn(STRETCH // 4, dtype=torch.complex64),
        "conjugate": torch.randn(70, 900, dtype=torch.complex64).conj(),
        "transposed": torch.randn(700, 300).t(),
        "columns": torch.randn(400, 900)[:, 3:600],
        "stretched": torch.randn(1, 1000).expand(300, 1000),
        "scalar": torch.tensor(1.5),
        "empty": torch.empty(0, 3),
        "small": torch.randn(17),
        "wide": torch.randint(0, 99, [STRETCH // 2], dtype=torch.uint16),
    }


class Saves(unittest.TestCase):
    """A store, and saves whose copies are looked at."""

    device = "cpu"

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.store = cairn.open(folder.name + "/store", create=True)
        self.addCleanup(self.store.close)
        self.sent = []
        enterContext(self, mock.patch.object(_device, "_takes_host_tensors", self.device == "cpu"))
        start = _device.Crossing.start

        def counting(crossing, is_pinned):
            self.sent.append(crossing.sent)
            start(crossing, is_pinned)

        enterContext(self, mock.patch.object(_device.Crossing, "start", counting))

    def save(self, step, state, **options):
        """Saves, and makes sure that what was saved is the state. Returns the bytes that crossed."""
        before = {name: tensor.clone() for name, tensor in state.items()}
        self.store.save(step, model=state, wait=False, environment=False, **options).wait()
        with self.store[step] as iteration:
            saved = iteration.state("model", map_location="cpu")
        for name, tensor in before.items():
            self.assertEqual(saved[name].dtype, tensor.dtype, name)
            self.assertTrue(torch.equal(bits(saved[name]), bits(tensor.cpu())), f"{name} of step {step}")
        return self.sent[-1]

    def on_device(self, state):
        return {name: tensor.to(self.device) for name, tensor in state.items()}

    def test_of_every_kind_of_tensor_only_what_changed_crosses(self):
        state = self.on_device(states())
        all_ = sum(tensor.nbytes for tensor in state.values())
        small = sum(tensor.nbytes for tensor in state.values() if tensor.nbytes < _device._LEAST)
        self.assertEqual(self.save(1, state), all_)
        self.assertEqual(self.save(2, state), small)
        state["large"].view(-1)[[0, 9 * STRETCH // 16 * 5 - 1]] += 1
        state["odd"][3 * STRETCH : 3 * STRETCH + 2] += 1
        state["transposed"][0, 0] += 1
        rest = 9 * STRETCH // 16 * 20 % STRETCH or STRETCH
        self.assertEqual(self.save(3, state), small + 2 * STRETCH + rest + STRETCH)
        self.assertEqual(self.save(4, state), small)

    def test_into_pinned_memory_as_well(self):
        with mock.patch.object(_device, "pin", return_value=True):
            self.test_of_every_kind_of_tensor_only_what_changed_crosses()

    def test_a_state_of_another_structure_shape_or_type_is_saved_right(self):
        state = self.on_device({"a": torch.randn(STRETCH), "b": torch.randn(STRETCH)})
        self.save(1, state)
        others = [
            {"b": state["b"], "a": state["a"]},
            {"a": state["a"].view(2, -1), "b": state["b"].view(torch.int32)},
            {"a": state["b"].view(2, -1), "b": state["a"]},
            {"a": state["a"].view(2, -1)[:1], "c": state["b"]},
            {"c": state["b"]},
        ]
        for step, other in enumerate(others, start=2):
            self.save(step, other)
        # Of the last, its only tensor was known.
        self.assertEqual(self.sent[1:], [0, 8 * STRETCH, 4 * STRETCH + 4 * STRETCH, 6 * STRETCH, 0])

    def test_what_a_save_that_failed_had_copied_counts_for_nothing(self):
        state = self.on_device({"a": torch.randn(2 * STRETCH)})
        self.save(1, state)
        state["a"][0] += 1
        with mock.patch.object(_saving.Session, "commit", side_effect=cairn.CairnError("no")):
            with self.assertRaises(cairn.CairnError):
                self.save(2, state)
        self.assertEqual(self.save(3, state), STRETCH)
        # The other way about as well: back to what the last good save saved.
        state["a"][1] += 1
        with mock.patch.object(_saving.Session, "commit", side_effect=cairn.CairnError("no")):
            with self.assertRaises(cairn.CairnError):
                self.save(4, state)
        state["a"][1] -= 1
        state["a"][STRETCH] += 1
        self.save(5, state)

    def test_with_one_copy_all_crosses_and_nothing_is_looked_at(self):
        state = self.on_device({"a": torch.randn(STRETCH)})
        for step in (1, 2):
            with mock.patch.object(_device, "_hashed", side_effect=AssertionError):
                self.assertEqual(self.save(step, state, memory="one"), 4 * STRETCH)
        self.assertEqual(self.save(3, state), 4 * STRETCH)
        self.assertEqual(self.save(4, state), 0)
        self.assertEqual(self.save(5, state, memory="one"), 4 * STRETCH)
        self.assertEqual(self.save(6, state), 4 * STRETCH)

    def test_a_device_without_memory_for_it_saves_right(self):
        state = self.on_device({"a": torch.randn(STRETCH)})
        self.save(1, state)
        with mock.patch.object(_device, "_hashed", side_effect=torch.OutOfMemoryError):
            self.assertEqual(self.save(2, state), 4 * STRETCH)
        self.assertEqual(self.save(3, state), 4 * STRETCH)
        self.assertEqual(self.save(4, state), 0)

    def test_what_takes_too_much_memory_to_rearrange_crosses(self):
        state = self.on_device({"a": torch.randn(600, 400).t()})
        self.save(1, state)
        with mock.patch.object(_device, "_MOST_REARRANGED", 1000):
            self.assertEqual(self.save(2, state), state["a"].nbytes)

    def test_a_random_series_is_saved_right(self):
        order = random.Random(3)
        state = self.on_device({name: torch.randn(order.randrange(STRETCH)) for name in "abcd"})
        for step in range(1, 12):
            for name in state:
                for _ in range(order.choice([0, 0, 1, 3])):
                    state[name][order.randrange(len(state[name]))] += 1
            self.save(step, state, memory=order.choice(["two", "two", "two", "one"]))


@unittest.skipUnless(torch.cuda.is_available(), "no GPU here")
class SavesOfGPU(Saves):
    device = "cuda"

    def test_memory_is_pinned(self):
        self.save(1, self.on_device({"a": torch.randn(STRETCH)}))
        self.assertTrue(self.store._saver.memory.base.memory.is_pinned)

    def test_a_save_sees_what_is_still_being_computed(self):
        a = torch.randn(2000, 2000, device="cuda")
        for step in range(1, 4):
            for _ in range(50):
                a = a @ a / 50
            self.save(step, {"a": a})


class Runtime:
    """CUDA's, as torch gives it."""

    def __init__(self, status):
        self.status, self.calls = status, []

    def cudaHostRegister(self, address, size, flags):
        self.calls.append(("register", address, size))
        return self.status

    def cudaHostUnregister(self, address):
        self.calls.append(("unregister", address))


class Pinning(unittest.TestCase):
    """On a machine without a GPU, against a runtime that only remembers."""

    placed = [(types.SimpleNamespace(array=types.SimpleNamespace(device=torch.device("cuda", 0))), 0)]

    def pinned(self, status):
        runtime = Runtime(status)
        memory = cairn._library.Memory(1 << 20)
        with mock.patch.object(torch.cuda, "cudart", lambda: runtime), mock.patch.object(torch, "zeros") as zeros:
            answers = [_device.pin(memory, self.placed) for _ in range(2)]
        return runtime, memory, answers, zeros.call_count

    def test_memory_is_pinned_once_and_let_go_before_it_is_given_back(self):
        runtime, memory, answers, _ = self.pinned(0)
        address = memory.address
        self.assertEqual(answers, [True, True])
        del memory
        self.assertEqual(runtime.calls, [("register", address, 1 << 20), ("unregister", address)])

    def test_memory_that_cannot_be_pinned_is_used_as_it_is(self):
        runtime, memory, answers, cleared = self.pinned(2)
        self.assertEqual((answers, cleared), ([False, False], 1))
        address = memory.address
        del memory
        self.assertEqual(runtime.calls, [("register", address, 1 << 20)])

    def test_states_in_host_memory_pin_nothing(self):
        memory = cairn._library.Memory(1)
        self.assertFalse(_device.pin(memory, []))
        self.assertIsNone(memory.unpin)


class HostTensors(unittest.TestCase):
    def test_they_are_never_looked_at(self):
        self.assertFalse(_device.is_on_device(torch_leaf(torch.ones(STRETCH))[0]))


def bits(tensor):
    return tensor.resolve_conj().contiguous().reshape(-1).view(torch.uint8)


def enterContext(test, context):
    test.addCleanup(context.__exit__, None, None, None)
    return context.__enter__()


if __name__ == "__main__":
    unittest.main()
