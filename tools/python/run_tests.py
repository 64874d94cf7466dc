#!/usr/bin/env python3
"""Runs scripts of tests side by side, as many as there are processors, each in a process that is forked from this one: it has loaded what
most of them need, which takes each several seconds otherwise. What a script prints comes in one piece, when it ends.

usage: run_tests.py SCRIPT...     exits with 1 where one of them fails
"""
import gc
import os
import runpy
import sys
import tempfile
import time
from pathlib import Path


def load():
    # Scripts that share the processors get nothing but overhead from more threads.
    os.environ["OMP_NUM_THREADS"] = "1"
    import peft  # noqa: F401
    import torch._dynamo  # noqa: F401
    import torch.distributed.checkpoint  # noqa: F401
    import torch.distributed.fsdp  # noqa: F401
    import workbench  # noqa: F401
    from transformers import Trainer  # noqa: F401

    # A child has none but the thread that forks, and could wait for the others for ever.
    threads = os.listdir("/proc/self/task")
    assert len(threads) == 1, f"{len(threads)} threads run before the scripts do"
    # Otherwise each child's collections would copy all of its memory.
    gc.freeze()


def begin(script):
    """Forks. Returns the child's number and what it prints; in the child, runs the script, and never returns."""
    said = tempfile.TemporaryFile("w+", errors="replace")
    sys.stdout.flush()
    child = os.fork()
    if child:
        return child, said
    for stream in (1, 2):
        os.dup2(said.fileno(), stream)
    sys.argv = [script]
    runpy.run_path(script, run_name="__main__")
    sys.exit()


def finish(running):
    """Waits for the next that ends, and prints what it has said. Returns whether it went well."""
    child, status = os.wait()
    script, said, start = running.pop(child)
    said.seek(0)
    print(f"\n-- {script} ({time.monotonic() - start:.0f} s)\n{said.read().rstrip()}", flush=True)
    if status:
        print(f"ERROR: {script} ended with {os.waitstatus_to_exitcode(status)}", flush=True)
    return status == 0


def main(scripts):
    load()
    running, went_well = {}, True
    for script in scripts:
        if len(running) == len(os.sched_getaffinity(0)):
            went_well &= finish(running)
        child, said = begin(script)
        running[child] = script, said, time.monotonic()
    while running:
        went_well &= finish(running)
    return 0 if went_well else 1


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    sys.exit(main(sys.argv[1:]) if sys.argv[1:] else __doc__)
