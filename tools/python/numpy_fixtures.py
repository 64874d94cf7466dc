#!/usr/bin/env python3
"""Makes the NumPy files of the Swift tests: what numpy.save and numpy.savez write, and what versions before wrote.

usage: numpy_fixtures.py FOLDER        as a rule Tests/TensorFormatsTests/Fixtures/numpy

Beside the files it writes expected.json, from what numpy.load says of each file. It also writes same.safetensors. The same packages
(requirements.txt) make the same bytes, but for the times in the zip files.
"""
import argparse
import io
import struct
import warnings
import zipfile

import numpy as np
from safetensors.numpy import save

from fixtures import Folder, counting, same

NAMES = {"b1": "BOOL", "i1": "I8", "i2": "I16", "i4": "I32", "i8": "I64", "u1": "U8", "u2": "U16", "u4": "U32", "u8": "U64",
         "f2": "F16", "f4": "F32", "f8": "F64", "c8": "C64", "c16": "C128"}


def npy(value, version=None):
    file = io.BytesIO()
    np.lib.format.write_array(file, np.asanyarray(value), version=version)
    return file.getvalue()


def with_header(header, data):
    """A file with the header as it is given."""
    header = header.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data


class Pipe(io.RawIOBase):
    """What can be written once, from front to back."""

    def __init__(self):
        self.data = b""

    def writable(self):
        return True

    def write(self, data):
        self.data += bytes(data)
        return len(data)


def npz(write=np.savez, file=None, **values):
    file = file or io.BytesIO()
    write(file, **values)
    return file.data if isinstance(file, Pipe) else file.getvalue()


def is_plain(value):
    fields = value.dtype.hasobject or value.dtype.names is not None
    return not fields and value.dtype.byteorder != ">" and value.flags.c_contiguous


def described(name, value):
    plain = value.dtype.str[1:]
    return name, NAMES.get(plain, plain), value.shape, value.tobytes()


class NumPyFolder(Folder):
    def take(self, name, data):
        """A file of these bytes, whose tensors are the plain arrays that numpy.load finds."""
        with warnings.catch_warnings(action="ignore"):
            loaded = np.load(io.BytesIO(data), allow_pickle=True)
        values = {"": loaded} if isinstance(loaded, np.ndarray) else {one: loaded[one] for one in loaded.files}
        arrays = {name: one for name, one in values.items() if isinstance(one, np.ndarray) and is_plain(one)}
        self.accept(name, data, [described(name, one) for name, one in arrays.items()])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    folder = NumPyFolder(parser.parse_args().folder)
    weight = same()
    matrix = counting("f4", 3, 4)
    folder.write("same.safetensors", save({"weight": weight}))
    folder.write("same.npy", npy(weight))
    folder.write("same.npz", npz(weight=weight))

    for version in (1, 2, 3):
        folder.take(f"version-{version}.npy", npy(matrix, (version, 0)))
    folder.take("scalar.npy", npy(np.float64(1.5)))
    folder.take("vector.npy", npy(counting("i8", 5)))
    folder.take("empty.npy", npy(np.zeros((0, 3), "f2")))
    folder.take("fortran.npy", npy(np.asfortranarray(matrix)))
    folder.take("fortran-row.npy", with_header("{'descr': '<f4', 'fortran_order': True, 'shape': (1, 12), }", matrix.tobytes()))
    folder.take("python-2.npy", with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (3L, 4L)}", matrix.tobytes()))
    folder.take("spaces.npy", with_header('{ "shape":( 12,) ,"fortran_order":False,"descr":"<f4"}   ', matrix.tobytes()))

    types = ["?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "c8", "c16", "f16", "S3", "V2", "V5"]
    values = {f"of_{one}": counting(one, 2, 3) for one in types}
    values["of_U5"] = np.array([["a", "bcdef"], ["é模", ""]])
    values["of_time"] = np.array(["2026-01-01T00:00", "NaT"], "M8[ns]")
    values["of_span"] = np.array([1, 2], "m8[25s]")
    folder.take("dtypes.npz", npz(**values))
    folder.take("stream.npz", npz(file=Pipe(), a=matrix, b=counting("i2", 7)))
    folder.take("unnamed.npz", npz(lambda file: np.savez(file, matrix, counting("u1", 3))))
    folder.take("names.npz", npz(**{"é": matrix, "a/b.c": matrix[0], "": matrix[1]}))
    folder.take("empty.npz", npz())
    mixed = {"plain": matrix, "objects": np.array([{}, None]), "big": matrix.astype(">f4"),
             "fields": np.zeros(2, [("a", "f4"), ("b", "O"), ("c", "i2", (2,))]), "fortran": np.asfortranarray(matrix),
             "last": counting("u1", 5)}
    folder.take("mixed.npz", npz(**mixed))
    with zipfile.ZipFile(file := io.BytesIO(), "w") as archive:
        archive.writestr("read me.txt", "of no kind")
        archive.writestr("a.npy", npy(matrix))
        archive.writestr("b.npy", "nothing of NumPy's")
    folder.accept("others.npz", file.getvalue(), [described("a", matrix)])

    # As if each of them were beyond 2 GiB, and very many.
    limits = zipfile.ZIP64_LIMIT, zipfile.ZIP_FILECOUNT_LIMIT
    zipfile.ZIP64_LIMIT = zipfile.ZIP_FILECOUNT_LIMIT = 0
    folder.take("wide.npz", npz(a=matrix, b=counting("f8", 2)))
    zipfile.ZIP64_LIMIT, zipfile.ZIP_FILECOUNT_LIMIT = limits

    folder.refuse("compressed.npz", npz(np.savez_compressed, a=matrix, b=matrix[0]), "compressed")
    folder.refuse("objects.npz", npz(a=np.array([{}]), b=np.array([[]], "O")), "unsupported")
    folder.refuse("objects.npy", npy(np.array([{}, None])), "unsupported")
    folder.refuse("fields.npy", npy(np.zeros(2, [("a", "f4"), ("b'\\", "i2", (2,))])), "unsupported")
    folder.refuse("big-endian.npy", npy(matrix.astype(">f4")), "byte-order")
    folder.refuse("big-endian-text.npy", npy(np.array(["ab"], ">U2")), "byte-order")
    folder.refuse("version-9.npy", npy(matrix)[:6] + b"\x09" + npy(matrix)[7:], "unsupported")
    folder.refuse("cut.npy", npy(matrix)[:-1], "damaged")
    folder.refuse("two.npy", npy(matrix) + npy(matrix), "damaged")
    folder.refuse("header-only.npy", npy(matrix)[:60], "damaged")
    folder.refuse("pickle.npy", matrix.dumps(), "other-format")
    folder.refuse("cut.npz", npz(a=matrix)[:-30], "other-format")
    folder.finish()


if __name__ == "__main__":
    main()
