"""Throughput as it was counted: the calls that were completed, and the wall clock that passed meanwhile."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..errors import refuse_unless
from .values import check_fields


@dataclass(frozen=True)
class Window:
    """Calls completed in successive stretches of time, those of all streams together.

    A throughput is ``sum(calls)`` over ``sum(seconds)``. It is never derived from latencies, because what lies
    between two calls (checks, the copy into pinned memory) is in no latency. The stretches show how it varied.

    Attributes:
        calls: calls that were completed in each stretch.
        seconds: the wall clock of each stretch.
        joules: the energy used meanwhile, in all stretches together; None where it cannot be read.
    """

    calls: tuple[int, ...]
    seconds: tuple[float, ...]
    joules: float | None = None

    def __post_init__(self):
        check_fields(self)
        refuse_unless(
            len(self.calls) == len(self.seconds) > 0
            and all(count >= 0 for count in self.calls)
            and all(0 < second < math.inf for second in self.seconds),
            "A window needs the calls and the seconds of each stretch",
            why=f"calls are {self.calls[:5]}, seconds are {self.seconds[:5]}",
            remedy="give as many counts as seconds, counts of 0 or more and seconds above zero",
        )
        refuse_unless(
            self.joules is None or 0 <= self.joules < math.inf,
            "The energy of a window is a number of joules",
            why=f"it is {self.joules!r}",
            remedy="give 0 or more, or None where it was not read",
        )

    @property
    def calls_per_second(self) -> float:
        """Calls completed in the window over its wall clock."""
        return sum(self.calls) / sum(self.seconds)

    @property
    def rates(self) -> tuple[float, ...]:
        """Calls per second in each stretch."""
        return tuple(count / second for count, second in zip(self.calls, self.seconds))

    @classmethod
    def of_completions(cls, moments: Sequence[float], stretches: int) -> Window:
        """The window that opens at 0 and closes at the last completion, cut into stretches of equal length.

        Args:
            moments: when each call was completed, in seconds since the window opened, in any order.
            stretches: how many stretches; fewer calls than these make one stretch a call.
        """
        count, length = min(stretches, len(moments)), max(moments) / min(stretches, len(moments))
        calls = [0] * count
        for moment in moments:
            calls[min(int(moment / length), count - 1)] += 1
        return cls(tuple(calls), (length,) * count)

    @classmethod
    def joined(cls, windows: Iterable[Window]) -> Window:
        """Windows that were taken one after the other, as one."""
        windows = list(windows)
        calls = tuple(count for one in windows for count in one.calls)
        joules = [one.joules for one in windows if one.joules is not None]
        known = sum(joules) if len(joules) == len(windows) else None
        return cls(calls, tuple(second for one in windows for second in one.seconds), known)
