#!/usr/bin/env python3
"""Makes the files of distributed checkpoints (DCP) of the Swift tests, and what torch says is in them and in the samples.

usage: dcp_fixtures.py FOLDER        as a rule Tests/TensorFormatsTests/Fixtures/dcp

The checkpoints, each NAME.distcp and NAME.metadata (and more of the first kind where there are several), are of one process; same* are
four files of different formats with the same tensors. Under a torch before 2.1 it makes only those of its own name; expected.json is made by the torch of requirements.txt, of all files in the folder
and of the distributed checkpoints among the samples (Tests/Fixtures/checkpoints.tar.gz). For each tensor that must be found in a file it
has the name, dtype and shape, and the CRC-32 of the bytes.
"""
import argparse
import io
import json
import os
import pickle
import tarfile
import tempfile
import zlib
from pathlib import Path

import torch
import torch.distributed.checkpoint as dcp

SAMPLES = Path(__file__).parents[2] / "Tests/Fixtures/checkpoints.tar.gz"


def state(torch_2_0):
    """A state dictionary with tensors of several kinds and objects, in dictionaries and lists."""
    numbers = torch.arange(24, dtype=torch.float32)
    value = {
        "model": {"weight": numbers.reshape(4, 6), "half": numbers[:5].bfloat16(), "é.x": numbers[7:9].double()},
        "step": torch.tensor(3), "flags": torch.tensor([True, False]), "none": torch.empty(0, 4),
        "lr": 0.5, "note": "text", "kept": {"ema": {"mean": numbers[:3].clone()}} if torch_2_0 else numbers[3:6]}
    if not torch_2_0:
        value["list"] = [numbers[:2].clone(), {"a": numbers[2:4].clone(), "b": [1, 2]}]
        value["transposed"] = numbers.reshape(4, 6).t()
        value["float8"] = numbers[:8].to(torch.float8_e4m3fn)
    return value


def write(folder, name, value, **options):
    """Saves a checkpoint; its data files become NAME.distcp, NAME-1.distcp and so on. Returns the metadata."""
    with tempfile.TemporaryDirectory() as parent:
        path = os.path.join(parent, name)
        writer = dcp.FileSystemWriter(path, **options)
        if hasattr(dcp, "save"):
            dcp.save(value, storage_writer=writer, no_dist=True)
        else:
            from torch.distributed.checkpoint._nested_dict import flatten_state_dict
            flat, _ = flatten_state_dict(value)
            dcp.save_state_dict(flat, writer, no_dist=True)
        for number, file in enumerate(sorted(Path(path).glob("*.distcp"))):
            (folder / (f"{name}-{number}.distcp" if number else f"{name}.distcp")).write_bytes(file.read_bytes())
        metadata = (Path(path) / ".metadata").read_bytes()
    (folder / f"{name}.metadata").write_bytes(metadata)
    return metadata


def make(folder):
    """Everything that is made with the torch of requirements.txt."""
    from torch.distributed.checkpoint._extension import ZStandard
    from torch.distributed.checkpoint.filesystem import SerializationFormat
    from safetensors.torch import save_file

    value = state(torch_2_0=False)
    metadata = write(folder, "one", value)
    write(folder, "threads", value, thread_count=2)
    small = {"weight": value["model"]["weight"], "flags": value["flags"]}
    write(folder, "compressed", small, _extensions=[ZStandard()])
    write(folder, "safetensors", small, serialization_format=SerializationFormat.SAFETENSORS)
    write(folder, "nothing", {})
    write(folder, "same", small)
    save_file(small, folder / "same.safetensors", metadata={"format": "pt"})
    torch.save(small, folder / "same.pt")
    torch.save(small, folder / "same-before-1.6.pt", _use_new_zipfile_serialization=False)
    # Megatron-LM adds attributes.
    more = pickle.loads(metadata)
    more.mcore_data = {"model.weight": {"nd_reformulated_orig_global_shape": (4, 6)}}
    (folder / "protocol-2.metadata").write_bytes(pickle.dumps(more, protocol=2))
    (folder / "protocol-5.metadata").write_bytes(pickle.dumps(more, protocol=5))


class Unpickler(pickle.Unpickler):
    """Reads the metadata of newer versions as well, of whose properties it takes only the first."""

    class Properties:
        def __setstate__(self, state):
            self.dtype = state[0]

    def find_class(self, module, name):
        return self.Properties if name == "TensorProperties" else super().find_class(module, name)


def metadata_expected(data):
    """What the tests compare with what is read from a metadata."""
    from pytorch_fixtures import NAMES

    metadata = Unpickler(io.BytesIO(data)).load()
    paths = metadata.planner_data or {}
    items = {(index.fqn, index.offset): info for index, info in metadata.storage_data.items()}

    def place(name, offset=None):
        info = items[name, offset]
        return [info.relative_path, info.offset, info.length, *(getattr(info, "transform_descriptors", None) or [])]

    tensors, objects = [], []
    for name, entry in metadata.state_dict_metadata.items():
        one = {"name": name, "path": list(paths[name]) if name in paths else None}
        if hasattr(entry, "chunks"):
            chunks = [{"offsets": list(chunk.offsets), "shape": list(chunk.sizes), "place": place(name, chunk.offsets)}
                      for chunk in entry.chunks]
            tensors.append({**one, "dtype": NAMES[entry.properties.dtype], "shape": list(entry.size), "chunks": chunks})
        else:
            objects.append({**one, "place": place(name)})
    meta = getattr(metadata, "storage_meta", None)
    return {"tensors": tensors, "objects": objects, "version": getattr(metadata, "version", None),
            "checkpoint": str(meta.checkpoint_id) if meta else None, "save": meta.save_id if meta else None}


def distcp_expected(data, metadata, name):
    """What the tests compare with the map of a data file: the tensors of each item, as torch loads it."""
    from pytorch_fixtures import NAMES, content, found

    tensors = []
    infos = [info for info in metadata.storage_data.values() if info.relative_path == name]
    for info in sorted(infos, key=lambda info: info.offset):
        if getattr(info, "transform_descriptors", None):
            return {"refused": "compressed"}
        value = torch.load(io.BytesIO(data[info.offset:info.offset + info.length]), weights_only=False)
        for path, one in found(value):
            tensors.append({
                "name": f"@{info.offset}.{path}" if path else f"@{info.offset}", "dtype": NAMES[one.dtype],
                "shape": list(one.shape), "crc32": zlib.crc32(content(one))})
    return {"tensors": tensors}


def expected(folder):
    """Of the files in the folder and in the samples, by path."""
    files = {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.suffix in (".distcp", ".metadata")}
    result = {}
    for name, data in files.items():
        if name.endswith(".metadata"):
            result[name] = metadata_expected(data)
        elif name.startswith("safetensors"):
            result[name] = {"refused": "damaged"}
        else:
            stem = name.removesuffix(".distcp").removesuffix("-1")
            number = 1 if name.endswith("-1.distcp") else 0
            metadata = Unpickler(io.BytesIO(files[stem + ".metadata"])).load()
            result[name] = distcp_expected(data, metadata, f"__0_{number}.distcp")
    samples = {}
    with tarfile.open(SAMPLES) as archive:
        for member in archive.getmembers():
            if member.isfile() and (member.name.endswith(".distcp") or member.name.endswith("/.metadata")):
                samples[member.name.removeprefix("./")] = archive.extractfile(member).read()
    for name in sorted(samples):
        if name.endswith("/.metadata"):
            result[name] = metadata_expected(samples[name])
        else:
            parent, file = name.rsplit("/", 1)
            metadata = Unpickler(io.BytesIO(samples[parent + "/.metadata"])).load()
            result[name] = distcp_expected(samples[name], metadata, file)
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    folder = Path(parser.parse_args().folder)
    folder.mkdir(parents=True, exist_ok=True)
    version = ".".join(torch.__version__.split(".")[:2])
    if version < "2.1":
        write(folder, f"torch-{version}", state(torch_2_0=True))
        return
    make(folder)
    (folder / "expected.json").write_text("{\n" + ",\n".join(
        f"{json.dumps(name)}: {json.dumps(value)}" for name, value in expected(folder).items()) + "\n}\n")


if __name__ == "__main__":
    main()
