"""Sentences of the library, which speak of the command `cairn` and its options, for those who call it from Python."""

from __future__ import annotations

import re

# Options of commands that the calls of the same name have as well: those that are on or off, those that take a value,
# and those of `open`.
_SWITCHES = (
    "adapter-only",
    "all",
    "force",
    "merge-adapter",
    "no-optimizer",
    "remove-redundancy",
    "replace",
    "skip-damaged",
    "unified",
)
_VALUES = (
    "base",
    "config",
    "keep-best",
    "keep-every",
    "keep-last",
    "keep-optimizer-last",
    "keep-within",
    "maps",
    "maps-of",
    "max-shard-size",
    "max-size",
    "mesh",
    "only",
    "prefix",
    "rename",
    "run",
    "step",
)
_OF_OPEN = ("jobs", "memory")

# Commands that a store has a method for; what is told of these options is in its answer anyway.
_METHODS = {
    **{name: name for name in "annotate delete diff export gc pin pins policy restore rewind".split()},
    **{name: name for name in "show stats unpin verify".split()},
    "list": "iterations",
}
_TOLD_ANYWAY = ("--files", "--json", "--tensors")

# Perhaps with its value: a number, or a list such as `dp=2,tp=4`.
_OPTION = re.compile(r"(?<![\w/-])--([a-z]+(?:-[a-z]+)*)(?: (-?\d+\b|[a-z]+=[a-z0-9=,]+))?")


def in_python(sentence: str) -> str:
    """Names the calls and their options where there are any, and else leaves a command a command."""
    sentence = re.sub(r"make one with `cairn init[^`]*`", "pass create=True to make one", sentence)
    # Every second part is a command.
    parts = re.split("`cairn ([^`]*)`", sentence)
    return "".join(_command(part) if number % 2 else _options(part) for number, part in enumerate(parts))


def _command(command: str) -> str:
    name, *words = command.split()
    arguments = [word for word in words if word not in _TOLD_ANYWAY]
    if name in _METHODS and not any(word.startswith("--") for word in arguments):
        # What is in capitals stands for something.
        told = ", ".join(word if word.isupper() else f'"{word}"' for word in arguments)
        return f"`store.{_METHODS[name]}({told})`"
    where = [] if name == "layouts" else ["--store", "STORE"]
    return f"`{' '.join(['cairn', name, *where, *words])}`"


def _options(text: str) -> str:
    text = re.sub(r"(?<=[\"'])\w+(?=[\"'])", lambda name: _NAMES.get(name[0], name[0]), text)
    return _OPTION.sub(_option, text)


def _option(found: re.Match[str]) -> str:
    option, value = found.groups()
    name = option.replace("-", "_")
    rest = f" {value}" if value else ""
    if option in _SWITCHES:
        return f"{name}=True{rest}"
    if option in _OF_OPEN:
        return f"cairn.open({name}=...){rest}"
    if option not in _VALUES:
        return found[0]
    if not value:
        return f"{name}=..."
    return f'{name}="{value}"' if "=" in value else f"{name}={value}"


def camel(name: str) -> str:
    """An option's name as the library has it."""
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)


_NAMES = {camel(name): name for name in (option.replace("-", "_") for option in _SWITCHES + _VALUES)}
