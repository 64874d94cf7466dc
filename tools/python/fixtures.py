"""What the scripts share that make the fixtures of the Swift tests."""
import json
from pathlib import Path

import numpy as np


def same():
    """The tensor that is in a file of every format, with the same bytes."""
    return np.sin(np.arange(48 * 32, dtype=np.float32)).reshape(48, 32)


def counting(dtype, *shape):
    """An array of that type whose bytes count up."""
    dtype = np.dtype(dtype)
    data = np.arange(int(np.prod(shape)) * dtype.itemsize) % 251
    if dtype == np.bool_:
        data %= 2
    return data.astype(np.uint8).view(dtype).reshape(shape)


class Folder:
    """Files, and in expected.json what is in each: for every tensor that must be found its name, dtype, shape and bytes in
    hexadecimal digits; for a file that must be refused, with what code."""

    def __init__(self, folder):
        self.path, self.expected = Path(folder), {}
        self.path.mkdir(parents=True, exist_ok=True)

    def write(self, name, data):
        """A file that expected.json says nothing of."""
        (self.path / name).write_bytes(data)

    def accept(self, name, data, tensors):
        """tensors: (name, dtype, shape, bytes) of each."""
        self.write(name, data)
        self.expected[name] = {"tensors": [
            {"name": name, "dtype": dtype, "shape": [int(length) for length in shape], "bytes": bytes(content).hex()}
            for name, dtype, shape, content in tensors]}

    def refuse(self, name, data, code):
        self.write(name, data)
        self.expected[name] = {"refused": code}

    def finish(self):
        lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(value)}" for name, value in self.expected.items())
        (self.path / "expected.json").write_text("{\n" + lines + "\n}\n")
