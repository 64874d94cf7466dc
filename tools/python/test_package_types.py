"""The types of the package `cairn`, checked by mypy in its strict mode."""

import pathlib
import subprocess
import unittest

HERE = pathlib.Path(__file__).parent


class Types(unittest.TestCase):
    def test_mypy_has_nothing_to_say(self):
        python = subprocess.run(
            [HERE / "environment.sh", "check"], capture_output=True, text=True, check=True
        ).stdout.strip()
        said = subprocess.run([python, "-m", "mypy"], cwd=HERE, capture_output=True, text=True)
        self.assertEqual(said.returncode, 0, said.stdout + said.stderr)


if __name__ == "__main__":
    unittest.main()
