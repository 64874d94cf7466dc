#!/usr/bin/env python3
"""Makes Tests/Fixtures/kept.tar.gz: checkpoints of TensorFlow and of Orbax, whose files are kept exactly as they are.

usage: kept_fixtures.py ARCHIVE

It needs `pip install tensorflow-cpu==2.21.0 orbax-checkpoint==0.12.8 jax==0.10.2`, in an environment of its own. The files hold times, random
names, and the path of the folder that they were written in.
"""
import argparse
import os
import shutil
import subprocess

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import jax.numpy
import numpy as np
import orbax.checkpoint as ocp
import tensorflow as tf

FOLDER = "/tmp/kept"


def tensorflow(folder):
    values = {"w": tf.Variable(np.arange(6, dtype=np.float32).reshape(2, 3)), "step": tf.Variable(3, dtype=tf.int64)}
    checkpoint = tf.train.Checkpoint(**values)
    manager = tf.train.CheckpointManager(checkpoint, folder, max_to_keep=2)
    for step in (1, 2):
        manager.save(step)
    checkpoint.write(f"{folder}/model.ckpt")


def orbax(folder):
    options = ocp.CheckpointManagerOptions(max_to_keep=2)
    values = {"w": jax.numpy.arange(6, dtype="float32").reshape(2, 3), "step": jax.numpy.int32(1)}
    with ocp.CheckpointManager(folder, options=options) as manager:
        manager.save(1, args=ocp.args.StandardSave(values))
        manager.wait_until_finished()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archive")
    archive = os.path.abspath(parser.parse_args().archive)
    shutil.rmtree(FOLDER, ignore_errors=True)
    tensorflow(f"{FOLDER}/tensorflow")
    orbax(f"{FOLDER}/orbax")
    names = ["--owner=0", "--group=0", "--numeric-owner", "--sort=name"]
    subprocess.run(["tar", "-czf", archive, *names, "-C", FOLDER, "orbax", "tensorflow"], check=True)
    shutil.rmtree(FOLDER)


if __name__ == "__main__":
    main()
