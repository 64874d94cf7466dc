#!/usr/bin/env python3
"""Makes the trees of the Swift tests in which ranks divide a model in ways that libraries/ has none of, with the real libraries on the CPU.

usage: rank_fixtures.py deepspeed|megatron|torch|meshes OUTPUT [--commit NAME]

Of deepspeed: a pipeline, experts, parameters that ZeRO aligns, groups that end in the midst of parameters, and a division by tensor
parallelism that patterns of names describe. Of megatron: interleaved stages of a pipeline with tied embeddings, a gated and an ungated
model, low-rank attention, experts that are divided as the rest is and otherwise, those of a rank in one tensor, and Mamba's layers. Of
torch: what verl keeps of FSDP's first version, and a `torch_dist` of newer versions. Of meshes: what verl keeps of tensors that several
versions of PyTorch distribute over 2 x 2 ranks; it is run with each.

It needs the environment of that library (environment.sh deepspeed, environment.sh megatron, environment.sh). Trees are added to those in
OUTPUT, and to its expected.json, which libraries/expected.py describes: what the library itself loads. With --commit, all that is in OUTPUT
is packed into Tests/Fixtures/libraries/NAME.tar.zst: ranks-deepspeed, ranks-megatron, ranks-torch.
"""
import argparse
import hashlib
import json
import os
import subprocess
import sys
import warnings
from pathlib import Path

os.environ |= {"DS_ACCELERATOR": "cpu", "DS_SKIP_CUDA_CHECK": "1", "PYTHONWARNINGS": "ignore"}
warnings.simplefilter("ignore")
HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "libraries"))
import torch
import torch.distributed as dist

from expected import expect, iteration
from loading import tensors
from ranks import end, torchrun


# Megatron


class Division:
    """How ranks divide a model."""

    def __init__(self, name, tp=1, pp=1, vpp=None, ep=1, etp=None, tied=False, **settings):
        self.name, self.tp, self.pp, self.vpp, self.ep, self.etp, self.tied, self.settings = name, tp, pp, vpp, ep, etp, tied, settings
        self.world = max(tp * pp, (etp or tp) * ep * pp)

    def initialize(self):
        from megatron.core import parallel_state
        parallel_state.initialize_model_parallel(
            tensor_model_parallel_size=self.tp, pipeline_model_parallel_size=self.pp,
            virtual_pipeline_model_parallel_size=self.vpp, expert_model_parallel_size=self.ep, expert_tensor_parallel_size=self.etp)

    def whole(self):
        return Division(self.name, tied=self.tied, **self.settings)

    def arguments(self):
        return argparse.Namespace(
            tensor_model_parallel_size=self.tp, pipeline_model_parallel_size=self.pp,
            virtual_pipeline_model_parallel_size=self.vpp, expert_model_parallel_size=self.ep,
            expert_tensor_parallel_size=self.etp or self.tp, world_size=self.world, params_dtype=torch.float32,
            untie_embeddings_and_output_weights=not self.tied, num_experts=self.settings.get("num_moe_experts"), **{
                name: self.settings[name] for name in ("q_lora_rank", "kv_lora_rank", "qk_pos_emb_head_dim") if name in self.settings})

    def models(self):
        """Those of this rank: as many as it has stages."""
        from megatron.core import parallel_state
        models = []
        for stage in range(self.vpp or 1):
            if self.vpp:
                parallel_state.set_virtual_pipeline_model_parallel_rank(stage)
            models.append(self.model(stage if self.vpp else None))
        return models

    def model(self, stage):
        from megatron.core import parallel_state
        from megatron.core.models.gpt.gpt_layer_specs import get_gpt_layer_local_spec
        from megatron.core.models.gpt.gpt_model import GPTModel
        from megatron.core.transformer.transformer_config import MLATransformerConfig, TransformerConfig
        settings = dict(
            num_layers=2, hidden_size=8, num_attention_heads=2, num_query_groups=2, ffn_hidden_size=12, add_bias_linear=False,
            normalization="RMSNorm", use_cpu_initialization=True, pipeline_dtype=torch.float32,
            tensor_model_parallel_size=self.tp, pipeline_model_parallel_size=self.pp,
            virtual_pipeline_model_parallel_size=self.vpp, expert_model_parallel_size=self.ep,
            expert_tensor_parallel_size=self.etp) | self.settings
        is_mla = "kv_lora_rank" in settings
        config = (MLATransformerConfig if is_mla else TransformerConfig)(**settings)
        torch.manual_seed(1 + dist.get_rank())
        if "mamba_state_dim" in settings:
            return mamba(config)
        position = "learned_absolute" if settings["normalization"] == "LayerNorm" else "rope"
        spec = get_gpt_layer_local_spec(
            num_experts=settings.get("num_moe_experts"), moe_grouped_gemm=settings.get("moe_grouped_gemm"), normalization=settings["normalization"], multi_latent_attention=is_mla,
            qk_layernorm=is_mla)
        if is_mla:
            # The attention that needs no GPU takes no lengths of heads.
            attention = spec.submodules.self_attention.submodules
            plain = attention.core_attention

            class Plain(plain):
                def __init__(self, *arguments, k_channels=0, v_channels=0, **more):
                    super().__init__(*arguments, **more)

            attention.core_attention = Plain
            # Without Transformer Engine its classes are None, which it compares with all the same.
            from megatron.core.transformer import multi_latent_attention
            multi_latent_attention.TELinear = type("TELinear", (), {})
        return GPTModel(
            config=config, transformer_layer_spec=spec, vocab_size=16, max_sequence_length=8, position_embedding_type=position, share_embeddings_and_output_weights=self.tied,
            pre_process=parallel_state.is_pipeline_first_stage(ignore_virtual=False, vp_stage=stage),
            post_process=parallel_state.is_pipeline_last_stage(ignore_virtual=False, vp_stage=stage), vp_stage=stage)

    def folder(self, iteration_folder):
        from megatron.core import parallel_state as state
        name = f"mp_rank_{state.get_tensor_model_parallel_rank():02d}"
        if self.pp > 1:
            name += f"_{state.get_pipeline_model_parallel_rank():03d}"
        if self.ep > 1:
            name += f"_{state.get_expert_model_parallel_rank():03d}"
        return iteration_folder / name


def mamba(config):
    """Two layers of Mamba, with an MLP behind each, as megatron-core divides them; what computes with them is not there without a GPU."""
    import contextlib
    import unittest.mock

    class Norm(torch.nn.Module):
        def __init__(self, size, **_):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.rand(size))

    kernels = [f"mamba_ssm{name}" for name in ("", ".ops", ".ops.triton", ".ops.triton.layernorm_gated", ".ops.triton.ssd_combined")]
    for module in ("triton", "triton.language", "einops", *kernels):
        sys.modules.setdefault(module, unittest.mock.MagicMock(RMSNorm=Norm))
    from megatron.core.models.mamba import MambaModel
    from megatron.core.ssm import mamba_block, mamba_mixer
    from megatron.core.ssm.mamba_block import MambaStack, MambaStackSubmodules
    from megatron.core.ssm.mamba_layer import MambaLayer, MambaLayerSubmodules
    from megatron.core.ssm.mlp_layer import MLPLayer
    from megatron.core.tensor_parallel import ColumnParallelLinear, RowParallelLinear
    from megatron.core.transformer.mlp import MLP, MLPSubmodules
    from megatron.core.transformer.spec_utils import ModuleSpec
    from megatron.core.transformer.torch_norm import WrappedTorchNorm
    from megatron.core.transformer.transformer_layer import TransformerLayerSubmodules

    mamba_block.TENorm = WrappedTorchNorm
    mamba_mixer.get_cuda_rng_tracker = lambda: argparse.Namespace(fork=contextlib.nullcontext)
    layer = ModuleSpec(module=MambaLayer, submodules=MambaLayerSubmodules(norm=WrappedTorchNorm, mixer=ModuleSpec(
        module=mamba_mixer.MambaMixer, submodules=mamba_mixer.MambaMixerSubmodules(in_proj=ColumnParallelLinear, out_proj=RowParallelLinear))))
    mlp = ModuleSpec(module=MLPLayer, submodules=TransformerLayerSubmodules(pre_mlp_layernorm=WrappedTorchNorm, mlp=ModuleSpec(
        module=MLP, submodules=MLPSubmodules(linear_fc1=ColumnParallelLinear, linear_fc2=RowParallelLinear))))
    model = MambaModel(
        config=config, mamba_stack_spec=ModuleSpec(module=MambaStack, submodules=MambaStackSubmodules(mamba_layer=layer, mlp_layer=mlp)),
        vocab_size=16, max_sequence_length=8, hybrid_override_pattern="M-M-")
    for parameter in model.parameters():
        # Some are the same whatever their place is.
        parameter.data.add_(torch.rand_like(parameter))
    return model


LATENT = dict(q_lora_rank=6, kv_lora_rank=4, qk_head_dim=4, qk_pos_emb_head_dim=2, v_head_dim=4, rope_type="rope")
EXPERTS = dict(num_moe_experts=4, moe_ffn_hidden_size=6, moe_router_topk=2)
DIVISIONS = [
    Division("stages", tp=2, pp=2, vpp=2, tied=True, num_layers=8, gated_linear_unit=True),
    Division("biases", tp=2, normalization="LayerNorm", add_bias_linear=True, qk_layernorm=False),
    Division("latent", tp=2, multi_latent_attention=True, qk_layernorm=True, **LATENT),
    Division("experts", tp=2, pp=2, ep=2, gated_linear_unit=True, **EXPERTS),
    Division("experts-halves", tp=4, ep=2, etp=2, gated_linear_unit=True, **EXPERTS | {"num_attention_heads": 4, "num_query_groups": 4}),
    Division("experts-grouped", tp=2, ep=2, gated_linear_unit=True, moe_grouped_gemm=True, **EXPERTS),
    Division("experts-grouped-plain", tp=2, ep=2, etp=1, moe_grouped_gemm=True, **EXPERTS),
    Division("mamba", tp=2, num_layers=4, mamba_state_dim=3, mamba_head_dim=4, mamba_num_groups=2, gated_linear_unit=True),
    Division("experts-apart", tp=2, ep=2, etp=1, gated_linear_unit=True, moe_shared_expert_intermediate_size=6, **EXPERTS),
]


def megatron_ranks(output, name):
    from megatron.core import dist_checkpointing, parallel_state
    from megatron.core.transformer.moe import grouped_gemm_util
    # What computes with them is not there without a GPU.
    grouped_gemm_util.assert_grouped_gemm_is_available = lambda: None
    torch.cuda.synchronize = lambda *_: None
    torch.cuda.current_device = lambda: "cpu"
    torch.Tensor.cuda = lambda tensor, *_, **__: tensor
    dist.init_process_group("gloo")
    [division] = [division for division in DIVISIONS if division.name == name]
    division.initialize()
    models = division.models()
    keys = [f"model{stage}" for stage in range(division.vpp)] if division.vpp else ["model"]
    step = 20
    tree = output / name
    shared = output / f"{name}.shared"
    if dist.get_rank() == 0:
        shared.mkdir(parents=True)
    dist.barrier()
    sharded = {key: model.sharded_state_dict() for key, model in zip(keys, models)}
    dist_checkpointing.save(sharded, str(shared))
    # Each rank began with numbers of its own, also where all have the same tensor: what the first wrote is what all have.
    for key, state in dist_checkpointing.load({key: model.sharded_state_dict() for key, model in zip(keys, models)}, str(shared)).items():
        models[keys.index(key)].load_state_dict(state)
    folder = division.folder(tree / f"iter_{step:07d}")
    folder.mkdir(parents=True, exist_ok=True)
    state = {
        "args": division.arguments(), "checkpoint_version": 3.0, "iteration": step, "rng_state": [{"torch_rng_state": torch.get_rng_state()[:8]}],
        **{key: model.state_dict_for_save_checkpoint() for key, model in zip(keys, models)}}
    if not (folder / "model_optim_rng.pt").exists():
        torch.save(state, folder / "model_optim_rng.pt")
    dist.barrier()
    parallel_state.destroy_model_parallel()
    whole = division.whole()
    whole.initialize()
    [model] = whole.models()
    loaded = dist_checkpointing.load({"model": model.sharded_state_dict()}, str(shared))
    if dist.get_rank() == 0:
        (tree / "latest_checkpointed_iteration.txt").write_text(str(step))
        files = sorted(str(file.relative_to(tree / "iter_0000020")) for file in (tree / "iter_0000020").rglob("*.pt"))
        model = {name: tensor for name, tensor in tensors(loaded["model"]).items() if not name.endswith("_extra_state")}
        expect(output, name, "megatron", [iteration("iter_0000020", step, model, world_size=division.world, required=files)])
        subprocess.run(["rm", "-r", str(shared)], check=True)
    end()


def megatron(output):
    for division in DIVISIONS:
        torchrun(division.world, __file__, "megatron", output, division.name)


# DeepSpeed


def deepspeed_ranks(output, name):
    import deepspeed
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.init_distributed("gloo")
    {"pipeline": pipeline, "experts": experts, "aligned": aligned, "weights": weights, "patterns": patterns}[name](output / name)
    end()


def engine(model, stage, **options):
    import deepspeed
    optimizer = torch.optim.AdamW(options.pop("parameters", None) or model.parameters(), lr=0.01)
    return deepspeed.initialize(
        model=model, optimizer=optimizer, mpu=options.pop("mpu", None), dist_init_required=False, config={
            "train_micro_batch_size_per_gpu": 1, "zero_allow_untested_optimizer": True, "steps_per_print": 1000,
            "zero_optimization": {"stage": stage, **options}})[0]


def pipeline(tree):
    """Two stages, with layers that have no parameters among the others."""
    from deepspeed.pipe import PipelineModule
    torch.manual_seed(1)
    layers = [torch.nn.Linear(5, 7), torch.nn.ReLU(), torch.nn.Linear(7, 3), torch.nn.Linear(3, 2)]
    model = PipelineModule(layers=[layer for layer in layers], num_stages=2, loss_fn=torch.nn.MSELoss(), partition_method="uniform")
    trained = engine(model, 0)
    trained.global_steps = 3
    trained.save_checkpoint(str(tree))
    if dist.get_rank() == 0:
        whole = {f"{index}.{name}": tensor for index, layer in enumerate(layers) for name, tensor in layer.state_dict().items()}
        folder = tree / "global_step3"
        # What is missing of the layers is told by how many parameters there should be.
        expect(tree.parent, tree.name, "deepspeed", [iteration(
            "global_step3", 3, whole, world_size=2, required=sorted(file.name for file in folder.glob("mp_rank_*")))])


def experts(tree):
    """Four experts of two ranks."""
    from deepspeed.moe.layer import MoE
    torch.manual_seed(1 + dist.get_rank())

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.first = torch.nn.Linear(4, 4)
            self.moe = MoE(hidden_size=4, expert=torch.nn.Linear(4, 4), num_experts=4, ep_size=2, k=1)

        def forward(self, x):
            return self.moe(self.first(x))[0]

    trained = engine(Model(), 0)
    trained.global_steps = 3
    trained.save_checkpoint(str(tree))
    dist.barrier()
    if dist.get_rank() == 0:
        folder = tree / "global_step3"
        load = lambda file: torch.load(file, weights_only=False)
        whole = load(folder / "mp_rank_00_model_states.pt")["module"]
        for file in sorted(folder.glob("layer_*_expert_*_model_states.pt")):
            whole |= load(file)
        expect(tree.parent, tree.name, "deepspeed", [iteration(
            "global_step3", 3, whole, world_size=2, required=sorted(file.name for file in folder.glob("*model_states.pt")))])


def aligned(tree):
    """ZeRO 1 with parameters that begin at multiples of 16 bytes."""
    from deepspeed.utils.zero_to_fp32 import get_fp32_state_dict_from_zero_checkpoint
    torch.manual_seed(1)
    model = torch.nn.Sequential(torch.nn.Linear(5, 3), torch.nn.Linear(3, 7))
    trained = engine(model, 1, parameter_alignment=True)
    trained.backward(trained(torch.ones(2, 5)).square().mean())
    trained.step()
    trained.save_checkpoint(str(tree), tag="my-tag", client_state={"epoch": 2})
    dist.barrier()
    if dist.get_rank() == 0:
        paddings = torch.load(tree / "my-tag/zero_pp_rank_0_mp_rank_00_optim_states.pt", weights_only=False)[
            "optimizer_state_dict"]["param_alignment_paddings"]
        assert any(paddings[0]), paddings
        whole = get_fp32_state_dict_from_zero_checkpoint(str(tree), tag="my-tag")
        expect(tree.parent, tree.name, "deepspeed", [iteration(
            "my-tag", 1, whole, world_size=2, required=sorted(file.name for file in (tree / "my-tag").iterdir()))])


def weights(tree):
    """ZeRO 3 of three ranks, with groups that end in the midst of parameters."""
    torch.manual_seed(1)
    model = torch.nn.Sequential(torch.nn.Linear(5, 3), torch.nn.Linear(3, 7), torch.nn.Linear(7, 2, bias=False))
    model[1].weight.requires_grad = False
    trained = engine(
        model, 3, parameters=[parameter for parameter in model.parameters() if parameter.requires_grad],
        stage3_param_persistence_threshold=0, sub_group_size=8)
    for _ in range(2):
        trained.backward(trained(torch.ones(2, 5)).square().mean())
        trained.step()
    trained.save_checkpoint(str(tree))


# What a model says of how its ranks divide it, as Megatron-DeepSpeed's does. (its megatron/model/gpt_model.py:universal_checkpoint_info)
PATTERNS = {
    "universal_checkpoint_version": 0.2, "original_vocab_size": 11,
    "vocabulary_parameter_patterns": [r"embed.word_embeddings.weight"],
    "tp_replicated_parameter_patterns": [r"\d+.input_layernorm.weight", r"\d+.self_attention.dense.bias"],
    "parameter_with_row_parallelism_patterns": [r"\d+.mlp.dense_4h_to_h.weight", r"\d+.self_attention.dense.weight"],
    "parameter_with_2_sub_params_cat_dim_0": [r"\d+.mlp.dense_h_to_4h.weight"],
    "parameter_with_sub_params": [{"patterns": [r"[0-9]+\.self_attention\.query_key_value\.weight"], "shape": (3, -1), "partition_dim": 0}]}
# Along which axis each is divided, and into how many of the same length before that; nothing for what all ranks have.
LENGTHS = {
    "embed.word_embeddings.weight": ((12, 4), 0, 1), "1.input_layernorm.weight": ((4,), None, 1),
    "1.self_attention.query_key_value.weight": ((12, 4), 0, 3), "1.self_attention.query.bias": ((8,), 0, 1),
    "1.self_attention.dense.weight": ((4, 8), 1, 1), "1.self_attention.dense.bias": ((4,), None, 1),
    "1.mlp.dense_h_to_4h.weight": ((12, 4), 0, 2), "1.mlp.dense_4h_to_h.weight": ((4, 6), 1, 1)}


def patterns(tree):
    """Two ranks that divide the model themselves, of which each has two that divide the data."""
    from deepspeed.checkpoint import ds_to_universal
    rank, (groups, replicas) = dist.get_rank(), ([dist.new_group(list(ranks)) for ranks in pairs] for pairs in (((0, 1), (2, 3)), ((0, 2), (1, 3))))

    class Grid:
        get_model_parallel_rank = lambda self: rank % 2
        get_model_parallel_group = lambda self: groups[rank // 2]
        get_data_parallel_group = lambda self: replicas[rank % 2]
        get_data_parallel_rank = lambda self: rank // 2
        get_model_parallel_world_size = get_data_parallel_world_size = lambda self: 2

    torch.manual_seed(1)
    model, whole = torch.nn.Module(), {}
    for name, (shape, axis, count) in LENGTHS.items():
        whole[name] = torch.rand(shape)
        own = whole[name] if axis is None else torch.cat([part.chunk(2, axis)[rank % 2] for part in whole[name].chunk(count, axis)], axis)
        *modules, leaf = name.split(".")
        place = model
        for module in modules:
            if not hasattr(place, module):
                place.add_module(module, torch.nn.Module())
            place = getattr(place, module)
        setattr(place, leaf, torch.nn.Parameter(own.clone()))
    whole["embed.word_embeddings.weight"] = whole["embed.word_embeddings.weight"][:11]
    model.forward = lambda: sum(parameter.square().sum() for parameter in model.parameters())
    trained = engine(model, 1, mpu=Grid())
    trained.save_checkpoint(str(tree), tag="global_step2", client_state={"universal_checkpoint_info": PATTERNS, "iteration": 2, "global_steps": 2})
    dist.barrier()
    if rank == 0:
        folder, universal = tree / "global_step2", tree.parent / "patterns-universal/global_step2_universal"
        for file in folder.glob("*_optim_states.pt"):
            # What its optimizer has before the first step.
            state = torch.load(file, weights_only=False)
            [flat], base = state["optimizer_state_dict"]["single_partition_of_fp32_groups"], state["optimizer_state_dict"]["base_optimizer_state"]
            base["state"] = {0: {"step": torch.tensor(1.0), "exp_avg": flat * 2, "exp_avg_sq": flat * 3}}
            torch.save(state, file)
        sys.argv = ["", "--input_folder", str(folder), "--output_folder", str(universal), "--num_extract_workers", "1", "--num_merge_workers", "1"]
        ds_to_universal.main(ds_to_universal.parse_arguments())
        load = lambda name, part: torch.load(universal / f"zero/{name}/{part}.pt", weights_only=False)["param"]
        assert all(torch.equal(load(name, "fp32"), tensor) for name, tensor in whole.items())
        optimizer = {f"{part}.{name}": load(name, part) for name in whole for part in ("exp_avg", "exp_avg_sq")}
        subprocess.run(["rm", "-r", str(universal.parent)], check=True)
        expect(tree.parent, tree.name, "deepspeed", [iteration(
            "global_step2", 2, whole, optimizer=optimizer, world_size=4, required=sorted(file.name for file in folder.iterdir()))])


def described(tree):
    """What DeepSpeed's own programs make of it: the weights, and the optimizer's state."""
    from deepspeed.checkpoint import ds_to_universal
    from deepspeed.utils.zero_to_fp32 import get_fp32_state_dict_from_zero_checkpoint
    folder = tree / "global_step2"
    whole = get_fp32_state_dict_from_zero_checkpoint(str(tree), tag=folder.name)
    universal = tree.parent / "universal/global_step2_universal"
    sys.argv = ["", "--input_folder", str(folder), "--output_folder", str(universal), "--num_extract_workers", "1", "--num_merge_workers", "1"]
    ds_to_universal.main(ds_to_universal.parse_arguments())
    optimizer = {}
    for file in sorted(universal.glob("zero/*/exp_avg*.pt")):
        name = file.parent.name
        optimizer[f"{file.stem}.{name}"] = torch.load(file).reshape(whole[name].shape)
    for path, required in ((folder, list(folder.iterdir())), (universal, list(universal.glob("zero/*/*.pt")))):
        files = sorted(str(file.relative_to(path)) for file in required)
        expect(tree.parent, path.parent.name, "deepspeed", [iteration(path.name, 2, whole, optimizer=optimizer, required=files)])


def deepspeed(output):
    for name, count in (("pipeline", 2), ("experts", 2), ("aligned", 2), ("weights", 3), ("patterns", 4)):
        torchrun(count, __file__, "deepspeed", output, name)
    described(output / "weights")


# torch


def torch_ranks(output, _):
    """What verl keeps of a model that FSDP's first version shards without a mesh."""
    from torch.distributed.fsdp import FullyShardedDataParallel as FSDP, ShardedStateDictConfig, StateDictType
    dist.init_process_group("gloo")
    torch.manual_seed(1)
    model = torch.nn.Sequential(torch.nn.Linear(5, 3), torch.nn.Linear(3, 7, bias=False))
    model.register_buffer("seen", torch.arange(3.0))
    whole = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model = FSDP(model, device_id=torch.device("cpu"), use_orig_params=True)
    FSDP.set_state_dict_type(model, StateDictType.SHARDED_STATE_DICT, ShardedStateDictConfig(offload_to_cpu=False))
    folder = output / "first/global_step_7/actor"
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(model.state_dict(), folder / f"model_world_size_2_rank_{dist.get_rank()}.pt")
    dist.barrier()
    if dist.get_rank() == 0:
        (folder / "fsdp_config.json").write_text(json.dumps({"FSDP_version": 1, "world_size": 2}, indent=4))
        torch.save({"_snapshot": 1}, folder.parent / "data.pt")
        files = [f"actor/model_world_size_2_rank_{rank}.pt" for rank in range(2)]
        expect(output, "first", "verl", [iteration("global_step_7", 7, whole, world_size=2, required=[*files, "actor/fsdp_config.json"])])
    end()


def meshes(output):
    torchrun(4, __file__, "meshes", output, torch.__version__.split("+")[0])


def mesh_ranks(output, version):
    """Each tensor is cut along one axis or two, some into parts that are not equal, or on some ranks empty."""
    from torch.distributed.device_mesh import init_device_mesh
    try:
        from torch.distributed.tensor import DTensor, Partial, Replicate, Shard, distribute_tensor
    except ImportError:
        from torch.distributed._tensor import DTensor, Partial, Replicate, Shard, distribute_tensor
    dist.init_process_group("gloo")
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("ddp", "fsdp"))
    whole, parts = {}, {}
    for name, shape, placements in [
            ("rows", (5, 3), (Replicate(), Shard(0))), ("few", (1, 4), (Replicate(), Shard(0))), ("columns", (3, 5), (Replicate(), Shard(1))),
            ("both", (5, 3), (Shard(0), Shard(1))), ("twice", (7, 2), (Shard(0), Shard(0))), ("all", (2, 2), (Replicate(), Replicate()))]:
        whole[name] = torch.arange(float(shape[0] * shape[1])).reshape(shape).bfloat16()
        parts[name] = distribute_tensor(whole[name], mesh, placements)
        # Parts of a model's own are no views.
        parts[name]._local_tensor = parts[name]._local_tensor.contiguous().clone()
        assert torch.equal(parts[name].full_tensor(), whole[name])
    whole["plain"] = parts["plain"] = torch.arange(3)
    folder = output / f"mesh-{version}/global_step_1"
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(parts, folder / f"model_world_size_4_rank_{dist.get_rank()}.pt")
    # What is a summand on each rank can't be merged without computing.
    summand = {"rows": DTensor.from_local(torch.ones(5, 3).bfloat16(), mesh, (Replicate(), Partial()))}
    (output / "refused").mkdir(exist_ok=True)
    dist.barrier()
    if dist.get_rank() == 0:
        torch.save(summand, output / f"refused/partial-{version}.pt")
        (folder / "fsdp_config.json").write_text(json.dumps({"FSDP_version": 2, "world_size": 4}, indent=4))
        torch.save({"_snapshot": 1}, folder / "data_0.pt")
        files = [f"model_world_size_4_rank_{rank}.pt" for rank in range(4)]
        expect(output, f"mesh-{version}", "verl", [iteration("global_step_1", 1, whole, world_size=4, required=[*files, "fsdp_config.json"])])
    end()


def newer(output):
    """What Megatron-LM writes since it keeps what all ranks share among the tensors, and digests of the files.
    (core/dist_checkpointing/serialization.py:save)"""
    import torch.distributed.checkpoint as dcp
    torch.manual_seed(1)
    folder = output / "newer/iter_0000030"
    common = {"args": argparse.Namespace(tensor_model_parallel_size=1, world_size=4, params_dtype=torch.bfloat16), "iteration": 30,
              "checkpoint_version": 3.0}
    model = {"embedding.word_embeddings.weight": torch.rand(4, 3), "decoder.layers.mlp.linear_fc1.weight": torch.rand(2, 3, 4)}
    state = {f"optimizer.state.exp_avg.{name}": torch.rand_like(tensor) for name, tensor in model.items()}
    buckets = {"chained_1.optimizer.distributed.dp_group_idx_0.gbuf_idx_0.exp_avg": torch.rand(8)}
    dcp.save(
        {**model, **state, **buckets, "common_state/shard_0_1": common}, checkpoint_id=str(folder), no_dist=True,
        planner=dcp.DefaultSavePlanner(flatten_state_dict=False))
    (folder / "metadata.json").write_text(json.dumps({"sharded_backend": "torch_dist", "sharded_backend_version": 1}))
    files = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(folder.iterdir())}
    (folder / "integrity.json").write_text(json.dumps({"algorithm": "sha256", "files": files}, indent=2))
    optimizer = {name.removeprefix("optimizer.state."): tensor for name, tensor in state.items()}
    expect(output, "newer", "megatron", [iteration(
        "iter_0000030", 30, model, optimizer=optimizer, world_size=4, required=[*files])])


def of_torch(output):
    torchrun(2, __file__, "torch", output, "first")
    newer(output)


MAKERS = {
    "megatron": (megatron, megatron_ranks), "deepspeed": (deepspeed, deepspeed_ranks), "torch": (of_torch, torch_ranks),
    "meshes": (meshes, mesh_ranks)}


def commit(name, output):
    """As libraries/make.py does it."""
    archive = HERE.parents[1] / f"Tests/Fixtures/libraries/{name}.tar.zst"
    subprocess.run(["tar", "--format=posix", "--owner=0", "--group=0", "--numeric-owner", "--sort=name", "-I", "zstd -19 --long",
                    "-cf", archive, "-C", output, *sorted(os.listdir(output))], check=True)


if __name__ == "__main__":
    arguments = sys.argv[1:]
    name = arguments.pop() if "--commit" in arguments else None
    arguments = [argument for argument in arguments if argument != "--commit"]
    if len(arguments) < 2 or arguments[0] not in MAKERS:
        sys.exit(__doc__)
    library, output = arguments[0], Path(arguments[1])
    if "RANK" in os.environ:
        MAKERS[library][1](output, arguments[2])
    else:
        output.mkdir(parents=True, exist_ok=True)
        MAKERS[library][0](output)
        if name:
            commit(name, output)
