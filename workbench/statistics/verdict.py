"""Verdicts by an interval. Comparisons, studies and searches decide here whether a sample "cannot tell"."""

from __future__ import annotations

from typing import Literal, TypeVar

#: A lower and an upper end.
Interval = tuple[float, float]
#: Whether a limit holds.
Verdict = Literal["holds", "cannot tell", "fails"]
HOLDS: Verdict = "holds"
CANNOT_TELL: Literal["cannot tell"] = "cannot tell"
FAILS: Verdict = "fails"

Above = TypeVar("Above", bound=str)
Below = TypeVar("Below", bound=str)


def holds_limit(interval: Interval, limit: float) -> Verdict:
    """Whether a loss stays within a limit: ``holds`` or ``fails`` only where the whole interval does.

    Args:
        interval: 95 % interval of the loss, in the limit's unit.
        limit: the largest loss that is allowed.
    """
    low, high = interval
    return HOLDS if high <= limit else FAILS if low > limit else CANNOT_TELL


def side_of(interval: Interval, equal: float, above: Above, below: Below) -> Above | Below | Literal["cannot tell"]:
    """On which side of equality two models differ: ``above`` or ``below`` only where the whole interval does.

    Args:
        interval: 95 % interval of the difference or ratio.
        equal: the difference or ratio of two equal models.
        above: the verdict where the interval lies above ``equal``.
        below: the verdict where it lies below.
    """
    low, high = interval
    return above if low > equal else below if high < equal else CANNOT_TELL


def lies_below(interval: Interval, other: Interval) -> bool:
    """Whether the whole of one interval lies below the other; where they overlap, the samples cannot tell."""
    return interval[1] < other[0]
