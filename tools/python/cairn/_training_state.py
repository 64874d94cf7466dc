"""What the Hugging Face `Trainer` keeps of a training besides model, optimizer and scheduler, and how it decides what is best."""

from __future__ import annotations

import dataclasses
import json
import random
from collections.abc import Iterable, Mapping
from numbers import Real
from typing import Any

import numpy
import torch
from transformers import TrainerState, TrainingArguments
from transformers.trainer_callback import ExportableState
from transformers.training_args import ParallelMode

# Devices with random numbers of their own, as the Trainer knows them.
_DEVICES = ("cuda", "npu", "hpu", "mlu", "musa")


def random_states(args: TrainingArguments) -> dict[str, Any]:
    """The random numbers of this process, as in the Trainer's rng_state.pth."""
    states = {
        "python": random.getstate(),
        "numpy": numpy.random.get_state(),
        "cpu": torch.random.get_rng_state(),
    }
    for name in _DEVICES:
        device = getattr(torch, name, None)
        if device is not None and device.is_available():
            is_distributed = args.parallel_mode == ParallelMode.DISTRIBUTED
            states[name] = device.get_rng_state_all() if is_distributed else device.get_rng_state()
    return states


def gathered(value: Any, args: TrainingArguments) -> list[Any]:
    """The values of all processes, in the first one; in the others nothing."""
    if args.world_size == 1:
        return [value]
    values = [None] * args.world_size if args.process_index == 0 else None
    torch.distributed.gather_object(value, values)
    return values or []


def logged_at(step: int, state: TrainerState) -> dict[str, float]:
    """The metrics that were logged at a step; not those of the training as a whole."""
    entries = (entry for entry in state.log_history if entry.get("step") == step)
    return {name: value for entry in entries for name, value in numbers(entry).items() if _is_metric(name)}


def numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in metrics.items() if isinstance(value, Real)}


def _is_metric(name: str) -> bool:
    return name in ("loss", "grad_norm", "learning_rate", "epoch") or name.startswith("eval_")


def callback_states(callbacks: Iterable[ExportableState]) -> dict[str, Any]:
    """As TrainerState.stateful_callbacks has them: by name of the class, a list where several are of one."""
    states: dict[str, list[Any]] = {}
    for callback in callbacks:
        states.setdefault(type(callback).__name__, []).append(callback.state())
    return {name: found if len(found) > 1 else found[0] for name, found in states.items()}


def state_file(state: TrainerState) -> bytes:
    """trainer_state.json, as the Trainer writes it."""
    return (json.dumps(dataclasses.asdict(state), indent=2, sort_keys=True) + "\n").encode()


def best_metric(args: TrainingArguments) -> tuple[str, str]:
    """The metric that says which model is best, as evaluations call it, and "min" or "max"."""
    name, is_greater = args.metric_for_best_model or "loss", args.greater_is_better
    if is_greater is None:
        is_greater = not name.endswith("loss")
    return name if name.startswith("eval_") else f"eval_{name}", "max" if is_greater else "min"
