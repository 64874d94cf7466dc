#!/usr/bin/env python3
"""`cairn export --layout hf` is what the Hugging Face libraries read and write.

The exported model loads in safetensors, transformers and peft with the tensors of the original; shards and their index are byte for
byte those of `save_pretrained(max_shard_size=...)`; `--only` and `--all` take what they say; no dtype loses a bit.
"""
import json
import re
import struct
import unittest

import safetensors
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
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
    def save_pretrained(self, model, name, size):
        folder = self.folder / name
        model.save_pretrained(folder, max_shard_size=size)
        return folder

    def test_shards_are_those_of_save_pretrained(self):
        # One tensor a file keeps the order of the state dictionary, by which save_pretrained cuts.
        for number, (tied, dtype) in enumerate(VARIANTS):
            model = tiny_llama(tied, dtype)
            self.save(self.save_pretrained(model, f"single-{number}", 1), step=number)
            for size in SIZES:
                with self.subTest(tied=tied, dtype=dtype, size=size):
                    expected = self.save_pretrained(model, f"expected-{number}-{size}", size)
                    folder = self.export("--max-shard-size", size, reference=f"main@{number}")
                    self.assert_same_files(folder, expected)

    def test_shards_of_the_wanted_size_stay_as_they_are(self):
        for number, (tied, dtype) in enumerate(VARIANTS):
            model = tiny_llama(tied, dtype)
            for size in SIZES:
                with self.subTest(tied=tied, dtype=dtype, size=size):
                    source = self.save_pretrained(model, f"source-{number}-{size}", size)
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

    def test_a_model_in_a_pickle_is_a_clear_error(self):
        source = self.folder / "model"
        model = tiny_llama()
        model.config.save_pretrained(source)
        torch.save(model.state_dict(), source / "pytorch_model.bin")
        self.save(source)
        error = self.cairn("export", "main@1", self.folder / "export", "--layout", "hf", status=2)["error"]
        self.assertIn("pytorch_model.bin", error["message"])
        self.assertIn("cairn restore", error["message"])
        self.assertFalse((self.folder / "export").exists())


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
