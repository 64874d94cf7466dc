#!/usr/bin/env python3
"""What the real Hugging Face Trainer saves through `cairn.transformers`, against what it saves itself."""
import json
import os
import sys
import unittest
from pathlib import Path
from unittest import mock

import numpy
import tokenizers
import torch
import transformers
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict
from transformers import AutoModelForCausalLM, EarlyStoppingCallback, TrainerCallback

sys.path.insert(0, str(Path(__file__).parent / "libraries"))
from children import ended, fork
from ranks import end, torchrun
from trainer_workbench import Tokens, adapter, full_model, make_trainer
from workbench import CAIRN, Workbench, contents, lose, tiny_llama

os.environ.setdefault("CAIRN_LIBRARY", str(Path(CAIRN).with_name("libCairnC.so")))
import cairn
from cairn.transformers import CairnCallback, materialize

# What a folder of the Trainer has that one from the store hasn't, and the other way round.
ARGUMENTS, MARK = "training_args.bin", "cairn_iteration.json"
# Entries of trainer_state.json that say something about folders, or about what follows.
OTHERS = ("best_model_checkpoint", "stateful_callbacks")

# What is much like others, or takes long.
LONG = unittest.skipUnless(os.environ.get("CAIRN_TEST_LONG"), "in the long form alone")


def tied_model():
    return tiny_llama(tied=True, num_hidden_layers=1, hidden_size=16, intermediate_size=16, attention_dropout=0.2)


def named_adapters():
    model = get_peft_model(full_model(), LoraConfig(r=4, task_type="CAUSAL_LM"), adapter_name="one")
    model.add_adapter("two", LoraConfig(r=2, task_type="CAUSAL_LM"))
    return model


def tokenizer():
    words = tokenizers.models.WordLevel({"<unk>": 0, "stone": 1, "cairn": 2}, "<unk>")
    return transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizers.Tokenizer(words), unk_token="<unk>", pad_token="<unk>")


class At(TrainerCallback):
    """Does something after a step."""

    def __init__(self, step, action):
        self.step, self.action = step, action

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            self.action()


def logged(trainer):
    """What was measured at each step, bit for bit."""
    names = ("loss", "grad_norm", "learning_rate", "eval_loss", "eval_score")
    entries = ({name: entry[name] for name in ("step", *names) if name in entry} for entry in trainer.state.log_history)
    return [entry for entry in entries if len(entry) > 1]


def plain(value):
    """A value that can be compared, with the types of what is in it."""
    if isinstance(value, torch.Tensor):
        return str(value.dtype), tuple(value.shape), value.view(-1).view(torch.uint8).tolist()
    if isinstance(value, numpy.ndarray):
        return str(value.dtype), value.shape, value.tolist()
    if isinstance(value, dict):
        return type(value), [(key, plain(inner)) for key, inner in value.items()]
    if isinstance(value, (list, tuple)):
        return type(value), [plain(inner) for inner in value]
    return type(value), value


class Training(Workbench):
    def train(
            self, build=tied_model, out="own", callbacks=(), resume=None, scores=None, processing_class=None, scaler=None,
            **arguments):
        """Trains to the end; with the callback, the Trainer itself saves nothing."""
        callbacks = [*callbacks] if isinstance(callbacks, (list, tuple)) else [callbacks]
        is_ours = any(isinstance(callback, CairnCallback) for callback in callbacks)
        arguments = dict(max_steps=6, save_steps=2) | arguments | ({"save_strategy": "no"} if is_ours else {})
        scores = iter(scores or ())
        more = dict(
            eval_dataset=Tokens(8), processing_class=processing_class,
            compute_metrics=(lambda _: {"score": next(scores)}) if arguments.get("metric_for_best_model") == "score" else None)
        trainer = make_trainer(build, self.folder / out, callbacks, more=more, **arguments)
        trainer.accelerator.scaler = scaler
        trainer.train(resume_from_checkpoint=resume and str(resume))
        return trainer

    def assert_same_training(self, got, expected):
        self.assertEqual(logged(got), logged(expected))
        self.assert_same_tensors(got.model.state_dict(), expected.model.state_dict())


class TransformersTests(Training):
    def setUp(self):
        super().setUp()
        self.place = self.folder / "store"
        self.store = cairn.open(self.place)

    def steps(self, run="main"):
        return [one["step"] for one in self.store.iterations() if one["run"] == run and not one["superseded"]]

    def folders(self, out="own"):
        return sorted(int(path.name.split("-")[1]) for path in (self.folder / out).glob("checkpoint-*"))

    # Resuming

    def check_resume(self, build, strategy="steps", **arguments):
        def callback():
            return CairnCallback(self.place, save_strategy=strategy)

        own = self.train(build, save_strategy=strategy, **arguments)
        ours = self.train(build, "ours", callback(), **arguments)
        self.assertEqual(self.folders("ours"), [])
        self.assertEqual(self.steps(), self.folders())
        self.assert_same_training(ours, own)

        folder = materialize(self.place, "main@4", self.folder / "resumed")
        from_own = self.train(build, "again", resume=self.folder / "own/checkpoint-4", save_strategy="no", **arguments)
        from_store = self.train(build, "again", callback(), resume=folder, **arguments)
        self.assert_same_training(from_own, own)
        self.assert_same_training(from_store, own)
        self.assertEqual(self.steps(), self.folders())

    def test_a_model_goes_on_as_if_it_had_never_stopped(self):
        self.check_resume(full_model)

    def test_an_adapter_goes_on_as_if_it_had_never_stopped(self):
        self.check_resume(adapter)

    def test_a_scheduler_that_waits_for_an_evaluation_is_saved_after_it(self):
        self.check_resume(tied_model, eval_strategy="steps", eval_steps=2, lr_scheduler_type="reduce_lr_on_plateau",
                          lr_scheduler_kwargs={"patience": 0}, metric_for_best_model="loss")

    @LONG
    def test_epochs_that_end_with_an_evaluation_go_on_after_it(self):
        self.check_resume(tied_model, "epoch", eval_strategy="epoch", max_steps=-1, num_train_epochs=3,
                          per_device_train_batch_size=32)

    @LONG
    def test_a_gradient_scaler_goes_on_with_its_scale(self):
        def scaler():
            return torch.amp.GradScaler("cpu", init_scale=8, growth_interval=2)

        own = self.train(scaler=scaler(), save_strategy="no")
        self.train(out="ours", callbacks=CairnCallback(self.place), scaler=scaler())
        folder = materialize(self.place, "main@2", self.folder / "resumed")
        resumed = scaler()
        self.assert_same_training(self.train(out="ours", resume=folder, scaler=resumed, save_strategy="no"), own)
        self.assertEqual(resumed.get_scale(), 64)

    # What is in an iteration

    def check_files(self, build, **more):
        arguments = dict(
            eval_strategy="steps", eval_steps=2, metric_for_best_model="loss", processing_class=tokenizer(), **more)
        self.train(build, **arguments)
        self.train(build, "ours", CairnCallback(self.place), **arguments)
        for step in (2, 6):
            own = self.folder / f"own/checkpoint-{step}"
            ours = Path(materialize(self.place, f"main@{step}", self.folder / "ours"))
            self.assertEqual(sorted({*contents(ours)} - {MARK}), sorted({*contents(own)} - {ARGUMENTS}))
            for path in filter(Path.is_file, own.rglob("*")):
                with self.subTest(step=step, file=path.name):
                    self.check_file(path, ours / path.relative_to(own))

    def check_file(self, own, ours):
        if own.name == ARGUMENTS:
            return
        if own.suffix in (".pt", ".pth"):
            # As the Trainer loads them.
            with transformers.trainer.safe_globals():
                expected, got = (torch.load(path, weights_only=True) for path in (own, ours))
            self.assertEqual(plain(got), plain(expected))
        elif own.name == "trainer_state.json":
            expected, got = (json.loads(path.read_text()) for path in (own, ours))
            for state in (expected, got):
                state["log_history"] = [[entry.get("step"), entry.get("loss"), entry.get("eval_loss")]
                                        for entry in state["log_history"] if "train_runtime" not in entry]
                for name in OTHERS:
                    state.pop(name)
            self.assertEqual(got, expected)
        else:
            self.assertEqual(ours.read_bytes(), own.read_bytes())

    def test_a_folder_from_the_store_has_the_files_that_the_trainer_writes(self):
        self.check_files(tied_model)

    def test_a_folder_of_an_adapter_has_the_files_that_the_trainer_writes(self):
        self.check_files(adapter)

    @LONG
    def test_a_folder_of_adapters_with_names_has_the_files_that_the_trainer_writes(self):
        self.check_files(named_adapters)

    def test_a_folder_of_the_model_alone_has_the_files_that_the_trainer_writes(self):
        self.check_files(tied_model, save_only_model=True)

    def test_an_export_is_what_save_pretrained_writes(self):
        for build in (tied_model, adapter):
            run = build.__name__
            trainer = self.train(build, "ours", CairnCallback(self.place, run), processing_class=tokenizer())
            own = self.folder / f"{run}-own"
            trainer.model.save_pretrained(own)
            tokenizer().save_pretrained(own)
            self.assert_same_files(self.export(reference=f"{run}@latest"), own)

    def test_a_peft_model_is_loaded_whole_and_exported_as_adapter_or_merged(self):
        base = self.folder / "base"
        full_model().save_pretrained(base)

        def adapted():
            model = get_peft_model(AutoModelForCausalLM.from_pretrained(base), LoraConfig(r=4, task_type="CAUSAL_LM"))
            for parameter in model.parameters():
                torch.nn.init.normal_(parameter)
            return model

        model, own = adapted(), self.folder / "own"
        model.save_pretrained(own)
        self.store.save(1, model=model)
        loaded = adapted()
        self.store.load(1, model=loaded)
        self.assert_same_tensors(loaded.state_dict(), model.state_dict())
        with self.assertRaisesRegex(cairn.Usage, "main@1 holds a PEFT model and its base.*merge_and_unload"):
            self.store.export(1, self.folder / "out", layout="hf")
        self.assertFalse((self.folder / "out").exists())
        self.store.export(1, self.folder / "lora", layout="hf", only="lora_")

        self.store.save(2, adapter_model=get_peft_model_state_dict(model), files={"adapter_config.json": own / "adapter_config.json"})
        self.store.export(2, self.folder / "adapter", layout="hf")
        for name in ("adapter_config.json", "adapter_model.safetensors"):
            self.assertEqual((self.folder / "adapter" / name).read_bytes(), (own / name).read_bytes())
        self.store.export(2, self.folder / "merged-on-the-way", layout="hf", merge_adapter=True, base=str(base))
        self.assertEqual(
            sorted(path.name for path in (self.folder / "merged-on-the-way").iterdir()),
            ["config.json", "generation_config.json", "model.safetensors"])
        merged = model.merge_and_unload()
        self.store.save(3, model=merged)
        self.store.export(3, self.folder / "merged", layout="hf")
        got = AutoModelForCausalLM.from_pretrained(self.folder / "merged")
        self.assert_same_tensors(got.state_dict(), merged.state_dict())

    def test_where_the_trainer_saves_as_well_it_is_said(self):
        with self.assertWarnsRegex(UserWarning, "writes its own checkpoints as well"):
            make_trainer(tied_model, self.folder / "ours", [CairnCallback(self.place)], max_steps=2, save_strategy="steps").train()

    def test_metrics_of_a_step_are_its_iterations(self):
        trainer = self.train(out="ours", callbacks=CairnCallback(self.place), eval_strategy="steps", eval_steps=2)
        losses = {entry["step"]: entry["eval_loss"] for entry in trainer.state.log_history if "eval_loss" in entry}
        self.assertEqual({one["step"]: one["metrics"]["eval_loss"] for one in self.store.iterations()}, losses)
        self.assertNotIn("train_runtime", self.store["latest"].metrics)

    def test_an_evaluation_after_the_save_of_its_step_is_added(self):
        # A step is saved when the epoch ends with it, and evaluated then.
        self.train(out="ours", callbacks=CairnCallback(self.place), eval_strategy="epoch", max_steps=-1, num_train_epochs=2,
                   save_steps=4, per_device_train_batch_size=16)
        self.assertEqual(self.steps(), [4, 8])
        for iteration in self.store.iterations():
            self.assertIn("eval_loss", iteration["metrics"])

    # Which steps are saved and kept

    def test_the_steps_are_those_of_the_strategy(self):
        scores = [3, 1, 4, 1, 5, 9]
        for strategy, arguments in {
            "steps": dict(save_steps=4),
            "epoch": dict(max_steps=-1, num_train_epochs=2, per_device_train_batch_size=16),
            "best": dict(eval_strategy="steps", eval_steps=1, metric_for_best_model="score", scores=scores),
        }.items():
            with self.subTest(strategy):
                self.train(out=strategy, save_strategy=strategy, **arguments)
                self.train(out="ours", callbacks=CairnCallback(self.place, f"by-{strategy}", save_strategy=strategy), **arguments)
                self.assertEqual(self.steps(f"by-{strategy}"), self.folders(strategy))

    def test_a_limit_and_the_best_are_kept_as_the_trainer_keeps_them(self):
        nan = float("nan")
        for number, (limit, greater, scores) in enumerate([
            (3, True, [5, 1, 2, 3, 4]), (2, False, [3, 1, 2, 3, 0]), (2, True, [nan, 7, 7, nan, 3]), (4, None, [3, 1, 1, 2, 2]),
        ]):
            with self.subTest(limit=limit, scores=scores):
                arguments = dict(
                    save_total_limit=limit, eval_strategy="steps", eval_steps=1, save_steps=1, max_steps=5, scores=scores)
                if greater is not None:
                    arguments |= dict(metric_for_best_model="score", greater_is_better=greater)
                own = self.train(out=f"own-{number}", load_best_model_at_end=greater is not None, **arguments)
                callback = CairnCallback(self.place, f"case-{number}", load_best_model_at_end=greater is not None)
                ours = self.train(out="ours", callbacks=callback, **arguments)
                self.assertEqual(self.steps(f"case-{number}"), self.folders(f"own-{number}"))
                self.assertEqual((ours.state.best_metric, ours.state.best_global_step),
                                 (own.state.best_metric, own.state.best_global_step))
                self.assert_same_tensors(ours.model.state_dict(), own.model.state_dict())

    def test_what_somebody_deletes_meanwhile_stops_no_training(self):
        delete = cairn.Store.delete

        def late(store, *references):
            delete(self.store, references[0])
            delete(store, *references)

        with mock.patch.object(cairn.Store, "delete", late):
            self.train(out="ours", callbacks=CairnCallback(self.place), save_total_limit=1)
        self.assertEqual(self.steps(), [6])

    def test_with_a_limit_of_one_the_newest_stays_beside_the_best(self):
        callback = CairnCallback(self.place, load_best_model_at_end=True)
        self.train(out="ours", callbacks=callback, save_total_limit=1, eval_strategy="steps", eval_steps=2,
                   metric_for_best_model="score", scores=[5, 4, 3])
        self.assertEqual(self.steps(), [2, 6])

    def test_a_run_that_can_not_be_called_so_is_refused_at_once(self):
        with self.assertRaisesRegex(cairn.Usage, "'best' is not valid"):
            self.train(out="ours", callbacks=[CairnCallback(self.place, "best"), At(1, lambda: 1 / 0)])

    def test_the_best_adapter_is_loaded_at_the_end(self):
        arguments = dict(eval_strategy="steps", eval_steps=2, metric_for_best_model="score", scores=[5, 9, 3])
        own = self.train(adapter, load_best_model_at_end=True, **arguments)
        ours = self.train(adapter, "ours", CairnCallback(self.place, load_best_model_at_end=True), **arguments)
        self.assert_same_tensors(ours.model.state_dict(), own.model.state_dict())

    @LONG
    def test_the_best_adapters_with_names_are_loaded_at_the_end(self):
        # The Trainer itself doesn't find them.
        model, best = named_adapters(), {}
        remember = At(4, lambda: best.update({name: tensor.clone() for name, tensor in model.state_dict().items()}))
        callback = CairnCallback(self.place, load_best_model_at_end=True)
        self.train(lambda: model, "ours", [callback, remember], eval_strategy="steps", eval_steps=2,
                   metric_for_best_model="score", scores=[5, 9, 3])
        self.assert_same_tensors(model.state_dict(), best)

    def test_milestones_of_a_schedule_are_pinned_and_kept(self):
        schedule = cairn.Schedule(steps=2, milestones=[1, 3])
        self.train(out="ours", callbacks=CairnCallback(self.place, save_strategy=schedule), save_total_limit=1)
        self.assertEqual(self.steps(), [1, 3, 6])
        self.assertEqual(sorted(pin["name"] for pin in self.store.pins()), ["milestone-1", "milestone-3"])

    @LONG
    def test_stopping_early_is_resumed_with_what_it_has_counted(self):
        arguments = dict(eval_strategy="steps", eval_steps=1, save_steps=1, max_steps=9, metric_for_best_model="score")
        scores = [5, 4, 6, 5, 5, 5, 9]
        stopping = EarlyStoppingCallback(3)
        self.train(out="ours", callbacks=[stopping, CairnCallback(self.place, stateful=[stopping])], scores=scores, **arguments)
        self.assertEqual(self.steps(), [1, 2, 3, 4, 5, 6])
        # Two have gone by without a better one, so the third ends it.
        folder = materialize(self.place, "main@5", self.folder / "resumed")
        resumed = self.train(callbacks=EarlyStoppingCallback(3), resume=folder, scores=scores[5:], save_strategy="no",
                             restore_callback_states_from_checkpoint=True, **arguments)
        self.assertEqual(resumed.state.global_step, 6)

    # What goes wrong

    def test_a_failure_beside_the_training_ends_it(self):
        for step in (3, 5):
            place = self.folder / f"lost-{step}"
            lost = At(step, lambda: lose(place))
            with self.subTest(step), self.assertRaises(cairn.CairnError):
                self.train(out="ours", callbacks=[CairnCallback(place), lost])

    def test_a_training_that_starts_anew_needs_a_run_of_its_own(self):
        self.train(out="ours", callbacks=CairnCallback(self.place))
        with self.assertRaisesRegex(ValueError, "main has iterations up to step 6"):
            self.train(out="ours", callbacks=CairnCallback(self.place))
        self.train(out="ours", callbacks=CairnCallback(self.place, "other"))
        self.assertEqual(self.steps("other"), [2, 4, 6])

    def test_what_comes_after_the_step_that_is_resumed_from_is_superseded(self):
        self.train(out="ours", callbacks=CairnCallback(self.place))
        folder = materialize(self.place, "main@2", self.folder / "resumed")
        with self.assertRaises(ZeroDivisionError):
            self.train(out="ours", callbacks=[CairnCallback(self.place, wait=True), At(5, lambda: 1 / 0)], resume=folder)
        self.assertEqual(self.steps(), [2, 4])

    def test_a_model_without_save_pretrained_is_its_state(self):
        class Module(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.inner = tied_model()

            def forward(self, input_ids, labels):
                return self.inner(input_ids=input_ids, labels=labels)

        own = self.train(Module, save_strategy="no")
        self.train(Module, "ours", CairnCallback(self.place))
        folder = materialize(self.place, "main@4", self.folder / "resumed")
        self.assert_same_training(self.train(Module, save_strategy="no", resume=folder), own)

    @LONG
    def test_two_processes_go_on_with_the_random_numbers_of_each(self):
        torchrun(2, __file__, self.folder)
        # The first one alone saves.
        self.assertEqual(self.steps(), [2, 4, 6])

    # Folders

    def test_a_folder_that_was_made_is_taken_as_it_is(self):
        self.train(out="ours", callbacks=CairnCallback(self.place))
        folder = materialize(self.place, "latest", self.folder / "resumed")
        before = os.stat(folder).st_ino
        self.assertEqual(materialize(self.store, "main@6", self.folder / "resumed"), folder)
        self.assertEqual(os.stat(folder).st_ino, before)

    def test_a_folder_that_the_command_saved_is_made_as_well(self):
        own = self.train()
        self.cairn("save", self.folder / "own/checkpoint-4", "--run", "sft")
        folder = materialize(self.place, "sft@4", self.folder / "resumed")
        self.assertEqual({*contents(folder)} - {MARK}, {*contents(self.folder / "own/checkpoint-4")})
        self.assert_same_training(self.train(out="again", resume=folder, save_strategy="no"), own)

    def test_an_iteration_that_is_no_trainers_is_refused(self):
        self.store.save(1, model=tied_model())
        with self.assertRaisesRegex(cairn.Usage, "main@1 has no state of a Trainer"):
            materialize(self.store, "latest", self.folder / "resumed")
        self.assertEqual([path for path in (self.folder / "resumed").iterdir() if path.is_dir()], [])

    def test_a_folder_that_something_else_made_is_left_alone(self):
        self.train(out="ours", callbacks=CairnCallback(self.place))
        (self.folder / "resumed/checkpoint-6").mkdir(parents=True)
        with self.assertRaisesRegex(FileExistsError, "checkpoint-6"):
            materialize(self.place, "latest", self.folder / "resumed")
        self.assertEqual(contents(self.folder / "resumed/checkpoint-6"), {})

    def test_a_folder_is_there_as_a_whole_or_not_at_all(self):
        self.train(out="ours", callbacks=CairnCallback(self.place))
        out = self.folder / "resumed"

        def die(*_):
            os._exit(9)

        with mock.patch("torch.save", die):
            child = fork(lambda: materialize(self.place, "latest", out))
        self.assertEqual(ended(child), 9)
        self.assertEqual([path.name for path in out.iterdir() if path.name.startswith("checkpoint")], [])
        self.assertTrue(any(path.is_dir() for path in out.iterdir()))
        folder = materialize(self.place, "latest", out)
        self.assertEqual([path for path in out.iterdir() if path.is_dir()], [Path(folder)])


def of_two(folder):
    """A process of a training with two: it goes on from a folder from the store as if it had never stopped."""
    test = Training()
    test.folder = Path(folder)
    arguments = dict(ddp_backend="gloo", eval_strategy="steps", eval_steps=2)
    own = test.train(full_model, callbacks=CairnCallback(test.folder / "store", load_best_model_at_end=False), **arguments)
    resumed = materialize(test.folder / "store", "main@4", test.folder / "resumed")
    test.assertTrue(os.path.exists(f"{resumed}/rng_state_{own.args.process_index}.pth"))
    best = CairnCallback(test.folder / "store", load_best_model_at_end=True)
    ours = test.train(full_model, "ours", best, resume=resumed, **arguments)
    test.assertEqual(logged(ours), logged(own))
    # Loaded by the first process, and the same in the other.
    state = {name: tensor.clone() for name, tensor in ours.model.state_dict().items()}
    for tensor in ours.model.state_dict().values():
        torch.distributed.broadcast(tensor, 0)
    test.assert_same_tensors(ours.model.state_dict(), state)
    test.assertEqual(ours.evaluate()["eval_loss"], ours.state.best_metric)
    end()


if __name__ == "__main__":
    if "RANK" in os.environ:
        of_two(sys.argv[1])
    unittest.main(warnings="ignore")
