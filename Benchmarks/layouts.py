"""Rows of tools/bench about layouts: what splitting costs, what containers share, how soon a checkpoint is seen, how fast shards merge."""

import json
import os
import pickle
import shutil
import signal
import struct
import subprocess
import sys
import time
import zipfile

from measuring import CAIRN, GIB, MIB, Run, alternate, cairn, noise, remove, warm
from report import Figure


def splitting(bench):
    """what it costs to take a file apart into its tensors, beside the same bytes as an opaque file"""
    folder = bench.place()
    whole, opaque = folder / "model.safetensors", folder / "model.dat"
    size = MIB * 64 if bench.quick else GIB
    noise(whole, size, tensors=300)
    shutil.copy(whole, opaque)

    def save(path):
        store = folder / "store"
        remove(store)
        cairn("init", store)
        warm(path)
        os.sync()
        return cairn("save", store, path, "--step", 1).seconds

    # Half a second each, on a disk that is not as fast each time.
    ours, theirs = alternate(max(bench.rounds, 15), lambda: save(whole), lambda: save(opaque))
    bench.report.row("save of a split file", Figure(ours, "s"), "an opaque one", Figure(theirs, "s"), at_most=1.05)
    remove(folder)


def parsing(bench):
    """the header of 100,000 tensors, and a pickle of 1,000,000 objects"""
    folder = bench.place()
    large = folder / "header"
    large.mkdir()
    entries = {
        f"model.layers.{n // 8}.mlp.experts.{n % 8}.down_proj.weight": {
            "dtype": "BF16", "shape": [2], "data_offsets": [4 * n, 4 * n + 4]} for n in range(100_000)}
    header = json.dumps(entries, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    (large / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(400_000))
    deep = folder / "pickle"
    deep.mkdir()
    # Dictionaries of small values: a million objects, fifty million bytes.
    value = [{"name": f"parameter number {n} of a group of those that have long names" + "." * 90, "value": n, "ratio": n / 7} for n in range(250_000)]
    with zipfile.ZipFile(deep / "state.pt", "w") as archive:
        data = pickle.dumps(value, protocol=2)
        archive.writestr("state/data.pkl", data)
        archive.writestr("state/version", "3\n")
    for title, path, bound in (
            ("100,000 tensors in a header", large / "model.safetensors", 1),
            (f"a pickle of {len(data) / 1e6:.0f} MB", deep / "state.pt", 2)):
        runs = [Run(CAIRN, "layouts", path, "--json") for _ in range(bench.rounds)]
        bench.report.row(title, Figure(sorted(run.seconds for run in runs)[len(runs) // 2], "s"), at_most=bound)
    bench.report.row("  peak memory", Figure(max(run.peak for run in runs) / MIB, "MiB"), at_most=1024)
    remove(folder)


CONTAINERS = """
import sys, torch, torch.distributed.checkpoint as dcp
from pathlib import Path
from safetensors.torch import save_file
folder = Path(sys.argv[1]); rows = int(sys.argv[2])
torch.manual_seed(1)
state = {f"model.layers.{n}.weight": torch.randn(rows, 1024) for n in range(16)}
for name in ("a", "b", "c", "d"): (folder / name).mkdir()
save_file(state, folder / "a/model.safetensors", metadata={"format": "pt"})
torch.save(state, folder / "b/pytorch_model.bin")
import os
os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT="29517", RANK="0", WORLD_SIZE="1")
torch.distributed.init_process_group("gloo")
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Replicate, Shard
mesh = init_device_mesh("cpu", (1,))
torch.save({k: DTensor.from_local(v, mesh, [Shard(0)]) for k, v in state.items()}, folder / "c/model_world_size_1_rank_0.pt")
dcp.save(state, checkpoint_id=folder / "d")
torch.distributed.destroy_process_group()
"""


def containers(bench):
    """the same weights as safetensors, .bin, FSDP rank files and DCP: what the later ones add"""
    folder = bench.place()
    Run(sys.executable, "-c", CONTAINERS, folder, 256 if bench.quick else 4096)
    store = folder / "store"
    cairn("init", store)
    first = None
    for step, (name, title) in enumerate((("a", "safetensors"), ("b", ".bin"), ("c", "FSDP rank files"), ("d", "DCP"))):
        result = cairn("save", store, folder / name, "--run", "same", "--step", step).json
        first = first or result["newBytes"]
        if step:
            new = Figure(100 * result["newBytes"] / first, "%")
            bench.report.row(f"new bytes as {title}, after safetensors", new, at_most=2)
    remove(folder)


def watching(bench):
    """how soon `watch` has seen a checkpoint, and what it takes while idle over 1,000 iterations"""
    folder = bench.place()
    out, store, source = folder / "out", folder / "store", folder / "source"
    source.mkdir()
    noise(source / "model.safetensors", 4096, tensors=1)
    count = 50 if bench.quick else 1000

    def checkpoint(step):
        place = folder / "next"
        shutil.copytree(source, place)
        (place / "trainer_state.json").write_text(json.dumps({"global_step": step, "log_history": []}))
        return place

    out.mkdir()
    cairn("init", store)
    for step in range(count):
        checkpoint(step).rename(out / f"checkpoint-{step}")
    with subprocess.Popen(
            [CAIRN, "watch", out, "--store", store, "--json"], stdout=subprocess.PIPE, text=True) as process:
        for _ in range(count):
            process.stdout.readline()
        waits = []
        for step in range(count, count + 3):
            checkpoint(step).rename(out / f"checkpoint-{step}")
            start = time.monotonic()
            process.stdout.readline()
            waits.append(time.monotonic() - start)
        before, seconds = ticks(process.pid), 5 if bench.quick else 60
        time.sleep(seconds)
        used = (ticks(process.pid) - before) / os.sysconf("SC_CLK_TCK") / seconds
        process.send_signal(signal.SIGTERM)
    bench.report.row("watch: a checkpoint is saved after", Figure(max(waits), "s"), at_most=3)
    bench.report.row(f"  idle over {count} iterations", Figure(100 * used, "% of a core"), at_most=1)
    remove(folder)


def ticks(process):
    """The processor time that a process has had, in clock ticks."""
    with open(f"/proc/{process}/stat") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return int(fields[11]) + int(fields[12])


SHARDED = """
import sys, torch, torch.distributed.checkpoint as dcp
torch.manual_seed(1)
state = {f"model.layers.{n}.weight": torch.randn(int(sys.argv[2]), 1024) for n in range(64)}
dcp.save(state, checkpoint_id=sys.argv[1])
"""


def merging(bench):
    """DCP shards to Hugging Face safetensors, beside torch's dcp_to_torch_save"""
    folder = bench.place()
    shards, store = folder / "step-1", folder / "store"
    Run(sys.executable, "-c", SHARDED, shards, 64 if bench.quick else 4096)
    cairn("init", store)
    cairn("save", store, shards, "--run", "merge", "--step", 1)
    peaks = []

    def export():
        remove(folder / "hf")
        warm(store)
        os.sync()
        run = cairn("export", store, "merge@1", folder / "hf", "--layout", "hf")
        peaks.append(run.peak)
        return run.seconds

    def torch():
        remove(folder / "merged.pt")
        warm(shards)
        os.sync()
        program = "import sys; from torch.distributed.checkpoint.format_utils import dcp_to_torch_save as f; " \
            "f(sys.argv[1], sys.argv[2]); f = open(sys.argv[2], 'rb'); import os; os.fsync(f.fileno())"
        return Run(sys.executable, "-c", program, shards, folder / "merged.pt").seconds

    ours, theirs = alternate(bench.rounds, export, torch)
    bench.report.row("merging 1 GiB of DCP", Figure(ours, "s"), "dcp_to_torch_save", Figure(theirs, "s"), at_most=1)
    bench.report.row("  peak memory", Figure(max(peaks) / MIB, "MiB"), at_most=600)
    remove(folder)
