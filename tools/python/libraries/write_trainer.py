#!/usr/bin/env python3
"""What the Hugging Face Trainer writes: a full model with its best kept and a save cut short, weights alone in shards, a LoRA adapter,
two processes, and two with the weights sharded between them.

usage: write_trainer.py OUTPUT
"""
import functools
import os
import sys
from pathlib import Path

os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
import torch
import transformers
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import DistributedType
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainerState, TrainingArguments
from transformers.trainer_callback import PrinterCallback

from expected import expect, iteration
from loading import distributed, tensors
from ranks import as_ranks

transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()
STATE = ["trainer_state.json", "optimizer.pt", "scheduler.pt"]


class Killed(BaseException):
    pass


class KilledTrainer(Trainer):
    """One that is killed in its save of step 8, once the weights are written."""

    def _save_optimizer_and_scheduler(self, folder):
        if self.state.global_step == 8:
            raise Killed
        super()._save_optimizer_and_scheduler(folder)


class ShardingTrainer(Trainer):
    """One that shards on a CPU as well. accelerate offers it on accelerators alone, though torch needs none."""

    def create_accelerator_and_postprocess(self):
        PartialState()._shared_state["distributed_type"] = DistributedType.MULTI_GPU
        super().create_accelerator_and_postprocess()


class Tokens(torch.utils.data.Dataset):
    def __init__(self):
        self.ids = torch.randint(0, 32, (32, 8), generator=torch.Generator().manual_seed(7))

    def __len__(self):
        return len(self.ids)

    def __getitem__(self, index):
        return {"input_ids": self.ids[index], "labels": self.ids[index]}


def llama(tied=False):
    torch.manual_seed(1)
    return LlamaForCausalLM(LlamaConfig(
        vocab_size=32, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
        max_position_embeddings=32, tie_word_embeddings=tied, bos_token_id=0, eos_token_id=0))


def train(out, model, kind=Trainer, **options):
    arguments = TrainingArguments(
        output_dir=out, max_steps=8, save_steps=2, logging_steps=1, per_device_train_batch_size=2, learning_rate=1e-2, warmup_steps=2,
        report_to=[], use_cpu=True, disable_tqdm=True, seed=3, **options)
    trainer = kind(model=model, args=arguments, train_dataset=Tokens(), eval_dataset=Tokens())
    trainer.remove_callback(PrinterCallback)
    try:
        trainer.train()
    except Killed:
        pass


def untied(model):
    """The state of a model with each tensor once, under the first of its names."""
    first = {}
    for name, tensor in model.state_dict().items():
        first.setdefault(tensor.data_ptr(), name)
    return {name: tensor for name, tensor in model.state_dict().items() if first[tensor.data_ptr()] == name}


def full(folder):
    return {"model": untied(LlamaForCausalLM.from_pretrained(folder))}


def adapter(folder):
    return {"model": get_peft_model_state_dict(PeftModel.from_pretrained(llama(), folder))}


def sharded(folder):
    return {
        "model": distributed(folder / "pytorch_model_fsdp_0")["model"],
        "optimizer": tensors(distributed(folder / "optimizer_0"))}


def checkpoint(folder, load, **facts):
    step = int(folder.name.split("-")[1])
    if not (folder / "trainer_state.json").exists():
        return iteration(folder.name, step, {}, complete=False)
    state = TrainerState.load_from_json(folder / "trainer_state.json")
    assert state.global_step == step
    return iteration(folder.name, step, epoch=state.epoch, **load(folder), **facts)


def found(output, name, load, **facts):
    folders = sorted((output / name).glob("checkpoint-*"), key=lambda folder: int(folder.name.split("-")[1]))
    expect(output, name, "hf", [checkpoint(folder, load, **facts) for folder in folders])


def main(output):
    as_ranks(2, ranks, output)

    train(output / "full", llama(), KilledTrainer, save_total_limit=2, eval_strategy="steps", eval_steps=2, load_best_model_at_end=True,
          metric_for_best_model="eval_loss", greater_is_better=True)
    found(output, "full", full, world_size=1, required=["model.safetensors", "rng_state.pth", *STATE])

    model = llama(tied=True)
    model.save_pretrained = functools.partial(model.save_pretrained, max_shard_size="10KB")
    train(output / "weights", model, save_only_model=True, save_total_limit=2)
    files = sorted(file.name for file in (output / "weights/checkpoint-8").glob("model*"))
    assert len(files) > 2
    found(output, "weights", full, required=[*files, "trainer_state.json"])

    model = get_peft_model(llama(), LoraConfig(r=2, init_lora_weights=False, task_type="CAUSAL_LM"))
    train(output / "lora", model, save_total_limit=3)
    files = ["adapter_model.safetensors", "adapter_config.json", "rng_state.pth"]
    found(output, "lora", adapter, world_size=1, required=[*files, *STATE])


def ranks(output):
    train(output / "ddp", llama(), save_total_limit=2, ddp_find_unused_parameters=False)
    AcceleratorState._reset_state(reset_partial_state=True)
    config = {"state_dict_type": "SHARDED_STATE_DICT", "transformer_layer_cls_to_wrap": "LlamaDecoderLayer"}
    train(output / "fsdp", llama(), ShardingTrainer, save_total_limit=2, fsdp=True, fsdp_config=config)
    if os.environ["RANK"] == "0":
        files = ["rng_state_0.pth", "rng_state_1.pth"]
        found(output, "ddp", full, world_size=2, required=["model.safetensors", *files, *STATE])
        shards = [f"{folder}/{file}" for folder in ("pytorch_model_fsdp_0", "optimizer_0")
                  for file in (".metadata", "__0_0.distcp", "__1_0.distcp")]
        found(output, "fsdp", sharded, world_size=2, required=["scheduler.pt", "trainer_state.json", *files, *shards])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
