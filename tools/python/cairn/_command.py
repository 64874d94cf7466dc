"""The command `cairn`, which is in the package."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def main() -> None:
    """Becomes the command, with this process's arguments."""
    program = Path(__file__).with_name("bin") / "cairn"
    try:
        os.execv(program, ["cairn", *sys.argv[1:]])
    except FileNotFoundError:
        sys.exit(
            f"cairn: there is no {program}: a package that is used in place has no command; build it with "
            "`swift build -c release --product cairn`"
        )
