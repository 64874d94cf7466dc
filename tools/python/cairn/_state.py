"""What is saved of the objects of a training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .errors import Usage


def states_of(parts: Mapping[str, Any]) -> dict[str, Any]:
    """The state of each part that is given: its `state_dict()` where it has one, else itself."""
    states: dict[str, Any] = {}
    for part, value in parts.items():
        if value is None:
            continue
        if not part or "/" in part or part.startswith("."):
            raise Usage(f"{part!r} can't be the name of a part, which is the name of a file")
        states[part] = value.state_dict() if callable(getattr(value, "state_dict", None)) else value
    return states


def config_files(model: Any) -> dict[str, bytes]:
    """The configuration of a transformers model, under the names that `from_pretrained` looks for."""
    files: dict[str, bytes] = {}
    for attribute, name in (("config", "config.json"), ("generation_config", "generation_config.json")):
        to_json = getattr(getattr(model, attribute, None), "to_json_string", None)
        if callable(to_json):
            files[name] = str(to_json()).encode()
    return files
