#!/usr/bin/env python3
"""Trains a real small model on the CPU and saves consecutive checkpoints: input for tests and benchmarks.

usage: series.py SERIES --out FOLDER [--from CHECKPOINT] [--seed N] [--first N] [--saves N] [--every N] [--hidden N] [--layers N]
                 [--lr X] [--cache FOLDER]

dense   a Llama-like model, fp32 AdamW, as the Hugging Face Trainer saves it: checkpoint-N/ with model.safetensors,
        optimizer.pt, scheduler.pt, rng_state.pth, trainer_state.json, training_args.bin, config.json
mixed   the same model with bf16 weights, and fp32 master weights, m and v
pure    the same model in bf16 with m and v in bf16, at a low learning rate
frozen  only the last two layers, the norm after them and the head are trained
lora    LoRA on a bf16 base, the whole model saved beside the adapter; without --from, on a base that was never trained
moe     a mixture of 32 experts a layer, a module each: one without tokens gets no gradient, and AdamW leaves it alone
sparse  skip-grams over hashed embeddings with SparseAdam: a step changes about 1 % of the rows
zero    what four ranks under ZeRO-1 write: global_stepN/ with the bf16 weights, the random numbers and a shard of the fp32
        master weights, m and v of each

mixed, pure, frozen and lora go on from a dense run: --from FOLDER/checkpoint-N.

The text is what every machine with Python has: the sources of its standard library. One thread makes a run the same bit
for bit wherever Python, the packages and the processor are the same.
"""
import argparse
import hashlib
import json
import os
import random
import re
import shutil
import sys
import sysconfig
import zlib
from collections import Counter
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
RANKS = 4


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
        # Two runs may come by at once: each moves a whole file into place.
        part = path.with_name(f"tokens.{os.getpid()}")
        np.concatenate(ids).tofile(part)
        part.replace(path)
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


def steps_to_save(options):
    return [options.first + number * options.every for number in range(options.saves)]


def train(options, model, callbacks=(), **changes):
    """Trains with the Hugging Face Trainer, which also saves."""
    from transformers import Trainer, TrainerCallback, TrainingArguments

    saves = steps_to_save(options)

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


def save_folder(folder, model, optimizer, step, log, config=None):
    """Saves what a training loop of one's own does, under the Trainer's names."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True)
    save_file(model, folder / "model.safetensors", metadata={"format": "pt"})
    torch.save(optimizer, folder / "optimizer.pt")
    torch.save({"last_epoch": step, "_step_count": step + 1}, folder / "scheduler.pt")
    torch.save({"python": random.getstate(), "numpy": np.random.get_state(), "cpu": torch.random.get_rng_state()},
               folder / "rng_state.pth")
    state = {"global_step": step, "max_steps": -1, "log_history": log}
    (folder / "trainer_state.json").write_text(json.dumps(state, indent=2))
    if config is not None:
        config.save_pretrained(folder)


def llama(options, **changes):
    from transformers import LlamaConfig, LlamaForCausalLM

    settings = dict(
        vocab_size=VOCABULARY, hidden_size=options.hidden, intermediate_size=options.hidden * 11 // 4,
        num_hidden_layers=options.layers, num_attention_heads=8, num_key_value_heads=4, max_position_embeddings=512,
        tie_word_embeddings=False, use_cache=False, bos_token_id=0, eos_token_id=0)
    return LlamaForCausalLM(LlamaConfig(**settings | changes))


def trained(options):
    """The model of the checkpoint that the run goes on from."""
    from transformers import LlamaForCausalLM

    return LlamaForCausalLM.from_pretrained(options.source)


def batches(data, size):
    """The pieces of text in their order, so many at a time."""
    for at in range(0, len(data), size):
        yield torch.stack([data[index]["input_ids"] for index in range(at, at + size)])


def dense(options):
    train(options, llama(options))


def mixed(options):
    model = trained(options)
    model.train()
    named = list(model.named_parameters())
    # Matrices first, as the Trainer groups them: they decay.
    order = sorted(named, key=lambda pair: pair[1].dim() <= 1)
    matrices = sum(weight.dim() > 1 for _, weight in order)
    masters = [torch.nn.Parameter(weight.detach().clone().float()) for _, weight in order]
    for _, weight in order:
        weight.data = weight.data.to(torch.bfloat16)
    groups = [{"params": masters[:matrices], "weight_decay": 0.1}, {"params": masters[matrices:], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=options.lr or 2e-4, betas=(0.9, 0.95), fused=True)
    feed = batches(Windows(tokens(options.cache), 128, options.seed + 7), 4)
    log, saves = [], steps_to_save(options)
    for step in range(1, saves[-1] + 1):
        for master in masters:
            master.grad = torch.zeros_like(master)
        # Gradients of two batches are added up in fp32.
        for _, batch in zip(range(2), feed):
            loss = model(input_ids=batch, labels=batch).loss
            loss.backward()
            for master, (_, weight) in zip(masters, order):
                master.grad.add_(weight.grad.float(), alpha=0.5)
                weight.grad = None
        torch.nn.utils.clip_grad_norm_(masters, 1.0)
        optimizer.step()
        with torch.no_grad():
            for master, (_, weight) in zip(masters, order):
                weight.copy_(master)
        log.append({"step": step, "loss": loss.item()})
        if step in saves:
            state = optimizer.state_dict()
            state["fp32_master"] = {name: master.detach() for (name, _), master in zip(order, masters)}
            weights = {name: weight.detach() for name, weight in named}
            save_folder(Path(options.out, f"checkpoint-{step}"), weights, state, step, log, model.config)


def pure(options):
    last = steps_to_save(options)[-1]
    # Late in a training: the rate has fallen to a quarter at the last save.
    train(options, trained(options).to(torch.bfloat16), learning_rate=4e-6, warmup_steps=0, max_steps=last * 3 // 2)


def frozen(options):
    model = trained(options)
    for weight in model.parameters():
        weight.requires_grad = False
    for part in [*model.model.layers[-2:], model.model.norm, model.lm_head]:
        for weight in part.parameters():
            weight.requires_grad = True
    train(options, model, learning_rate=2e-4, warmup_steps=20)


def lora(options):
    from peft import LoraConfig, get_peft_model
    from safetensors.torch import save_file
    from transformers import TrainerCallback

    base = trained(options) if options.source else llama(options)
    model = get_peft_model(base.to(torch.bfloat16), LoraConfig(
        r=16, lora_alpha=32, task_type="CAUSAL_LM",
        target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]))

    class WholeModel(TrainerCallback):
        def on_save(self, args, state, control, model=None, **_):
            save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()},
                      f"{args.output_dir}/checkpoint-{state.global_step}/model.safetensors", metadata={"format": "pt"})

    train(options, model, [WholeModel()], learning_rate=2e-4, weight_decay=0.0, adam_beta2=0.999, warmup_steps=20)


class Experts(torch.nn.Module):
    """Takes the place of a layer's MLP: a gate sends each token to one of many small ones."""

    def __init__(self, config, count=32):
        from transformers.models.llama.modeling_llama import LlamaMLP

        super().__init__()
        self.gate = torch.nn.Linear(config.hidden_size, count, bias=False)
        self.experts = torch.nn.ModuleList(LlamaMLP(config) for _ in range(count))

    def forward(self, hidden):
        flat = hidden.flatten(0, -2)
        shares = self.gate(flat).softmax(-1)
        weights, chosen = shares.max(-1)
        out = torch.zeros_like(flat)
        for expert in chosen.unique().tolist():
            [rows] = torch.where(chosen == expert)
            out = out.index_copy(0, rows, self.experts[expert](flat[rows]) * weights[rows, None])
        # Without this loss, which is least where all have as much to do, a few experts would get every token.
        load = torch.bincount(chosen, minlength=len(self.experts)) / len(chosen)
        self.imbalance = len(self.experts) * (load * shares.mean(0)).sum()
        return out.view_as(hidden)


def moe(options):
    model = llama(options, intermediate_size=options.hidden * 3 // 8)
    for layer in model.model.layers:
        layer.mlp = Experts(model.config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=options.lr or 6e-4, betas=(0.9, 0.95), weight_decay=0.1)
    feed = batches(Windows(tokens(options.cache), 64, options.seed), 1)
    log, saves = [], steps_to_save(options)
    for step, batch in zip(range(1, saves[-1] + 1), feed):
        loss = model(input_ids=batch, labels=batch).loss
        optimizer.zero_grad()
        (loss + 0.01 * sum(layer.mlp.imbalance for layer in model.model.layers)).backward()
        optimizer.step()
        log.append({"step": step, "loss": loss.item()})
        if step in saves:
            folder = Path(options.out, f"checkpoint-{step}")
            save_folder(folder, model.state_dict(), optimizer.state_dict(), step, log, model.config)


def grams(word, buckets):
    """The buckets of a word's pieces of three to five letters."""
    marked = f"<{word}>"
    pieces = [marked[at:at + length] for length in (3, 4, 5) for at in range(len(marked) - length + 1)]
    return np.array([zlib.crc32(piece.encode()) % buckets for piece in pieces[:24]], dtype=np.int64)


def sparse(options):
    buckets, vocabulary, width = 200_000, 50_000, options.hidden // 8
    words = re.findall(r"[A-Za-z_]{2,}", "\n".join(corpus_text(12_000_000)))
    index = {word: number for number, (word, _) in enumerate(Counter(words).most_common(vocabulary))}
    ids = np.array([index[word] for word in words if word in index], dtype=np.int32)
    bags = [grams(word, buckets) for word in index]
    inner = torch.nn.EmbeddingBag(buckets, width, mode="mean", sparse=True)
    outer = torch.nn.Embedding(vocabulary, width, sparse=True)
    torch.nn.init.uniform_(inner.weight, -0.5 / width, 0.5 / width)
    torch.nn.init.zeros_(outer.weight)
    optimizer = torch.optim.SparseAdam([inner.weight, outer.weight], lr=options.lr or 2e-3)
    draw, log, saves = np.random.RandomState(options.seed), [], steps_to_save(options)
    for step in range(1, saves[-1] + 1):
        centre = draw.randint(5, len(ids) - 5, size=256)
        near = ids[centre + draw.randint(1, 5, size=256) * draw.choice([-1, 1], size=256)].astype(np.int64)
        chosen = [bags[word] for word in ids[centre]]
        offsets = np.cumsum([0] + [len(bag) for bag in chosen[:-1]])
        meaning = inner(torch.from_numpy(np.concatenate(chosen)), torch.from_numpy(offsets))
        positive = (meaning * outer(torch.from_numpy(near))).sum(-1)
        far = torch.from_numpy(draw.randint(0, len(index), size=(256, 5)))
        negative = (outer(far) @ meaning[:, :, None])[..., 0]
        score = torch.nn.functional.logsigmoid
        loss = -(score(positive) + score(-negative).sum(-1)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step in saves:
            log.append({"step": step, "loss": loss.item()})
            weights = {"emb_in.weight": inner.weight.detach(), "emb_out.weight": outer.weight.detach()}
            save_folder(Path(options.out, f"checkpoint-{step}"), weights, optimizer.state_dict(), step, log)


def save_rank(folder, rank, model, shard, optimizer, random_state, step):
    """Writes the two files of one rank, with the names and keys of DeepSpeed."""
    name = f"zero_pp_rank_{rank}_mp_rank_00"
    torch.save({"module": model.state_dict(), "global_steps": step, "dp_world_size": RANKS, "mp_world_size": 1,
                "random_rng_state": random_state}, folder / f"{name}_model_states.pt")
    torch.save({"optimizer_state_dict": {
        "base_optimizer_state": optimizer.state_dict(), "single_partition_of_fp32_groups": [shard.detach()],
        "zero_stage": 1, "partition_count": [RANKS]}}, folder / f"bf16_{name}_optim_states.pt")


def zero(options):
    """One process takes the turns of the four ranks."""
    from torch.nn.utils import parameters_to_vector, vector_to_parameters

    # Dropout makes each rank's random numbers move.
    model = llama(options, attention_dropout=0.1)
    model.train()
    weights = list(model.parameters())
    flat = parameters_to_vector(weights).detach()
    size = len(flat)
    flat = torch.nn.functional.pad(flat, (0, -size % (2 * RANKS)))
    shards = [torch.nn.Parameter(part.clone()) for part in flat.chunk(RANKS)]
    optimizers = [torch.optim.AdamW([shard], lr=options.lr or 6e-4, betas=(0.9, 0.95), weight_decay=0.1) for shard in shards]
    states = [torch.Generator().manual_seed(options.seed + rank).get_state() for rank in range(RANKS)]
    feed = batches(Windows(tokens(options.cache), 128, options.seed), 4)
    saves = steps_to_save(options)
    for step in range(1, saves[-1] + 1):
        # As under DeepSpeed, the weights are views of one flat tensor.
        vector_to_parameters(torch.cat(shards).detach()[:size].to(torch.bfloat16), weights)
        gradient = torch.zeros_like(flat)
        for rank, batch in zip(range(RANKS), feed):
            torch.set_rng_state(states[rank])
            model(input_ids=batch, labels=batch).loss.backward()
            states[rank] = torch.get_rng_state()
            gradient[:size] += parameters_to_vector([weight.grad for weight in weights]).float() / RANKS
            model.zero_grad()
        for shard, optimizer, part in zip(shards, optimizers, gradient.chunk(RANKS)):
            shard.grad = part.clone()
            optimizer.step()
        if step in saves:
            vector_to_parameters(torch.cat(shards).detach()[:size].to(torch.bfloat16), weights)
            folder = Path(options.out, f"global_step{step}")
            folder.mkdir(parents=True)
            for rank in range(RANKS):
                save_rank(folder, rank, model, shards[rank], optimizers[rank], states[rank], step)
            Path(options.out, "latest").write_text(folder.name)


SERIES = {
    "dense": dense, "mixed": mixed, "pure": pure, "frozen": frozen, "lora": lora, "moe": moe, "sparse": sparse,
    "zero": zero,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("series", choices=SERIES)
    parser.add_argument("--out", required=True)
    parser.add_argument("--cache", default=os.path.expanduser("~/.cache/cairn/series"))
    parser.add_argument("--from", dest="source")
    parser.add_argument("--lr", type=float)
    for name, value in (("seed", 1234), ("first", 100), ("saves", 4), ("every", 1), ("hidden", 512), ("layers", 8)):
        parser.add_argument(f"--{name}", type=int, default=value)
    options = parser.parse_args()
    if options.series in ("mixed", "pure", "frozen") and not options.source:
        parser.error(f"{options.series} needs --from FOLDER/checkpoint-N of a dense run")

    torch.set_num_threads(1)
    # There is no deterministic version of what SparseAdam needs, but one thread leaves nothing to chance.
    torch.use_deterministic_algorithms(options.series != "sparse")
    shutil.rmtree(options.out, ignore_errors=True)
    random.seed(options.seed)
    np.random.seed(options.seed)
    torch.manual_seed(options.seed)
    SERIES[options.series](options)
    Path(options.out, "series.json").write_text(json.dumps(vars(options), indent=2))


if __name__ == "__main__":
    main()
