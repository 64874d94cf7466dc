#!/usr/bin/env python3
"""What the rows about the Python package measure, each in a process of its own.

usage: package_runs.py WHAT JSON     prints what it measured as JSON
"""

import json
import os
import shutil
import sys
import threading
import time
from pathlib import Path

# Saves of a training with the Trainer, and the steps from one to the next.
SAVES, SAVE_STEPS = 6, 3


class State:
    """A state of any size, made of the tensors of a real checkpoint as states.py makes them; it takes the values of later ones in place,
    as a training changes its own."""

    def __init__(self, checkpoint, size):
        import states
        import torch

        self.torch = torch
        source = list(states.tensors(checkpoint))
        self.pieces = list(states.plan([len(tensor) for tensor in source], size))
        self.tensors = {
            f"turn.{turn}.tensor.{number}": torch.empty(taken) for number, turn, taken in self.pieces}
        self.take(checkpoint)

    @property
    def size(self):
        return sum(tensor.nbytes for tensor in self.tensors.values())

    def take(self, checkpoint, share=1):
        """Takes the values of a checkpoint: all, or those of one tensor in many."""
        import numpy as np
        import states

        source = list(states.tensors(checkpoint))
        for place, ((number, turn, taken), tensor) in enumerate(zip(self.pieces, self.tensors.values())):
            if place % round(1 / share) == 0:
                values = np.roll(source[number], turn * states.TURN)[:taken].view("<f4")
                tensor.copy_(self.torch.from_numpy(values))


def timed(body):
    start = time.perf_counter()
    result = body()
    return time.perf_counter() - start, result


def save_torch(state, target):
    import torch

    torch.save(state, target)
    with open(target, "rb") as file:
        os.fsync(file.fileno())


def begin_dcp(state, target):
    import torch.distributed.checkpoint as dcp

    return dcp.async_save(state, checkpoint_id=str(target), no_dist=True)


def saves(folder, checkpoints, size, share):
    """Each round all of them in turn, of the same state."""
    import cairn

    state, results = State(checkpoints[0], size), []
    store = cairn.open(folder / "store", create=True)
    for step, checkpoint in enumerate(checkpoints):
        if step:
            state.take(checkpoint, share)
        results.append({
            **copied(state.tensors), **saved_by_cairn(store, step, state.tensors),
            **saved_by_torch(state.tensors, folder / "state.pt"), **saved_by_dcp(state.tensors, folder / "dcp")})
    store.close()
    return results


def copied(tensors):
    os.sync()
    return {"clone": timed(lambda: [tensor.clone() for tensor in tensors.values()])[0]}


def saved_by_cairn(store, step, tensors):
    os.sync()
    start = time.perf_counter()
    stall, saving = timed(lambda: store.save(step, model=tensors, wait=False))
    saving.wait()
    return {"stall": stall, "durable": time.perf_counter() - start}


def saved_by_torch(tensors, target):
    os.sync()
    seconds, _ = timed(lambda: save_torch(tensors, target))
    target.unlink()
    return {"torch": seconds}


def saved_by_dcp(tensors, target):
    os.sync()
    start = time.perf_counter()
    stall, future = timed(lambda: begin_dcp(tensors, target))
    future.result()
    durable = time.perf_counter() - start
    shutil.rmtree(target)
    return {"dcpStall": stall, "dcpDurable": durable}


class NoSaver:
    def save(self, step, model, optimizer):
        pass

    def wait(self):
        pass


class CairnSaver:
    def __init__(self, folder):
        import cairn

        self.store = cairn.open(folder / "store", create=True)

    def save(self, step, model, optimizer):
        self.store.save(step, model=model, optimizer=optimizer, wait=False)

    def wait(self):
        self.store.wait()


class DCPSaver:
    """Keeps the newest checkpoint."""

    def __init__(self, folder):
        self.folder, self.future, self.step = folder, None, None

    def save(self, step, model, optimizer):
        self.wait()
        if self.step is not None:
            shutil.rmtree(self.folder / str(self.step))
        self.step = step
        state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
        self.future = begin_dcp(state, self.folder / str(step))

    def wait(self):
        if self.future is not None:
            self.future.result()


class TorchSaver:
    """A copy of the state, which a thread writes. Keeps the newest checkpoint."""

    def __init__(self, folder):
        self.folder, self.thread = folder, None

    def save(self, step, model, optimizer):
        import copy

        self.wait()
        state = copy.deepcopy({"model": model.state_dict(), "optimizer": optimizer.state_dict()})
        self.thread = threading.Thread(target=self.write, args=(state,))
        self.thread.start()

    def write(self, state):
        save_torch(state, self.folder / "next.pt")
        os.replace(self.folder / "next.pt", self.folder / "state.pt")

    def wait(self):
        if self.thread is not None:
            self.thread.join()


def language_model(small):
    """A Llama-like model, of which weights, m and v take 1 GiB."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(1)
    hidden, layers = (128, 2) if small else (768, 11)
    return LlamaForCausalLM(LlamaConfig(
        vocab_size=8192, hidden_size=hidden, intermediate_size=hidden * 8 // 3, num_hidden_layers=layers, num_attention_heads=8))


def tokens():
    import torch

    return [{"input_ids": torch.randint(8192, (64,)), "labels": torch.randint(8192, (64,))} for _ in range(256)]


def timed_callback(store, times):
    """CairnCallback, whose events are timed from the step that is to be saved to the next one's begin."""
    from cairn.transformers import CairnCallback

    class TimedCallback(CairnCallback):
        def on_step_end(self, arguments, state, control, **named):
            seconds, _ = timed(lambda: super(TimedCallback, self).on_step_end(arguments, state, control, **named))
            self.seconds = seconds

        def _save_due(self, *arguments, **named):
            is_due = self._due is not None
            seconds, _ = timed(lambda: super(TimedCallback, self)._save_due(*arguments, **named))
            if is_due:
                times.append(self.seconds + seconds)

    return TimedCallback(store)


def trainer(folder, own, small):
    """The seconds that each save of a training with the Hugging Face Trainer takes of it: the Trainer's own, or CairnCallback's."""
    from transformers import Trainer, TrainingArguments, set_seed
    from transformers.trainer_callback import PrinterCallback

    set_seed(1)
    times = []

    class TimedTrainer(Trainer):
        def _save_checkpoint(self, *arguments, **named):
            times.append(timed(lambda: super(TimedTrainer, self)._save_checkpoint(*arguments, **named))[0])

    arguments = TrainingArguments(
        str(folder), max_steps=SAVES * SAVE_STEPS, save_steps=SAVE_STEPS, save_strategy="steps" if own else "no", save_total_limit=1,
        per_device_train_batch_size=2, report_to=[], disable_tqdm=True, use_cpu=True, logging_strategy="no")
    callbacks = [] if own else [timed_callback(folder / "store", times)]
    trainer = TimedTrainer(language_model(small), arguments, train_dataset=tokens(), callbacks=callbacks)
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    return times


def training(folder, saver, steps, small):
    """Steps a second of a Llama-like model with AdamW (1 GiB of state) that saves each one, until the last is durable."""
    import torch

    model = language_model(small)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    keeper = NoSaver() if saver == "none" else {"cairn": CairnSaver, "dcp": DCPSaver, "torch": TorchSaver}[saver](folder)

    def step(number):
        tokens = torch.randint(8192, (2, 64))
        model(input_ids=tokens, labels=tokens).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        keeper.save(number, model, optimizer)

    warm = 3
    for number in range(warm):
        step(number)
    keeper.wait()
    start = time.perf_counter()
    for number in range(warm, warm + steps):
        step(number)
    keeper.wait()
    return steps / (time.perf_counter() - start)


def module_of(tensors):
    import torch

    module = torch.nn.Module()
    for name, tensor in tensors.items():
        module.register_parameter(name.replace(".", "_"), torch.nn.Parameter(tensor))
    return module


def loads(folder, checkpoints, size, rounds):
    """GB a second (10^9 bytes of the state), medians."""
    import statistics

    import cairn
    import numpy as np
    import torch
    from measuring import warm

    state = State(checkpoints[0], size)
    module = module_of(state.tensors)
    with cairn.open(folder / "store", create=True) as store:
        for step, checkpoint in enumerate(checkpoints):
            state.take(checkpoint)
            store.save(step, model=module)
    save_torch(module.state_dict(), folder / "state.pt")
    expected = {name: tensor.clone() for name, tensor in module.state_dict().items()}

    def rate(path, body):
        def seconds():
            # Each time: some systems give back within seconds what was read once,
            warm(path)
            # and virtual machines the memory that was freed. What it costs to get that again has nothing to do with who loads.
            time.sleep(2.5)
            np.ones(2 * size, np.uint8)
            return timed(body)[0]

        return size / statistics.median(seconds() for _ in range(rounds)) / 1e9

    with cairn.open(folder / "store") as store:
        loaded = store["latest"].state("model")
        assert all(torch.equal(loaded[name], tensor) for name, tensor in expected.items())
        del loaded
        return {
            "first": rate(store.path, lambda: store.load(0)), "firstInPlace": rate(store.path, lambda: store.load(0, model=module)),
            "newest": rate(store.path, lambda: store.load()), "newestInPlace": rate(store.path, lambda: store.load(model=module)),
            "torch": rate(folder / "state.pt", lambda: torch.load(folder / "state.pt"))}


def fill(folder, checkpoints, size):
    """A store with one iteration. The name of a tensor in its midst."""
    import cairn

    state = State(checkpoints[0], size)
    with cairn.open(folder / "store", create=True) as store:
        store.save(1, model=state.tensors)
    middle = list(state.tensors)[len(state.tensors) // 2:]
    return next(name for name in middle if state.tensors[name].nbytes >= 1 << 20)


def tensor(folder, name):
    import cairn
    import torch  # noqa: F401
    from measuring import warm

    warm(folder / "store")
    store = cairn.open(folder / "store")
    start = time.perf_counter()
    iteration = store["latest"]
    read = iteration.tensor(name)[:]
    whole = time.perf_counter() - start
    again, _ = timed(lambda: iteration.tensor(name)[:])
    return {"whole": whole, "again": again, "bytes": read.nbytes}


def memory(folder, checkpoints, size, options):
    """The greatest resident size while states are saved, less that before."""
    import cairn

    state = State(checkpoints[0], size)
    # All that is loaded once is there.
    state.torch.ones(8).sum()
    store = cairn.open(folder / "store", create=True)
    before = status("VmRSS")
    peak = 0
    for step, checkpoint in enumerate(checkpoints):
        if step:
            state.take(checkpoint)
        # Forgets the peak of what came before.
        Path("/proc/self/clear_refs").write_text("5")
        store.save(step, model=state.tensors, wait=False, **options).wait()
        peak = max(peak, status("VmHWM"))
    store.close()
    return peak - before


def status(name):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(name + ":")) * 1024


def importing():
    """Of the import, and with it of all that it puts off until it is used."""
    start = time.perf_counter()
    import cairn

    imported = time.perf_counter() - start
    assert "torch" not in sys.modules
    cairn.open
    return imported, time.perf_counter() - start


def main():
    # The answer has the true standard output for itself: libraries print to it.
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    what, asked = sys.argv[1], json.loads(sys.argv[2])
    folder = Path(asked.pop("folder"))
    if "checkpoints" in asked:
        asked["checkpoints"] = [Path(checkpoint) for checkpoint in asked["checkpoints"]]
    if what == "import":
        result = importing()
    else:
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
        result = {"saves": saves, "training": training, "trainer": trainer, "loads": loads, "fill": fill, "tensor": tensor, "memory": memory}[what](
            folder, **asked)
    print(json.dumps(result), file=answer)


if __name__ == "__main__":
    main()
