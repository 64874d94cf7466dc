"""Rows of tools/bench about the Python package: what a save stalls, how soon it is durable, loads, memory, training that saves each step."""

import json
import os
import statistics
import sys
from pathlib import Path

import training
from measuring import CAIRN, GIB, MIB, Run, remove
from report import Figure

RUNS = Path(__file__).with_name("package_runs.py")
PACKAGE = Path(__file__).resolve().parents[1] / "tools/python"
# How many saves there are until both copies of the state have their memory.
FIRST = 2


def settings():
    """The package as it lies in the sources, with the library that was built beside the program."""
    library = os.environ.get("CAIRN_LIBRARY") or Path(CAIRN).resolve().parent / "libCairnC.so"
    if not Path(library).exists():
        raise SystemExit(f"{library} is not there: build it with swift build -c release --product CairnC, or set CAIRN_LIBRARY")
    quiet = {"PYTHONWARNINGS": "ignore", "TQDM_DISABLE": "1", "TRANSFORMERS_VERBOSITY": "error"}
    return {"CAIRN_LIBRARY": str(library), "PYTHONPATH": str(PACKAGE), **quiet}


def run(what, folder, **asked):
    """One of package_runs.py, in a process of its own: what it measured."""
    return Run(sys.executable, RUNS, what, json.dumps({"folder": str(folder), **asked}, default=str), settings=settings()).json


def median(results, name):
    return Figure(statistics.median(result[name] for result in results), "s")


def milliseconds(results, name):
    return Figure(1000 * statistics.median(result[name] for result in results), "ms")


def saves(bench):
    """saves of a 1 GiB state from memory: the stall, and the time to durable, beside torch's"""
    checkpoints = training.checkpoints("dense")[:FIRST + 2 if bench.quick else None]
    size = GIB // 8 if bench.quick else GIB
    # All of it changes between two saves, or one tensor in fifty.
    for title, share in (("all of it changes", 1), ("2 % of it change", 0.02)):
        folder = bench.place()
        results = run("saves", folder, checkpoints=checkpoints, size=size, share=share)
        first, results = results[:FIRST], results[FIRST:]
        report, durable = bench.report, median(results, "durable")
        for peer, name, bound in (("clone", "clone", 1.3), ("dcp.async_save", "dcpStall", 0.8)):
            report.row(
                f"asynchronous save, {title}: stall", milliseconds(results, "stall"), peer, milliseconds(results, name), at_most=bound)
            report.row("  of the first two", milliseconds(first, "stall"), peer, milliseconds(first, name))
        report.row("  from save to durable", durable, "torch.save + fsync", median(results, "torch"), at_most=0.8)
        report.row("  from save to durable", durable, "dcp.async_save", median(results, "dcpDurable"))
        remove(folder)


def steps(bench):
    """a training on the CPU that saves each step"""
    names = {"cairn": None, "dcp": "dcp.async_save", "torch": "torch.save in a thread", "none": "no saves"}
    rates = {name: [] for name in names}
    for _ in range(1 if bench.quick else 3):
        for name in names:
            folder = bench.place()
            rates[name].append(run("training", folder, saver=name, steps=3 if bench.quick else 12, small=bench.quick))
            remove(folder)
    figures = {name: Figure(statistics.median(results), "steps/s") for name, results in rates.items()}
    for name in ("dcp", "torch"):
        bench.report.row(
            "training, saving each step", figures["cairn"], names[name], figures[name], at_least=1)
    bench.report.row("training, saving each step", figures["cairn"], names["none"], figures["none"])


def trainer(bench):
    """a save of a training with the Hugging Face Trainer: what it takes of the training"""
    times = {True: [], False: []}
    for _ in range(1 if bench.quick else 3):
        for own, found in times.items():
            folder = bench.place()
            found += run("trainer", folder, own=own, small=bench.quick)[FIRST:]
            remove(folder)
    ours, theirs = (Figure(statistics.median(times[own]), "s") for own in (False, True))
    bench.report.row("CairnCallback: a save", ours, "the Trainer's own", theirs, at_most=0.3)


def loads(bench):
    """loads of a state dict from the page cache, and of one tensor"""
    checkpoints = training.checkpoints("dense")[:2 if bench.quick else None]
    folder, size = bench.place(), GIB // 8 if bench.quick else GIB
    found = run("loads", folder, checkpoints=checkpoints, size=size, rounds=bench.rounds)
    torch = Figure(found["torch"], "GB/s")
    for title, name in (("first save", "first"), (f"newest of {len(checkpoints)}", "newest")):
        fresh = Figure(found[name], "GB/s")
        bench.report.row(f"load of the {title}, a state dict", fresh, at_least=2)
        bench.report.row(f"load of the {title}, a state dict", fresh, "torch.load", torch)
        bench.report.row("  into a module, in place", Figure(found[name + "InPlace"], "GB/s"), at_least=2)
    remove(folder)


def one_tensor(bench):
    """one tensor of a 4 GiB iteration, in a process that has read nothing yet"""
    folder, size = bench.place(), GIB // 8 if bench.quick else 4 * GIB
    name = run("fill", folder, checkpoints=training.checkpoints("dense")[-1:], size=size)
    results = [run("tensor", folder, name=name) for _ in range(bench.rounds)]
    whole, again = (statistics.median(result[name] for result in results) for name in ("whole", "again"))
    title = f"one tensor of {size / GIB:g} GiB, {results[0]['bytes'] / MIB:.0f} MiB"
    bench.report.row(title, Figure(1000 * whole, "ms"), "read once more", Figure(1000 * again, "ms"))
    bench.report.row("  beyond its bytes", Figure(1000 * (whole - again), "ms"), at_most=20)
    remove(folder)


def memory(bench):
    """what saves take beyond the state itself, in a process of its own each"""
    checkpoints, size = training.checkpoints("dense")[:4], GIB // 8 if bench.quick else GIB
    wave = size // 4
    for title, options, copies in (
            ("by default", {}, 2 * size), ('memory="one"', {"memory": "one"}, size),
            (f"staging={wave // MIB} MiB", {"staging": wave}, wave)):
        folder = bench.place()
        peak = run("memory", folder, checkpoints=checkpoints, size=size, options=options)
        bench.report.row(
            f"peak memory beyond the state, {title}", Figure(peak / MIB, "MiB"), at_most=copies / MIB + 600)
        remove(folder)


def importing(bench):
    """import cairn, in a new process"""
    times = [run("import", bench.folder) for _ in range(2 * bench.rounds + 1)]
    imported, used = (Figure(1000 * statistics.median(column), "ms") for column in zip(*times))
    bench.report.row("import cairn, without torch", imported, at_most=50)
    bench.report.row("  with all that its first use loads, such as NumPy", used)
