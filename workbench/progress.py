"""Progress of long work: the callback that every long function takes, and one count over several steps."""

from __future__ import annotations

from collections.abc import Callable

#: ``progress(stage, done, total)``: the name of the stage, and how much of it is done, in units of the stage's own
#: (images, bytes, calls). It is called often, and may raise ``errors.Cancelled`` to stop the work.
Progress = Callable[[str, int, int], None]

#: ``Meter`` reports the whole as this many parts.
PARTS = 1000


def silent(stage: str, done: int, total: int) -> None:
    """A progress callback that does nothing."""


class Meter:
    """Turns the progress of steps that follow each other into the progress of the whole.

    Args:
        progress: called with ``(step and stage, done, PARTS)``.
        total: the sum of the weights of all steps.
    """

    def __init__(self, progress: Progress, total: float):
        self._progress, self._total = progress, total
        self._before = self._weight = self._shown = 0.0

    def step(self, label: str, weight: float = 1.0) -> Progress:
        """Begin the next step; the one before has ended. Returns the progress callback for the step."""
        self._before += self._weight
        self._weight = weight

        def of_step(stage: str, done: int, total: int) -> None:
            share = (self._before + weight * done / max(total, 1)) / self._total
            self._shown = min(max(share, self._shown), 1.0)  # never back: a step of two stages counts twice
            self._progress(f"{label}: {stage}" if stage else label, round(PARTS * self._shown), PARTS)

        of_step("", 0, 1)
        return of_step
