#!/usr/bin/env python3
"""What orbax's CheckpointManager writes: numbered steps of which some are kept, with metrics, and steps behind a prefix.

usage: write_orbax.py OUTPUT
"""
import os
import sys
import unittest.mock
from pathlib import Path

os.environ |= {"JAX_PLATFORMS": "cpu"}
import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint._src.path.atomicity import AtomicRenameTemporaryPath

from expected import expect, iteration


def state(step):
    key = jax.random.key(step)
    return {
        "params": {"dense": {"kernel": jax.random.normal(key, (6, 10)), "bias": jax.numpy.arange(10.0) * step},
                   "norm": {"scale": jax.random.normal(key, (10,)).astype(jax.numpy.bfloat16)}},
        "step": jax.numpy.int32(step)}


def flat(tree):
    return {".".join(entry.key for entry in path): np.asarray(leaf) for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]}


def write(output, name, **options):
    folder = (output / name).absolute()
    with ocp.CheckpointManager(folder, options=ocp.CheckpointManagerOptions(**options)) as manager:
        for step in range(5):
            manager.save(step, args=ocp.args.StandardSave(state(step)), metrics={"loss": 1.0 / (step + 1)})
            manager.wait_until_finished()
        iterations = []
        for step in manager.all_steps():
            loaded = manager.restore(step, args=ocp.args.StandardRestore(state(step)))
            path = f"{options['step_prefix']}_{step}" if "step_prefix" in options else str(step)
            iterations.append(iteration(path, step, flat(loaded)))
        if "keep_period" in options:
            cut_short(manager, 5)
            iterations.append(iteration("5.orbax-checkpoint-tmp", 5, {}, complete=False))
    expect(output, name, "orbax", iterations)


def cut_short(manager, step):
    """As when it is killed before it renames what it has written."""
    with unittest.mock.patch.object(AtomicRenameTemporaryPath, "finalize", side_effect=OSError("killed")):
        manager.save(step, args=ocp.args.StandardSave(state(step)))
        try:
            manager.wait_until_finished()
        except OSError:
            pass


def main(output):
    write(output, "kept", max_to_keep=2, keep_period=2)
    write(output, "prefixed", max_to_keep=2, step_prefix="ckpt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
