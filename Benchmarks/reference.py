#!/usr/bin/env python3
"""What the rules of the codecs come to, computed without a store: the number that Cairn's saves are compared with.

usage: reference.py [--keep-last N] [--no-delta] [--json] CHECKPOINT...     folders, in the order in which they are saved

Cuts each checkpoint into tensors and these into chunks of 256 KiB. A chunk that an earlier place had costs nothing. For a new one
counts the least of
  raw     its bytes;
  planes  of k-byte elements: the sign rotated to the lowest bit, the k byte planes a zstd frame each;
  delta   elements minus those of a base, as wrap-around integers, zigzag, planes. The base is the newest version of the same place
          with which a restore reads at most twice the chunk's bytes, from at most 16 records: the previous checkpoint's,
          else that one's own base, and so on.
A plane that zstd does not make smaller by 1/64 stays as it is. With --keep-last N a delta counts only where it is smaller than
(1 - 1/N) of the best without a base. Headers and table entries are added as Docs/format.md has them; manifests are not.
"""
import argparse
import functools
import hashlib
import json
import os
import pickle
import statistics
import struct
import zipfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import zstandard

CHUNK = 256 << 10
LONGEST_CHAIN = 16
RECORD_HEADER, ENTRY, ENTRY_WITH_BASE = 96, 52, 84
WIDTHS = {"F64": 8, "I64": 8, "U64": 8, "C64": 4, "F32": 4, "I32": 4, "U32": 4, "F16": 2, "BF16": 2, "I16": 2, "U16": 2}


# Files into blobs: `(name, width, extents)`, an extent being `(offset, length)` in the file.


class Anything(dict):
    """Stands for whatever a pickle names: nothing of it is imported or run."""

    __hash__ = object.__hash__

    def __init__(self, *_, **__):
        super().__init__()

    def __setstate__(self, _):
        pass

    def append(self, _):
        pass

    def extend(self, _):
        pass


class Storages(pickle.Unpickler):
    """Collects how many elements each storage of a PyTorch file has."""

    def __init__(self, file):
        super().__init__(file)
        self.lengths = {}

    def find_class(self, module, name):
        return Anything

    def persistent_load(self, reference):
        _, _, number, _, length = reference
        self.lengths[number] = length
        return Anything()


def remainder(extents, size):
    """What the extents leave of a file."""
    at, gaps = 0, []
    for offset, length in sorted(extents):
        gaps.append((at, offset - at))
        at = offset + length
    return [*gaps, (at, size - at)]


def cut_safetensors(path):
    with open(path, "rb") as file:
        [length] = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
    header.pop("__metadata__", None)
    for name, tensor in header.items():
        start, end = tensor["data_offsets"]
        yield name, WIDTHS.get(tensor["dtype"], 1), [(8 + length + start, end - start)]


def cut_torch(path):
    """The records `data/N` of a zip file that `torch.save` wrote."""
    with zipfile.ZipFile(path) as archive, open(path, "rb") as file:
        [pickled] = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        storages = Storages(archive.open(pickled))
        storages.load()
        for number, length in storages.lengths.items():
            record = archive.getinfo(pickled.replace("data.pkl", f"data/{number}"))
            assert record.compress_type == zipfile.ZIP_STORED
            file.seek(record.header_offset + 26)
            offset = record.header_offset + 30 + sum(struct.unpack("<HH", file.read(4)))
            yield number, record.file_size // length if length else 1, [(offset, record.file_size)]


def cut(path):
    """The blobs of a file: its tensors, then the rest of it as one."""
    tensors = []
    if path.suffix == ".safetensors":
        tensors = list(cut_safetensors(path))
    elif zipfile.is_zipfile(path):
        tensors = list(cut_torch(path))
    rest = remainder([extent for _, _, extents in tensors for extent in extents], path.stat().st_size)
    return [*tensors, ("", 1, rest)]


@dataclass(frozen=True)
class Source:
    """Where the bytes of a chunk can be read: pieces of a file."""

    path: str
    extents: tuple

    def read(self):
        with open(self.path, "rb") as file:
            return b"".join(os.pread(file.fileno(), length, offset) for offset, length in self.extents)


def chunks(extents):
    """Cuts a blob at multiples of the chunk size: the extents of each chunk."""
    current, room = [], CHUNK
    for offset, length in extents:
        while length > 0:
            taken = min(length, room)
            current.append((offset, taken))
            offset, length, room = offset + taken, length - taken, room - taken
            if room == 0:
                yield tuple(current)
                current, room = [], CHUNK
    if current:
        yield tuple(current)


# Codecs. Nothing is ever decoded: only sizes are asked for.


def elements(raw, width):
    return np.frombuffer(raw, f"<u{width}")


def planes_size(values):
    """The bytes of k planes, and of the lengths that say where each ends."""
    width = values.itemsize
    compress = zstandard.ZstdCompressor(level=1).compress
    size = 4 + 4 * width
    for plane in values.view(np.uint8).reshape(-1, width).T:
        frame = len(compress(plane.tobytes()))
        size += frame if frame <= len(plane) - len(plane) // 64 else len(plane)
    return size


def rotated(values):
    bits = values.dtype.type(8 * values.itemsize - 1)
    return (values << values.dtype.type(1)) | (values >> bits)


def zigzag_difference(values, base):
    difference = values - base
    sign = (difference.view(f"<i{values.itemsize}") >> (8 * values.itemsize - 1)).view(values.dtype)
    return (difference << values.dtype.type(1)) ^ sign


@dataclass
class Chunk:
    """What was stored of a chunk. `recovery` and `records` are what a restore has to read of it and its bases."""

    source: Source
    length: int
    stored: int
    recovery: int
    records: int = 1
    base: "Chunk" = None

    @property
    def cost(self):
        return RECORD_HEADER + (ENTRY_WITH_BASE if self.base else ENTRY) + self.stored


def candidates(previous):
    """The previous version of a place, its base, that one's base, and so on."""
    while previous is not None:
        yield previous
        previous = previous.base


def with_delta(raw, source, width, previous):
    """The chunk against the newest version that keeps what a restore reads within the bound, or nothing."""
    for base in candidates(previous):
        if base.length != len(raw) or base.records >= LONGEST_CHAIN or base.recovery >= 2 * len(raw):
            continue
        stored = planes_size(zigzag_difference(elements(raw, width), elements(base.source.read(), width)))
        if stored + base.recovery <= 2 * len(raw):
            return Chunk(source, len(raw), stored, stored + base.recovery, base.records + 1, base)
    return None


def encode(source, width, previous, share):
    """The smallest form of a chunk; a delta counts where it is below `share` of the best without a base."""
    raw = source.read()
    if len(raw) % width:
        width = 1
    stored = min(len(raw), planes_size(rotated(elements(raw, width))))
    best = Chunk(source, len(raw), stored, stored)
    delta = with_delta(raw, source, width, previous) if share > 0 else None
    return delta if delta is not None and delta.cost < share * best.cost else best


def digests(path, blobs):
    """The SHA-256 of every chunk of a file's blobs."""
    return [[(hashlib.sha256(Source(path, chunk).read()).digest(), chunk) for chunk in chunks(extents)]
            for _, _, extents in blobs]


# One checkpoint after another.


def files(folder):
    return sorted(path for path in Path(folder).rglob("*") if path.is_file() and not path.is_symlink())


class Reference:
    """Everything stored so far, and the chunk that each place had in the previous checkpoint."""

    def __init__(self, pool, share=1.0):
        self.pool, self.share = pool, share
        self.known, self.previous = {}, {}

    def save(self, folder):
        """Returns the bytes that a checkpoint adds, and those that it has."""
        paths = files(folder)
        blobs = [cut(path) for path in paths]
        found = self.pool.map(digests, map(str, paths), blobs)
        places, new = {}, {}
        for path, blobs_of_file, digests_of_file in zip(paths, blobs, found):
            for (name, width, _), ids in zip(blobs_of_file, digests_of_file):
                for index, (digest, extents) in enumerate(ids):
                    place = (path.relative_to(folder), name, index)
                    places[place] = digest
                    if digest not in self.known and digest not in new:
                        new[digest] = (Source(str(path), extents), width, self.known.get(self.previous.get(place)))
        encoder = functools.partial(encode, share=self.share)
        stored = list(self.pool.map(encoder, *zip(*new.values()), chunksize=16)) if new else []
        self.known.update(zip(new, stored))
        self.previous = places
        return sum(chunk.cost for chunk in stored), sum(path.stat().st_size for path in paths)


def measure(folders, keep_last=None, delta=True):
    """What each of these checkpoints adds and has, saved one after another."""
    share = 0.0 if not delta else 1.0 - 1.0 / keep_last if keep_last else 1.0
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        reference = Reference(pool, share)
        for folder in folders:
            yield reference.save(folder)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, usage=argparse.SUPPRESS, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep-last", type=int)
    parser.add_argument("--no-delta", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("folder", nargs="+", type=Path)
    options = parser.parse_args()
    results = []
    for folder, (stored, logical) in zip(
            options.folder, measure(options.folder, options.keep_last, not options.no_delta)):
        results.append({"storedBytes": stored, "logicalBytes": logical})
        if not options.json:
            print(f"{folder.name:20} {stored:14,} of {logical:14,} bytes {100 * stored / logical:8.3f} %", flush=True)
    if options.json:
        print(json.dumps(results))
    elif len(results) > 1:
        shares = [100 * result["storedBytes"] / result["logicalBytes"] for result in results[1:]]
        print(f"median of the saves after the first: {statistics.median(shares):.3f} %")


if __name__ == "__main__":
    main()
