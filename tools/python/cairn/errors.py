"""What the package raises."""

from __future__ import annotations

from typing import Optional


class CairnError(Exception):
    """The base of all errors of the package; its text says what happened, where, and what to do.

    `code` is a word for programs, as the command's `--json` has it; `path` is the file, or the place in a
    state, that it is about.
    """

    code = "failed"

    def __init__(self, message: str, *, code: Optional[str] = None, path: Optional[str] = None) -> None:
        super().__init__(message)
        self.code = code or type(self).code
        self.path = path


class Usage(CairnError, ValueError):
    """A call that can't be meant so."""

    code = "usage"


class NotData(CairnError, TypeError):
    """A state holds an object that isn't data; `path` says where, such as `extra.scheduler.lr_lambdas[0]`."""

    code = "not-data"


class Damage(CairnError, ValueError):
    """What was stored isn't what was saved."""

    code = "damage"


class NewerVersion(CairnError, ValueError):
    """What was stored was written by a newer version of the package."""

    code = "newer-version"


class MissingPackage(CairnError, ImportError):
    """A value needs a Python package that isn't installed."""

    code = "missing-package"
