"""The real series that the benchmark measures. Each is trained once and kept in the user's cache folder."""

import hashlib
import json
import os
import re
import shlex
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

PROGRAM = Path(__file__).resolve().parents[1] / "tools/python/series.py"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "cairn/series"

# Name: what is asked of series.py, and the series whose last checkpoint it goes on from. The first six are those of the bounds;
# the models of the others are smaller, as nothing but a share is measured of them.
RECIPES = {
    "dense": ("dense --first 300 --saves 9", None),
    "dense-every-50": ("dense --first 300 --saves 9 --every 50", None),
    "lora": ("lora --first 200 --saves 9", "dense"),
    "mixed": ("mixed --first 40 --saves 9", "dense"),
    "mixed-late": ("mixed --lr 3e-6 --first 20 --saves 9", "dense"),
    "sparse": ("sparse --first 1500 --saves 9", None),
    "pure": ("pure --first 100 --saves 5", "dense"),
    "frozen": ("frozen --first 150 --saves 5", "dense"),
    "moe": ("moe --first 300 --saves 5 --hidden 256 --layers 4", None),
    "zero": ("zero --first 120 --saves 5 --hidden 256 --layers 6", None),
    # The save after those of `dense`: what is restored is the newest of ten.
    "dense-tenth": ("dense --first 309 --saves 1", None),
    "dense-40": ("dense --first 300 --saves 40 --hidden 128 --layers 4", None),
    # A state of more than 1 GiB; its time is measured, so its base need not be trained.
    "lora-large": ("lora --first 2 --saves 2 --hidden 1536 --layers 20", None),
}

_locks = {name: threading.Lock() for name in RECIPES}


def key(name):
    """What a series depends on, as text: its arguments, the program, and the series that it goes on from."""
    arguments, base = RECIPES[name]
    digest = hashlib.sha256(PROGRAM.read_bytes()).hexdigest()
    return json.dumps({"arguments": arguments, "program": digest, "from": base and json.loads(key(base))}, indent=2)


def is_complete(name):
    marker = CACHE / name / "complete"
    return marker.exists() and marker.read_text() == key(name)


def step(checkpoint):
    return int(re.search(r"\d+$", checkpoint.name)[0])


def checkpoints(name):
    """The folders of a series in the order of their steps. Trains it where it is not there yet."""
    make(name)
    return sorted((path for path in (CACHE / name).iterdir() if path.is_dir()), key=step)


def make(name):
    """Trains a series unless it is there, and first the one that it goes on from. The marker is written last."""
    with _locks[name]:
        if is_complete(name):
            return
        arguments, base = RECIPES[name]
        command = [sys.executable, PROGRAM, *shlex.split(arguments), "--out", CACHE / name, "--cache", CACHE]
        if base:
            command += ["--from", checkpoints(base)[-1]]
        CACHE.mkdir(parents=True, exist_ok=True)
        print(f"Training {name}: {arguments}", file=sys.stderr, flush=True)
        log = CACHE / f"{name}.log"
        with open(log, "w") as output:
            done = subprocess.run(command, stdout=output, stderr=subprocess.STDOUT)
        if done.returncode != 0:
            raise SystemExit(f"Training {name} failed; {log} has what it said.")
        (CACHE / name / "complete").write_text(key(name))


def make_all(names, at_once=3):
    """Trains what is missing of some series, a few side by side: each takes one core, and a gigabyte or two of memory."""
    bases = {RECIPES[name][1] for name in names} - {None}
    # Waiting for a base takes a place, so bases come first.
    with ThreadPoolExecutor(at_once) as pool:
        for done in [pool.submit(make, name) for name in [*sorted(bases), *names]]:
            done.result()


if __name__ == "__main__":
    make_all(sys.argv[1:] or [name for name in RECIPES])
