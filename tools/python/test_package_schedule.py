#!/usr/bin/env python3
"""cairn.Schedule: each rule by itself, all together, and in a training that is resumed or goes back."""
import json
import sys
import tempfile
import unittest
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
from children import ranks
from cairn.schedule import Due, Schedule


def steps_due(schedule, steps, **arguments):
    """The steps that are due, of those that are asked about."""
    return [step for step in steps if schedule.due(step, **arguments)]


class Clock:
    def __init__(self):
        self.now = 5000.0

    def __call__(self):
        return self.now


class Rules(unittest.TestCase):
    """One rule at a time."""

    def test_every_so_many_steps(self):
        self.assertEqual(steps_due(Schedule(steps=3), range(1, 11)), [3, 6, 9])
        self.assertEqual(Schedule(steps=3).due(3), Due(3, ("steps",)))

    def test_the_first_step_that_is_asked_about_may_be_a_multiple_and_step_0_never_is(self):
        self.assertTrue(Schedule(steps=100).due(100))
        self.assertFalse(Schedule(steps=100).due(101))
        self.assertEqual(steps_due(Schedule(steps=2), range(5)), [2, 4])

    def test_a_multiple_that_is_jumped_over_counts_once_at_the_next_step(self):
        self.assertEqual(steps_due(Schedule(steps=10), range(4, 50, 4)), [12, 20, 32, 40])
        self.assertEqual(steps_due(Schedule(steps=10), [9, 45, 46, 50]), [45, 50])

    def test_before_a_first_step_that_is_a_jump_start_says_where_training_begins(self):
        schedule = Schedule(steps=100, milestones=[120], epochs=1)
        schedule.start()
        self.assertEqual(schedule.due(150, epoch=1.5).reasons, ("steps", "epochs", "milestone"))

    def test_every_epoch_at_its_end_or_at_the_first_step_after_it(self):
        schedule = Schedule(epochs=1)
        self.assertEqual([step for step in range(1, 31) if schedule.due(step, epoch=step / 10)], [10, 20, 30])
        schedule = Schedule(epochs=1)
        self.assertEqual([step for step in range(1, 31) if schedule.due(step, epoch=step // 7)], [7, 14, 21, 28])

    def test_an_epoch_that_is_only_known_at_its_end(self):
        schedule = Schedule(epochs=2)
        asked = [(step, step // 10 if step % 10 == 0 else None) for step in range(1, 51)]
        self.assertEqual([step for step, epoch in asked if schedule.due(step, epoch=epoch)], [20, 40])

    def test_fractions_of_epochs_though_their_sums_are_not_exact(self):
        schedule, epoch, found = Schedule(epochs=0.1), 0.0, []
        for step in range(1, 101):
            epoch += 0.01
            found += [step] if schedule.due(step, epoch=epoch) else []
        self.assertEqual(found, list(range(10, 101, 10)))

    def test_seconds_count_from_the_last_step_that_was_due_for_whatever_reason(self):
        clock = Clock()
        schedule = Schedule(seconds=60, steps=1000, clock=clock)
        found = []
        for step in range(995, 1020):
            found += [(step, *due.reasons)] if (due := schedule.due(step)) else []
            clock.now += 10
        self.assertEqual(found, [(1000, "steps"), (1006, "seconds"), (1012, "seconds"), (1018, "seconds")])

    def test_seconds_begin_with_the_training_and_not_with_the_schedule(self):
        clock = Clock()
        schedule = Schedule(seconds=60, clock=clock)
        clock.now += 1000
        self.assertFalse(schedule.due(1))
        clock.now += 59
        self.assertFalse(schedule.due(2))
        clock.now += 1
        self.assertTrue(schedule.due(3))

    def test_best_by_the_smallest_loss(self):
        schedule = Schedule(best="eval_loss")
        losses = {1: 3.0, 2: 3.0, 3: None, 4: 2.5, 5: 2.7, 6: float("nan"), 7: 2.5, 8: 2.4}
        found = [step for step, loss in losses.items() if schedule.due(step, metrics={"eval_loss": loss, "other": -step})]
        self.assertEqual(found, [1, 4, 8])
        self.assertFalse(schedule.due(9))

    def test_best_by_the_largest_of_other_metrics_or_as_the_rule_says(self):
        for rule, expected in [("accuracy", [1, 3]), ("accuracy:min", [1, 2, 4]), ("loss:max", [1, 3]), ("a:b:max", [1, 3])]:
            name = rule if rule == "accuracy" else rule.rpartition(":")[0]
            schedule = Schedule(best=rule)
            found = [step for step, value in enumerate([5, 4, 6, 3], 1) if schedule.due(step, metrics={name: value})]
            self.assertEqual(found, expected, rule)

    def test_nan_is_not_best_even_where_there_is_nothing_else(self):
        schedule = Schedule(best="loss")
        self.assertFalse(schedule.due(1, metrics={"loss": float("nan")}))
        self.assertTrue(schedule.due(2, metrics={"loss": 9}))

    def test_several_metrics_say_which_of_them_was_best(self):
        schedule = Schedule(best=["loss", "f1"])
        schedule.due(1, metrics={"loss": 2, "f1": 0.5})
        self.assertEqual(schedule.due(2, metrics={"loss": 3, "f1": 0.6}), Due(2, ("best",), ("f1",)))
        self.assertEqual(schedule.due(3, metrics={"loss": 1, "f1": 0.7}).best, ("loss", "f1"))
        self.assertFalse(schedule.due(4, metrics={"loss": 1, "f1": 0.7}))

    def test_milestones_have_a_pin_also_where_they_are_jumped_over(self):
        schedule = Schedule(milestones=[5, 20, 22])
        found = [(due.step, due.milestone, due.pin) for step in range(1, 31, 4) if (due := schedule.due(step))]
        self.assertEqual(found, [(5, 5, "milestone-5"), (21, 20, "milestone-21"), (25, 22, "milestone-25")])
        self.assertIsNone(schedule.due(30, final=True).pin)

    def test_the_end_unless_it_is_turned_off(self):
        self.assertEqual(Schedule().due(7, final=True), Due(7, ("final",)))
        self.assertFalse(Schedule(final=False).due(7, final=True))

    def test_wrong_rules_are_refused_with_what_is_wrong(self):
        for rules in [{"steps": 0}, {"epochs": -1}, {"seconds": float("nan")}, {"milestones": [5, 0]}, {"epochs": float("inf")}]:
            with self.assertRaisesRegex(ValueError, next(iter(rules))):
                Schedule(**rules)
        for best in ["loss:least", ":min", ""]:
            with self.assertRaisesRegex(ValueError, "METRIC:min"):
                Schedule(best=best)


class Combined(unittest.TestCase):
    """Several rules, asked more than once, and gone on with."""

    def setUp(self):
        self.clock = Clock()
        self.schedule = self.make()

    def make(self, **changes):
        rules = dict(steps=100, epochs=1, seconds=600, best="eval_loss:min", milestones=[1000, 5000], final=True)
        return Schedule(**rules | changes, clock=self.clock)

    def test_all_reasons_of_one_step(self):
        self.schedule.due(999, epoch=0.999)
        self.clock.now += 600
        due = self.schedule.due(1000, epoch=1, metrics={"eval_loss": 1}, final=True)
        self.assertEqual(due.reasons, ("steps", "epochs", "seconds", "best", "milestone", "final"))
        self.assertEqual((due.best, due.pin), (("eval_loss",), "milestone-1000"))

    def test_never_twice_for_one_step_though_it_says_what_came_since(self):
        self.assertTrue(self.schedule.due(100))
        evaluated = self.schedule.due(100, metrics={"eval_loss": 2.0}, final=True)
        self.assertFalse(evaluated)
        self.assertEqual(evaluated, Due(100, ("best", "final"), ("eval_loss",), None, True))
        self.assertFalse(self.schedule.due(101, metrics={"eval_loss": 2.0}))
        self.assertTrue(self.schedule.due(101, metrics={"eval_loss": 1.0}))

    def test_a_resumed_training_goes_on_where_it_was_saved(self):
        self.schedule.due(99, epoch=0.99)
        self.schedule.due(100, epoch=1.0, metrics={"eval_loss": 2.0})
        state = json.loads(json.dumps(self.schedule.state_dict()))
        resumed = self.make()
        self.clock.now += 100_000
        resumed.load_state_dict(state)
        self.assertFalse(resumed.due(100, epoch=1.0, metrics={"eval_loss": 2.0}))
        self.assertFalse(resumed.due(100, final=True))
        self.assertFalse(resumed.due(101, epoch=1.01, metrics={"eval_loss": 2.1}))
        self.assertEqual(resumed.due(102, epoch=1.02, metrics={"eval_loss": 1.9}).reasons, ("best",))
        self.assertEqual(resumed.due(230, epoch=2.3).reasons, ("steps", "epochs"))
        self.clock.now += 600
        self.assertEqual(resumed.due(231).reasons, ("seconds",))

    def test_the_answers_are_the_same_as_without_the_interruption(self):
        whole, parts, found = self.make(), self.make(), ([], [])
        for step in range(1, 2000, 7):
            metrics = {"eval_loss": (step * 37) % 101} if step % 4 == 0 else None
            found[0].append(whole.due(step, epoch=step / 130, metrics=metrics))
            found[1].append(parts.due(step, epoch=step / 130, metrics=metrics))
            again = self.make()
            again.load_state_dict(parts.state_dict())
            parts = again
        self.assertEqual(*found)
        self.assertGreater(sum(map(bool, found[0])), 20)

    def test_a_state_goes_with_other_rules(self):
        self.schedule.due(100, metrics={"eval_loss": 2.0})
        resumed = self.make(steps=30, best="eval_loss:max")
        resumed.load_state_dict(self.schedule.state_dict())
        self.assertEqual(steps_due(resumed, range(100, 130)), [120])
        # The smallest so far says nothing about the largest.
        self.assertTrue(resumed.due(131, metrics={"eval_loss": 1.0}))

    def test_start_stands_in_for_a_state_that_there_is_none_of(self):
        self.schedule.start(1000, epoch=2.5)
        self.assertEqual(steps_due(self.schedule, range(1000, 1150), epoch=2.9), [1100])
        self.assertTrue(self.schedule.due(1150, epoch=3.1))
        without_epoch = self.make()
        without_epoch.start(1000)
        self.assertFalse(without_epoch.due(1001, epoch=2.5))
        self.assertTrue(without_epoch.due(1002, epoch=3.2))

    def test_after_going_back_steps_are_due_again(self):
        self.assertEqual(steps_due(self.schedule, range(150, 250)), [200])
        self.assertEqual(steps_due(self.schedule, range(180, 250)), [200])
        self.assertEqual(self.schedule.due(100, epoch=1.0).reasons, ("steps", "epochs"))

    def test_numbers_of_numpy_leave_a_state_of_plain_ones(self):
        import numpy
        self.schedule.due(numpy.int64(100), epoch=numpy.float64(1), metrics={"eval_loss": numpy.float32(0.5)})
        state = {"step": 100, "epoch": 1.0, "saved": 100, "best": {"eval_loss:min": 0.5}}
        self.assertEqual(json.loads(json.dumps(self.schedule.state_dict())), state)


class Ranks(unittest.TestCase):
    def test_ranks_take_the_answer_of_the_first_whatever_their_clocks_and_metrics_say(self):
        with tempfile.TemporaryDirectory() as folder:
            self.assertEqual(ranks(2, folder, lambda: train(folder)), [0, 0])
            said = [json.loads(Path(f"{folder}/{rank}").read_text()) for rank in range(2)]
        self.assertEqual(said[0], said[1])
        self.assertEqual(said[0][:-1], ["7 best", "8 steps", "14 best", "16 steps"])


def train(folder):
    """What a rank says of the steps that are due, and of its schedule in the end."""
    import torch.distributed as dist

    rank, now, said = dist.get_rank(), 0.0, []
    schedule = Schedule(seconds=10, best="loss", steps=8, group=dist.group.WORLD, clock=lambda: now)
    for step in range(1, 20):
        # The clock of the second rank runs twice as fast, and only the first has a loss.
        now += 1 + rank
        due = schedule.due(step, metrics={"loss": 20 - step} if rank == 0 and step % 7 == 0 else None)
        if due:
            said.append(" ".join([str(step), *due.reasons]))
    Path(f"{folder}/{rank}").write_text(json.dumps([*said, schedule.state_dict()]))


if __name__ == "__main__":
    unittest.main()
