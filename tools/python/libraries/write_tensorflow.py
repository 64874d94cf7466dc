#!/usr/bin/env python3
"""What TensorFlow's CheckpointManager writes. The tests use the committed sample of it.

usage: write_tensorflow.py OUTPUT
"""
import os
import sys
from pathlib import Path

os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
import tensorflow as tf

from expected import expect, iteration


class Model(tf.Module):
    def __init__(self):
        super().__init__()
        self.kernel = tf.Variable(tf.random.stateless_normal((6, 10), seed=(1, 2)))
        self.bias = tf.Variable(tf.zeros((10,), tf.bfloat16))


def main(output):
    folder, model, step = output / "managed", Model(), tf.Variable(0, dtype=tf.int64)
    manager = tf.train.CheckpointManager(tf.train.Checkpoint(model=model, step=step), str(folder), max_to_keep=2)
    for _ in range(3):
        step.assign_add(10)
        model.kernel.assign(model.kernel * 1.25)
        manager.save(checkpoint_number=step)
    iterations = []
    for number in (20, 30):
        reader = tf.train.load_checkpoint(str(folder / f"ckpt-{number}"))
        names = [name for name in reader.get_variable_to_shape_map() if name.startswith(("model/", "step/"))]
        files = [f"ckpt-{number}.index", f"ckpt-{number}.data-00000-of-00001"]
        iterations.append(iteration(None, number, {name: reader.get_tensor(name) for name in sorted(names)}, required=files))
    expect(output, "managed", "tensorflow", iterations)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
