#!/usr/bin/env python3
"""`cairn export --merge-adapter` is what peft's `merge_and_unload` makes of the same adapter and base, to one unit in the last place."""
import json
import unittest

import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from workbench import Workbench, contents, tiny_llama

INTEGERS = {torch.float32: torch.int32, torch.float16: torch.int16, torch.bfloat16: torch.int16}
LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "up_proj", "down_proj"]


def steps(a, b):
    """How many numbers of the type lie between two, at most."""
    def ordered(tensor):
        integer = tensor.contiguous().view(INTEGERS[tensor.dtype]).to(torch.int64)
        low = torch.iinfo(INTEGERS[tensor.dtype]).min
        return torch.where(integer < 0, low - integer, integer)
    return int((ordered(a) - ordered(b)).abs().max()) if a.numel() else 0


def tiny_gpt2():
    torch.manual_seed(2)
    config = transformers.GPT2Config(vocab_size=80, n_embd=32, n_layer=2, n_head=4, n_positions=16, bos_token_id=0, eos_token_id=0)
    return transformers.GPT2LMHeadModel(config)


class MergingTests(Workbench):
    def adapter(self, model, config):
        """Saves the model and an adapter for it. Returns their folders."""
        base = self.folder / "adapter-base"
        model.save_pretrained(base)
        return base, self.adapt(base, config, "adapter", model.dtype)

    def adapt(self, base, config, name, dtype):
        """Saves an adapter for a model. Returns its folder."""
        torch.manual_seed(7)
        adapted = get_peft_model(AutoModelForCausalLM.from_pretrained(base, dtype=dtype), config)
        for key, parameter in adapted.named_parameters():
            if parameter.requires_grad:
                # A training has moved all of them.
                parameter.data += (0.05 * torch.randn(parameter.shape)).to(parameter.dtype)
        adapted.save_pretrained(self.folder / name)
        return self.folder / name

    def merged(self, *options, step=1):
        return self.export("--merge-adapter", *options, reference=f"main@{step}")

    def check(self, folder, base, adapter, dtype):
        model = AutoModelForCausalLM.from_pretrained(base, dtype=dtype)
        expected = PeftModel.from_pretrained(model, adapter).merge_and_unload().state_dict()
        got = AutoModelForCausalLM.from_pretrained(folder, dtype="auto").state_dict()
        self.assertEqual(sorted(got), sorted(expected))
        for name, tensor in expected.items():
            self.assertEqual((got[name].dtype, got[name].shape), (tensor.dtype, tensor.shape), name)
            self.assertLessEqual(steps(got[name], tensor), 1, name)

    def test_every_type_and_kind_is_merged_as_peft_does(self):
        kinds = {
            "linear": dict(r=4, target_modules=LINEAR),
            "stabilised": dict(r=9, lora_alpha=5, use_rslora=True, target_modules=LINEAR),
            "patterns": dict(
                r=4, lora_alpha=7, target_modules=LINEAR, rank_pattern={r"layers\.1\..*q_proj": 3, "down_proj": 8},
                alpha_pattern={r"layers\.1\..*q_proj": 11, "up_proj": 1}),
            "embedding": dict(r=4, target_modules=["embed_tokens", "q_proj"]),
            "copies": dict(r=4, target_modules=["q_proj"], modules_to_save=["lm_head", "norm"])}
        step = 0
        for dtype in (torch.float32, torch.bfloat16, torch.float16):
            base = self.folder / f"base-{step}"
            tiny_llama(dtype=dtype, num_hidden_layers=2).save_pretrained(base)
            for name, settings in kinds.items():
                config = LoraConfig(task_type="CAUSAL_LM", **{"lora_alpha": 16} | settings)
                adapter = self.adapt(base, config, f"a{step}", dtype)
                for saved in (None, torch.bfloat16):
                    step += 1
                    with self.subTest(dtype=dtype, name=name, saved=saved):
                        if saved:
                            path = adapter / "adapter_model.safetensors"
                            save_file({key: value.to(saved) for key, value in load_file(path).items()}, path, {"format": "pt"})
                        self.save(adapter, step=step)
                        self.check(self.merged("--base", base, step=step), base, adapter, dtype)

    def test_layers_of_gpt2_are_transposed(self):
        config = LoraConfig(r=4, task_type="CAUSAL_LM", target_modules=["c_attn", "c_fc", "c_proj"], fan_in_fan_out=True)
        base, adapter = self.adapter(tiny_gpt2(), config)
        self.save(adapter)
        self.check(self.merged("--base", base), base, adapter, torch.float32)

    def test_the_base_is_found(self):
        config = LoraConfig(r=4, task_type="CAUSAL_LM", target_modules=LINEAR)
        base, adapter = self.adapter(tiny_llama(dtype=torch.bfloat16), config)
        self.assertEqual(json.loads((adapter / "adapter_config.json").read_text())["base_model_name_or_path"], str(base))
        self.save(adapter)
        self.save(base, run="base", step=3)
        named = contents(self.merged())
        self.assertEqual(sorted(named), ["config.json", "generation_config.json", "model.safetensors"])
        self.assertEqual(contents(self.merged("--base", base)), named)
        # An iteration, also in shards and of another kind of file.
        self.assertEqual(contents(self.merged("--base", "base@3")), named)
        shards = self.merged("--base", "base@3", "--max-shard-size", "40KB")
        self.check(shards, base, adapter, torch.bfloat16)
        self.assertGreater(len(list(shards.glob("*.safetensors"))), 3)
        pickle = self.folder / "pickle"
        pickle.mkdir()
        torch.save(load_file(base / "model.safetensors"), pickle / "pytorch_model.bin")
        (pickle / "config.json").write_text((base / "config.json").read_text())
        self.check(self.merged("--base", pickle), base, adapter, torch.bfloat16)
        self.save(pickle, run="base", step=4)
        self.check(self.merged("--base", "base@4"), base, adapter, torch.bfloat16)
        # Side by side.
        (adapter / "model.safetensors").write_bytes((base / "model.safetensors").read_bytes())
        (adapter / "config.json").write_text((base / "config.json").read_text())
        self.save(adapter, step=2)
        self.check(self.merged(step=2), base, self.folder / "adapter", torch.bfloat16)
        alone = self.export("--adapter-only", reference="main@2")
        self.assertEqual(
            {name: data for name, data in contents(alone).items() if name != "README.md"},
            {name: (adapter / name).read_bytes() for name in ("adapter_config.json", "adapter_model.safetensors")})

    def test_large_weights_are_merged_stretch_by_stretch(self):
        # Several segments of the writer, the rows of which end anywhere.
        model = tiny_llama(num_hidden_layers=1, hidden_size=1032, intermediate_size=2100)
        base, adapter = self.adapter(model, LoraConfig(r=5, task_type="CAUSAL_LM", target_modules=LINEAR))
        self.save(adapter)
        folder = self.merged("--jobs", 4)
        self.check(folder, base, adapter, torch.float32)

    def test_what_can_not_be_merged_is_wrong_usage(self):
        config = LoraConfig(r=4, task_type="CAUSAL_LM", target_modules=["q_proj"])
        base, adapter = self.adapter(tiny_llama(num_hidden_layers=2), config)
        (self.folder / "other").mkdir()
        tiny_llama(num_hidden_layers=1).save_pretrained(self.folder / "other/short")
        tiny_llama(num_hidden_layers=2, hidden_size=64).save_pretrained(self.folder / "other/wide")
        path = adapter / "adapter_config.json"
        good = json.loads(path.read_text())
        cases = [
            (dict(good, use_dora=True), ["--base", base], "DoRA"), (dict(good, peft_type="IA3"), ["--base", base], "no LoRA"),
            (dict(good, init_lora_weights="pissa"), ["--base", base], "pissa"),
            (dict(good, trainable_token_indices=[1]), ["--base", base], "trained tokens"),
            (dict(good, base_model_name_or_path="Qwen/Qwen3-8B"), [], "Qwen/Qwen3-8B"),
            (good, ["--base", self.folder / "other/short"], "model.layers.1.self_attn.q_proj.weight"),
            (good, ["--base", self.folder / "other/wide"], "q_proj.weight has the shape [64, 64]"),
            (good, ["--base", self.folder / "other"], "holds no model"), (good, ["--base", base, "--all"], "--all"),
            (good, ["--base", base, "--adapter-only"], "--adapter-only")]
        for step, (settings, options, part) in enumerate(cases):
            with self.subTest(part):
                path.write_text(json.dumps(settings))
                self.save(adapter, step=step)
                place = self.folder / "e"
                error = self.cairn("export", f"main@{step}", place, "--layout", "hf", "--merge-adapter", *options, status=2)["error"]
                self.assertIn(part, error["message"])
                self.assertFalse(place.exists())
        self.save(base, run="base", step=1)
        for option in ("--merge-adapter", "--adapter-only"):
            error = self.cairn("export", "base@1", self.folder / "e", "--layout", "hf", option, status=2)["error"]
            self.assertIn("no adapter", error["message"])


if __name__ == "__main__":
    unittest.main()
