#!/usr/bin/env python3
"""Writes the models of Tests/Fixtures/rename, with the libraries whose names Docs/rename maps to Hugging Face's.

usage: rename_fixtures.py megatron     with megatron-core 0.16.1 (see `megatron_models`)
       rename_fixtures.py mindspore    with mindspore 2.9.0 and mindformers 1.9.0 (see `mindspore_models`)

Each file has tensors as the library names and lays them out. `__metadata__` has the class and the configuration of the Hugging Face
model of the same function. Of Megatron there are also `expected.ids` and `expected.logits`, which its own model computed, and each layer's
tensors twice: by themselves, and stacked as `torch_dist` checkpoints have them. Of MindSpore Transformers, whose models need an
accelerator, its own conversion of a model with known weights gives the tensors, and `expected.` and the name are those weights.
"""
import contextlib
import json
import os
import sys
import threading
import types
from pathlib import Path

import numpy

FOLDER = Path(__file__).resolve().parents[2] / "Tests/Fixtures/rename"
CONFIG = dict(
    vocab_size=40, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=8,
    max_position_embeddings=64, rms_norm_eps=1e-6, tie_word_embeddings=False, bos_token_id=0, eos_token_id=0)
EXPERTS = dict(num_experts=4, num_experts_per_tok=2, moe_intermediate_size=24, decoder_sparse_step=1, norm_topk_prob=True, mlp_only_layers=[])


def write(name, architecture, config, tensors):
    from safetensors.numpy import save_file

    FOLDER.mkdir(parents=True, exist_ok=True)
    metadata = {"format": "np", "architecture": architecture, "config": json.dumps(config)}
    save_file({key: numpy.ascontiguousarray(value) for key, value in tensors.items()}, FOLDER / f"{name}.safetensors", metadata)
    os.chmod(FOLDER / f"{name}.safetensors", 0o644)


def megatron_models():
    """Real models of megatron-core, run on the CPU."""
    import torch

    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=os.environ.get("MASTER_PORT", "29871"), RANK="0", WORLD_SIZE="1")
    torch.distributed.init_process_group("gloo")
    from megatron.core import parallel_state, tensor_parallel
    from megatron.core.transformer.moe import moe_utils

    # What asks for an accelerator though it needs none: where the rotary embedding lives, and the dropout's random numbers.
    torch.cuda.current_device = lambda: torch.device("cpu")

    class Tracker:
        def fork(self, *_):
            return contextlib.nullcontext()

    tensor_parallel.get_cuda_rng_tracker = lambda *_: Tracker()
    # 0.16.1 asks for it without having imported it, where Transformer Engine is missing.
    moe_utils.te_general_gemm = None
    parallel_state.initialize_model_parallel()
    write("megatron-llama", "LlamaForCausalLM", CONFIG, megatron_model({"qk_layernorm": False}))
    write("megatron-qwen3", "Qwen3ForCausalLM", CONFIG, megatron_model({"qk_layernorm": True}))
    experts = dict(
        qk_layernorm=True, num_moe_experts=4, moe_router_topk=2, moe_ffn_hidden_size=24, moe_router_load_balancing_type="none",
        moe_token_dispatcher_type="allgather", moe_router_dtype="fp32")
    write("megatron-qwen3-moe", "Qwen3MoeForCausalLM", CONFIG | EXPERTS, megatron_model(experts))


def megatron_model(changes):
    import torch
    from megatron.core.dist_checkpointing.mapping import ShardedTensor, apply_factories
    from megatron.core.models.gpt import GPTModel
    from megatron.core.models.gpt.gpt_layer_specs import get_gpt_layer_local_spec
    from megatron.core.transformer.transformer_config import TransformerConfig

    torch.manual_seed(1)
    config = TransformerConfig(
        num_layers=2, hidden_size=16, num_attention_heads=4, num_query_groups=2, kv_channels=8, ffn_hidden_size=24,
        gated_linear_unit=True, activation_func=torch.nn.functional.silu, add_bias_linear=False, normalization="RMSNorm",
        layernorm_epsilon=1e-6, hidden_dropout=0.0, attention_dropout=0.0, use_cpu_initialization=True, init_method_std=0.5,
        bias_activation_fusion=False, bias_dropout_fusion=False, masked_softmax_fusion=False, persist_layer_norm=False,
        gradient_accumulation_fusion=False, **changes)
    spec = get_gpt_layer_local_spec(
        qk_layernorm=changes["qk_layernorm"], normalization="RMSNorm", num_experts=changes.get("num_moe_experts"))
    # The vocabulary is padded, as the training script does: 48 for 40.
    model = GPTModel(
        config, spec, vocab_size=48, max_sequence_length=64, position_embedding_type="rope", rotary_base=10000,
        share_embeddings_and_output_weights=False).eval()
    for name, parameter in model.named_parameters():
        if "norm" in name:
            torch.nn.init.uniform_(parameter, 0.5, 1.5)
        # Computed in 32 bits, but kept in 16.
        parameter.data = parameter.data.half().float()
    ids = torch.arange(24).view(2, 12) * 7 % 40
    mask = torch.tril(torch.ones(1, 1, 12, 12)) < 0.5
    with torch.no_grad():
        logits = model(ids, torch.arange(12).expand(2, 12), mask)
    tensors = {name: value.half().numpy() for name, value in model.state_dict().items() if isinstance(value, torch.Tensor)}
    stacked = {}
    sharded = model.sharded_state_dict()
    apply_factories(sharded)

    def place(value):
        if isinstance(value, dict):
            for inner in value.values():
                place(inner)
        elif isinstance(value, (list, tuple)):
            for inner in value:
                place(inner)
        elif isinstance(value, ShardedTensor):
            whole = stacked.setdefault(value.key, numpy.full(value.global_shape, numpy.nan, numpy.float16))
            shape = (1,) * value.prepend_axis_num + tuple(value.local_shape)
            where = tuple(slice(start, start + length) for start, length in zip(value.global_offset, shape))
            whole[where] = value.data.detach().numpy().reshape(shape)

    place(sharded)
    assert not any(numpy.isnan(value).any() for value in stacked.values())
    assert all((stacked[key] == value).all() for key, value in tensors.items() if key in stacked)
    return tensors | stacked | {"expected.ids": ids.numpy(), "expected.logits": logits[:, :, :40].float().numpy()}


def mindspore_models():
    """Weights of Hugging Face models, converted by MindSpore Transformers' own functions."""
    from mindformers.models.llama.llama import LlamaForCausalLM
    from mindformers.models.qwen3.modeling_qwen3_train import TrainingQwen3ForCausalLM
    from mindformers.models.qwen3_moe.modeling_qwen3_moe_train import TrainingQwen3MoeForCausalLM
    from mindformers.parallel_core.utils import model_mixin
    from mindformers.utils.convert_utils import ffn_concat_hf2mg, qkv_concat_hf2mg

    # Its old Llama has heads of hidden_size / heads.
    llama = dict(CONFIG, head_dim=4)
    expected = huggingface_weights(llama, norms=False)
    tensors = {LlamaForCausalLM.convert_name(name): value for name, value in expected.items()}
    write_mindspore("mindspore-llama", "LlamaForCausalLM", llama, tensors, expected)
    for layer in range(2):
        prefix = f"model.layers.{layer}."
        query, key, value = (tensors.pop(f"{prefix}attention.w{letter}.weight") for letter in "qkv")
        tensors[prefix + "attention.w_qkv.weight"] = qkv_concat_hf2mg(numpy.concatenate((query, key, value)), 4, 2, 16)
        gate, up = (tensors.pop(f"{prefix}feed_forward.w{number}.weight") for number in (1, 3))
        tensors[prefix + "feed_forward.w_gate_hidden.weight"] = ffn_concat_hf2mg(numpy.concatenate((gate, up)), 24)
    write_mindspore("mindspore-llama-concat", "LlamaForCausalLM", llama, tensors, expected)

    expected = huggingface_weights(CONFIG, norms=True)
    # Which a context of a whole training says otherwise.
    model_mixin.is_legacy_model = lambda: False
    names = TrainingQwen3ForCausalLM.__new__(TrainingQwen3ForCausalLM)
    tensors = {names.convert_name(name): value for name, value in expected.items()}
    for layer in range(2):
        prefix = f"decoder.layers.{layer}."
        query, key, value = (tensors.pop(f"{prefix}self_attention.linear_{letter}.weight") for letter in "qkv")
        query_name = prefix + "self_attention.linear_q.weight"
        tensors |= names.concat_qkv_interleaved(query, key, value, query_name, 8, 2, 4)
        gate, up = (tensors.pop(f"{prefix}mlp.{word}.weight") for word in ("gating", "hidden"))
        tensors |= names.concat_linear_fc1_interleaved(gate, up, prefix + "mlp.gating.weight", 24)
    write_mindspore("mindspore-qwen3", "Qwen3ForCausalLM", CONFIG, tensors, expected)

    # All that its class does with the weights of a Hugging Face model, in one go.
    expected = huggingface_weights(CONFIG, norms=True, experts=EXPERTS)
    names = TrainingQwen3MoeForCausalLM.__new__(TrainingQwen3MoeForCausalLM)
    names.__dict__["transformer_config"] = types.SimpleNamespace(
        use_contiguous_weight_layout_attention=False, kv_channels=8, num_query_groups=2, num_attention_heads=4, num_layers=2, hidden_size=16,
        num_moe_experts=4, moe_ffn_hidden_size=24)
    names.__dict__["get_gpt_transformer_config"] = lambda: names.transformer_config
    tensors = names.convert_weight_dict(dict(expected), qkv_dict={}, condition=threading.Condition())
    # What it counts while it trains.
    for layer in range(2):
        tensors[f"decoder.layers.{layer}.mlp.router.fi_accu"] = numpy.zeros(4, numpy.float32)
    write_mindspore("mindspore-qwen3-moe", "Qwen3MoeForCausalLM", CONFIG | EXPERTS, tensors, expected)


def write_mindspore(name, architecture, config, tensors, expected):
    write(name, architecture, config, tensors | {"expected." + key: value for key, value in expected.items()})


def huggingface_weights(config, norms, experts=None):
    generator = numpy.random.default_rng(1)
    hidden, head = config["hidden_size"], config["head_dim"]
    heads, groups = config["num_attention_heads"] * head, config["num_key_value_heads"] * head
    shapes = {"model.embed_tokens.weight": (40, hidden), "lm_head.weight": (40, hidden), "model.norm.weight": (hidden,)}
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}."
        shapes |= {
            prefix + "self_attn.q_proj.weight": (heads, hidden), prefix + "self_attn.k_proj.weight": (groups, hidden),
            prefix + "self_attn.v_proj.weight": (groups, hidden), prefix + "self_attn.o_proj.weight": (hidden, heads)}
        parts = [f"mlp.experts.{number}." for number in range(experts["num_experts"])] if experts else ["mlp."]
        if experts:
            shapes[prefix + "mlp.gate.weight"] = (experts["num_experts"], hidden)
        for part in parts:
            shapes |= {
                prefix + part + "gate_proj.weight": (24, hidden), prefix + part + "up_proj.weight": (24, hidden),
                prefix + part + "down_proj.weight": (hidden, 24)}
        shapes |= {prefix + "input_layernorm.weight": (hidden,), prefix + "post_attention_layernorm.weight": (hidden,)}
        if norms:
            shapes |= {prefix + "self_attn.q_norm.weight": (head,), prefix + "self_attn.k_norm.weight": (head,)}
    return {name: generator.standard_normal(shape).astype(numpy.float16) for name, shape in shapes.items()}


if __name__ == "__main__":
    {"megatron": megatron_models, "mindspore": mindspore_models}[sys.argv[1]]()
