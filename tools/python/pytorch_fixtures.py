#!/usr/bin/env python3
"""Makes the PyTorch files of the Swift tests: what torch.save writes, and what other versions and options of it write.

usage: pytorch_fixtures.py FOLDER        as a rule Tests/TensorFormatsTests/Fixtures/pytorch

Beside the files it writes expected.json, from what torch.load says of each file: for each tensor that must be found its
path, dtype, shape, and its bytes in hexadecimal digits. Where a file must be refused, it says with what code.
The same packages (requirements.txt) make the same bytes, but for distributed*.pt and before-1.6*.pt, which hold memory
addresses and the like.
"""
import argparse
import collections
import copyreg
import ctypes
import io
import json
import os
import pickle
import random
import struct
import sys
import tarfile
import tempfile
import types
import zipfile
import zlib
from pathlib import Path

import numpy as np
import torch
from torch.utils.serialization import config

NAMES = {
    torch.bool: "BOOL", torch.uint8: "U8", torch.int8: "I8", torch.int16: "I16", torch.uint16: "U16", torch.float16: "F16",
    torch.bfloat16: "BF16", torch.int32: "I32", torch.uint32: "U32", torch.float32: "F32", torch.complex64: "C64",
    torch.float64: "F64", torch.int64: "I64", torch.uint64: "U64", torch.complex128: "C128", torch.complex32: "complex32",
    torch.float8_e4m3fn: "F8_E4M3", torch.float8_e5m2: "F8_E5M2", torch.float8_e4m3fnuz: "F8_E4M3FNUZ",
    torch.float8_e5m2fnuz: "F8_E5M2FNUZ", torch.float8_e8m0fnu: "F8_E8M0", torch.float4_e2m1fn_x2: "F4", torch.qint8: "qint8", torch.quint8: "quint8",
    torch.qint32: "qint32"}


def tensor(dtype, *shape, start=0):
    """A tensor of that type whose bytes count up."""
    count = int(np.prod(shape)) * dtype.itemsize
    data = (np.arange(start, start + count) % 251).astype(np.uint8)
    if dtype == torch.bool:
        data %= 2
    if not count:
        return torch.empty(shape, dtype=dtype)
    return torch.from_numpy(data.copy()).view(dtype).reshape(shape)


def content(value):
    """The bytes of a tensor, row by row."""
    if value.is_quantized:
        value = value.int_repr()
    value = value.detach().contiguous().clone().reshape(-1)
    # Of every type there is; a storage gives its bytes one by one.
    return ctypes.string_at(value.data_ptr(), value.nbytes) if value.nbytes else b""


def found(value, path=()):
    """The tensors in a loaded value that must be listed, by the rules of paths."""
    if isinstance(value, torch.Tensor):
        if hasattr(value, "_local_tensor"):
            yield from found(value._local_tensor, path)
            # The ranks of the mesh. An object that stands at several places is gone through at the first.
            if path == ("layer.weight",):
                yield from found(value._spec.mesh._rank_map, (*path, "_spec", "mesh", "_rank_map"))
        elif value.layout == torch.sparse_coo:
            yield from found(value._indices(), (*path, "indices"))
            yield from found(value._values(), (*path, "values"))
        elif value.layout == torch.sparse_csr:
            yield from found(value.crow_indices(), (*path, "compressed_indices"))
            yield from found(value.col_indices(), (*path, "plain_indices"))
            yield from found(value.values(), (*path, "values"))
        elif value.device.type != "meta":
            if value.is_contiguous() and not value.is_conj() and not value.is_neg():
                yield ".".join(map(str, path)), value
            if value.is_quantized and value.qscheme() == torch.per_channel_affine:
                yield from found(value.q_per_channel_scales(), (*path, "scales"))
                yield from found(value.q_per_channel_zero_points(), (*path, "zero_points"))
            for name, attribute in vars(value).items():
                yield from found(attribute, (*path, name))
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from found(item, (*path, key))
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from found(item, (*path, index))
    elif isinstance(value, torch.nn.Module):
        yield from found(vars(value), path)


class Fixtures:
    def __init__(self, folder):
        self.folder, self.expected = Path(folder), {}
        self.folder.mkdir(parents=True, exist_ok=True)

    def accept(self, name, data):
        """A file of these bytes, whose tensors are those that torch.load finds."""
        (self.folder / name).write_bytes(data)
        value = torch.load(io.BytesIO(data), weights_only=False)
        tensors, names = [], set()
        for path, one in found(value):
            shape = list(one.shape)
            if one.dtype == torch.float4_e2m1fn_x2:
                shape[-1] *= 2
            # A path that comes again: once a number, once a text.
            path = f"{path}#2" if path in names else path
            names.add(path)
            tensors.append({"name": path, "dtype": NAMES[one.dtype], "shape": shape, "bytes": content(one).hex()})
        self.expected[name] = {"tensors": tensors}

    def refuse(self, name, data, code):
        (self.folder / name).write_bytes(data)
        self.expected[name] = {"refused": code}

    def finish(self):
        (self.folder / "expected.json").write_text("{\n" + ",\n".join(
            f"{json.dumps(name)}: {json.dumps(value)}" for name, value in self.expected.items()) + "\n}\n")


def saved(value, name="model.pt", **options):
    """What torch.save writes under this name, which is the name of the root in the archive as well."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, name)
        torch.save(value, path, **options)
        return Path(path).read_bytes()


def rezipped(data, change=lambda records: records, method=zipfile.ZIP_STORED):
    """The same records, changed, in a zip file of Python's own."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        records = [(name, archive.read(name)) for name in archive.namelist()]
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in change(records):
            archive.writestr(zipfile.ZipInfo(name), content, method)
    return file.getvalue()


def old_order(data):
    """As PyTorch 1.x wrote it: `version` last, storages in the order of their names as texts, and no newer records."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        records = {name: archive.read(name) for name in archive.namelist()}
    root = next(iter(records)).split("/")[0]
    names = [f"{root}/data.pkl", *sorted(name for name in records if name.startswith(f"{root}/data/")), f"{root}/version"]
    return written([(name, records[name]) for name in names])


def written(records, wide=()):
    """A zip file as PyTorch's writer lays it out; the records in `wide` as if they were beyond 4 GiB."""
    file, directory = bytearray(), bytearray()
    for name, content in records:
        name, header, crc = name.encode(), len(file), zlib.crc32(content)
        is_wide = name.decode() in wide
        extra = struct.pack("<HHQQ", 1, 16, 0, 0) if is_wide else b""
        padding = -(header + 30 + len(name) + len(extra) + 4) % 64
        extra += b"FB" + struct.pack("<H", padding) + b"Z" * padding
        sizes = 0xFFFFFFFF if is_wide else 0
        file += struct.pack("<IHHHHHIIIHH", 0x04034B50, 0, 0x808, 0, 0, 0, 0, sizes, sizes, len(name), len(extra))
        file += name + extra + content
        if content:
            file += struct.pack("<IIQQ" if is_wide else "<IIII", 0x08074B50, crc, len(content), len(content))
        extra = struct.pack("<HHQQQ", 1, 24, len(content), len(content), header) if is_wide else b""
        size, place = (0xFFFFFFFF, 0xFFFFFFFF) if is_wide else (len(content), header)
        directory += struct.pack(
            "<IHHHHHHIIIHHHHHII", 0x02014B50, 0, 0, 0x808, 0, 0, 0, crc, size, size, len(name), len(extra), 0, 0, 0, 0,
            place) + name + extra
    start = len(file)
    file += directory
    file += struct.pack("<IQHHIIQQQQ", 0x06064B50, 44, 45, 45, 0, 0, len(records), len(records), len(directory), start)
    file += struct.pack("<IIQI", 0x07064B50, 0, start + len(directory), 1)
    file += struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, len(records), len(records), len(directory), 0xFFFFFFFF, 0)
    return bytes(file)


MAGIC = 0x1950A86A20F9469CFC6C


def legacy(value, version=1001, keys=None, count=None, part=None):
    """As PyTorch wrote it before 1.6, with keys that count up, or with other keys and numbers of elements at the end.

    Where `part` is given, each storage is the elements from `part` on of a storage that is as much longer: as PyTorch
    wrote views of storages until 0.4.
    """
    file, storages = io.BytesIO(), {}

    class Pickler(pickle.Pickler):
        def persistent_id(self, storage):
            if not isinstance(storage, torch.storage.TypedStorage):
                return None
            key = str(len(storages))
            key = next((one for one, other in storages.items() if other._cdata == storage._cdata), key)
            storages[key] = storage
            view = None if part is None else (f"view {key}", part, len(storage))
            kind = getattr(torch, storage.pickle_storage_type())
            return ("storage", kind, key, "cpu", len(storage) + (part or 0), view)

    for one in (MAGIC, version, {"protocol_version": 1001, "little_endian": True}):
        pickle.dump(one, file, protocol=2)
    Pickler(file, protocol=2).dump(value)
    pickle.dump(list(storages) if keys is None else keys, file, protocol=2)
    for storage in storages.values():
        content = bytes(storage._untyped_storage)
        file.write(struct.pack("<q", len(storage) + (part or 0) if count is None else count))
        file.write(bytes((part or 0) * storage.element_size()) + content)
    return file.getvalue()


def in_tar(value):
    """A tensor as the first versions of PyTorch wrote it, in a tar file of pickles."""
    storage = value.untyped_storage()
    tensors = io.BytesIO()
    pickle.dump(1, tensors, protocol=2)
    pickle.dump((1, 0, torch.FloatTensor), tensors, protocol=2)
    tensors.write(struct.pack("<ii", value.dim(), 0))
    tensors.write(struct.pack(f"<{2 * value.dim() + 1}q", *value.shape, *value.stride(), 0))
    storages = io.BytesIO()
    pickle.dump(1, storages, protocol=2)
    pickle.dump((0, "cpu", torch.FloatStorage), storages, protocol=2)
    storages.write(struct.pack("<q", value.numel()) + bytes(storage))
    pickle.dump([], storages, protocol=2)
    files = {"sys_info": pickle.dumps({"protocol_version": 1000}, protocol=2), "pickle": b"\x80\x02U\x011Q.",
             "tensors": tensors.getvalue(), "storages": storages.getvalue()}
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:", format=tarfile.PAX_FORMAT) as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return file.getvalue()


def variables(tensors):
    """As `legacy`, with each tensor as a parameter, which was another object until PyTorch 0.3."""
    def reduce(parameter, protocol):
        state = (parameter.data, False, None, True, collections.OrderedDict())
        return copyreg.__newobj__, (torch.nn.Parameter,), state

    now, torch.nn.Parameter.__reduce_ex__ = torch.nn.Parameter.__reduce_ex__, reduce
    try:
        return legacy({name: torch.nn.Parameter(one, requires_grad=False) for name, one in tensors.items()})
    finally:
        torch.nn.Parameter.__reduce_ex__ = now


class Tiny(torch.nn.Module):
    """A module of which a file before 1.6 has the source."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(tensor(torch.float32, 3, 2))


class Built:
    """Pickled as a call of the function of this name with these arguments."""

    def __init__(self, module, name, *arguments):
        self.call = (module, name), arguments

    def __reduce__(self):
        (module, name), arguments = self.call
        names = module.split(".")
        for length in range(1, len(names) + 1):
            sys.modules.setdefault(".".join(names[:length]), types.ModuleType(names[length - 1]))
        if not hasattr(sys.modules[module], name):
            function = types.FunctionType(rebuild_npu_tensor.__code__, globals(), name)
            function.__module__, function.__qualname__ = module, name
            setattr(sys.modules[module], name, function)
        return getattr(sys.modules[module], name), arguments


def rebuild_npu_tensor(storage, offset, size, stride, requires_grad, hooks, npu_format):
    return torch._utils._rebuild_tensor_v2(storage, offset, size, stride, requires_grad, hooks)


def distributed():
    """A distributed tensor, on one rank."""
    import torch.distributed as dist
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Shard, distribute_tensor

    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    return distribute_tensor(tensor(torch.float32, 4, 3), init_device_mesh("cpu", (1,)), [Shard(0)])


def values():
    """What is saved, by name."""
    dtypes = {name.lower(): tensor(dtype, 3, 4) for dtype, name in NAMES.items() if not name.startswith("q") and name != "F4"}
    base = tensor(torch.float32, 6, 8)
    wide = tensor(torch.float32, 4096)
    parameter = torch.nn.Parameter(tensor(torch.float32, 5, 3))
    views = {"rows": [base[0:2], base[2:5]], "same": base[2:5], "rest": base[5]}
    overlap = {"all": base, "part": base[1:3], "row": base[2]}
    ordered = collections.OrderedDict(weight=parameter.data, bias=tensor(torch.float32, 3))
    ordered._metadata = {"": {"version": 1}}
    attributed = torch.nn.Parameter(tensor(torch.float32, 2, 2))
    attributed.scale = tensor(torch.float32, 2, start=7)
    module = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    with torch.no_grad():
        for number, one in enumerate(module.parameters()):
            one.copy_(torch.arange(one.numel()).reshape(one.shape) + number)
    for one in module.parameters():
        one.grad = torch.ones_like(one)
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-3)
    optimizer.step()
    random.seed(1)
    scales, zeros = torch.tensor([0.5, 0.25], dtype=torch.float64), torch.tensor([1, 2])
    shard = distributed()
    old, npu = tensor(torch.float32, 2, 3), tensor(torch.bfloat16, 3, 2)
    return {
        "dtypes": dtypes,
        "views": views,
        "overlap": overlap,
        "tied": {"embed": base, "head": base, "again": {"flat": base.reshape(-1)}},
        "gaps": {"first": wide[100:300], "second": wide[2000:2100], "third": wide[2101:2200]},
        "strided": {"transposed": base.t(), "column": base[:, 1], "plain": base[0], "alone": tensor(torch.int16, 4, 4)},
        "scalars": [torch.tensor(1.5), torch.tensor(True), torch.empty(0), torch.empty(3, 0, dtype=torch.int64), base[2:2]],
        "parameters": {"parameter": parameter, "ordered": ordered, "attributed": attributed, "tied": parameter},
        "subclass": {"one": tensor(torch.float32, 2).as_subclass(torch.nn.Buffer)},
        "optimizer": {"optimizer": optimizer.state_dict(), "scheduler": {"_step_count": 2, "_last_lr": [0.1, 1e-3]}},
        "module": module,
        "random": {"python": random.getstate(), "numpy": np.random.RandomState(1).get_state(),
                   "cpu": tensor(torch.uint8, 500)},
        "complex": {"conjugated": tensor(torch.complex64, 3).conj(), "negative": torch.imag(tensor(torch.complex64, 3).conj()),
                    "plain": tensor(torch.complex128, 2)},
        "sparse": {"coo": torch.sparse_coo_tensor([[0, 1], [2, 0]], [3.0, 4.0], (2, 3)),
                   "csr": torch.sparse_csr_tensor([0, 1, 2], [1, 0], [5.0, 6.0], (2, 2))},
        "quantized": {"tensor": torch.quantize_per_tensor(torch.arange(6.0), 0.5, 1, torch.quint8),
                      "channel": torch.quantize_per_channel(torch.arange(4.0).reshape(2, 2), scales, zeros, 0, torch.qint8)},
        "meta": {"meta": torch.empty(4, 4, device="meta"), "real": tensor(torch.float32, 2)},
        "keys": {1: tensor(torch.int32, 1), "1": tensor(torch.int32, 1, start=9), (torch.float32, "a", 2): base[0],
                 None: {True: base[0]}, "é.b": base[1], torch.bfloat16: [base[2]], 0.5: (base[3],), "": base[4]},
        "alone": base,
        "distributed": {"layer.weight": shard, "tied": shard, "parameter": torch.nn.Parameter(shard)},
        "builders": {
            "old": Built("torch._utils", "_rebuild_tensor", old.storage(), 0, torch.Size((2, 3)), (3, 1)),
            "npu": Built("torch_npu.utils.storage", "_rebuild_npu_tensor", npu.storage(), 0, (3, 2), (2, 1), False,
                         collections.OrderedDict(), True)},
        "pairs": {"four": tensor(torch.uint8, 2, 4).view(torch.float4_e2m1fn_x2)},
        "many": [tensor(torch.int32, 1, start=number) for number in range(12)],
    }

def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    fixtures = Fixtures(parser.parse_args().folder)
    everything = values()
    many = everything.pop("many")
    for name, value in everything.items():
        fixtures.accept(f"{name}.pt", saved(value, f"{name}.pt"))
    for protocol in (1, 4, 5):
        fixtures.accept(f"keys-protocol-{protocol}.pth", saved(everything["keys"], pickle_protocol=protocol))
    fixtures.accept("module-protocol-4.pth", saved(everything["module"], pickle_protocol=4))
    fixtures.accept("name.bin", saved(everything["views"], "a name (é).v2.bin"))

    file = io.BytesIO()
    torch.save(everything["views"], file)
    fixtures.accept("memory.ckpt", file.getvalue())
    config.save.compute_crc32 = False
    for name in ("optimizer", "parameters", "distributed"):
        fixtures.accept(f"{name}-no-crc.pt", saved(everything[name]))
    config.save.compute_crc32 = True
    config.save.storage_alignment = 4096
    fixtures.accept("aligned-4096.pt", saved(everything["tied"]))
    config.save.storage_alignment = 64

    archive_of_many = saved(many, "many.pt")
    fixtures.accept("old-order.pt", old_order(archive_of_many))
    fixtures.accept("python-zip.pt", rezipped(archive_of_many))
    with zipfile.ZipFile(io.BytesIO(archive_of_many)) as archive:
        records = [(name, archive.read(name)) for name in archive.namelist()]
    fixtures.accept("wide.pt", written(records, wide=("many/data/3", "many/data/11", "many/version")))

    few = saved(many[:3], "many.pt")
    with zipfile.ZipFile(io.BytesIO(few)) as archive:
        records = [(name, archive.read(name)) for name in archive.namelist()]

    alone = saved(everything["alone"])

    def with_record(name, content):
        return written([(one, content if one == f"many/{name}" else old) for one, old in records])

    fixtures.refuse("deflated.pt", rezipped(few, method=zipfile.ZIP_DEFLATED), "compressed")
    fixtures.refuse("big-endian.pt", with_record("byteorder", b"big"), "byte-order")
    fixtures.refuse("short-storage.pt", with_record("data/2", b"abc"), "invalid-storage")
    fixtures.refuse("no-storage.pt", written([record for record in records if record[0] != "many/data/2"]), "invalid-storage")
    fixtures.refuse("no-pickle.pt", written([record for record in records if record[0] != "many/data.pkl"]), "other-format")
    fixtures.refuse("two-names.pt", written([*records, records[3]]), "damaged")
    fixtures.refuse("instance.pt", with_record("data.pkl", b"(i__main__\nNothing\n."), "invalid-pickle")
    fixtures.refuse("outside.pt", with_record("data.pkl", records[0][1].replace(b"K\x01\x85", b"K\x02\x85", 1)), "invalid-storage")
    fixtures.refuse("cut.pt", alone[:-100], "other-format")
    fixtures.refuse("empty.pt", b"", "other-format")
    fixtures.refuse("before.pt", b"something" + alone, "damaged")
    fixtures.refuse("behind.pt", alone + b"something", "other-format")
    before_zip(fixtures, everything)
    fixtures.finish()


def before_zip(fixtures, everything):
    """The files of PyTorch before 1.6."""
    def old(value, **options):
        return saved(value, _use_new_zipfile_serialization=False, **options)

    fixtures.accept("before-1.6.pt", old(everything["alone"]))
    for name in ("views", "overlap", "tied", "strided", "scalars", "parameters", "optimizer", "keys"):
        fixtures.accept(f"before-1.6-{name}.pt", old(everything[name]))
    # Newer types have no storage class, without which PyTorch can't read back what it writes.
    typed = torch.storage._dtype_to_storage_type_map()
    fixtures.accept("before-1.6-dtypes.pt", old({key: one for key, one in everything["dtypes"].items() if one.dtype in typed}))
    fixtures.accept("before-1.6-module.pt", old({"module": Tiny(), "again": Tiny()}))
    for protocol in (1, 3, 4, 5):
        fixtures.accept(f"before-1.6-protocol-{protocol}.pt", old(everything["views"], pickle_protocol=protocol))
    few = {"a": tensor(torch.int32, 3), "b": tensor(torch.float64, 2)[1:], "c": tensor(torch.float32, 0)}
    whole = legacy(few)
    fixtures.accept("before-1.6-few.pt", whole)
    fixtures.accept("before-1.6-parts.pt", legacy(few, part=5))
    fixtures.accept("before-1.6-variables.pt", variables({"b": few["b"], "all": everything["alone"]}))

    fixtures.refuse("before-1.6-cut.pt", whole[:-1], "invalid-storage")
    fixtures.refuse("before-1.6-cut-pickle.pt", whole[:200], "invalid-pickle")
    fixtures.refuse("before-1.6-behind.pt", whole + whole, "damaged")
    fixtures.refuse("before-1.6-version.pt", legacy(few, version=1002), "invalid-pickle")
    fixtures.refuse("before-1.6-no-keys.pt", legacy(few, keys={"0": 1}), "invalid-pickle")
    fixtures.refuse("before-1.6-same-keys.pt", legacy(few, keys=["0", "1", "1"]), "invalid-storage")
    fixtures.refuse("before-1.6-other-keys.pt", legacy(few, keys=["0", "1", "3"]), "invalid-storage")
    fixtures.refuse("before-1.6-count.pt", legacy(few, count=1), "invalid-storage")
    fixtures.refuse("before-1.6-outside.pt", legacy(few, part=5).replace(b"K\x05K\x03\x87", b"K\x05K\x04\x87"), "invalid-storage")
    in_a_tar = in_tar(everything["alone"])
    with tempfile.NamedTemporaryFile() as file:
        # Only a real file is looked at as a tar file.
        file.write(in_a_tar)
        file.flush()
        assert torch.equal(torch.load(file.name, weights_only=False), everything["alone"])
    fixtures.refuse("tar.pt", in_a_tar, "other-format")


if __name__ == "__main__":
    main()
