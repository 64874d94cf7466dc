"""What a training ran with: versions, platform, command line, commit. Recorded with an iteration, compared when it is loaded."""

from __future__ import annotations

import functools
import os
import re
import sys
import time
from typing import Any, Mapping

# Seconds that `git` may take before a commit is left out.
_PATIENCE = 2.0

# Where launchers (torchrun, Slurm, Open MPI, DeepSpeed, MindSpore) tell a process its place. Addresses name machines and stay out.
_RANK_VARIABLES = (
    "RANK",
    "WORLD_SIZE",
    "LOCAL_RANK",
    "LOCAL_WORLD_SIZE",
    "GROUP_RANK",
    "SLURM_PROCID",
    "SLURM_NTASKS",
    "SLURM_JOB_ID",
    "OMPI_COMM_WORLD_RANK",
    "OMPI_COMM_WORLD_SIZE",
    "RANK_ID",
    "RANK_SIZE",
)

_NAMES = {
    "python": "Python",
    "torch": "PyTorch",
    "cuda": "CUDA",
    "rocm": "ROCm",
    "torch_npu": "torch_npu",
    "cann": "CANN",
    "numpy": "NumPy",
    "transformers": "Transformers",
    "cairn": "Cairn",
}

_HIDDEN = "***"
_SECRET = r"(?:token|passw(?:or)?d|passphrase|secret|credentials?|(?:api|access|auth|private|secret)[-_]?key)"
_SECRET_OPTION = re.compile(rf"(?:^|[-_.]){_SECRET}$", re.IGNORECASE)
_SECRET_VALUE = re.compile(r"\b(?:hf_|sk-|gh[pousr]_|github_pat_|glpat-|AKIA)[A-Za-z0-9_-]{12,}")
_PASSWORD_IN_ADDRESS = re.compile(r"(?<=://)[^/@\s]+(?=@)")


def capture(cairn: str) -> dict[str, Any]:
    """The environment of this process as JSON values. Nothing of it is needed to load an iteration.

    Libraries are named only where they are imported already. Of the command line, what looks like a secret is replaced
    by `***`; of the variables, only those that tell a rank its place are kept. `git` is asked once per process.

    Args:
        cairn: The version of this package.

    Returns:
        versions: Of "python", "cairn", and as far as they are imported "numpy", "transformers", "torch", with "cuda" or
            "rocm" as torch was built for, "torch_npu" and "cann".
        platform: Of the system, and machine: such as "x86_64".
        commandLine: As the process was started.
        startTime: When that was, in UTC, ISO 8601.
        git: commit, branch (None where none is checked out) and dirty (whether tracked files are changed) of the working
            directory. Left out where it is in no repository, has no commit, or git takes too long.
        ranks: The variables of a launcher, such as RANK and WORLD_SIZE. Left out where there are none.
    """
    # Not with the package: importing it has to be quick.
    import platform

    captured: dict[str, Any] = {
        "versions": {"python": platform.python_version(), "cairn": cairn, **_libraries()},
        "platform": platform.platform(),
        "machine": platform.machine(),
        "commandLine": _without_secrets(getattr(sys, "orig_argv", sys.argv)),
        "startTime": _start_time(),
    }
    git = _git()
    if git is not None:
        captured["git"] = dict(git)
    ranks = {name: os.environ[name] for name in _RANK_VARIABLES if name in os.environ}
    if ranks:
        captured["ranks"] = ranks
    return captured


def differences(saved: Any, current: Any) -> list[str]:
    """A sentence for each major version that differs between two environments of `capture`.

    Libraries that only one of them has are no difference, and neither is anything that can't be understood, as it
    was written by another version of this package.
    """
    sentences = []
    before, now = _versions(saved), _versions(current)
    for key, name in _NAMES.items():
        majors = _major(before.get(key)), _major(now.get(key))
        if None not in majors and majors[0] != majors[1]:
            sentences.append(
                f"This was saved with {name} {before[key]}, and {name} {now[key]} is loading it."
            )
    return sentences


def _versions(environment: Any) -> Mapping[str, Any]:
    versions = environment.get("versions") if isinstance(environment, Mapping) else None
    return versions if isinstance(versions, Mapping) else {}


def _major(version: Any) -> int | None:
    match = re.match(r"\d+", version) if isinstance(version, str) else None
    return int(match.group()) if match else None


def _libraries() -> dict[str, str]:
    """Versions of what is imported. None of it is imported for this."""
    found: dict[str, Any] = {}
    for name in ("numpy", "transformers", "torch", "torch_npu"):
        found[name] = getattr(sys.modules.get(name), "__version__", None)
    build = getattr(sys.modules.get("torch"), "version", None)
    found["cuda"], found["rocm"] = getattr(build, "cuda", None), getattr(build, "hip", None)
    found["cann"] = _cann_version()
    # Some are subclasses of str, and a module that is still being imported may have none yet.
    return {name: str(version) for name, version in found.items() if version}


def _cann_version() -> Any:
    utilities = getattr(sys.modules.get("torch_npu"), "utils", None)
    # Older ones have no such function, and it reads files that a container may lack.
    try:
        return utilities.get_cann_version() if utilities is not None else None
    except Exception:
        return None


def _without_secrets(arguments: list[str]) -> list[str]:
    shown, hides_next = [], False
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if hides_next and not argument.startswith("--"):
            argument = _HIDDEN
        elif equals and _SECRET_OPTION.search(name):
            argument = f"{name}={_HIDDEN}"
        hides_next = not equals and name.startswith("-") and bool(_SECRET_OPTION.search(name))
        argument = _PASSWORD_IN_ADDRESS.sub(_HIDDEN, _SECRET_VALUE.sub(_HIDDEN, argument))
        # Bytes that aren't text come as lone surrogates, which JSON can't hold.
        shown.append(argument.encode("utf-8", "replace").decode())
    return shown


@functools.lru_cache(maxsize=None)
def _start_time() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(_seconds_of_start()))


_imported = time.time()


def _seconds_of_start() -> float:
    """When this process began, by the clock of the wall; where the system doesn't say, when this module was imported."""
    try:
        with open("/proc/self/stat", "rb") as file:
            # The name of the program, in parentheses, may hold anything. Then field 22 is its start after boot, in ticks.
            ticks = int(file.read().rpartition(b")")[2].split()[19])
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
        return time.time() - age
    except (OSError, ValueError, IndexError, AttributeError):
        return _imported


@functools.lru_cache(maxsize=None)
def _git() -> dict[str, Any] | None:
    import shutil
    import subprocess

    program = shutil.which("git")
    if program is None:
        return None
    # A repository's own configuration could name a program to run as its monitor; and nothing here may wait or write.
    command = [program, "--no-optional-locks", "-c", "core.fsmonitor=false", "status"]
    command += ["--porcelain=v2", "--branch", "--untracked-files=no", "--ignore-submodules=dirty"]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=_PATIENCE,
            env={**os.environ, "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"},
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    lines = done.stdout.decode("utf-8", "replace").splitlines()
    heads = dict(line[2:].partition(" ")[::2] for line in lines if line.startswith("# "))
    commit, branch = heads.get("branch.oid", ""), heads.get("branch.head", "")
    if not re.fullmatch(r"[0-9a-f]{40,64}", commit):
        return None
    return {
        "commit": commit,
        "branch": None if branch == "(detached)" else branch,
        "dirty": any(not line.startswith("# ") for line in lines),
    }
