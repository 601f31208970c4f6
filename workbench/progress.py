"""Progress of long work: the callback that every long function takes, and one count over several steps."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

#: ``progress(stage, done, total)``: the name of the stage, and how much of it is done, in units of the stage's own
#: (images, bytes, calls). It is called often, and may raise ``errors.Cancelled`` to stop the work.
Progress = Callable[[str, int, int], None]

#: ``Meter`` reports the whole as this many parts.
PARTS = 1000
#: A step is expected to go on at its own pace from this share on; the first parts are often slower.
OWN_PACE_FROM = 0.2


def silent(stage: str, done: int, total: int) -> None:
    """A progress callback that does nothing."""


def part(progress: Progress, index: int, count: int) -> Progress:
    """The progress of one of ``count`` equal parts that follow each other, as progress of all of them."""
    return lambda stage, done, total: progress(stage, index * total + done, count * total)


@dataclass(frozen=True)
class Work:
    """The steps of one kind: what they weigh together, and how many seconds a weight of 1 is expected to take."""

    weight: float
    seconds: float = 1.0


class Meter:
    """Turns the progress of steps that follow each other into the progress of the whole, as a share of its seconds.

    What is left is estimated for each kind of step: the steps of the kind that ended tell how long a weight of 1
    takes; until one has, the expectation does. So the seconds left follow from the share at any moment.

    Args:
        progress: called with ``(step and stage, done, PARTS)``.
        works: the work by kind of step.
        clock: seconds since any moment.
    """

    def __init__(self, progress: Progress, works: Mapping[str, Work], clock: Callable[[], float] | None = None):
        self._progress, self._clock = progress, clock or time.monotonic
        self._kinds = {kind: _Kind(work.weight, work.seconds) for kind, work in works.items()}
        self._begin, self._shown = self._clock(), 0.0
        self._step: _Step | None = None

    def step(self, label: str, kind: str, weight: float = 1.0) -> Progress:
        """Begin the next step; the one before has ended. Returns the progress callback for the step."""
        now = self._clock()
        if self._step:
            self._step.kind.ended(self._step.weight, now - self._step.begin)
        self.skip(kind, weight)
        self._step = current = _Step(self._kinds[kind], weight, now)

        def of_step(stage: str, done: int, total: int) -> None:
            now = self._clock()
            current.pace(done / max(total, 1), now)
            left = current.left(now) + sum(kind.left for kind in self._kinds.values())
            spent = now - self._begin
            self._shown = min(max(spent / (spent + left) if spent else 0.0, self._shown), 1.0)  # never back
            self._progress(f"{label}: {stage}" if stage else label, round(PARTS * self._shown), PARTS)

        of_step("", 0, 1)
        return of_step

    def skip(self, kind: str, weight: float = 1.0) -> None:
        """Steps of so much weight will not come, because their work is done or refused."""
        self._kinds[kind].skip(weight)


class _Kind:
    """The steps of one kind: what is still to begin, and how long those that ended took."""

    def __init__(self, weight: float, seconds: float):
        self._weight, self._expected = weight, seconds
        self._ended = self._took = 0.0

    @property
    def rate(self) -> float:
        """Seconds that a weight of 1 takes."""
        return self._took / self._ended if self._ended else self._expected

    @property
    def left(self) -> float:
        """Seconds of the steps that have not begun."""
        return self._weight * self.rate

    def ended(self, weight: float, seconds: float) -> None:
        self._ended, self._took = self._ended + weight, self._took + seconds

    def expect(self, seconds: float) -> None:
        """Expect that a weight of 1 takes so long at least, as the present step's pace says."""
        self._expected = max(self._expected, seconds)

    def skip(self, weight: float) -> None:
        self._weight = max(0.0, self._weight - weight)


class _Step:
    """The present step: its kind, its weight, when it began, and how long it will take by its own pace."""

    def __init__(self, kind: _Kind, weight: float, begin: float):
        self.kind, self.weight, self.begin, self._seconds = kind, weight, begin, 0.0

    def pace(self, share: float, now: float) -> None:
        """Learn from how much of the step is done."""
        if share >= OWN_PACE_FROM:
            self._seconds = (now - self.begin) / share
            if self.weight:
                self.kind.expect(self._seconds / self.weight)

    def left(self, now: float) -> float:
        """Seconds left of the step; the longer of what such steps take and what its own pace says."""
        return max(0.0, max(self._seconds, self.weight * self.kind.rate) - (now - self.begin))
