"""Measures every bound of Cairn's saves and restores on real series, beside what people use instead. Run by tools/bench."""

import argparse
import functools
import json
import os
import shutil
import statistics
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import layouts
import package
import pictures
import training
from measuring import GIB, MIB, Run, cairn, copy_folder, disk_use, drop_from_cache, files_in, noise, remove, warm
from peers import KEEPERS, PEERS, Borg, Cairn, Copy, HfXet, Restic, TorchSave, Worker, obstacle
from report import Figure, Report, rate, seconds, share

HERE = Path(__file__).parent

# What a save after the first may take at most, in percent of what it holds. For those after `sparse` Docs/benchmarks.md says why.
STORED = {
    "dense": 76, "dense-every-50": 83, "lora": 13.5, "mixed": 66, "mixed-late": 57, "sparse": 1.5,
    "pure": 29, "frozen": 43, "moe": 29, "zero": 47,
}
# And how much of what the reference computes.
OF_REFERENCE = 1.03


class Bench:
    """What the rows share: where they measure, how often, and beside whom."""

    def __init__(self, folder, quick):
        self.folder, self.quick = Path(folder), quick
        self.rounds = 2 if quick else 5
        self.saves = 3 if quick else None
        self.worker = Worker(self.folder / "xet-cache")
        # A quick run shows that all of it works; its numbers are not worth keeping.
        self.report = Report([Cairn.version(), *self.try_peers()], kept=not quick)

    def try_peers(self):
        """Finds the peers that can be run. Returns a line about each."""
        folder, self.peers = self.place(), []
        trial = folder / "trial-1"
        trial.mkdir()
        noise(trial / "model.safetensors", MIB, tensors=1)
        for kind in PEERS:
            reason = obstacle(kind, folder, self.worker, trial)
            if reason is None:
                self.peers.append(kind)
            yield kind.version() if reason is None else f"{kind.name} could not be run: {reason}"
        remove(folder)

    def place(self, memory=False):
        """A new folder, on the disk that is measured or in memory."""
        return Path(tempfile.mkdtemp(prefix="cairn-bench.", dir="/dev/shm" if memory else self.folder))


def logical(checkpoint):
    return sum(os.path.getsize(path) for path in files_in(checkpoint))


def stored(bench, name):
    """Stored bytes of the saves of one series, beside the reference and the peers."""
    report, checkpoints = bench.report, training.checkpoints(name)[:bench.saves]
    whole = [logical(checkpoint) for checkpoint in checkpoints]
    folder = bench.place()
    store = Cairn(folder, bench.worker)
    results = [store.save(checkpoint).json for checkpoint in checkpoints]
    assert [result["logicalBytes"] for result in results] == whole
    store.clear()
    ours = [result["storedBytes"] for result in results]
    figure = share(ours[1:], whole[1:])
    title = f"{name}: stored of a save"
    report.row(title, figure, at_most=STORED[name])
    computed = Run(sys.executable, HERE / "reference.py", "--json", *checkpoints).json
    reference = [result["storedBytes"] for result in computed]
    report.row(title, figure, "reference", share(reference[1:], whole[1:]), at_most=OF_REFERENCE)
    series = {"cairn": ours, "reference": reference}
    for kind in [kind for kind in bench.peers if kind in KEEPERS]:
        series[kind.name] = growth(kind(folder, bench.worker), checkpoints)
        report.row(title, figure, kind.name, share(series[kind.name][1:], whole[1:]))
    report.keep(stored=series, logical=whole)
    remove(folder)


def growth(contender, checkpoints):
    """How much the repository grows with each save."""
    sizes = [contender.kept()]
    for checkpoint in checkpoints:
        contender.prepare(checkpoint)
        contender.save(checkpoint)
        os.sync()
        sizes.append(contender.kept())
    contender.clear()
    return [after - before for before, after in zip(sizes, sizes[1:])]


def retention(bench):
    """--keep-last 5 --auto over 40 saves, beside a store of planes alone that keeps the same five."""
    folder, checkpoints = bench.place(), training.checkpoints("dense-40")[:9 if bench.quick else None]
    auto, planes = folder / "auto", folder / "planes"
    for store in (auto, planes):
        cairn("init", store)
    worst = (0, 0, 1)
    for number, checkpoint in enumerate(checkpoints):
        step = training.step(checkpoint)
        save = ["--run", "series", "--step", step, checkpoint]
        cairn("save", auto, *save)
        # A save that is pinned from the start is written without deltas.
        cairn("save", planes, *save, "--pin", f"pin-{step}")
        if number == 0:
            cairn("policy", auto, "--run", "series", "--keep-last", 5, "--auto")
            cairn("policy", planes, "--run", "series", "--keep-last", 5)
        if number >= 5:
            cairn("unpin", planes, f"pin-{training.step(checkpoints[number - 5])}")
            cairn("gc", planes)
        os.sync()
        sizes = disk_use(auto), disk_use(planes)
        worst = max(worst, (sizes[0] / sizes[1], *sizes))
    _, ours, theirs = worst
    bench.report.row(f"keep-last 5, {len(checkpoints)} saves: the worst du", Figure(ours / MIB, "MiB"),
                     "planes alone", Figure(theirs / MIB, "MiB"), at_most=OF_REFERENCE)
    remove(folder)


def contest(bench, memory, checkpoints):
    """Saves each checkpoint after the first with each contender in turn: the runs by contender."""
    folder = bench.place(memory)
    contenders = [kind(folder, bench.worker) for kind in [Cairn, *bench.peers]]
    runs = {contender.name: [] for contender in contenders}
    for checkpoint in checkpoints:
        for contender in contenders:
            contender.prepare(checkpoint)
            warm(checkpoint)
            os.sync()
            runs[contender.name].append(contender.save(checkpoint))
    remove(folder)
    return {name: results[1:] for name, results in runs.items()}


def beside(report, title, runs, size, bounds):
    """A row for each peer; `bounds` has the greatest ratio for some."""
    figures = {name: seconds(results, size) for name, results in runs.items()}
    ours = figures.pop("cairn")
    for name, figure in figures.items():
        report.row(title, ours, name, figure, at_most=bounds.get(name))
    return {name: figure.number for name, figure in {"cairn": ours, **figures}.items()}


def dense(bench):
    """Saves of a dense series on disk with sync, beside all others."""
    checkpoints = training.checkpoints("dense")[:bench.rounds + 1]
    size = logical(checkpoints[0])
    runs = contest(bench, False, checkpoints)
    times = beside(bench.report, "dense save, disk", runs, size, {
        TorchSave.name: 0.7, Restic.name: 1 / 5, HfXet.name: 1 / 5, Borg.name: 1 / 3})
    bench.report.row("  CPU-seconds a GB", Figure(seconds(runs["cairn"], size).cpu, "s/GB"), at_most=3.0)
    bench.report.keep(seconds=times, logical=size)


def dense_memory(bench):
    """The same on tmpfs."""
    checkpoints = training.checkpoints("dense")[:3 if bench.quick else 4]
    times = beside(bench.report, "dense save, tmpfs", contest(bench, True, checkpoints), logical(checkpoints[0]), {})
    bench.report.keep(seconds=times)


def against_torch(bench, title, checkpoint, before, at_most):
    """Saves of one checkpoint into a store that holds `before`, and nothing else, in turn with torch.save."""
    ours, theirs = [], []
    for _ in range(bench.rounds):
        folder = bench.place()
        store, peer = Cairn(folder, bench.worker), TorchSave(folder, bench.worker)
        for each in before:
            store.save(each)
        for contender, runs in ((store, ours), (peer, theirs)):
            contender.prepare(checkpoint)
            warm(checkpoint)
            os.sync()
            runs.append(contender.save(checkpoint))
        remove(folder)
    size = logical(checkpoint)
    bench.report.row(title, seconds(ours, size), TorchSave.name, seconds(theirs, size), at_most=at_most)


def first(bench):
    """The first save of a store, on disk with sync."""
    against_torch(bench, "first save, dense, disk", training.checkpoints("dense")[0], [], 0.7)


def lora(bench):
    """A LoRA save of more than 1 GiB, and a save of what has not changed."""
    before, checkpoint = training.checkpoints("lora-large")
    size = logical(checkpoint)
    against_torch(bench, f"LoRA save, {size / GIB:.2f} GiB, disk", checkpoint, [before], 0.4)
    folder = bench.place()
    store, runs = folder / "store", []
    cairn("init", store)
    for step in range(bench.rounds + 1):
        warm(checkpoint)
        os.sync()
        runs.append(cairn("save", store, checkpoint, "--run", "series", "--step", step))
    bench.report.row("nothing changed, disk", rate(runs[1:], size), at_least=6)
    remove(folder)


def restore(bench):
    """Restores of the first and the newest of ten dense saves: to tmpfs, and to disk with nothing in the page cache."""
    checkpoints = [*training.checkpoints("dense"), *training.checkpoints("dense-tenth")]
    folder, memory = bench.place(), bench.place(memory=True)
    store = Cairn(folder, bench.worker)
    for checkpoint in checkpoints:
        store.save(checkpoint)
    for title, checkpoint, to_memory, to_disk in (
            ("first save", checkpoints[0], 2.5, 0.8), ("newest of 10", checkpoints[-1], 1.5, 1.0)):
        size, reference = logical(checkpoint), f"series@{training.step(checkpoint)}"
        warm(store.place)
        runs = [restored(store, reference, memory) for _ in range(bench.rounds)]
        bench.report.row(f"restore of the {title}, tmpfs", rate(runs, size), at_least=to_memory)
        ours, theirs = [], []
        for _ in range(bench.rounds):
            drop_from_cache(store.place)
            ours.append(restored(store, reference, folder))
            drop_from_cache(checkpoint)
            theirs.append(copy_folder(checkpoint, folder / "copy"))
            remove(folder / "copy")
        bench.report.row(
            "  disk, nothing cached", seconds(ours, size), Copy.name, seconds(theirs, size), at_most=to_disk)
    remove(folder, memory)


def restored(store, reference, folder):
    """Restores into a folder, and removes what came of it."""
    os.sync()
    run = cairn("restore", store.place, reference, folder / "restored")
    remove(folder / "restored")
    return run


@dataclass
class Sized:
    """What saves of a state of one size took: the first one, one of the next state, and a restore of it."""

    size: int
    first: Figure
    changed: Figure
    peak_save: int
    peak_restore: int


def sized(bench, size):
    before, after = training.checkpoints("dense")[-2:]
    firsts, changes, save_peaks, restore_peaks = [], [], [], []
    for _ in range(2 if bench.quick else 3):
        folder = bench.place()
        store, state = folder / "store", folder / "state.safetensors"
        cairn("init", store)
        for step, checkpoint, runs in ((1, before, firsts), (2, after, changes)):
            # In a process of its own: what this one takes would count as part of the peak of those it starts.
            Run(sys.executable, HERE / "states.py", state, checkpoint, size)
            warm(state)
            os.sync()
            runs.append(cairn("save", store, state, "--run", "series", "--step", step))
            save_peaks.append(runs[-1].peak)
        remove(state)
        restore_peaks.append(cairn("restore", store, "series@2", folder / "restored").peak)
        remove(folder)
    return Sized(size, seconds(firsts, size), seconds(changes, size), max(save_peaks), max(restore_peaks))


def scale(bench):
    """Peak memory, and how time grows, of states of 0.5 to 8 GiB that all change between two saves."""
    sizes = [GIB // 2 << power for power in range(2 if bench.quick else 5)]
    results = []
    for size in sizes:
        results.append(sized(bench, size))
        label = f"{size / GIB:g} GiB"
        bench.report.row(f"{label}: peak memory of a save", Figure(results[-1].peak_save / MIB, "MiB"), at_most=600)
        bench.report.row("  of a restore", Figure(results[-1].peak_restore / MIB, "MiB"), at_most=600)
    for kind in ("first", "changed"):
        for half, twice in zip(results, results[1:]):
            compare_sizes(bench.report, kind, half, twice)


def compare_sizes(report, kind, half, twice):
    small, large = getattr(half, kind), getattr(twice, kind)
    title = f"{kind} save, {twice.size / GIB:g} GiB beside {half.size / GIB:g}"
    report.row(f"{title}: time", large, "half of it", small, at_most=2.3)
    cpu = [Figure(figure.cpu * each.size / 1e9, "s") for figure, each in ((large, twice), (small, half))]
    report.row("  CPU-seconds", cpu[0], "half of it", cpu[1], at_most=2.05)


@dataclass
class Row:
    body: object
    series: list

    @property
    def help(self):
        return (self.body.func if isinstance(self.body, functools.partial) else self.body).__doc__


ROWS = {
    **{f"stored-{name}": Row(functools.partial(stored, name=name), [name]) for name in STORED},
    "retention": Row(retention, ["dense-40"]),
    "lora": Row(lora, ["lora-large"]),
    "dense": Row(dense, ["dense"]),
    "dense-tmpfs": Row(dense_memory, ["dense"]),
    "first": Row(first, ["dense"]),
    "restore": Row(restore, ["dense", "dense-tenth"]),
    "scale": Row(scale, ["dense"]),
    **{body.__name__: Row(body, []) for body in (
        layouts.splitting, layouts.parsing, layouts.containers, layouts.watching, layouts.merging)},
    **{f"python-{body.__name__.replace('_', '-')}": Row(body, ["dense"]) for body in (
        package.saves, package.loads, package.one_tensor, package.memory)},
    **{f"python-{body.__name__}": Row(body, []) for body in (package.steps, package.trainer, package.importing)},
}


def drop_unneeded(names, later):
    """Removes those series that no later row measures, nor goes on from."""
    needed = {series for row in later for series in ROWS[row].series}
    needed |= {training.RECIPES[series][1] for series in needed}
    for series in set(names) - needed:
        remove(training.CACHE / series)


def measure(bench, rows, lean):
    if not lean:
        training.make_all([series for row in rows for series in ROWS[row].series])
    for number, row in enumerate(rows):
        training.make_all(ROWS[row].series)
        bench.report.begin(row)
        ROWS[row].body(bench)
        bench.report.end()
        if lean:
            drop_unneeded(ROWS[row].series, rows[number + 1:])
    if set(rows) == set(ROWS) and not bench.quick:
        pictures.draw()


def parse():
    parser = argparse.ArgumentParser(
        prog="tools/bench", formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Builds the release and measures Cairn on real series, beside what people use instead. Exits with 1 where a "
        "bound does not hold.",
        epilog="rows:\n" + "\n".join(f"  {name:22}{row.help}" for name, row in ROWS.items()))
    parser.add_argument("--folder", default=tempfile.gettempdir(), help="on the disk to measure (default: %(default)s)")
    parser.add_argument("--quick", action="store_true", help="fewer saves and rounds, smaller states: to see that all of it runs")
    parser.add_argument("--lean", action="store_true", help="remove each series after its last row, for 25 GB of disk, not 45")
    parser.add_argument("--pictures", action="store_true", help="draw those of Docs/ from what was measured, and measure nothing")
    parser.add_argument("row", nargs="*", metavar="ROW", help="rows to measure (default: all)")
    options = parser.parse_args()
    unknown = [name for name in options.row if name not in ROWS]
    if unknown:
        parser.error(f"there is no row {unknown[0]}; --help lists them")
    return options


def main():
    options = parse()
    if options.pictures:
        return pictures.draw()
    folder = tempfile.mkdtemp(prefix="cairn-bench.", dir=options.folder)
    bench = None
    try:
        bench = Bench(folder, options.quick)
        measure(bench, options.row or list(ROWS), options.lean)
    finally:
        if bench:
            bench.worker.close()
        shutil.rmtree(folder)
    sys.exit(1 if bench.report.failed else 0)


if __name__ == "__main__":
    main()
