#!/usr/bin/env python3
"""Trains a real small model on the CPU and saves consecutive checkpoints: input for tests and benchmarks.

usage: series.py {dense|lora} --out FOLDER [--from CHECKPOINT] [--seed N] [--first N] [--saves N] [--every N] [--hidden N]
                 [--layers N] [--lr X] [--cache FOLDER]

dense   a Llama-like model, fp32 AdamW, as the Hugging Face Trainer saves it: checkpoint-N/ with model.safetensors,
        optimizer.pt, scheduler.pt, rng_state.pth, trainer_state.json, training_args.bin, config.json
lora    LoRA on a bf16 base, the whole model saved beside the adapter; needs --from FOLDER/checkpoint-N of a dense run

The text is what every machine with Python has: the sources of its standard library. One thread makes a run the same bit
for bit wherever Python, the packages and the processor are the same.
"""
import argparse
import hashlib
import json
import os
import random
import shutil
import sys
import sysconfig
from pathlib import Path

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ["WANDB_DISABLED"] = "true"
if __name__ == "__main__" and "PYTHONHASHSEED" not in os.environ:
    # peft writes a set of names in the order of their hashes.
    os.environ["PYTHONHASHSEED"] = "0"
    os.execv(sys.executable, [sys.executable, *sys.argv])
import numpy as np
import torch

VOCABULARY = 8192


def corpus_text(limit=20_000_000):
    root, parts, seen, total = sysconfig.get_paths()["stdlib"], [], set(), 0
    for folder, folders, files in sorted(os.walk(root)):
        folders[:] = sorted(name for name in folders if name not in ("site-packages", "__pycache__"))
        for name in sorted(files):
            if not name.endswith(".py"):
                continue
            try:
                text = Path(folder, name).read_text(encoding="utf-8")[:200_000]
            except (UnicodeDecodeError, OSError):
                continue
            digest = hashlib.sha256(text.encode()).digest()
            if len(text) < 200 or digest in seen:
                continue
            seen.add(digest)
            parts.append(text)
            total += len(text)
            if total > limit:
                return parts
    return parts


def tokens(cache):
    """The text as token numbers. They are kept in the cache folder; a test may put others there."""
    path = Path(cache, "tokens.u16")
    if not path.exists():
        from tokenizers import Tokenizer, models, pre_tokenizers, trainers

        path.parent.mkdir(parents=True, exist_ok=True)
        texts = corpus_text()
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        tokenizer.train_from_iterator(texts, trainers.BpeTrainer(
            vocab_size=VOCABULARY, special_tokens=["<|endoftext|>"], initial_alphabet=alphabet))
        ids = [np.array(encoding.ids + [0], dtype=np.uint16) for at in range(0, len(texts), 128)
               for encoding in tokenizer.encode_batch(texts[at:at + 128])]
        np.concatenate(ids).tofile(path)
    return np.memmap(path, dtype=np.uint16, mode="r")


class Windows(torch.utils.data.Dataset):
    """Pieces of the text at random places."""

    def __init__(self, ids, length, seed, count=200_000):
        self.ids, self.length = ids, length
        self.offsets = np.random.RandomState(seed).randint(0, len(ids) - length - 1, size=count)

    def __len__(self):
        return len(self.offsets)

    def __getitem__(self, index):
        offset = self.offsets[index]
        ids = torch.from_numpy(self.ids[offset:offset + self.length].astype(np.int64))
        return {"input_ids": ids, "labels": ids}


def train(options, model, callbacks=(), **changes):
    from transformers import Trainer, TrainerCallback, TrainingArguments

    saves = [options.first + number * options.every for number in range(options.saves)]

    class SaveAt(TrainerCallback):
        def on_step_end(self, args, state, control, **_):
            control.should_save = state.global_step in saves
            control.should_training_stop = state.global_step >= saves[-1]
            return control

    settings = dict(
        output_dir=options.out, per_device_train_batch_size=4, max_steps=max(900, saves[-1]), learning_rate=6e-4,
        weight_decay=0.1, adam_beta1=0.9, adam_beta2=0.95, warmup_steps=100, lr_scheduler_type="cosine",
        logging_steps=10, save_strategy="no", report_to=[], seed=options.seed, data_seed=options.seed, use_cpu=True,
        dataloader_num_workers=0, disable_tqdm=True, optim="adamw_torch")
    settings.update(changes)
    if options.lr:
        settings["learning_rate"] = options.lr
    data = Windows(tokens(options.cache), 128, options.seed)
    Trainer(model=model, args=TrainingArguments(**settings), train_dataset=data, callbacks=[SaveAt(), *callbacks]).train()


def dense(options):
    from transformers import LlamaConfig, LlamaForCausalLM

    train(options, LlamaForCausalLM(LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=options.hidden, intermediate_size=options.hidden * 11 // 4,
        num_hidden_layers=options.layers, num_attention_heads=8, num_key_value_heads=4, max_position_embeddings=512,
        tie_word_embeddings=False, use_cache=False, bos_token_id=0, eos_token_id=0)))


def lora(options):
    from peft import LoraConfig, get_peft_model
    from safetensors.torch import save_file
    from transformers import LlamaForCausalLM, TrainerCallback

    model = get_peft_model(LlamaForCausalLM.from_pretrained(options.source).to(torch.bfloat16), LoraConfig(
        r=16, lora_alpha=32, task_type="CAUSAL_LM",
        target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]))

    class WholeModel(TrainerCallback):
        def on_save(self, args, state, control, model=None, **_):
            save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()},
                      f"{args.output_dir}/checkpoint-{state.global_step}/model.safetensors", metadata={"format": "pt"})

    train(options, model, [WholeModel()], learning_rate=2e-4, weight_decay=0.0, adam_beta2=0.999, warmup_steps=20)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("series", choices=["dense", "lora"])
    parser.add_argument("--out", required=True)
    parser.add_argument("--cache", default=os.path.expanduser("~/.cache/cairn/series"))
    parser.add_argument("--from", dest="source")
    parser.add_argument("--lr", type=float)
    for name, value in (("seed", 1234), ("first", 100), ("saves", 4), ("every", 1), ("hidden", 512), ("layers", 8)):
        parser.add_argument(f"--{name}", type=int, default=value)
    options = parser.parse_args()
    if options.series == "lora" and not options.source:
        parser.error("lora needs --from FOLDER/checkpoint-N of a dense run")

    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    shutil.rmtree(options.out, ignore_errors=True)
    random.seed(options.seed)
    np.random.seed(options.seed)
    torch.manual_seed(options.seed)
    {"dense": dense, "lora": lora}[options.series](options)
    Path(options.out, "series.json").write_text(json.dumps(vars(options), indent=2))


if __name__ == "__main__":
    main()
