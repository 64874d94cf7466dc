"""What the tests with the real Hugging Face Trainer share: small models, data, and a training that is the same every time."""
# Before transformers is imported, as it has that look for nothing in the network.
from workbench import tiny_llama

import torch
from peft import LoraConfig, get_peft_model
from transformers import Trainer, TrainingArguments, set_seed
from transformers.trainer_callback import PrinterCallback


class Tokens(torch.utils.data.Dataset):
    """Some that are the same every time, of which each epoch has another order."""

    def __init__(self, count=64):
        self.ids = torch.randint(0, 96, (count, 32), generator=torch.Generator().manual_seed(7))

    def __len__(self):
        return len(self.ids)

    def __getitem__(self, index):
        return {"input_ids": self.ids[index], "labels": self.ids[index]}


def full_model():
    return tiny_llama(num_hidden_layers=2, attention_dropout=0.2)


def adapter():
    return get_peft_model(full_model(), LoraConfig(r=4, lora_dropout=0.2, task_type="CAUSAL_LM"))


def make_trainer(build, out, callbacks=(), *, more={}, **arguments):
    """A Trainer of what `build` makes. `more` are arguments of the Trainer itself, all others those of a training."""
    set_seed(3)
    arguments = TrainingArguments(**dict(
        output_dir=out, logging_steps=1, per_device_train_batch_size=4, learning_rate=1e-2, warmup_steps=2, report_to=[],
        use_cpu=True, disable_tqdm=True, seed=3) | arguments)
    trainer = Trainer(model=build(), args=arguments, train_dataset=Tokens(), callbacks=[*callbacks], **more)
    trainer.remove_callback(PrinterCallback)
    return trainer
