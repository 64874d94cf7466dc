#!/usr/bin/env python3
"""Makes the GGUF files of the Swift tests with the library gguf of llama.cpp.

usage: gguf_fixtures.py FOLDER        as a rule Tests/TensorFormatsTests/Fixtures/gguf

It needs `pip install gguf==0.19.0`, in an environment of its own. Beside the files it writes expected.json, from what the library's
own reader says of each file. The same version makes the same bytes.
"""
import argparse
import struct
import tempfile
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType as Type
from gguf import GGUFEndian, GGUFReader, GGUFValueType, GGUFWriter
from gguf.constants import GGML_QUANT_SIZES
from gguf.quants import quantize

from fixtures import Folder, counting, same


def written(fill, **options):
    """The bytes of a file that `fill` puts something into."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.gguf"
        writer = GGUFWriter(path, "llama", **options)
        fill(writer)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return path.read_bytes()


def found(data):
    """The tensors that the library finds."""
    with tempfile.NamedTemporaryFile(suffix=".gguf") as file:
        file.write(data)
        file.flush()
        reader = GGUFReader(file.name)
        return [(one.name, one.tensor_type.name, one.shape[::-1], bytes(one.data.tobytes())) for one in reader.tensors]


def metadata(writer):
    """A value of every type."""
    writer.add_name("é model")
    writer.add_file_type(15)
    writer.add_uint8("a.u8", 255)
    writer.add_int8("a.i8", -1)
    writer.add_uint16("a.u16", 65535)
    writer.add_int16("a.i16", -2)
    writer.add_int32("a.i32", -3)
    writer.add_uint64("a.u64", 2**64 - 1)
    writer.add_int64("a.i64", -(2**63))
    writer.add_float32("a.f32", 0.5)
    writer.add_float64("a.f64", -1.25)
    writer.add_bool("a.bool", True)
    writer.add_array("a.words", ["<s>", "é", ""])
    writer.add_array("a.numbers", [1, 2, 3])
    writer.add_array("a.floats", [0.5])
    writer.add_array("a.flags", [True, False])
    writer.add_tensor("w", counting("f4", 4))


def types(writer):
    """A tensor of every type."""
    for one in Type:
        elements, length = GGML_QUANT_SIZES[one]
        # Here the library and ggml differ; no file has any.
        if one != Type.Q8_1:
            writer.add_tensor(one.name, counting("u1", 3, 2 * length), raw_dtype=one)


def shapes(writer):
    writer.add_tensor("scalar", np.float32(1.5).reshape(()))
    writer.add_tensor("vector", counting("f4", 33))
    writer.add_tensor("four", counting("i2", 2, 3, 4, 5))
    writer.add_tensor("none", np.zeros((0, 4), "f4"))
    weights = np.sin(np.arange(6 * 64, dtype=np.float32)).reshape(6, 64)
    writer.add_tensor("quantized", quantize(weights, Type.Q8_0), raw_dtype=Type.Q8_0)
    writer.add_tensor("last", counting("f8", 1))


def aligned(writer):
    writer.add_custom_alignment(256)
    shapes(writer)


def raw(type, dims=(4,), offset=0, data=b"\0" * 16, pairs=b"", count=0, name=b"w"):
    """A file with one tensor, and so many entries of metadata, as they are given."""
    info = struct.pack("<Q", len(name)) + name + struct.pack("<I", len(dims)) + struct.pack(f"<{len(dims)}Q", *dims)
    header = b"GGUF" + struct.pack("<IQQ", 3, 1, count) + pairs + info + struct.pack("<IQ", type, offset)
    return header + b"\0" * (-len(header) % 32) + data


def pair(key, type, value):
    return struct.pack("<Q", len(key)) + key + struct.pack("<I", type) + value


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    folder = Folder(parser.parse_args().folder)
    folder.write("same.gguf", written(lambda writer: writer.add_tensor("weight", same())))
    whole = written(shapes)
    for name, data in [("metadata", written(metadata)), ("types", written(types)), ("shapes", whole),
                       ("aligned", written(aligned)), ("only-metadata", written(lambda writer: writer.add_name("words"))),
                       ("version-2", whole[:4] + struct.pack("<I", 2) + whole[8:])]:
        folder.accept(f"{name}.gguf", data, found(data))
    nested = struct.pack("<IQ", 9, 2) + 2 * struct.pack("<IQII", 4, 2, 7, 8)
    data = raw(0, pairs=pair(b"a", 9, nested), count=1)
    folder.accept("nested.gguf", data, [("w", "F32", (4,), bytes(16))])
    # ggml's newest type, which the library doesn't know.
    folder.accept("q2_0.gguf", raw(42, dims=(64,), data=bytes(18)), [("w", "Q2_0", (64,), bytes(18))])

    deep = b"".join(struct.pack("<IQ", 9, 1) for _ in range(8)) + struct.pack("<IQ", 0, 0)
    folder.refuse("big-endian.gguf", written(shapes, endianess=GGUFEndian.BIG), "byte-order")
    folder.refuse("version-1.gguf", whole[:4] + struct.pack("<I", 1) + whole[8:], "unsupported")
    folder.refuse("unknown-type.gguf", raw(4), "unsupported")
    folder.refuse("unknown-value.gguf", raw(0, pairs=pair(b"a", 13, b""), count=1), "unsupported")
    folder.refuse("deep.gguf", raw(0, pairs=pair(b"a", 9, deep), count=1), "too-large")
    folder.refuse("long-array.gguf", raw(0, pairs=pair(b"a", 9, struct.pack("<IQ", 12, 2**63)), count=1), "damaged")
    folder.refuse("long-words.gguf", raw(0, pairs=pair(b"a", 9, struct.pack("<IQ", 8, 2**63)), count=1), "damaged")
    folder.refuse("long-text.gguf", raw(0, pairs=pair(b"a", 8, struct.pack("<Q", 2**63)), count=1), "too-large")
    folder.refuse("many-pairs.gguf", raw(0, count=2**63), "damaged")
    folder.refuse("two-keys.gguf", raw(0, pairs=2 * pair(b"a", 7, b"\1"), count=2), "damaged")
    folder.refuse("alignment-3.gguf", raw(0, pairs=pair(b"general.alignment", 4, struct.pack("<I", 3)), count=1), "damaged")
    folder.refuse("half-block.gguf", raw(2, dims=(48,), data=bytes(27)), "damaged")
    folder.refuse("five-dims.gguf", raw(0, dims=(1, 1, 1, 1, 4)), "damaged")
    folder.refuse("overflow.gguf", raw(0, dims=(2**32, 2**32, 2)), "damaged")
    folder.refuse("overflow-of-none.gguf", raw(0, dims=(0, 2**32, 2**32)), "damaged")
    folder.refuse("offset.gguf", raw(0, offset=32, data=bytes(48)), "damaged")
    folder.refuse("name.gguf", raw(0, name=b"\xff"), "damaged")
    folder.refuse("cut.gguf", raw(0)[:-1], "damaged")
    folder.refuse("empty.gguf", b"", "other-format")
    folder.refuse("before.gguf", b"GGML" + whole[4:], "other-format")
    folder.finish()


if __name__ == "__main__":
    main()
