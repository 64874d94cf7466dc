"""Puts the C library and the command, which it builds from the Swift sources beside this package, into the wheel."""

from __future__ import annotations

import subprocess
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class FromSwift(BuildHookInterface[Any]):
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if self.target_name == "sdist":
            self.app.abort(
                "The Swift sources are not below this folder: install it from a checkout of the repository, "
                "or build a wheel with tools/wheel."
            )
        # The sources in place are used with the library that CAIRN_LIBRARY names: a copy among them would soon be an old one.
        if version == "editable":
            return
        system = sysconfig.get_platform()
        if not system.startswith("linux-"):
            self.app.abort(f"Cairn runs on Linux, and not on {system}.")
        folder = self._built()
        build_data["force_include"][f"{folder}/libCairnC.so"] = "cairn/libCairnC.so"
        build_data["force_include"][f"{folder}/cairn"] = "cairn/bin/cairn"
        build_data["pure_python"] = False
        # For any Python 3, as nothing is linked with it.
        build_data["tag"] = f"py3-none-{system.replace('-', '_').replace('.', '_')}"

    def _built(self) -> str:
        """Builds both, and returns the folder where they are; ends with what is missing where that can't be done."""
        done = subprocess.run(["bash", str(Path(self.root) / "build.sh")], stdout=subprocess.PIPE, text=True)
        if done.returncode != 0:
            self.app.abort("The Swift part of Cairn could not be built, for the reason above.")
        return done.stdout.splitlines()[-1]
