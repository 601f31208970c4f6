"""Refusals and errors that name a remedy.

A ``Refusal`` is a value: a function returns it as the reason why something cannot be done, and the caller decides
what follows. A ``WorkbenchError`` is raised, and names in addition what was asked. ``refusal.error(what)`` makes an
error of a refusal, and ``error.refusal`` a refusal of an error.
"""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Refusal:
    """Why something cannot be done, and what would make it possible.

    Attributes:
        reason: why it cannot be done.
        remedy: what to do about it.
        node: the name of the ONNX node that is refused; empty where the refusal is not about one node.
    """

    reason: str
    remedy: str
    node: str = ""

    def error(self, what: str) -> WorkbenchError:
        """The error to raise for this refusal.

        Args:
            what: what was asked and refused, one sentence without a full stop.
        """
        return WorkbenchError(what, why=self.reason, remedy=self.remedy)


class WorkbenchError(Exception):
    """An error that a user can act on.

    Args:
        what: what was asked and did not work, one sentence without a full stop.
        why: what is there instead of what was expected.
        remedy: what to do about it.
    """

    def __init__(self, what: str, *, why: str, remedy: str):
        super().__init__(what, why, remedy)
        self.what, self.why, self.remedy = what, why, remedy

    def __str__(self) -> str:
        return f"{self.what}.\n  why: {self.why}\n  remedy: {self.remedy}"

    @property
    def refusal(self) -> Refusal:
        """The same as a value, for a table or a ledger: its reason holds ``what`` and ``why``."""
        return Refusal(f"{self.what}: {self.why}", self.remedy)

    def __reduce__(self):  # keyword arguments do not survive the default pickling
        return functools.partial(type(self), self.what, why=self.why, remedy=self.remedy), ()


class Cancelled(WorkbenchError):
    """Raised by a progress callback to stop the work that calls it; no unfinished file or record remains."""

    def __init__(
        self,
        what: str = "The work was cancelled",
        *,
        why: str = "somebody asked to cancel it",
        remedy: str = "start it again; what was finished is found in the workspace",
    ):
        super().__init__(what, why=why, remedy=remedy)


def refuse_unless(condition: bool, what: str, *, why: str, remedy: str) -> None:
    """Raise a ``WorkbenchError`` when a condition on the input does not hold."""
    if not condition:
        raise WorkbenchError(what, why=why, remedy=remedy)


def shown(value, length: int = 200) -> str:
    """A value as an error quotes it: its ``repr``, cut where it is long, and its type where it has no ``repr``."""
    try:
        text = f"text of {len(value):,} characters: {value[:length]!r}" if _is_long(value, length) else repr(value)
    except Exception:  # a value that was made to fail, or nested too deeply
        return f"a {type(value).__name__}"
    return text if len(text) <= length + 40 else f"{text[:length]}..."


def _is_long(value, length: int) -> bool:
    return isinstance(value, str) and len(value) > length


def is_path(value) -> bool:
    """Whether a value can be a path of this system: without null characters, and not too long to be opened."""
    try:
        text = os.fspath(value)
        parts = os.fsencode(text).split(os.sep.encode())
    except Exception:  # no path, or an object of another program that fails
        return False
    return isinstance(text, str) and "\0" not in text and len(text) < 4096 and max(map(len, parts)) < 256


def path_of(what: str, path) -> Path:
    """A path as a ``pathlib.Path``; raise a ``WorkbenchError`` when the value is no path."""
    refuse_unless(
        is_path(path),
        f"{what} is given by its path",
        why=f"given was {shown(path)}",
        remedy="give a string or a pathlib.Path",
    )
    return Path(path)


def one_of(what: str, value, allowed) -> None:
    """Raise a ``WorkbenchError`` when ``value`` is not among ``allowed``, naming the nearest allowed ones."""
    import difflib

    if not any(isinstance(value, type(each)) and value == each for each in allowed):  # 20.0 is not 20
        text = value if isinstance(value, str) else shown(value)
        near = difflib.get_close_matches(text[:80], [str(a) for a in allowed], n=1)
        meant = next((each for each in allowed if [str(each)] == near), None)
        hint = f"did you mean {meant!r}? " if near else ""
        raise WorkbenchError(
            f"Unknown {what} {shown(value)}",
            why=f"known are {', '.join(map(repr, allowed))}",
            remedy=f"{hint}use one of the known ones",
        )
