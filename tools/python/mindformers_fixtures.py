#!/usr/bin/env python3
"""Makes the files of MindSpore Transformers that the Swift tests compare with, by the library's own functions.

usage: mindformers_fixtures.py FOLDER        as a rule Tests/TensorFormatsTests/Fixtures/mindformers

It needs an environment of its own: pip install mindspore==2.9.0 mindformers==1.9.0 (for the processor alone). It writes
metadata.json files of 1.9, and in the style of 2.1, and layouts.json: layouts with what the library says of each rank's slice.
"""
import argparse
import json
import random
from pathlib import Path

from mindspore.common import dtype as mstype
from mindspore.parallel import Layout

from mindformers.checkpoint import fully_parallel, metadata, reshard, sharded_tensor
from mindformers.checkpoint.utils import _get_shard_size, get_checkpoint_name, FileType

# Names that Python writes with escapes or other quotes, beside usual ones.
TENSORS = [
    ("embedding.weight", mstype.bfloat16, (8, 4), ("tp", "None")),
    ("layers.0.fc'1.weight", mstype.float32, (8, 8), ("None", "tp")),
    ("layers.0.\"fc\"'2.weight", mstype.float32, (16, 4), (("dp", "tp"), "None")),
    ("norm \\ é\u200b\n.weight", mstype.float16, (4,), ("None",))]
STATES = [("adam_m." + name, mstype.float32, shape, cuts) for name, _, shape, cuts in TENSORS] + [
    ("global_step", mstype.int32, (1,), ("None",))]


def sharded(tensors, mesh, names, ranks, rank):
    """The slices of a rank, as the library has them."""
    infos = {name: [Layout(mesh, names, ranks)(*cuts), dtype, shape] for name, dtype, shape, cuts in tensors}
    return sharded_tensor.get_sharded_tensor_from_strategy_metadata(infos, rank)


def complete(mesh, names):
    """What save_checkpoint passes on where each rank writes what it holds."""
    ranks = list(range(mesh[0] * mesh[1]))
    metas = {rank: sharded(TENSORS + STATES, mesh, names, ranks, rank) for rank in ranks}
    metadata.get_group_size = lambda: len(ranks)
    mappings = metadata.get_total_params_file_mapping_info(metas, "qwen3", [name for name, *_ in TENSORS])
    return metas, mappings


def balanced(mesh, names):
    """What it passes on where redundancy is removed: in one list, as 2.1 does it."""
    ranks = list(range(mesh[0] * mesh[1]))
    mappings = []
    for tensors, kind in ((TENSORS, FileType.MODEL), (STATES, FileType.OPTIMIZER)):
        coverage, sizes = {}, {}
        for rank in ranks:
            for slice in sharded(tensors, mesh, names, ranks, rank).values():
                key = fully_parallel.sharded_tensor_shard_id(slice.key, slice.global_offset)
                coverage.setdefault(key, []).append(rank)
                sizes[key] = _get_shard_size(slice.local_shape, slice.dtype)
        shares = {}
        for key, (rank, group) in fully_parallel.distribute_shards(coverage, sizes, len(ranks)).items():
            shares.setdefault(rank, []).append((key, group))
        for index, rank in enumerate(sorted(shares)):
            name = get_checkpoint_name(None, "qwen3", index, len(shares), kind) + ".safetensors"
            for key, group in shares[rank]:
                shard = next(
                    (tensor, (int(key.rsplit("(", 1)[1].rstrip(",)")),)) for tensor, *_ in tensors
                    if key.startswith(str((tensor, 0))[:-2]))
                mappings.append((name, rank, group, shard))
    return {rank: sharded(TENSORS + STATES, mesh, names, ranks, rank) for rank in ranks}, mappings


def layouts():
    """Random layouts with the offset, replica and area of each rank."""
    random.seed(5)
    examples = []
    while len(examples) < 40:
        mesh = tuple(random.choice([1, 2, 2, 3, 4]) for _ in range(random.randint(1, 4)))
        names = tuple(f"axis{number}" for number in range(len(mesh)))
        count = 1
        for size in mesh:
            count *= size
        if count > 32:
            continue
        first = random.choice([0, count])
        free = list(names)
        random.shuffle(free)
        cuts = []
        for _ in range(random.randint(1, 3)):
            taken = [free.pop() for _ in range(min(len(free), random.choice([0, 1, 1, 2])))]
            cuts.append(tuple(taken) if len(taken) > 1 else taken[0] if taken else "None")
        layout = Layout(mesh, names, list(range(first, first + count)))(*cuts)
        offsets, replicas = sharded_tensor._get_global_offset_and_replica_id_from_layout(layout)
        shape = [random.randint(1, 2) * 144 for _ in cuts]
        fields = layout.to_dict()
        areas = [reshard.infer_slice_area_by_rank(fields["device_matrix"], fields["tensor_map"], place, shape) for place in range(count)]
        slices = sharded_tensor.get_sharded_tensor_from_strategy_metadata({"t": [layout, mstype.int8, tuple(shape)]}, first)
        examples.append({
            "layout": fields, "cuts": cuts, "shape": shape, "offsets": offsets, "replicas": replicas, "areas": areas,
            "fragmentations": slices["t"].axis_fragmentations, "slice": slices["t"].local_shape})
    return examples


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    folder = Path(parser.parse_args().folder).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    metadata.save_metadata(*complete((2, 2), ("dp", "tp")), str(folder / "complete.json"))
    metadata.save_metadata(*balanced((2, 2), ("dp", "tp")), str(folder / "balanced.json"))
    for name in ("complete", "balanced"):
        file = folder / f"{name}.json"
        content = json.loads(file.read_text(encoding="utf-8"))
        (folder / f"{name}-2.1.json").write_text(json.dumps(content, ensure_ascii=False, separators=(",", ":")), encoding="utf-8")
        file.chmod(0o644)
    # One in the style of 1.9 is enough to be committed.
    (folder / "balanced.json").unlink()
    text = ",\n".join(json.dumps(example, separators=(",", ":")) for example in layouts())
    (folder / "layouts.json").write_text("[\n" + text + "\n]\n")


if __name__ == "__main__":
    main()
