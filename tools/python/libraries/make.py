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
    "trainer": None, "accelerate": None, "torch": None, "llamafactory": None, "loops": None, "deepspeed": "deepspeed",
    "megatron": "megatron", "lightning": "lightning", "gguf": "gguf", "orbax": "orbax", "mindspore": "mindspore",
    "tensorflow": "tensorflow"}
LARGE = {"orbax", "mindspore"}
# Its sample says all that is asked of it.
SAMPLE_ONLY = {"tensorflow"}


class Missing(Exception):
    """The library can't be installed. What installs it has said why."""


class Failed(Exception):
    """The library is there, and did not write its trees: what it said."""


def python_of(library):
    name = ENVIRONMENTS[library]
    done = subprocess.run([HERE.parent / "environment.sh", *([name] if name else [])], stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise Missing("its packages can't be installed, for the reason above")
    return done.stdout.strip()


def make(library, output):
    """Raises Missing where the library isn't there, and Failed with what it said where it fails."""
    python = python_of(library)
    output.mkdir(parents=True)
    # Processes that share two cores get nothing but overhead from more threads. What decorators of the libraries would have compiled isn't
    # used here, and would load a compiler.
    settings = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1", "TORCHDYNAMO_DISABLE": "1"}
    # `timeout` ends all of its processes together; of a pipe, one that was left over would hide the end.
    command = ["timeout", "--kill-after=10", "300", python, HERE / f"write_{library}.py", output]
    with tempfile.TemporaryFile("w+") as said:
        done = subprocess.run(command, env=settings, stdout=said, stderr=subprocess.STDOUT)
        if done.returncode:
            said.seek(0)
            raise Failed(f"{library} ended with {done.returncode}:\n{said.read()}")


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
    except (Missing, Failed) as reason:
        sys.exit(str(reason))
