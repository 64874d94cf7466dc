#!/usr/bin/env python3
"""Modules of all kinds are loaded as torch's own load_state_dict does it, or an error is raised before anything is changed."""
import sys
import unittest
from pathlib import Path

import torch
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper

sys.path.insert(0, str(Path(__file__).parent))
from package_workbench import PackageTest

import cairn

QUANTIZED = {"scale": 0.1, "zero_point": 0, "dtype": torch.qint8}


class Holding(nn.Module):
    """A layer, and a buffer of any kind."""

    def __init__(self, buffer):
        super().__init__()
        self.layer = nn.Linear(2, 2)
        self.register_buffer("buffer", buffer)


class Tied(nn.Module):
    def __init__(self, is_tied=True):
        super().__init__()
        self.first, self.last = nn.Linear(4, 4), nn.Linear(4, 4)
        if is_tied:
            self.last.weight = self.first.weight


class Joined(nn.Module):
    """Parameters that are neighbours in memory, or overlap a buffer."""

    def __init__(self, is_joined=True, start=6):
        super().__init__()
        memory = torch.randn(10)
        self.a = nn.Parameter(memory[:6] if is_joined else torch.randn(6))
        self.register_buffer("b", memory[start:] if is_joined else torch.randn(10 - start))


class Remembering(nn.Linear):
    """Has tensors of all kinds in its extra state."""

    def __init__(self):
        super().__init__(2, 2)
        made = torch.randn(3, 3).relu()
        self.seen = {"n": 3, "plain": made, "coo": made.to_sparse(), "csr": made.to_sparse_csr(), "quantized": quantized(made)}

    def get_extra_state(self):
        return self.seen

    def set_extra_state(self, state):
        self.seen = state


class Hooked(Holding):
    """Takes a tensor by itself, as some layers do that adapt to what was saved."""

    def __init__(self, width=2):
        super().__init__(torch.randn(3))
        self.layer, self.calls = nn.Linear(width, width), []
        self.register_load_state_dict_pre_hook(self.take)
        self.register_load_state_dict_post_hook(lambda module, _: module.calls.append("after"))

    @staticmethod
    def take(module, state, prefix, *_):
        module.calls.append("before")
        module.buffer = state[prefix + "buffer"].clone()


class Doubling(nn.Linear):
    def _load_from_state_dict(self, state, prefix, *others):
        state[prefix + "weight"] = state[prefix + "weight"] * 2
        super()._load_from_state_dict(state, prefix, *others)


class Renaming(Holding):
    def state_dict(self, *arguments, **options):
        return {name.replace("layer", "old"): value for name, value in super().state_dict(*arguments, **options).items()}

    def load_state_dict(self, state, strict=True):
        return super().load_state_dict({name.replace("old", "layer"): value for name, value in state.items()}, strict)


class Special(torch.Tensor):
    """A subclass of the user's."""


def quantized(values):
    return torch.quantize_per_tensor(values, **QUANTIZED)


def by_channel(values):
    return torch.quantize_per_channel(values, torch.ones(3) / 9, torch.zeros(3, dtype=torch.int64), 0, torch.qint8)


def holding(kind, *shape):
    return lambda: Holding(kind(torch.randn(shape or (3, 3)).relu() + torch.eye(*(shape or (3, 3))[:2])))


def joined(*arguments):
    return lambda: Joined(*arguments)


def in_inference(make):
    def made():
        with torch.inference_mode():
            return make()
    return made


def linear():
    return nn.Linear(4, 3)


def recomputed(width=4):
    """Its activations are, in the backward pass."""
    return nn.Sequential(checkpoint_wrapper(nn.Linear(3, 2)), nn.Linear(width, 3))


def loaded_by_assignment():
    """A state that says so of itself."""
    state = nn.Sequential(linear(), nn.Linear(3, 2)).state_dict()
    nn.Sequential(linear(), nn.Linear(3, 2)).load_state_dict(state, assign=True)
    return state


def convolution():
    return nn.Conv2d(3, 4, 3)


def channels_last():
    return convolution().to(memory_format=torch.channels_last)


# What is saved, and what is loaded into where that is another.
FITTING = {
    "a layer": linear,
    "of another type": (linear, lambda: linear().bfloat16()),
    "frozen": (linear, lambda: linear().requires_grad_(False)),
    "tied": Tied, "tied into untied": (Tied, lambda: Tied(False)), "untied into tied": (lambda: Tied(False), Tied),
    "neighbours": Joined, "apart": (Joined, joined(False)), "from apart": (joined(False), Joined),
    "overlapping": joined(True, 4),
    "twice": lambda: (lambda one: nn.Sequential(one, one))(nn.Linear(2, 2)),
    "empty and scalar": lambda: nn.ParameterList([nn.Parameter(torch.randn(shape)) for shape in ((0,), (), (1, 2))]),
    "complex": holding(lambda values: values * 1j), "conjugate": holding(lambda values: (values * 1j).conj()),
    "of eight bits": holding(lambda values: values.to(torch.float8_e4m3fn)),
    "transposed": holding(torch.t), "with gaps": holding(lambda values: values[:, ::2]),
    "without gaps": (holding(lambda values: values[:, ::2]), holding(lambda values: values[:, ::2].contiguous())),
    "channels_last": channels_last, "from channels_last": (channels_last, convolution),
    "into channels_last": (convolution, channels_last),
    "normalized": lambda: nn.Sequential(nn.BatchNorm1d(4), nn.InstanceNorm1d(4, track_running_stats=True)),
    "recurrent": lambda: nn.LSTM(4, 4, 2), "attention": lambda: nn.TransformerEncoderLayer(4, 2),
    "weight_norm": lambda: nn.utils.parametrizations.weight_norm(linear()), "old weight_norm": lambda: nn.utils.weight_norm(linear()),
    "spectral_norm": lambda: nn.utils.parametrizations.spectral_norm(linear()),
    "old spectral_norm": lambda: nn.utils.spectral_norm(linear()),
    "orthogonal": lambda: nn.utils.parametrizations.orthogonal(nn.Linear(3, 3)),
    "averaged": lambda: torch.optim.swa_utils.AveragedModel(linear()),
    "compiled from Python": lambda: torch.jit.script(linear()),
    "lazy": (linear, lambda: nn.LazyLinear(3)),
    "sparse": holding(torch.Tensor.to_sparse), "of rows": holding(lambda values: (values + 9).to_sparse_csr()),
    "of blocks": holding(lambda values: values.to_sparse_bsr((2, 2)), 4, 4),
    "sparse, of more values": (holding(lambda values: torch.eye(3).to_sparse()), holding(torch.Tensor.to_sparse)),
    "quantized": holding(quantized), "into quantized": (holding(torch.clone), holding(quantized)),
    "quantized by channels": holding(by_channel),
    "a quantized model": lambda: torch.ao.quantization.quantize_dynamic(nn.Sequential(linear()), dtype=torch.qint8),
    "a subclass": lambda: nn.ParameterList([nn.Parameter(torch.randn(3).as_subclass(Special))]),
    "extra state": Remembering, "hooks": Hooked, "its own code": lambda: Doubling(2, 2), "its own names": lambda: Renaming(torch.randn(2)),
    "recomputed": recomputed, "recomputed into plain": (recomputed, lambda: nn.Sequential(nn.Linear(3, 2), nn.Linear(4, 3))),
    "loaded by assignment": (loaded_by_assignment, lambda: nn.Sequential(linear(), nn.Linear(3, 2))),
}
# What torch refuses, some of it after it has changed what comes before.
MISFITS = {
    "a shape": (linear, lambda: nn.Linear(5, 3)), "a name": (linear, lambda: nn.Sequential(linear())),
    "less": (linear, lambda: nn.Linear(4, 3, bias=False)), "more": (lambda: nn.Linear(4, 3, bias=False), linear),
    "a list": (lambda: [1], linear), "no tensor": (lambda: {"weight": None, "bias": torch.ones(3)}, linear),
    "expanded": holding(lambda values: values[:1].expand(3, 3)), "in inference_mode": (linear, in_inference(linear)),
    "a sparse shape": (holding(torch.Tensor.to_sparse), holding(torch.Tensor.to_sparse, 4, 4)),
    "a quantized shape": (holding(quantized), holding(quantized, 4, 4)),
    "a sparse one": (holding(torch.Tensor.to_sparse), holding(torch.clone)),
    "a dense one": (holding(torch.clone), holding(torch.Tensor.to_sparse)),
    "rows of another number": (holding(lambda values: torch.eye(3).to_sparse_csr()), holding(lambda values: torch.ones(3, 3).to_sparse_csr())),
    "a quantized one": (holding(quantized), holding(torch.clone)),
    "of half the bits": (holding(torch.Tensor.half), holding(quantized)),
    "extra state": (Remembering, lambda: nn.Linear(2, 2)),
    "recomputed": (recomputed, lambda: recomputed(5)), "normalized": (lambda: nn.BatchNorm1d(4), lambda: nn.BatchNorm1d(5)),
    "weight_norm": (lambda: nn.utils.parametrizations.weight_norm(linear()), lambda: nn.utils.parametrizations.weight_norm(nn.Linear(5, 3))),
    "assigned": (loaded_by_assignment, lambda: nn.Sequential(linear(), nn.Linear(3, 3))),
}


def values(state):
    """All that a state holds, as it can be compared."""
    if isinstance(state, torch.Tensor):
        dense = state.dequantize() if state.is_quantized else state if state.layout is torch.strided else state.to_dense()
        numbers = dense.detach().as_subclass(torch.Tensor).to(torch.complex128)
        return [str(state.dtype), str(state.layout), state.device.type, list(state.shape), numbers.tolist()]
    if isinstance(state, dict):
        return {name: values(value) for name, value in state.items()}
    return [values(value) for value in state] if isinstance(state, (list, tuple)) else state


def is_same(one, other):
    """Whether these are equal, and what is no number the same in both."""
    return repr(one) == repr(other)


def all_of(module):
    """What of a module could change: also its tensors, and what it has noted."""
    return [
        values(module.state_dict()), {name: [id(tensor), *values(tensor)] for name, tensor in module.named_parameters()},
        {name: values(tensor) for name, tensor in module.named_buffers()}, getattr(module, "calls", None)]


class ModuleTests(PackageTest):
    def for_each(self, kinds, check):
        """Saves one of each kind, and calls with the step, its state, and two equal modules to load into."""
        for step, (name, makers) in enumerate(kinds.items()):
            make, make_target = makers if isinstance(makers, tuple) else (makers, makers)
            with self.subTest(name):
                torch.manual_seed(2 * step)
                saved, targets = make(), []
                for _ in range(2):
                    torch.manual_seed(2 * step + 1)
                    targets.append(make_target())
                self.store.save(step, model=saved, environment=False, allow_pickle=name == "a subclass")
                check(step, saved.state_dict() if isinstance(saved, nn.Module) else saved, *targets)

    def test_all_kinds_of_modules_are_loaded_as_torch_does_it(self):
        def check(step, state, expected, target):
            expected.load_state_dict(state)
            before = [(id(tensor), tensor.requires_grad) for tensor in target.parameters()]
            self.store.load(step, model=target, allow_pickle=True)
            self.assertEqual([(id(tensor), tensor.requires_grad) for tensor in target.parameters()], before)
            self.assertTrue(is_same(values(target.state_dict()), values(expected.state_dict())), values(target.state_dict()))
            self.assertEqual(getattr(target, "calls", None), getattr(expected, "calls", None))
            self.assertEqual(*([tensor.stride() for tensor in one.parameters()] for one in (target, expected)))

        self.for_each(FITTING, check)

    def test_what_torch_refuses_changes_nothing(self):
        def check(step, state, expected, target):
            with self.assertRaises((RuntimeError, TypeError)):
                expected.load_state_dict(state)
            before = all_of(target)
            with self.assertRaises(cairn.Mismatch):
                self.store.load(step, model=target)
            self.assertTrue(is_same(all_of(target), before))

        self.for_each(MISFITS, check)

    def test_hooks_that_change_their_module_run_with_what_was_saved_or_not_at_all(self):
        saved = Hooked()
        self.store.save(1, model=saved)
        for strict in (True, False):
            target = Hooked(3)
            with self.assertRaisesRegex(RuntimeError, "size mismatch for layer.weight"):
                self.store.load(1, model=target, strict=strict)
            self.assertTrue(torch.equal(target.buffer, saved.buffer))
            self.assertEqual(target.calls, ["before", "after"])

    def test_parameters_that_torch_is_told_to_swap_are_loaded_or_stay_as_they_are(self):
        saved = nn.Sequential(linear(), nn.Linear(3, 2))
        self.store.save(1, model=saved)
        torch.__future__.set_swap_module_params_on_conversion(True)
        self.addCleanup(torch.__future__.set_swap_module_params_on_conversion, False)
        target = nn.Sequential(linear(), nn.Linear(3, 3))
        target(torch.ones(4)).sum().backward()
        before, gradients = all_of(target), [tensor.grad for tensor in target.parameters()]
        with self.assertRaises(cairn.Mismatch):
            self.store.load(1, model=target)
        self.assertTrue(is_same(all_of(target), before))
        self.assertTrue(all(tensor.grad is one for tensor, one in zip(target.parameters(), gradients)))
        target = nn.Sequential(linear(), nn.Linear(3, 2)).double()
        self.store.load(1, model=target)
        self.assertTrue(torch.equal(target[1].weight, saved[1].weight.double()))
        self.assertTrue(torch.__future__.get_swap_module_params_on_conversion())


if __name__ == "__main__":
    unittest.main(warnings="ignore")
