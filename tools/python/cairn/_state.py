"""What is saved of the objects of a training."""

from __future__ import annotations

import json
import os
import sys
import unicodedata
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from .errors import Usage

_Value = TypeVar("_Value")


def bare(value: Any) -> Any:
    """A module of torch without what torch.compile, DataParallel and DistributedDataParallel wrap around it, so that names are
    those of the module itself, whoever loads it; all else as it is."""
    torch = sys.modules.get("torch")
    # Only loaded where something was compiled.
    compiling = sys.modules.get("torch._dynamo.eval_frame")
    while torch is not None:
        if isinstance(value, (torch.nn.DataParallel, torch.nn.parallel.DistributedDataParallel)):
            value = value.module
        elif compiling is not None and isinstance(value, compiling.OptimizedModule):
            value = value._orig_mod
        else:
            break
    return value


def states_of(parts: Mapping[str, Any]) -> dict[str, Any]:
    """The state of each part that is given: its `state_dict()` where it has one, else itself."""
    states: dict[str, Any] = {}
    for part, value in parts.items():
        if value is None:
            continue
        if not part or "/" in part or part.startswith(".") or not part.isprintable():
            raise Usage(f"{part!r} can't be the name of a part, which is the name of a file")
        _check_state(part, value)
        value = bare(value)
        states[part] = value.state_dict() if callable(getattr(value, "state_dict", None)) else value
    return states


def _check_state(part: str, value: Any) -> None:
    """Raises Usage for what was hardly meant to be a part."""
    if isinstance(value, bool):
        raise Usage(
            f"save has no option {part}, and {value} alone is no part of a state; write extra={{{part!r}: {value}}} to keep it"
        )
    if isinstance(value, type):
        raise Usage(f"{part} is the class {value.__name__}; give the object")
    if part in ("model", "optimizer") and isinstance(value, (str, os.PathLike)):
        raise Usage(f"{part} is {value!r}, and no state; give the {part} itself, or the file as files=...")


def config_files(model: Any) -> dict[str, bytes]:
    """The configuration of a transformers model, under the names that `from_pretrained` looks for."""
    files: dict[str, bytes] = {}
    for attribute, name in (("config", "config.json"), ("generation_config", "generation_config.json")):
        to_json = getattr(getattr(model, attribute, None), "to_json_string", None)
        if callable(to_json):
            files[name] = str(to_json()).encode()
    return files


def as_json(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of what JSON can say, of which nothing changes any more. Raises Usage for anything else."""
    try:
        # What isn't a finite number would come back as None.
        text = json.dumps(dict(metadata), allow_nan=False, ensure_ascii=False).encode()
        return dict(json.loads(text, object_pairs_hook=named_once, parse_int=_integer))
    except (TypeError, ValueError, RecursionError) as error:
        raise Usage(f"metadata has to be JSON, without NaN and infinities: {error}") from error


def named_once(pairs: Iterable[tuple[str, _Value]]) -> dict[str, _Value]:
    """What has a name each, by name. Raises ValueError where two have the same, as one of them would be lost."""
    named: dict[str, _Value] = {}
    seen = set()
    for name, value in pairs:
        # Names that Unicode calls equal are equal to a store.
        normal = unicodedata.normalize("NFC", name)
        if normal in seen:
            raise ValueError(f"two of its names are {name!r} as text")
        seen.add(normal)
        named[name] = value
    return named


def _integer(digits: str) -> int:
    # A store has larger ones as floating point numbers.
    value = int(digits)
    if not -(2**63) <= value < 2**64:
        raise ValueError(f"the number {digits[:24]}... has more than 64 bits; give it as text")
    return value
