#!/usr/bin/env python3
"""The code of Docs/python.md does what the page says."""
import os
import sys
import tempfile
import unittest
from pathlib import Path

os.environ.update(OMP_NUM_THREADS="1", HF_HUB_OFFLINE="1", TQDM_DISABLE="1")
sys.path.insert(0, str(Path(__file__).parent))
import page


class Page(unittest.TestCase):
    @unittest.skipUnless(os.environ.get("CAIRN_TEST_LONG"), "in the long form alone")
    def test_every_block_runs_and_prints_what_the_page_says(self):
        with tempfile.TemporaryDirectory() as folder:
            differ = list(page.differences(folder, os.environ["CAIRN"]))
        self.assertEqual(differ, [], "\n".join(differ) + "If the page should say so: tools/python/page.py --write")


class Comparison(unittest.TestCase):
    def test_times_ids_and_small_differences_of_numbers_do_not_count_and_all_else_does(self):
        said = "saved main@3 · stored 2.0 MiB · 0.10 s · 0123456789abcdef"
        for same in ("saved main@3 · stored 2.1 MiB · 9.99 s · 0123456789abcdee", said.replace(" ·", "  ·")):
            self.assertTrue(page.is_same(said, same), same)
        for other in ("saved main@5 · stored 2.0 MiB · 0.10 s · 0123456789abcdef", said + " more", said.replace("stored", "new")):
            self.assertFalse(page.is_same(said, other), other)


class Format(unittest.TestCase):
    def test_every_node_of_a_tree_is_described(self):
        from cairn import _unflatten, _values

        described = (page.ROOT / "Docs/format.md").read_text()
        keys = {*_unflatten._DECODERS, *_values.DECODERS}
        self.assertEqual([key for key in sorted(keys) if f'"{key}":' not in described], [])


if __name__ == "__main__":
    unittest.main()
