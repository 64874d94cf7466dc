"""torch's distributed checkpoints: nested and flat states, asynchronous saves, one that is cut short, and its writer of Hugging Face
files. The flat states hold what torchtitan puts into its own.
"""
import unittest.mock

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions, get_model_state_dict, get_optimizer_state_dict, get_state_dict)
from torch.distributed.device_mesh import init_device_mesh

from expected import expect, iteration
from loading import assert_same, distributed, gathered, tensors
from torch_training import Training


def nested(training):
    model, optimizer = get_state_dict(training.model, training.optimizer)
    return {"model": model, "optimizer": optimizer, "scheduler": training.schedule.state_dict(), "step": training.step, "note": "ä"}


def flat(training):
    """As torchtitan has it: the model's names at the top."""
    progress = {"step": torch.tensor(training.step, dtype=torch.int32), "ntokens_seen": torch.tensor(training.step * 11)}
    optimizer = get_optimizer_state_dict(training.model, training.optimizer, options=StateDictOptions(flatten_optimizer_state_dict=True))
    return {
        **get_model_state_dict(training.model), "optimizer": optimizer, "lr_scheduler": training.schedule.state_dict(),
        "train_state": progress}


def described(folder, step, state, ranks):
    """What torch loads of it, which is what was saved."""
    loaded = distributed(folder)
    assert_same(loaded, state)
    all_tensors = tensors(loaded)
    return iteration(
        folder.name, step, world_size=ranks, required=sorted(file.name for file in folder.iterdir()),
        model=tensors(loaded["model"]) if "model" in loaded else {
            name: tensor for name, tensor in all_tensors.items() if not name.startswith(("optimizer.", "train_state."))},
        optimizer={name: tensor for name, tensor in all_tensors.items() if name.startswith("optimizer.")})


def is_first():
    return dist.get_rank() == 0


def run(output, name, training, state, save=lambda state, folder: dcp.save(state, checkpoint_id=folder), layout="dcp", killed=False):
    iterations = []
    for _ in range(2):
        training.train()
        folder = output / name / f"step-{training.step}"
        save(state(training), str(folder))
        whole = gathered(state(training))
        if is_first():
            iterations.append(described(folder, training.step, whole, dist.get_world_size()))
    if killed:
        training.train()
        # As when the first rank is killed once all have written their files.
        with unittest.mock.patch.object(dcp.FileSystemWriter, "finish", side_effect=RuntimeError("killed")):
            try:
                save(state(training), str(output / name / f"step-{training.step}"))
            except dcp.api.CheckpointException:
                pass
        iterations.append(iteration(f"step-{training.step}", training.step, {}, complete=False))
    if is_first():
        expect(output, name, layout, iterations)


def hugging_face(output, name, training, layout="dcp-hf", **options):
    """Safetensors files, of each rank and merged into those of one."""
    iterations = []
    for _ in range(2):
        training.train()
        folder = output / name / f"step-{training.step}"
        # Its merging fails on integers.
        state = {fqn: tensor for fqn, tensor in get_model_state_dict(training.model).items() if tensor.is_floating_point()}
        parts = {fqn: 1 + fqn.startswith("layers.") for fqn in state}
        dcp.save(state, storage_writer=dcp.HuggingFaceStorageWriter(str(folder), fqn_to_index_mapping=parts, **options))
        whole = gathered(state)
        loaded = {fqn: torch.zeros_like(tensor) for fqn, tensor in whole.items()}
        dcp.load(loaded, storage_reader=dcp.HuggingFaceStorageReader(str(folder)), no_dist=True)
        assert_same(loaded, whole)
        dist.barrier()
        files = sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())
        iterations.append(iteration(folder.name, training.step, loaded, required=[file for file in files if "/" not in file]))
    if is_first():
        expect(output, name, layout, iterations)


def alone(output, training):
    """Each rank writes metadata of its own, and what all have is in the files of all."""
    training.train()
    folder, state = output / "alone" / f"step-{training.step}", nested(training)
    dcp.save(state, checkpoint_id=str(folder), use_collectives=False)
    whole = gathered(state)
    dist.barrier()
    if is_first():
        optimizer = {f"optimizer.{name}": tensor for name, tensor in tensors(whole["optimizer"]).items()}
        expect(output, "alone", "dcp", [iteration(
            folder.name, training.step, tensors(whole["model"]), optimizer=optimizer, world_size=dist.get_world_size(),
            required=sorted(file.name for file in folder.iterdir()))])


def write(output):
    world = dist.get_world_size()
    mesh = init_device_mesh("cpu", (world,), mesh_dim_names=("fsdp",))
    run(output, f"nested-{world}", Training(mesh), nested)
    run(output, f"flat-{world}", Training(mesh), flat, layout="torchtitan", killed=world == 2)
    if world == 1:
        # The optimizer by the numbers of its parameters, as it gives it itself.
        run(output, "plain", Training(), lambda training: {
            "model": training.model.state_dict(), "optimizer": training.optimizer.state_dict()})
    if world == 2:
        run(output, "async", Training(mesh), nested, lambda state, folder: dcp.async_save(state, checkpoint_id=folder).result())
        alone(output, Training(mesh))
        hugging_face(output, "hf-sharded", Training(mesh), save_distributed=True)
        hugging_face(output, "hf-merged", Training(mesh), save_distributed=True, enable_consolidation=True)
    if world == 4:
        for names in (("replicate", "fsdp"), ("dp", "tp")):
            run(output, "-".join(names), Training(init_device_mesh("cpu", (2, 2), mesh_dim_names=names)), nested)
