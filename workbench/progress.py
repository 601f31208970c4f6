"""How far work is: the callback that every long function takes, and one count over many pieces of work."""

from __future__ import annotations

from collections.abc import Callable

#: ``progress(stage, done, total)`` is called often; it may raise ``errors.Cancelled`` to stop the work.
Progress = Callable[[str, int, int], None]

#: Into how many parts ``Meter`` divides the whole.
PARTS = 1000


def silent(stage: str, done: int, total: int) -> None:
    """A progress callback that does nothing."""


class Meter:
    """Turns the progress of steps, one after the other, into the progress of the whole.

    Args:
        progress: is told ``(what is being done, done, PARTS)``; may raise ``Cancelled``.
        total: the sum of the weights of all steps.
    """

    def __init__(self, progress: Progress, total: float):
        self._progress, self._total = progress, total
        self._before = self._weight = self._told = 0.0

    def step(self, label: str, weight: float = 1.0) -> Progress:
        """Begin the next step, which ends the one before; returns the progress callback for its own work."""
        self._before += self._weight
        self._weight = weight

        def told(stage: str, done: int, total: int) -> None:
            share = (self._before + weight * done / max(total, 1)) / self._total
            self._told = min(max(share, self._told), 1.0)  # a step of two stages counts up twice
            self._progress(f"{label}: {stage}" if stage else label, round(PARTS * self._told), PARTS)

        told("", 0, 1)
        return told
