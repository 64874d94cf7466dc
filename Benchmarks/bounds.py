"""Measures the bounds of the store and prints a row for each. Run by Benchmarks/bounds, which builds the program first."""

import argparse
import json
import os
import shutil
import sys
import tempfile

from measuring import (
    CAIRN, GIB, KIB, Run, Table, alternate, cairn, copy, disk_use, drop_from_cache, mebibytes, noise, remove, seconds)


def first_save(table, folder):
    """first save and the same again, 2 GiB in the page cache"""
    source, store, target = (os.path.join(folder, name) for name in ("model.safetensors", "store", "copy"))
    noise(source, 2 * GIB, tensors=200)

    def save():
        remove(store)
        cairn("init", store)
        return cairn("save", store, source, "--step", 1).seconds

    def cp():
        remove(target)
        return copy(source, target).seconds

    ours, theirs = alternate(5, save, cp)
    table.row("first save, 2 GiB", seconds(ours), 1, f"cp+sync {theirs:.2f}", ours / theirs)

    results = []

    def again():
        run = cairn("save", store, source, "--step", len(results) + 2)
        results.append(run.json)
        return run.seconds

    ours, theirs = alternate(5, again, lambda: Run("openssl", "dgst", "-sha256", source).seconds)
    table.row("the same again: time", seconds(ours), 0.6, f"openssl {theirs:.2f}", ours / theirs)
    new, stored = (max(result[key] for result in results) for key in ("newBytes", "storedBytes"))
    table.row("the same again: newBytes", (new, f"{new} B"), 0)
    table.row("the same again: storedBytes", (stored, f"{stored} B"), 64 * KIB + 40 * results[0]["tensors"])

    restored = os.path.join(folder, "restored")

    def restore():
        remove(restored)
        drop_from_cache(store)
        return cairn("restore", store, "1", restored).seconds

    def cold_cp():
        remove(target)
        drop_from_cache(source)
        return copy(source, target).seconds

    ours, theirs = alternate(5, restore, cold_cp)
    table.row("restore, 2 GiB, nothing cached", seconds(ours), 1, f"cp+sync {theirs:.2f}", ours / theirs)


def memory(table, folder):
    """peak memory of a save and a restore of 4 GiB"""
    source, store = (os.path.join(folder, name) for name in ("model.safetensors", "store"))
    noise(source, 4 * GIB, tensors=200)
    cairn("init", store)
    table.row("peak memory, save of 4 GiB", mebibytes(cairn("save", store, source, "--step", 1).peak), 600)
    restore = cairn("restore", store, "1", os.path.join(folder, "restored"))
    table.row("peak memory, restore of 4 GiB", mebibytes(restore.peak), 600)


def save_series(store, folder, iterations, size, tensors=0):
    """Saves so many iterations of noise, one after another."""
    source = os.path.join(folder, "source")
    for step in range(iterations):
        noise(source, size, tensors)
        cairn("save", store, source, "--step", step, "--run", "series")
        if step % 500 == 499:
            print(f"  {step + 1} of {iterations} iterations saved", file=sys.stderr, flush=True)
    os.remove(source)


def index_use(store):
    """Bytes of the index's live pages, and of its file."""
    stats = cairn("stats", store).json
    return stats["chunks"], stats["indexBytes"], os.path.getsize(os.path.join(store, "index", "data.mdb"))


def many(table, folder):
    """10,000 iterations and a million chunks: list, a save, the index's size"""
    store, fresh, source = (os.path.join(folder, name) for name in ("store", "fresh", "model.safetensors"))
    cairn("init", store, "--chunk-size", "4KiB")
    save_series(store, folder, 10_000, 100 * 4 * KIB)
    chunks, live, file = index_use(store)
    table.row("index a chunk, 1 M chunks", (live / chunks, f"{live / chunks:.0f} B"), 170)
    table.row("index file / live pages", (file / live, f"{file / live:.2f}"), 3)
    text, as_json = alternate(
        5, lambda: Run(CAIRN, "list", "--store", store).seconds, lambda: cairn("list", store).seconds)
    table.row("list of 10,000 iterations", seconds(text), 0.2)
    table.row("list --json of 10,000 iterations", seconds(as_json), 0.2)
    steps = iter(range(10_000, 10_100))
    cairn("init", fresh, "--chunk-size", "4KiB")

    part = os.path.join(folder, "part")

    def small(where):
        noise(part, 100 * 4 * KIB)
        return cairn("save", where, part, "--step", next(steps), "--run", "series").seconds

    ours, theirs = alternate(9, lambda: small(store), lambda: small(fresh))
    table.row("400 KiB into it", (ours, f"{ours * 1000:.0f} ms"), None, f"fresh {theirs * 1000:.0f} ms", ours / theirs)
    noise(source, GIB, tensors=100)

    def into_full():
        run = cairn("save", store, source, "--step", 1, "--run", "added")
        cairn("delete", store, "--run", "added")
        cairn("gc", store)
        return run.seconds

    def into_fresh():
        remove(fresh)
        cairn("init", fresh, "--chunk-size", "4KiB")
        return cairn("save", fresh, source, "--step", 1, "--run", "added").seconds

    ours, theirs = alternate(5, into_full, into_fresh)
    table.row("1 GiB of 4 KiB chunks into it", seconds(ours), 1.1, f"fresh {theirs:.2f}", ours / theirs)


def lora(table, folder):
    """what saves of a LoRA series write, the whole model saved beside the adapter"""
    here = os.path.dirname(os.path.abspath(__file__))
    python = Run(os.path.join(here, "../tools/python/environment.sh")).output.decode().strip()
    series = os.path.join(here, "../tools/python/series.py")
    store, dense, tuned = (os.path.join(folder, name) for name in ("store", "dense", "lora"))
    Run(python, series, "dense", "--out", dense, "--saves", 1)
    Run(python, series, "lora", "--out", tuned, "--from", os.path.join(dense, "checkpoint-100"))
    cairn("init", store)
    checkpoints = sorted(
        (name for name in os.listdir(tuned) if name.startswith("checkpoint-")),
        key=lambda name: int(name.split("-")[1]))
    results = [cairn("save", store, os.path.join(tuned, name)).json for name in checkpoints]
    share = max(result["newBytes"] / result["logicalBytes"] for result in results[1:])
    table.row("LoRA series: new of all bytes", (share * 100, f"{share * 100:.1f} %"), 17.5)


def collect(table, store, title, limit):
    """Times `gc`, and compares what it reports with what the disk says."""
    os.sync()
    before = disk_use(store)
    run = cairn("gc", store)
    fell, reported = before - disk_use(store), run.json["reclaimedBytes"]
    table.row(title, seconds(run.seconds), limit)
    off = abs(fell - reported) / max(reported, 1)
    table.row("  disk space against the report", (off * 100, f"{off * 100:.2f} %"), 2, f"{fell / GIB:.2f} GiB")
    cairn("verify", store)


def collect_iterations(table, folder):
    """gc of 1,000 iterations of 1,000 chunks of 4 KiB, half of them dead"""
    store = os.path.join(folder, "store")
    cairn("init", store, "--chunk-size", "4KiB")
    save_series(store, folder, 1_000, 1_000 * 4 * KIB)
    cairn("policy", store, "--run", "series", "--keep-every", 2)
    collect(table, store, "gc, 500 of 1,000 iterations dead", 5)


def collect_records(table, folder):
    """gc of 100,000 records of 32 KiB, every second one dead"""
    store, all_chunks, half = (os.path.join(folder, name) for name in ("store", "all", "half"))
    size = 32 * KIB
    noise(all_chunks, 100_000 * size)
    with open(all_chunks, "rb") as source, open(half, "wb") as target:
        for _ in range(50_000):
            target.write(source.read(size))
            source.seek(size, os.SEEK_CUR)
    cairn("init", store, "--chunk-size", "32KiB")
    cairn("save", store, all_chunks, "--step", 1)
    cairn("save", store, half, "--step", 2, "--run", "main")
    remove(all_chunks, half)
    cairn("delete", store, "1")
    collect(table, store, "gc, 50,000 of 100,000 records dead", 20)


ROWS = {
    "save": first_save, "memory": memory, "many": many, "gc-iterations": collect_iterations,
    "gc-records": collect_records, "lora": lora,
}


def main():
    parser = argparse.ArgumentParser(
        prog="Benchmarks/bounds", formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Measures every bound that the project promises.",
        epilog="rows:\n" + "\n".join(f"  {name:15}{body.__doc__}" for name, body in ROWS.items()))
    parser.add_argument("--folder", default=tempfile.gettempdir(), help="on the disk to measure")
    parser.add_argument("row", nargs="*", default=list(ROWS), metavar="ROW", help="rows to measure")
    options = parser.parse_args()
    unknown = [name for name in options.row if name not in ROWS]
    if unknown:
        parser.error(f"there is no row {unknown[0]}; there are {', '.join(ROWS)}")
    table = Table()
    for name in options.row:
        folder = tempfile.mkdtemp(prefix="cairn-bounds.", dir=options.folder)
        try:
            ROWS[name](table, folder)
        finally:
            shutil.rmtree(folder)
    sys.exit(1 if table.failed else 0)


if __name__ == "__main__":
    main()
