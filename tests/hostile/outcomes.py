"""What the workbench does with hostile input: it must refuse it, or take it rightly, and soon."""

from __future__ import annotations

import collections
import contextlib
import signal
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from workbench.errors import WorkbenchError

#: Seconds after which a case counts as a hang.
LIMIT_S = 20.0
#: Outcomes that must not occur.
WRONG = ("raw", "hang", "silent")
COLUMNS = ("tried", "refused", "taken", *WRONG)


class Case(NamedTuple):
    """One hostile input.

    Attributes:
        name: what it is, for the report of a failure.
        call: gives it to the workbench.
        right: whether it was right to take it, from what the call returned. Left out, it must be refused.
    """

    name: str
    call: Callable[[], Any]
    right: Callable[[Any], bool] = lambda result: False


class Hang(BaseException):
    """A case took too long. No ``Exception``, so that nothing between here and there swallows it."""


@dataclass
class Tally:
    """How many cases of a kind ended how, and the first that ended wrongly."""

    counts: collections.Counter = field(default_factory=collections.Counter)
    wrong: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return "\n".join(self.wrong[:10])


def tally(cases: Iterable[Case]) -> Tally:
    """Try every case."""
    found = Tally()
    for case in cases:
        outcome, how = _outcome(case)
        found.counts.update(["tried", outcome])
        if outcome in WRONG:
            found.wrong.append(f"{outcome}: {case.name}: {how}")
    return found


def _outcome(case: Case) -> tuple[str, str]:
    try:
        with warnings.catch_warnings(), _limit(LIMIT_S):
            warnings.simplefilter("ignore")
            result = case.call()
            return ("taken", "") if case.right(result) else ("silent", f"it gave {result!r}"[:300])
    except Hang:
        return "hang", f"more than {LIMIT_S:g} s"
    except WorkbenchError as error:
        named = bool(error.what and error.why and error.remedy)
        return ("refused", "") if named else ("raw", f"an error without a remedy: {error}")
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        return "raw", f"{type(error).__name__}: {error}"[:300] + f" ({place.filename}:{place.lineno})"


@contextlib.contextmanager
def _limit(seconds: float) -> Iterator[None]:
    def stop(number, frame):
        raise Hang

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
