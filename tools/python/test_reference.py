#!/usr/bin/env python3
"""The benchmark's reference counts what its rules say: files are cut without a byte lost, and no delta breaks its bounds."""
import sys
import unittest
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from workbench import Workbench

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "Benchmarks"))
import reference

WIDTHS = (1, 2, 4, 8)


class Here:
    """Does at once what a pool of processes would do."""

    def map(self, body, *arguments, chunksize=1):
        return map(body, *arguments)


class CuttingTests(Workbench):
    def test_blobs_are_all_of_a_file_and_its_tensors(self):
        checkpoint = self.sample("hf-trainer/basic/checkpoint-2")
        for path in reference.files(checkpoint):
            blobs = reference.cut(path)
            extents = sorted(extent for _, _, extents in blobs for extent in extents if extent[1])
            self.assertEqual([offset for offset, _ in extents], [0, *(sum(extent) for extent in extents[:-1])])
            self.assertEqual(sum(extents[-1]), path.stat().st_size)
            if path.suffix == ".safetensors":
                wanted = [(tensor.element_size(), tensor.numpy().tobytes()) for tensor in load_file(path).values()]
            elif path.name == "optimizer.pt":
                states = torch.load(path)["state"].values()
                wanted = [(4, tensor.numpy().tobytes()) for state in states for tensor in state.values()]
            else:
                continue
            got = [(width, reference.Source(str(path), tuple(extents)).read()) for _, width, extents in blobs[:-1]]
            self.assertEqual(sorted(got), sorted(wanted), path)

    def test_chunks_are_cut_from_the_first_byte_of_a_blob(self):
        size = reference.CHUNK
        found = list(reference.chunks([(5, size - 1), (size + 9, 3), (3 * size, size)]))
        self.assertEqual(found, [((5, size - 1), (size + 9, 1)), ((size + 10, 2), (3 * size, size - 2)), ((4 * size - 2, 2),)])


class CodecTests(unittest.TestCase):
    def test_nothing_is_lost(self):
        for width in WIDTHS:
            values, bits = np.frombuffer(np.random.default_rng(1).bytes(1 << 16), f"<u{width}"), 8 * width
            one, top = values.dtype.type(1), values.dtype.type(bits - 1)
            turned = reference.rotated(values)
            self.assertTrue(np.array_equal((turned >> one) | (turned << top), values))
            base = values[::-1]
            folded = reference.zigzag_difference(values, base)
            back = ((folded >> one) ^ (0 - (folded & one))) + base
            self.assertTrue(np.array_equal(back, values))

    def test_small_differences_become_small_numbers(self):
        for width in WIDTHS:
            base = np.array([0, 1, 100, 255], f"<u{width}")
            for difference, expected in ((0, 0), (-1, 1), (1, 2), (-2, 3), (2, 4)):
                moved = base + np.array(difference).astype(base.dtype)
                self.assertEqual(reference.zigzag_difference(moved, base).tolist(), [expected] * 4)

    def test_noise_stays_as_it_is(self):
        size = reference.planes_size(np.frombuffer(np.random.default_rng(1).bytes(1 << 16), "<u4"))
        self.assertEqual(size, (1 << 16) + 4 + 4 * 4)


class SavingTests(Workbench):
    def checkpoint(self, number, tensor):
        folder = self.folder / f"checkpoint-{number}"
        folder.mkdir()
        save_file({"weight": torch.from_numpy(tensor)}, folder / "model.safetensors")
        return folder

    def test_deltas_keep_their_bounds(self):
        for share, few in ((1.0, 1), (1.0, 6_000), (1.0, 30_000), (0.8, 6_000)):
            random, checking = np.random.default_rng(1), reference.Reference(Here(), share)
            tensor, longest = random.normal(size=60_000).astype("f4"), 0
            for number in range(20):
                folder = self.checkpoint(f"{share}-{few}-{number}", tensor)
                stored, whole = checking.save(folder)
                self.assertLess(stored, whole)
                for chunk in checking.known.values():
                    self.assertLessEqual(chunk.records, reference.LONGEST_CHAIN)
                    self.assertLessEqual(chunk.recovery, 2 * chunk.length)
                    longest = max(longest, chunk.records)
                tensor[random.choice(len(tensor), few)] += 0.01
            self.assertTrue(longest == reference.LONGEST_CHAIN if few == 1 else longest > 1, longest)

    def test_what_was_there_costs_nothing(self):
        checking = reference.Reference(Here())
        tensor = np.random.default_rng(1).normal(size=100_000).astype("f4")
        self.assertGreater(checking.save(self.checkpoint(1, tensor))[0], 300_000)
        self.assertEqual(checking.save(self.checkpoint(2, tensor))[0], 0)


if __name__ == "__main__":
    unittest.main(warnings="ignore")
