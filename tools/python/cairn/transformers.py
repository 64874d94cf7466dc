"""Checkpoints of the Hugging Face `Trainer` in a store: a callback that saves from memory, and folders to resume from.

    arguments = TrainingArguments(save_strategy="no", save_steps=100, save_total_limit=5)
    callback = CairnCallback("checkpoints.cairn", run="sft", load_best_model_at_end=True)
    trainer = Trainer(model, arguments, train_dataset=data, eval_dataset=data, callbacks=[callback])
    trainer.train()

A training that was interrupted goes on from the store:

    trainer.train(resume_from_checkpoint=materialize("checkpoints.cairn", "sft@latest", "out"))
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Iterable
from typing import Any, Optional, Union

import torch
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import ExportableState

from ._following import Following
from ._keeping import best_of, is_better, iterations_of, keep, take_up
from ._materialize import materialize
from ._pretrained import load_pretrained, pretrained, saved_files
from ._saving import Saving
from ._store import Store, open as open_store
from ._training_state import (
    best_metric,
    callback_states,
    gathered,
    logged_at,
    numbers,
    random_states,
    state_file,
)
from .schedule import Due, Schedule

__all__ = ["CairnCallback", "materialize"]

# Where no process has the whole model.
_SHARDED = (DistributedType.FSDP, DistributedType.DEEPSPEED, DistributedType.MEGATRON_LM, DistributedType.XLA)
# The name in TrainerState.stateful_callbacks under which the schedule is kept.
_SCHEDULE = "cairn.Schedule"


class CairnCallback(TrainerCallback):
    """Saves into a store what the Trainer saves into folders: from memory, and beside the training.

    An iteration holds the model (with the names that `save_pretrained` gives its tensors; of a PEFT model the adapter
    alone), the optimizer, the scheduler, the gradient scaler, the random numbers of all processes, `trainer_state.json`,
    configuration and tokenizer, and as metrics what was logged at its step. `materialize` makes a folder of it for
    `resume_from_checkpoint`, from which training goes on bit for bit.

    Of the Trainer's arguments it heeds `save_steps`, `save_total_limit`, `save_only_model`, `metric_for_best_model` (else
    `loss`) and `greater_is_better`. `save_strategy` there has to be "no", or the Trainer writes its folders as well.

    A training that is resumed at an earlier step than the run's last supersedes what came after. One that starts anew
    needs a run of its own. What goes wrong beside the training is raised at the next save, at the latest when training
    ends. With several processes the first one saves, so each has to have the whole model, as with DDP. Which iteration
    is best the store knows, so `best_model_checkpoint` stays None; `total_flos` is that of the last log. A reference doesn't
    know of `greater_is_better`: where that is False, "sft@best:eval_wer:min" is the best of a metric that isn't a loss.

    Args:
        store: A store, or the path of one; it is made where there is none.
        run: The run to save into; None is `main`.
        save_strategy: "steps", "epoch" or "best" as the Trainer's, or a schedule, which for several processes has
            their `group`.
        load_best_model_at_end: Whether the model ends up with the weights of the best iteration.
        wait: Whether training waits until each save is durable.
        stateful: The Trainer's other callbacks that have a state to save, such as `EarlyStoppingCallback`: no callback
            sees the others.
        options: More for `Store.save`, such as `memory`, `staging` and `allow_pickle`.
    """

    def __init__(
        self,
        store: Union[Store, str, os.PathLike[str]],
        run: Optional[str] = None,
        *,
        save_strategy: Union[str, Schedule] = "steps",
        load_best_model_at_end: bool = False,
        wait: bool = False,
        stateful: Iterable[ExportableState] = (),
        **options: Any,
    ) -> None:
        if not isinstance(save_strategy, Schedule) and save_strategy not in ("steps", "epoch", "best"):
            raise ValueError(
                f'save_strategy is "steps", "epoch", "best" or a cairn.Schedule, not {save_strategy!r}'
            )
        self._place, self._run = store, run or "main"
        self._strategy, self._loads_best, self._wait = save_strategy, load_best_model_at_end, wait
        self._stateful, self._options = tuple(stateful), options
        self._following = Following()
        # Of a training: the store, in the first process alone, and the steps that are there already.
        self._store: Optional[Store] = None
        self._schedule: Optional[Schedule] = None
        # The metric that says what is best, and "min" or "max", where that matters to anybody.
        self._metric: Optional[tuple[str, str]] = None
        self._superseded: set[int] = set()
        self._files: dict[str, bytes] = {}
        # What is to be saved, the random numbers that go with it, and the step that was saved last.
        self._due: Optional[Due] = None
        self._random: dict[str, Any] = {}
        self._saved: Optional[int] = None
        # The best value and its step, as long as the Trainer's state doesn't have them.
        self._best: Optional[tuple[float, int]] = None

    # The Trainer saves after it has logged, evaluated, and stepped a scheduler that waits for metrics, and of that moment no
    # event tells. So what is due is saved at the first event after it. All that changes in between are random numbers, as the
    # next batch is fetched: those are taken before.

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        _check_whole(kwargs["model"])
        if args.save_strategy != "no":
            warnings.warn(
                'the Trainer writes its own checkpoints as well; save_strategy="no" of its arguments leaves them out',
                stacklevel=2,
            )
        # What another training left behind, if that was interrupted.
        self._following.wait()
        self._due = self._saved = self._best = None
        asks_for_best = args.metric_for_best_model or self._loads_best or self._strategy == "best"
        self._metric = best_metric(args) if asks_for_best else None
        self._schedule = self._scheduled(args, state)
        if state.is_world_process_zero:
            self._store = (
                self._place if isinstance(self._place, Store) else open_store(self._place, create=True)
            )
            self._superseded = take_up(self._store, self._run, state.global_step)
            self._files = saved_files(kwargs.get("processing_class"))

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._save_due(args, state, control, **kwargs)

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._save_due(args, state, control, **kwargs)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        # Where an epoch ends there is an event for that, before which there may be an evaluation.
        epoch = state.epoch if state.epoch % 1 else None
        self._ask(args, state, epoch=epoch, final=state.global_step >= state.max_steps)

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._save_due(args, state, control, **kwargs)
        # The Trainer doesn't save where it is stopped early; a schedule may.
        final = control.should_training_stop and isinstance(self._strategy, Schedule)
        # An epoch that is cut short has ended as well.
        self._ask(args, state, epoch=math.ceil(state.epoch), final=final)

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self._schedule is None:
            return
        metrics = numbers(kwargs["metrics"])
        name, direction = self._metric or ("", "min")
        # The state is changed later, as callbacks that stop a training early compare with it at this event.
        if name in metrics and is_better(metrics[name], state.best_metric, direction):
            self._best = metrics[name], state.global_step
        self._ask(args, state, metrics=metrics)
        if self._due is None and self._saved == state.global_step and self._store is not None:
            self._following.add(self._annotate, self._store, f"{self._run}@{self._saved}", metrics)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._save_due(args, state, control, **kwargs)
        self._following.wait()
        if self._loads_best:
            self._load_best(args, kwargs["model"])
        if self._store is not None and self._store is not self._place:
            # Gives the memory for copies of the state back.
            self._store.close()
        self._schedule = self._store = None

    def _scheduled(self, args: TrainingArguments, state: TrainerState) -> Schedule:
        group = torch.distributed.group.WORLD if args.world_size > 1 else None
        if isinstance(self._strategy, Schedule):
            schedule = self._strategy
        elif self._strategy == "steps":
            schedule = Schedule(steps=state.save_steps, group=group)
        elif self._strategy == "epoch":
            schedule = Schedule(epochs=1, final=False, group=group)
        else:
            schedule = Schedule(best=":".join(best_metric(args)), final=False, group=group)
        if _SCHEDULE in state.stateful_callbacks:
            schedule.load_state_dict(state.stateful_callbacks[_SCHEDULE])
        else:
            schedule.start(state.global_step, state.epoch)
        return schedule

    def _ask(self, args: TrainingArguments, state: TrainerState, **facts: Any) -> None:
        """Asks whether the step is to be saved, and takes the random numbers where it is, or was already."""
        assert self._schedule is not None
        due = self._schedule.due(state.global_step, **facts)
        self._due = due if due else self._due
        if self._due is not None:
            self._random = random_states(args)

    def _save_due(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self._best is not None:
            (state.best_metric, state.best_global_step), self._best = self._best, None
        if self._due is None:
            return
        due, self._due = self._due, None
        ranks = gathered(self._random, args)
        if self._store is not None and self._schedule is not None:
            self._following.check()
            state.stateful_callbacks.update(callback_states([*self._stateful, control]))
            state.stateful_callbacks[_SCHEDULE] = self._schedule.state_dict()
            options = dict(self._options)
            if control.should_training_stop:
                # The last one isn't left out where others may be.
                options["when_busy"] = "wait"
            saving = self._save(self._store, due, state, _parts(args, ranks, **kwargs), options)
            self._saved = None if saving.skipped else state.global_step
            self._following.add(self._finish, self._store, saving, args.save_total_limit)
            if self._wait:
                self._following.wait()

    def _save(
        self,
        store: Store,
        due: Due,
        state: TrainerState,
        parts: tuple[dict[str, Any], dict[str, bytes]],
        options: dict[str, Any],
    ) -> Saving:
        states, files = parts
        return store.save(
            state.global_step,
            run=self._run,
            metrics=logged_at(state.global_step, state),
            pin=due.pin,
            replace=state.global_step in self._superseded,
            wait=False,
            files={**self._files, **files, "trainer_state.json": state_file(state)},
            **states,
            **options,
        )

    @staticmethod
    def _annotate(store: Store, reference: str, metrics: dict[str, float]) -> None:
        store.annotate(reference, metrics=metrics)

    def _finish(self, store: Store, saving: Saving, limit: Optional[int]) -> None:
        saving.wait()
        keep(store, self._run, limit, self._metric)

    def _load_best(self, args: TrainingArguments, model: Any) -> None:
        if self._store is not None:
            best = best_of(iterations_of(self._store, self._run), self._metric)
            if best is None:
                warnings.warn(
                    f"no iteration of the run {self._run} was evaluated, so none is loaded as the best"
                )
            else:
                with self._store[f"{self._run}@{best['step']}"] as iteration:
                    load_pretrained(model, iteration)
        if args.world_size > 1:
            trained = (parameter.data for parameter in model.parameters() if parameter.requires_grad)
            for tensor in (*trained, *model.buffers()):
                torch.distributed.broadcast(tensor, 0)


def _parts(
    args: TrainingArguments,
    ranks: list[dict[str, Any]],
    *,
    model: Any,
    optimizer: Any,
    lr_scheduler: Any,
    **_: Any,
) -> tuple[dict[str, Any], dict[str, bytes]]:
    """The parts of an iteration, as the Trainer has them in files of their own, and the files beside them."""
    weights, files = pretrained(model)
    if args.save_only_model:
        return dict(weights), files
    training = {
        "optimizer": optimizer,
        "scheduler": lr_scheduler,
        "scaler": getattr(optimizer, "scaler", None),
    }
    states = {name: value.state_dict() for name, value in training.items() if value is not None}
    return {**weights, **states, "rng_state": ranks}, files


def _check_whole(model: Any) -> None:
    """Only a model that each process has whole is whole where the first process saves it."""
    kind = AcceleratorState().distributed_type
    if kind in _SHARDED or any(hasattr(parameter, "full_tensor") for parameter in model.parameters()):
        raise ValueError(f"CairnCallback can't save a model that is sharded ({kind.value}): use cairn.dcp")
