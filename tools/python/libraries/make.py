#!/usr/bin/env python3
"""Makes trees of checkpoints as a library writes them, with that library, in its own environment; or unpacks the committed sample of them.

usage: make.py LIBRARY OUTPUT             writes the trees and expected.json into the folder OUTPUT, which is made
       make.py --commit LIBRARY           the same, packed into the committed sample Tests/Fixtures/libraries/LIBRARY.tar.zst
"""
import os
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
SAMPLES = HERE.parents[2] / "Tests/Fixtures/libraries"

# The environment of each library, None for the one of all tests. Those in LARGE take 0.7 and 3.3 GB, and 15 and 80 s to install; the others
# of their own 5 to 40 MB and 2 to 8 s.
ENVIRONMENTS = {
    "trainer": None, "accelerate": None, "torch": None, "llamafactory": None, "loops": None, "deepspeed": "deepspeed", "megatron": "megatron", "lightning": "lightning",
    "gguf": "gguf", "orbax": "orbax", "mindspore": "mindspore", "tensorflow": "tensorflow"}
LARGE = {"orbax", "mindspore"}
# Its sample says all that is asked of it.
SAMPLE_ONLY = {"tensorflow"}


class Missing(Exception):
    """The library can't be installed: why, in one line."""


def python_of(library):
    name = ENVIRONMENTS[library]
    done = subprocess.run([HERE.parent / "environment.sh", *([name] if name else [])], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        raise Missing(done.stderr.strip().splitlines()[-1])
    sys.stderr.write(done.stderr)
    return done.stdout.strip()


def make(library, output):
    """Raises Missing where the library isn't there, and CalledProcessError with its output where it fails."""
    python = python_of(library)
    output.mkdir(parents=True)
    # Processes that share two cores get nothing but overhead from more threads.
    settings = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    subprocess.run([python, HERE / f"write_{library}.py", output], check=True, env=settings, text=True,
                   stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def unpack(library, output):
    output.mkdir(parents=True)
    subprocess.run(["tar", "--zstd", "-xpf", SAMPLES / f"{library}.tar.zst", "-C", output], check=True)


def commit(library):
    with tempfile.TemporaryDirectory() as place:
        output = Path(place) / library
        make(library, output)
        SAMPLES.mkdir(exist_ok=True)
        archive = SAMPLES / f"{library}.tar.zst"
        # Times to the nanosecond, and nobody's name.
        subprocess.run(["tar", "--format=posix", "--owner=0", "--group=0", "--numeric-owner", "--sort=name", "-I", "zstd -19 --long",
                        "-cf", archive, "-C", output, *sorted(os.listdir(output))], check=True)


if __name__ == "__main__":
    try:
        if sys.argv[1:2] == ["--commit"] and len(sys.argv) == 3:
            commit(sys.argv[2])
        elif len(sys.argv) == 3:
            make(sys.argv[1], Path(sys.argv[2]))
        else:
            sys.exit(__doc__)
    except Missing as reason:
        sys.exit(str(reason))
    except subprocess.CalledProcessError as failure:
        sys.exit(f"{failure.output}{failure}")
