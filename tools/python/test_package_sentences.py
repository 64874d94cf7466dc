#!/usr/bin/env python3
"""That errors tell those who call the package only of what it has, though the library speaks of the command's options."""
import inspect
import re
import sys
import unittest
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from package_workbench import HERE, PackageTest

import cairn
from cairn import _sentences
from cairn._sentences import camel, in_python

SOURCES = HERE.parent.parent / "Sources"
# Of commands that the package has no call for: those that read checkpoints from folders, `resume` and `repair`.
ELSEWHERE = {"--follow-links", "--from", "--ref", "--relocate"}


def lines():
    """The lines of the library that hold text, without their comments."""
    for path in sorted(SOURCES.rglob("*.swift")):
        if path.relative_to(SOURCES).parts[0] != "CairnCLI":
            for line in path.read_text().splitlines():
                text = line.strip()
                if '"' in text and not text.startswith("//"):
                    yield text


class EverySentenceTests(unittest.TestCase):
    def test_options_are_those_of_calls_or_belong_to_commands_that_are_none(self):
        left, found = set(), 0
        for line in lines():
            found += bool(re.search("--[a-z]", line))
            without_commands = re.sub("`[^`]*`", "", in_python(line))
            left |= set(re.findall(r"(?<!\w)--[a-z][a-z-]*", without_commands))
        self.assertGreater(found, 50)
        self.assertEqual(left, ELSEWHERE)

    def test_methods_are_there_and_what_stays_a_command_is_one_with_all_that_it_needs(self):
        sources = (path.read_text() for path in (SOURCES / "CairnCLI" / "Commands").glob("*.swift"))
        commands = {name for source in sources for name in re.findall(r'commandName: "(\w+)"', source)}
        told, methods = set(), set()
        for line in lines():
            methods |= set(re.findall(r"`store\.(\w+)\([^`]*\)`", in_python(line)))
            told |= set(re.findall("`cairn ([^`]*)`", in_python(line)))
        self.assertLessEqual({"show", "iterations", "unpin", "verify"}, methods)
        for method in methods:
            self.assertTrue(callable(getattr(cairn.Store, method, None)), method)
        self.assertLessEqual({"repair --store STORE", "delete --store STORE --damaged", "layouts"}, told)
        for command in told:
            name, *words = command.split()
            self.assertIn(name, commands)
            self.assertTrue(name == "layouts" or words[:2] == ["--store", "STORE"], command)


class OptionTests(PackageTest):
    def takes(self, call, name):
        """Whether a call that hands its options on knows one of this name."""
        with self.assertRaises(cairn.Usage) as caught:
            call(**{name: {}})
        return "there is no option" not in str(caught.exception)

    def test_all_exist(self):
        self.store.save(1, extra=[1])
        own = {name for call in (cairn.Store.save, cairn.Store.policy) for name in inspect.signature(call).parameters}
        handing = [
            lambda **options: self.store.restore(1, self.folder / "to", **options),
            lambda **options: self.store.export(1, self.folder / "to", layout="hf", **options),
        ]
        for name in _sentences._NAMES.values():
            with self.subTest(name):
                self.assertTrue(name in own or any(self.takes(call, name) for call in handing))
        for name in _sentences._OF_OPEN:
            self.assertIn(name, inspect.signature(cairn.open).parameters)
        self.assertFalse(any(self.takes(call, "follow_links") for call in handing))

    def test_names_are_the_librarys_but_for_their_spelling(self):
        self.assertEqual([camel(name) for name in ("all", "no_optimizer", "keep_optimizer_last")],
                         ["all", "noOptimizer", "keepOptimizerLast"])


class SentenceTests(PackageTest):
    def test_of_each_kind(self):
        for said, told in [
            ("pass --force to replace it", "pass force=True to replace it"),
            ("pass --replace to replace it, or --run or --step to save", "pass replace=True to replace it, or run=... or step=... to save"),
            ("--keep-last 0 keeps nothing", "keep_last=0 keeps nothing"),
            ("--max-size -1 keeps nothing", "max_size=-1 keeps nothing"),
            ("as well, such as --mesh dp=2,tp=4", 'as well, such as mesh="dp=2,tp=4"'),
            ("give fewer with --jobs, or raise", "give fewer with cairn.open(jobs=...), or raise"),
            ('the option "keepLast" must be', 'the option "keep_last" must be'),
            ("see `cairn show REF --tensors`", "see `store.show(REF)`"),
            ("see `cairn list --json`", "see `store.iterations()`"),
            ("`cairn unpin gold` first", '`store.unpin("gold")` first'),
            ("give it up with `cairn delete --damaged`", "give it up with `cairn delete --store STORE --damaged`"),
            ("run `cairn verify`, then `cairn repair --from` a copy", "run `store.verify()`, then `cairn repair --store STORE --from` a copy"),
            ("make one with `cairn init --store /s`", "pass create=True to make one"),
            ("/a/--force is gone, `cairn_state.json` too", "/a/--force is gone, `cairn_state.json` too"),
        ]:
            self.assertEqual(in_python(said), told)

    def test_advice_can_be_followed(self):
        self.store.save(1, extra=[np.arange(3)], pin="gold")
        self.store.save(2, extra=[np.arange(4)])
        self.store.restore(2, self.folder / "to")
        advice = [
            (lambda **more: self.store.restore(2, self.folder / "to", **more), "pass force=True", {"force": True}),
            (lambda **more: self.store.save(2, extra=[5], **more), "pass replace=True", {"replace": True}),
        ]
        for call, told, options in advice:
            with self.assertRaisesRegex(cairn.Exists, told):
                call()
            call(**options)
        with self.assertRaisesRegex(cairn.Protected, re.escape('`store.unpin("gold")` first')):
            self.store.delete(1)
        self.store.unpin("gold")
        with self.assertRaisesRegex(cairn.Protected, "with `cairn delete --store STORE --run main`"):
            self.store.delete(2)
        with self.assertRaisesRegex(cairn.Usage, "keep_last=0 keeps nothing: give at least 1, or leave it out"):
            self.store.policy(keep_last=0)
        with self.assertRaisesRegex(cairn.Usage, re.escape("no saved file matches *.x; see `store.show(REF)`")):
            self.store.restore(2, self.folder / "other", path="*.x")

    def test_warnings_and_problems_speak_so_too(self):
        self.store.save(1, extra=[np.arange(9999)])
        journal = bytearray((self.path / "journal").read_bytes())
        journal[100] ^= 1
        (self.path / "journal").write_bytes(journal)
        problems = self.store.verify()["problems"]
        self.assertTrue(any("run `cairn repair --store STORE`" in problem for problem in problems), problems)


if __name__ == "__main__":
    unittest.main()
