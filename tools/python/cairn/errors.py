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


class NotFound(CairnError, LookupError):
    """Nothing has that name."""

    code = "not-found"


class Ambiguous(CairnError, LookupError):
    """Several things have that name."""

    code = "ambiguous"


class Exists(CairnError, FileExistsError):
    """What was to be made is there already, with other content."""

    code = "exists"

    def __str__(self) -> str:
        # Not as an OSError, which would look for a number.
        return str(self.args[0])


class Protected(CairnError):
    """A pin, a policy or a reader protects it."""

    code = "protected"


class Busy(CairnError):
    """Somebody else holds a lock for too long."""

    code = "busy"


class Interrupted(CairnError):
    """It was cancelled; nothing of it stays."""

    code = "interrupted"


class NotAStore(CairnError):
    """The path is no store, or none that can be used here."""

    code = "not-a-store"


class Mismatch(CairnError, RuntimeError):
    """A state doesn't fit what it is loaded into; the text names what is missing, unexpected and mismatched."""

    code = "mismatch"


def of_code(code: str) -> type[CairnError]:
    """The class for a word of the library's."""
    return _BY_CODE.get(code, CairnError)


_BY_CODE: dict[str, type[CairnError]] = {
    kind.code: kind
    for kind in (
        Usage,
        Damage,
        NewerVersion,
        NotFound,
        Ambiguous,
        Exists,
        Protected,
        Busy,
        Interrupted,
        NotAStore,
    )
}
