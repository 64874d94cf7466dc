#!/usr/bin/env python3
"""GGUF files: plain and quantised tensors in one file, and a model in three.

usage: write_gguf.py OUTPUT
"""
import hashlib
import sys
from pathlib import Path

import gguf
import numpy as np
from gguf import GGMLQuantizationType, GGUFReader, GGUFWriter

from expected import expect, iteration

TYPES = ["F32", "F16", "BF16", "Q8_0", "Q4_0", "I32"]


def values(index, *shape):
    return np.random.default_rng(index).standard_normal(shape, dtype=np.float32)


def write(path, **options):
    writer = GGUFWriter(path, "llama", **options)
    writer.add_name("tiny")
    writer.add_block_count(2)
    writer.add_context_length(8)
    writer.add_token_list(["<s>", "ä", "b"])
    writer.add_token_scores([0.0, -1.5, -2.0])
    for index, name in enumerate(TYPES):
        kind = GGMLQuantizationType[name]
        if name == "F16":
            writer.add_tensor(f"blk.{index}.weight", values(index, 3, 64).astype(np.float16))
        elif name == "I32":
            writer.add_tensor(f"blk.{index}.weight", np.arange(5, dtype=np.int32))
        elif name == "F32":
            writer.add_tensor(f"blk.{index}.weight", values(index, 2, 3, 5))
        else:
            writer.add_tensor(f"blk.{index}.weight", gguf.quants.quantize(values(index, 3, 64), kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def tensors(file):
    """As its reader has them; it lists dimensions from the innermost on."""
    return {tensor.name: {
        "dtype": tensor.tensor_type.name, "shape": [int(size) for size in reversed(tensor.shape)],
        "sha256": hashlib.sha256(tensor.data.tobytes()).hexdigest()} for tensor in GGUFReader(file).tensors}


def main(output):
    for name, options in (("single", {}), ("split", {"split_max_tensors": 2})):
        (output / name).mkdir()
        write(output / name / "tiny.gguf", **options)
        files = sorted((output / name).iterdir())
        assert len(files) == (3 if options else 1)
        model = {key: value for file in files for key, value in tensors(file).items()}
        required = [file.name for file in files] if options else []
        expect(output, name, "gguf", [iteration("." if options else "tiny.gguf", None, model, required=required)])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
