"""Measures every stage of a save and a restore beside its own limit. Run by Benchmarks/stages, which builds the program first."""

import argparse
import datetime
import json
import os
import re
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import time
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path

import report
import training

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
CHUNK = 256 * KIB
CORES = len(os.sched_getaffinity(0))
# Chunks of a real state that planes and zstd are measured on.
SAMPLES = 192
# Each measurement of work that only computes, and of what is measured beside `openssl speed`, which takes whole seconds.
SECONDS, WHOLE_SECONDS = 0.5, 1
PACK = GIB
# As in design.md: so many new chunks are committed into so many.
COMMITTED, PRESENT = 40_000, 4_000_000


class Program:
    """The process that measures Cairn's stages and, where no other program does that, their limits."""

    def __init__(self, folder, samples):
        self.folder = folder
        self.process = subprocess.Popen(
            [os.environ["STAGES"], folder, str(PRESENT), *samples], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def measure(self, name, threads, amount=SECONDS):
        """Units a second."""
        print(name, threads, amount, file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline().strip()
        if not answer or answer.startswith("error"):
            raise SystemExit(f"{name} could not be measured: {answer or 'the program has ended'}")
        return float(answer)

    def end(self):
        self.process.stdin.close()
        self.process.wait()


def openssl(*algorithm):
    """What `openssl speed` reaches, in bytes a second of the processor, on so many processes."""
    def measure(_, threads):
        multi = ["-multi", str(threads)] if threads > 1 else []
        command = ["openssl", "speed", "-mr", "-seconds", str(WHOLE_SECONDS), "-bytes", str(CHUNK), *multi, *algorithm]
        done = subprocess.run(command, capture_output=True, text=True)
        found = re.findall(r"^\+F:\d+:[^:]+:([\d.]+)", done.stdout, re.MULTILINE)
        if done.returncode != 0 or not found:
            raise SystemExit(f"{' '.join(command)} failed: {done.stderr.strip()}")
        return float(found[-1])
    return measure


def dd(program, _):
    """`dd` with direct writes in blocks of 4 MiB."""
    target = os.path.join(program.folder, "dd")
    start = time.monotonic()
    done = subprocess.run(
        ["dd", "if=/dev/zero", f"of={target}", "oflag=direct", "conv=fdatasync", "bs=4M", f"count={PACK // (4 * MIB)}"],
        capture_output=True)
    seconds = time.monotonic() - start
    if done.returncode != 0:
        raise SystemExit(f"dd failed: {done.stderr.decode().strip()}")
    os.remove(target)
    return PACK / seconds


@dataclass
class Row:
    """One stage: how it and its limit are measured, given the program and the number of threads."""
    title: str
    stage: object
    limit: object
    beside: str
    at_least: float = None
    cores: bool = True
    unit: str = "GB/s"

    @classmethod
    def of(cls, title, stage, limit, beside, **more):
        return cls(title, lambda program, threads: program.measure(stage, threads),
                   lambda program, threads: program.measure(limit, threads), beside, **more)


def copies(part, what, text):
    """Rows of a loop beside copying the same bytes, in the cache and out of it."""
    beside = "memcpy of it" if part == "planes" else "memcpy of both"
    return [
        Row.of(f"{text}, {where}", f"{part}-{what}{suffix}", f"{part}-copy{suffix}", beside)
        for suffix, where in (("", "in cache"), ("-memory", "out of it"))]


def commits(name, program):
    return program.measure(name, 1, COMMITTED) * 1000


ROWS = {
    "sha256": ("SHA-256 of chunks of 256 KiB, beside `openssl speed`", [
        Row("SHA-256", lambda program, threads: program.measure("sha256", threads, WHOLE_SECONDS), openssl("-evp", "sha256"),
            "openssl speed -evp sha256", 0.95)]),
    "fingerprint": ("fingerprints of chunks of 256 KiB, beside the GMAC of `openssl speed`", [
        Row("fingerprint", lambda program, threads: program.measure("fingerprint", threads, WHOLE_SECONDS), openssl("ghash"),
            "openssl speed ghash", 0.80)]),
    "planes": ("32-bit floats into planes and back, beside memcpy", [
        *copies("planes", "split", "planes"), *copies("planes", "merge", "planes back")]),
    "delta": ("differences to a base into planes and back, beside memcpy", [
        *copies("delta", "split", "delta"), *copies("delta", "merge", "delta back")]),
    "zstd": ("zstd of planes, both searches, and back, beside libzstd called bare", [
        Row.of("zstd, symbols alone", "zstd-symbols", "zstd-symbols-limit", "bare libzstd"),
        Row.of("zstd, matches too", "zstd-matches", "zstd-matches-limit", "bare libzstd -1"),
        Row.of("zstd back", "zstd-decode", "zstd-decode-limit", "bare libzstd")]),
    "codec": ("whole encoding and decoding of chunks, beside their loops and libzstd called bare", [
        Row.of(f"{what} {codec}", f"{what}-{codec}", f"{what}-{codec}-limit", "its parts, bare")
        for codec in ("planes", "delta") for what in ("encode", "decode")]),
    "write": ("a pack of 1 GiB in records of 256 KiB, durable, beside a bare loop of direct writes and dd", [
        Row("direct write", lambda program, threads: program.measure("write", threads, PACK),
            lambda program, _: program.measure("write-limit", 1, PACK), "bare loop, one thread", 0.90),
        Row("bare loop, one thread", lambda program, _: program.measure("write-limit", 1, PACK), dd, "dd oflag=direct",
            cores=False)]),
    "index": (f"a commit of {COMMITTED:,} new chunks into {PRESENT:,}, beside a transaction of as many keys on LMDB", [
        Row("commit", lambda program, _: commits("index", program), lambda program, _: commits("index-limit", program),
            "bare LMDB", cores=False, unit="M/s")]),
}


def data(checkpoint):
    """The offsets and lengths of the stretches of 32-bit floats in a checkpoint of the dense series, file by file."""
    model, optimizer = checkpoint / "model.safetensors", checkpoint / "optimizer.pt"
    with open(model, "rb") as file:
        length, = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
    header.pop("__metadata__", None)
    for name in sorted(header):
        start, end = header[name]["data_offsets"]
        yield model, 8 + length + start, end - start
    with zipfile.ZipFile(optimizer) as archive, open(optimizer, "rb") as file:
        for info in sorted(archive.infolist(), key=lambda info: info.filename):
            if "/data/" not in info.filename:
                continue
            # Behind the record's own header, its name and its padding.
            file.seek(info.header_offset + 26)
            name, extra = struct.unpack("<HH", file.read(4))
            yield optimizer, info.header_offset + 30 + name + extra, info.file_size


def sample(checkpoint, target):
    """Writes chunks from all over a checkpoint, the same places of every checkpoint of the series."""
    places = [
        (path, offset + start) for path, offset, length in data(checkpoint)
        for start in range(0, length - CHUNK + 1, CHUNK)]
    count = min(SAMPLES, len(places))
    with open(target, "wb") as output:
        for number in range(count):
            path, offset = places[number * len(places) // count]
            with open(path, "rb") as file:
                file.seek(offset)
                output.write(file.read(CHUNK))


def samples(folder):
    """Files of consecutive states of a training, and what to call them; none where there are none."""
    if not training.is_complete("dense"):
        return [], "synthetic weights (tools/bench trains the series that real ones are taken from)"
    earlier, current = training.checkpoints("dense")[-2:]
    targets = [os.path.join(folder, name) for name in ("earlier", "current")]
    for checkpoint, target in zip((earlier, current), targets):
        sample(checkpoint, target)
    return targets, f"{SAMPLES} chunks of {earlier.name} and {current.name} of the dense series"


@dataclass
class Pair:
    """A stage and its limit on so many threads: medians, and the median of the ratios of what was measured side by side."""
    threads: int
    stage: float
    limit: float
    ratio: float

    @classmethod
    def measure(cls, row, program, threads, rounds):
        pairs = []
        for number in range(rounds):
            # Whichever comes second may find the machine warmer.
            if number % 2 == 0:
                stage = row.stage(program, threads)
                pairs.append((stage, row.limit(program, threads)))
            else:
                limit = row.limit(program, threads)
                pairs.append((row.stage(program, threads), limit))
        stages, limits = zip(*pairs)
        return cls(threads, statistics.median(stages) / 1e9, statistics.median(limits) / 1e9,
                   statistics.median(stage / limit for stage, limit in pairs))

    def holds(self, row):
        return row.at_least is None or self.ratio >= row.at_least


def line(*cells):
    texts = [cell.ljust(width) if number in (0, 8) else cell.rjust(width)
             for number, (cell, width) in enumerate(zip(cells, (23, 7, 7, 6, 8, 7, 6, 9, 0)))]
    print(" ".join(texts).rstrip(), file=sys.stderr if AS_JSON else sys.stdout, flush=True)


def show(row, pairs):
    cells = []
    for pair in pairs:
        cells += [f"{pair.stage:.2f}", f"{pair.limit:.2f}", f"{pair.ratio:.2f}"]
    cells += ["-"] * (6 - len(cells))
    title = row.title if row.unit == "GB/s" else f"{row.title}, {row.unit}"
    line(title, *cells, "-" if row.at_least is None else f"{row.at_least:.2f}", row.beside)
    for pair in pairs:
        if not pair.holds(row):
            line(f"    ^ does not hold: {pair.ratio:.3f}")


def main():
    global AS_JSON
    parser = argparse.ArgumentParser(
        prog="Benchmarks/stages", formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Measures every stage of a save and a restore by itself, in turn with what it can't do without.",
        epilog="rows:\n" + "\n".join(f"  {name:12}{text}" for name, (text, _) in ROWS.items()))
    parser.add_argument("--folder", default=tempfile.gettempdir(), help="on the disk to measure")
    parser.add_argument("--rounds", type=int, default=7, help="measurements of each, of which the median counts (default: 7)")
    parser.add_argument("--json", action="store_true", help="print one JSON document, and the table to standard error")
    parser.add_argument("row", nargs="*", default=list(ROWS), metavar="ROW", help="rows to measure")
    options = parser.parse_args()
    AS_JSON = options.json
    unknown = [name for name in options.row if name not in ROWS]
    if unknown:
        parser.error(f"there is no row {unknown[0]}; there are {', '.join(ROWS)}")
    if options.rounds < 1:
        parser.error("--rounds is at least 1")
    results, failed = [], False
    folder = tempfile.mkdtemp(prefix="cairn-stages.", dir=options.folder)
    try:
        files, text = samples(folder)
        version = subprocess.run(["openssl", "version"], capture_output=True, text=True).stdout.strip()
        line(f"{report.machine()}; {datetime.date.today()}\n  {version}\n  planes and zstd: {text}")
        line("", "1 core", "limit", "ratio", f"{CORES} cores", "limit", "ratio", "at least", "limit: what")
        program = Program(folder, files)
        try:
            for name in options.row:
                for row in ROWS[name][1]:
                    threads = [1, CORES] if row.cores and CORES > 1 else [1]
                    pairs = [Pair.measure(row, program, count, options.rounds) for count in threads]
                    show(row, pairs)
                    failed = failed or not all(pair.holds(row) for pair in pairs)
                    results.append({
                        "row": name, "stage": row.title, "unit": row.unit, "beside": row.beside, "at_least": row.at_least,
                        "measured": [{**asdict(pair), "holds": pair.holds(row)} for pair in pairs]})
        finally:
            program.end()
    finally:
        shutil.rmtree(folder)
    if AS_JSON:
        print(json.dumps({
            "machine": report.machine(), "date": str(datetime.date.today()), "openssl": version, "samples": text,
            "rows": results}, indent=1))
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
