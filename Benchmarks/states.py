#!/usr/bin/env python3
"""Writes a state of any size from a real checkpoint, for what has to be measured at sizes that nobody can train here.

usage: states.py TARGET CHECKPOINT BYTES

TARGET is one safetensors file with the checkpoint's F32 tensors (weights, m and v) again and again, each time with its elements
rotated by 1,009 places more, so that no chunk of 256 KiB is there twice. No value is changed: planes compress as those of the
checkpoint, and two states that were made from consecutive checkpoints differ element by element as these do.
"""
import json
import os
import struct
import sys
from pathlib import Path

import numpy as np

import reference

# Below this a tensor is a scalar or a norm's weights, which say little about the rest.
SMALLEST = 64 << 10
TURN = 1009


def tensors(checkpoint):
    """The larger 4-byte tensors of a checkpoint."""
    for path in reference.files(checkpoint):
        for _, width, extents in reference.cut(path):
            if width == 4 and sum(length for _, length in extents) >= SMALLEST:
                yield np.frombuffer(reference.Source(str(path), extents).read(), "<u4")


def plan(sizes, total):
    """Which tensor is next and how many of its elements, until there are so many bytes: `(tensor, turn, elements)`."""
    turn = 0
    while True:
        for number, size in enumerate(sizes):
            taken = min(size, total // 4)
            yield number, turn, taken
            total -= 4 * taken
            if total < 4:
                return
        turn += 1


def main():
    target, checkpoint, total = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    source = list(tensors(checkpoint))
    pieces, header, end = list(plan([len(tensor) for tensor in source], total)), {}, 0
    for number, turn, taken in pieces:
        start, end = end, end + 4 * taken
        header[f"turn.{turn}.tensor.{number}"] = {"dtype": "F32", "shape": [taken], "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(target, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for number, turn, taken in pieces:
            file.write(np.roll(source[number], turn * TURN)[:taken])
        file.flush()
        os.fsync(file.fileno())


if __name__ == "__main__":
    main()
