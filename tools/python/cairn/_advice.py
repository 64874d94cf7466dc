"""What to save in place of an object that isn't data."""

from __future__ import annotations

import dataclasses
import enum
import numbers
from collections.abc import ItemsView, KeysView, Mapping, ValuesView
from typing import Any, Callable

import numpy as np

_PLAIN = (dict, list, tuple, set, frozenset, str, bool, int, float, complex, bytes, bytearray)


def advice(value: Any) -> str:
    """What to do about it, as the end of a sentence."""
    return next((told for fits, told in _ADVICE if fits(value)), None) or _other(value)


def _has(name: str) -> Callable[[Any], bool]:
    return lambda value: hasattr(value, name)


def _is(*kinds: type) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, kinds)


def _is_lazy(value: Any) -> bool:
    """Whether it is a parameter or buffer that a lazy module of torch has still to make."""
    return any(kind.__name__ == "UninitializedTensorMixin" for kind in type(value).__mro__)


def _is_code(value: Any) -> bool:
    return isinstance(value, type) or (callable(value) and not hasattr(value, "state_dict"))


# The first that fits counts. What numpy loads when it is asked for is only asked for here.
_ADVICE: list[tuple[Callable[[Any], bool], str]] = [
    (_is_lazy, "its module hasn't seen an input yet, which gives it a shape: save after the first one"),
    (_is_code, "leave it out"),
    (_has("state_dict"), "save its state_dict()"),
    (_is(enum.Enum), "save its .value"),
    (_has("_asdict"), "save its _asdict()"),
    *((_is(kind), f"save {kind.__name__}() of it") for kind in _PLAIN),
    (_is(Mapping), "save dict() of it"),
    (_is(KeysView, ValuesView, ItemsView), "save list() of it"),
    (_is(memoryview), "save bytes() of it"),
    # Fractions and decimals.
    (_is(numbers.Number), "save str() of it"),
    (lambda value: isinstance(value, np.ma.MaskedArray), "save its .data and its .mask"),
    (_is(np.ndarray), "save numpy.asarray() of it"),
    (_has("bit_generator"), "save its bit_generator.state"),
    (lambda value: isinstance(value, (np.random.BitGenerator, np.random.SeedSequence)), "save its .state"),
    (_has("get_state"), "save its get_state()"),
    (_has("getstate"), "save its getstate()"),
    # Configurations of transformers.
    (_has("to_dict"), "save its to_dict()"),
    (dataclasses.is_dataclass, "save dataclasses.asdict() of it"),
]


def _other(value: Any) -> str:
    may_do = " (vars() may do)" if hasattr(value, "__dict__") else ""
    return f"save what it holds as dicts, lists, numbers and tensors{may_do}"
