#!/usr/bin/env python3
"""`cairn export --layout hf` is what the Hugging Face libraries read and write.

The exported model loads in safetensors, transformers and peft with the tensors of the original; shards and their index are byte for
byte those of `save_pretrained(max_shard_size=...)`; `--only` and `--all` take what they say; no dtype loses a bit. Models in PyTorch's
files are exported as `save_pretrained` would write them, and the maps of Docs/rename make Hugging Face's tensors of other libraries'.
"""
import functools
import json
import re
import shutil
import struct
import tempfile
import unittest
from pathlib import Path

import safetensors
import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from workbench import Workbench, contents, tiny_llama

# Below every tensor, above some, above all but the whole; 6,144 and 12,288 are filled to the last byte.
SIZES = [1, 1_000, 6_144, 12_288, 15_000, 20_000, 60_000, 1_000_000]
TRAINING = ["optimizer.pt", "rng_state.pth", "scheduler.pt", "trainer_state.json", "training_args.bin"]
VARIANTS = [(tied, dtype) for tied in (False, True) for dtype in (torch.float32, torch.bfloat16, torch.float16)]


def tensors(folder):
    """All tensors of a folder's safetensors files, as the reference library loads them."""
    merged = {}
    for path in sorted(folder.glob("*.safetensors")):
        for name, tensor in load_file(path).items():
            assert name not in merged, f"{name} is in two shards"
            merged[name] = tensor
    return merged


class LoadingTests(Workbench):
    def test_a_model_loads_as_it_was(self):
        for number, (tied, dtype) in enumerate(VARIANTS):
            with self.subTest(tied=tied, dtype=dtype):
                model = tiny_llama(tied, dtype)
                source = self.folder / f"model-{number}"
                model.save_pretrained(source)
                self.save(source, step=number)
                for options in ([], ["--max-shard-size", "30KB"]):
                    folder = self.export(*options, reference=f"main@{number}")
                    self.assert_same_tensors(tensors(folder), load_file(source / "model.safetensors"))
                    loaded = AutoModelForCausalLM.from_pretrained(folder, dtype="auto")
                    self.assert_same_tensors(loaded.state_dict(), model.state_dict())

    def test_a_checkpoint_of_the_trainer_loads_as_it_was(self):
        checkpoint = self.sample("hf-trainer/basic/checkpoint-2")
        self.save(checkpoint)
        expected = AutoModelForCausalLM.from_pretrained(checkpoint).state_dict()
        for options in ([], ["--max-shard-size", "100KB"], ["--all"]):
            loaded = AutoModelForCausalLM.from_pretrained(self.export(*options))
            self.assert_same_tensors(loaded.state_dict(), expected)

    def test_an_adapter_loads_as_it_was(self):
        model = get_peft_model(tiny_llama(), LoraConfig(r=4, init_lora_weights=False, task_type="CAUSAL_LM"))
        model.save_pretrained(self.folder / "adapter")
        self.save(self.folder / "adapter")
        for options in ([], ["--max-shard-size", "1KB"]):
            loaded = PeftModel.from_pretrained(tiny_llama(), self.export(*options))
            self.assert_same_tensors(loaded.state_dict(), model.state_dict())


class ShardingTests(Workbench):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.shared = Path(tempfile.mkdtemp(prefix="cairn-shards."))
        cls.addClassCleanup(shutil.rmtree, cls.shared)

    @classmethod
    @functools.cache
    def pretrained(cls, tied, dtype, size):
        """A model as save_pretrained writes it: once for all tests, as a file for each tensor takes a while."""
        folder = cls.shared / f"{tied}-{str(dtype)[6:]}-{size}"
        cls.model(tied, dtype).save_pretrained(folder, max_shard_size=size)
        return folder

    @staticmethod
    @functools.cache
    def model(tied, dtype):
        return tiny_llama(tied, dtype)

    def save_pretrained(self, model, name, size):
        folder = self.folder / name
        model.save_pretrained(folder, max_shard_size=size)
        return folder

    def test_shards_are_those_of_save_pretrained(self):
        # One tensor a file keeps the order of the state dictionary, by which save_pretrained cuts.
        for number, (tied, dtype) in enumerate(VARIANTS):
            self.save(self.pretrained(tied, dtype, 1), step=number)
            for size in SIZES:
                with self.subTest(tied=tied, dtype=dtype, size=size):
                    folder = self.export("--max-shard-size", size, reference=f"main@{number}")
                    self.assert_same_files(folder, self.pretrained(tied, dtype, size))

    def test_shards_of_the_wanted_size_stay_as_they_are(self):
        for number, (tied, dtype) in enumerate(VARIANTS):
            for size in SIZES:
                with self.subTest(tied=tied, dtype=dtype, size=size):
                    source = self.pretrained(tied, dtype, size)
                    step = number * 10_000_000 + size
                    self.save(source, step=step)
                    folder = self.export("--max-shard-size", size, reference=f"main@{step}")
                    self.assert_same_files(folder, source)

    def test_an_index_leaves_buffers_out_of_its_count(self):
        # As in DeepSeek-V3, whose router has one: it is in the files, and no parameter.
        model = tiny_llama()
        model.model.register_buffer("bias", torch.arange(5.0))
        source = self.save_pretrained(model, "source", 20_000)
        self.save(source)
        self.assert_same_files(self.export("--max-shard-size", "20KB"), source)

    def test_other_files_are_cut_to_the_wanted_size(self):
        # They don't tell the order of the state dictionary, so the cuts may lie elsewhere than save_pretrained's.
        model = tiny_llama()
        for step, source_size in enumerate(["5GB", "30KB"]):
            source = self.save_pretrained(model, f"source-{step}", source_size)
            self.save(source, step=step)
            for size in SIZES[1:-1]:
                with self.subTest(source=source_size, size=size):
                    self.check_cut(self.export("--max-shard-size", size, reference=f"main@{step}"), size, tensors(source))

    def check_cut(self, folder, size, original):
        shards = {path.name: load_file(path) for path in folder.glob("*.safetensors")}
        for shard in shards.values():
            self.assertTrue(len(shard) == 1 or sum(tensor.nbytes for tensor in shard.values()) <= size)
        self.assert_same_tensors(tensors(folder), original)
        index = json.loads((folder / "model.safetensors.index.json").read_text())
        self.assertEqual(index["weight_map"], {name: file for file, shard in shards.items() for name in shard})
        self.assertEqual(index["metadata"]["total_size"], sum(tensor.nbytes for tensor in original.values()))


class SelectionTests(Workbench):
    def test_only_takes_the_tensors_that_match(self):
        source = self.folder / "model"
        tiny_llama().save_pretrained(source)
        self.save(source)
        original = load_file(source / "model.safetensors")
        for pattern in (r"\.self_attn\.", r"^model\.layers\.1\.", r"layers\.(2|10)\.mlp\..*_proj", "lm_head.weight"):
            with self.subTest(pattern=pattern):
                chosen = {name: tensor for name, tensor in original.items() if re.search(pattern, name)}
                self.assertTrue(0 < len(chosen) < len(original))
                for options in ([], ["--max-shard-size", "10KB"]):
                    self.assert_same_tensors(tensors(self.export("--only", pattern, *options)), chosen)

    def test_only_that_matches_nothing_is_wrong_usage(self):
        tiny_llama().save_pretrained(self.folder / "model")
        self.save(self.folder / "model")
        for pattern in ("no_such_tensor", "("):
            place = self.folder / "export"
            error = self.cairn("export", "main@1", place, "--layout", "hf", "--only", pattern, status=2)["error"]
            self.assertIn(pattern, error["message"])
            self.assertFalse(place.exists())

    def test_all_takes_the_state_of_training_along(self):
        checkpoint = self.sample("hf-trainer/basic/checkpoint-2")
        self.save(checkpoint)
        original = contents(checkpoint)
        self.assertEqual(sorted(original), sorted(["config.json", "generation_config.json", "model.safetensors", *TRAINING]))
        self.assertEqual(contents(self.export("--all")), original)
        model = {name: data for name, data in original.items() if name not in TRAINING}
        self.assertEqual(contents(self.export()), model)
        shards = contents(self.export("--all", "--max-shard-size", "100KB"))
        self.assertEqual({name: shards.get(name) for name in TRAINING}, {name: original[name] for name in TRAINING})


class PickleTests(Workbench):
    """Models in files of torch.save."""

    def save_bin(self, model, size="5GB", step=1):
        """As transformers 4 saved it with safe_serialization=False: ties stay, under both names."""
        source = self.folder / f"bin-{step}"
        model.save_pretrained(source)
        (source / "model.safetensors").unlink()
        state = model.state_dict()
        names = list(state)
        if size == "5GB":
            torch.save(state, source / "pytorch_model.bin")
        else:
            half = len(names) // 2
            shards = {f"pytorch_model-0000{n + 1}-of-00002.bin": part for n, part in enumerate([names[:half], names[half:]])}
            for file, part in shards.items():
                torch.save({name: state[name] for name in part}, source / file)
            index = {"metadata": {}, "weight_map": {name: file for file, part in shards.items() for name in part}}
            (source / "pytorch_model.bin.index.json").write_text(json.dumps(index))
        self.save(source, step=step)
        return source

    def test_a_model_in_a_pickle_is_exported_as_save_pretrained_would(self):
        for number, (tied, dtype) in enumerate(VARIANTS):
            for sharded in ("5GB", "halves"):
                with self.subTest(tied=tied, dtype=dtype, sharded=sharded):
                    model, step = tiny_llama(tied, dtype), 2 * number + (sharded == "halves")
                    self.save_bin(model, sharded, step)
                    for size in (None, 20_000):
                        options = ["--max-shard-size", size] if size else []
                        folder = self.export(*options, reference=f"main@{step}")
                        expected = self.folder / f"expected-{step}-{size}"
                        model.save_pretrained(expected, max_shard_size=size or "5GB")
                        if tied and sharded == "halves":
                            # Tied across files, it is two tensors.
                            self.assertEqual(set(tensors(folder)) - set(tensors(expected)), {"lm_head.weight"})
                        else:
                            self.assert_same_files(folder, expected)
                        loaded = AutoModelForCausalLM.from_pretrained(folder, dtype="auto")
                        self.assert_same_tensors(loaded.state_dict(), model.state_dict())

    def test_what_is_tied_is_said(self):
        self.save_bin(tiny_llama(tied=True))
        done = self.cairn("export", "main@1", self.folder / "e", "--layout", "hf")
        self.assertEqual(done["warnings"], ["lm_head.weight is left out: it is tied to model.embed_tokens.weight"])

    def test_only_and_all_take_what_they_say(self):
        model = tiny_llama()
        source = self.save_bin(model)
        state = model.state_dict()
        chosen = {name: tensor for name, tensor in state.items() if re.search("self_attn", name)}
        self.assert_same_tensors(tensors(self.export("--only", "self_attn")), chosen)
        torch.save({"state": {}}, source / "optimizer.pt")
        self.save(source, step=2)
        self.assertNotIn("optimizer.pt", contents(self.export(reference="main@2")))
        exported = contents(self.export("--all", reference="main@2"))
        self.assertEqual(sorted(exported), ["config.json", "generation_config.json", "model.safetensors", "optimizer.pt"])
        self.assertEqual(exported["optimizer.pt"], (source / "optimizer.pt").read_bytes())

    def test_views_of_one_storage_are_tensors_of_their_own(self):
        base = torch.arange(24.0)
        state = {"a": base[:8].view(2, 4), "b": base[8:], "again": base[:8].view(2, 4), "other": base[:8], "empty": base[:0]}
        self.export_state(state, {"a": state["a"], "b": state["b"], "other": state["other"], "empty": state["empty"]})
        overlapping = {"all": base, "part": base[4:12]}
        self.export_state(overlapping, overlapping, step=2)

    def export_state(self, state, expected, step=1):
        source = self.folder / f"state-{step}"
        source.mkdir()
        torch.save(state, source / "pytorch_model.bin")
        self.save(source, step=step)
        self.assert_same_tensors(load_file(self.export(reference=f"main@{step}") / "model.safetensors"), expected)

    def test_what_safetensors_cannot_hold_is_named(self):
        fine = torch.ones(2, 2)
        for step, (name, tensor) in enumerate({
            "complex": torch.ones(3, dtype=torch.complex128), "quantised": torch.quantize_per_tensor(fine, 0.1, 0, torch.qint8),
        }.items()):
            with self.subTest(name):
                source = self.folder / name
                source.mkdir()
                torch.save({"fine": fine, f"the.{name}": tensor}, source / "pytorch_model.bin")
                self.save(source, step=step)
                place = self.folder / "e"
                error = self.cairn("export", f"main@{step}", place, "--layout", "hf", status=2)["error"]
                self.assertIn(f"the.{name}", error["message"])
                self.assertFalse(place.exists())
                self.assert_same_tensors(tensors(self.export("--only", "fine", reference=f"main@{step}")), {"fine": fine})

    def test_views_are_written_element_by_element(self):
        fine = torch.ones(2, 3)
        state = {"fine": fine, "transposed": torch.arange(6.0).view(2, 3).t(), "column": torch.arange(6.0).view(2, 3)[:, 1:2]}
        source = self.folder / "views"
        source.mkdir()
        torch.save(state, source / "pytorch_model.bin")
        self.save(source)
        self.assert_same_tensors(tensors(self.export()), {name: tensor.contiguous() for name, tensor in state.items()})

    def test_what_is_not_stored_element_by_element_is_named(self):
        fine = torch.ones(2, 3)
        source = self.folder / "conjugated"
        source.mkdir()
        torch.save({"fine": fine, "the.conjugated": torch.ones(2, 3, dtype=torch.complex64).conj()}, source / "pytorch_model.bin")
        self.save(source)
        error = self.cairn("export", "main@1", self.folder / "e", "--layout", "hf", status=1)["error"]
        self.assertEqual(error["code"], "inconsistent")
        self.assertIn("the.conjugated", error["message"])
        self.assertIn("pytorch_model.bin", error["message"])
        self.assert_same_tensors(tensors(self.export("--only", "fine")), {"fine": fine})
        path = self.folder / "map.json"
        path.write_text(json.dumps({"rules": [{"match": "fine", "to": "kept"}, {"match": ".*", "drop": True}]}))
        self.assert_same_tensors(tensors(self.export("--rename", path)), {"kept": fine})

    def test_an_adapter_in_a_pickle_loads_as_it_was(self):
        model = get_peft_model(tiny_llama(), LoraConfig(r=4, init_lora_weights=False, task_type="CAUSAL_LM"))
        source = self.folder / "adapter"
        model.save_pretrained(source)
        torch.save(load_file(source / "adapter_model.safetensors"), source / "adapter_model.bin")
        (source / "adapter_model.safetensors").unlink()
        self.save(source)
        folder = self.export("--max-shard-size", "1KB")
        self.assertEqual(sorted(contents(folder)), ["README.md", "adapter_config.json", "adapter_model.safetensors"])
        loaded = PeftModel.from_pretrained(tiny_llama(), folder)
        self.assert_same_tensors(loaded.state_dict(), model.state_dict())


class RenamingTests(Workbench):
    """Models of other libraries, by the maps of Docs/rename. (rename_fixtures.py)"""

    ROOT = Path(__file__).resolve().parents[2]
    # transformer_engine's names, which the library has where it is installed.
    OF_ENGINE = [("input_layernorm.weight", "self_attention.linear_qkv.layer_norm_weight"),
                 ("pre_mlp_layernorm.weight", "mlp.linear_fc1.layer_norm_weight")]

    def fixture(self, name):
        """Its tensors, what is expected of them, and its configuration."""
        with safetensors.safe_open(self.ROOT / f"Tests/Fixtures/rename/{name}.safetensors", "pt") as file:
            all_tensors = {key: file.get_tensor(key) for key in file.keys()}
            metadata = file.metadata()
        architecture = getattr(transformers, metadata["architecture"])
        config = architecture.config_class(**json.loads(metadata["config"]), architectures=[metadata["architecture"]])
        expected = {key[9:]: value for key, value in all_tensors.items() if key.startswith("expected.")}
        return {key: value for key, value in all_tensors.items() if not key.startswith("expected.")}, expected, config

    def renamed(self, model, config, rename, step=1, beside=True):
        source = self.folder / f"source-{step}"
        source.mkdir()
        save_file(model, source / "model.safetensors")
        options = ["--rename", self.ROOT / f"Docs/rename/{rename}.json"]
        if beside:
            config.save_pretrained(source)
        else:
            config.save_pretrained(self.folder / f"config-{step}")
            options += ["--config", self.folder / f"config-{step}/config.json"]
        self.save(source, step=step)
        return self.export(*options, reference=f"main@{step}")

    def test_models_of_megatron_compute_the_same(self):
        for number, name in enumerate(["llama", "qwen3", "qwen3-moe"]):
            everything, expected, config = self.fixture("megatron-" + name)
            is_stacked = {key: key.startswith("decoder.layers.") and not key[15].isdigit() for key in everything}
            single = {key: value for key, value in everything.items() if not is_stacked[key]}
            engine = {}
            for key, value in single.items():
                for local, other in self.OF_ENGINE:
                    key = key.replace(local, other)
                # A grouped product of all experts has a weight each.
                engine["model." + re.sub(r"local_experts\.(\d+)\.(linear_fc.\.weight)", r"\2\1", key)] = value
            stacked = {key: value for key, value in everything.items() if is_stacked[key] or "layers" not in key}
            for form, model in enumerate([single, engine, stacked]):
                with self.subTest(name=name, form=form):
                    folder = self.renamed(model, config, "megatron-to-" + name, 10 * number + form, beside=form != 2)
                    loaded = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
                    with torch.no_grad():
                        logits = loaded(expected["ids"]).logits
                    self.assertTrue(torch.allclose(logits, expected["logits"], rtol=1e-4, atol=1e-4), (logits - expected["logits"]).abs().max())
                    self.assertEqual(set(tensors(folder)), set(loaded.state_dict()) if name != "qwen3-moe" else set(tensors(folder)))

    def test_models_of_mindspore_transformers_are_the_same(self):
        for step, name in enumerate(["llama", "llama-concat", "qwen3", "qwen3-moe"]):
            with self.subTest(name):
                model, expected, config = self.fixture("mindspore-" + name)
                folder = self.renamed(model, config, "mindspore-to-" + name.removesuffix("-concat"), step)
                self.assert_same_tensors(tensors(folder), expected)
                loaded, info = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True)
                self.assertEqual([list(info[key]) for key in ("missing_keys", "unexpected_keys", "mismatched_keys")], [[], [], []])
                with torch.no_grad():
                    self.assertTrue(loaded(torch.arange(12)[None]).logits.isfinite().all())

    def test_what_a_map_does_not_fit_is_named(self):
        model, _, config = self.fixture("mindspore-qwen3")
        self.renamed(model, config, "mindspore-to-qwen3")
        path = self.folder / "map.json"
        good = json.loads((self.ROOT / "Docs/rename/mindspore-to-qwen3.json").read_text())
        without = dict(good, rules=good["rules"][1:])
        twice = dict(good, rules=[dict(good["rules"][0], match="(embedding.word_embeddings|output_layer).weight"), *good["rules"]])
        uneven = json.loads(json.dumps(good).replace("heads / groups + 2", "heads / groups + 3"))
        third = json.loads(json.dumps(good).replace('["*", 2]', '["*", 5]'))
        unclosed = dict(good, rules=[dict(good["rules"][0], match="(")])
        for text, named in [
            (json.dumps(without), "embedding.word_embeddings.weight"), (json.dumps(twice), "output_layer.weight"),
            (json.dumps(uneven), "decoder.layers.0.self_attention.linear_qkv.weight"),
            (json.dumps(third), "decoder.layers.0.mlp.linear_fc1.weight"), (json.dumps(unclosed), "'(' is not a regular expression"),
            ("{", "not JSON"), ("[]", "parameters"), (json.dumps(dict(good, rulez=[])), "rulez"),
        ]:
            with self.subTest(named):
                path.write_text(text)
                place = self.folder / "e"
                error = self.cairn("export", "main@1", place, "--layout", "hf", "--rename", path, status=2)["error"]
                self.assertIn(named, error["message"])
                self.assertIn("map.json", error["message"])
                self.assertFalse(place.exists())


class DtypeTests(Workbench):
    # Bits of one element, by the names that the format gives the types.
    DTYPES = {
        "BOOL": 8, "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6, "U8": 8, "I8": 8, "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8,
        "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "I16": 16, "U16": 16, "F16": 16, "BF16": 16, "I32": 32, "U32": 32, "F32": 32,
        "C64": 64, "F64": 64, "I64": 64, "U64": 64}

    def test_no_dtype_loses_a_bit(self):
        source = self.folder / "model"
        source.mkdir()
        header, data = {}, b""
        for number, (dtype, bits) in enumerate(self.DTYPES.items()):
            # Every byte value, in another place each time; among floats all infinities and NaNs.
            values = bytes((number + position) % (2 if dtype == "BOOL" else 256) for position in range(768))
            header[f"t.{dtype}"] = {
                "dtype": dtype, "shape": [8, 96 * 8 // bits], "data_offsets": [len(data), len(data) + len(values)]}
            data += values
        header["empty"] = {"dtype": "F8_E4M3", "shape": [3, 0], "data_offsets": [len(data)] * 2}
        header["scalar"] = {"dtype": "F8_E8M0", "shape": [], "data_offsets": [len(data), len(data) + 1]}
        text = json.dumps(header).encode()
        file = struct.pack("<Q", len(text)) + text + data + b"\xff"
        (source / "model.safetensors").write_bytes(file)
        original = dict(safetensors.deserialize(file))
        self.assertEqual(len(original), len(self.DTYPES) + 2)
        self.save(source)
        for options in ([], ["--only", "."], ["--max-shard-size", "2KB"]):
            with self.subTest(options=options):
                exported = {}
                for path in self.export(*options).glob("*.safetensors"):
                    exported |= dict(safetensors.deserialize(path.read_bytes()))
                self.assertEqual(exported, original)


if __name__ == "__main__":
    unittest.main(warnings="ignore")
