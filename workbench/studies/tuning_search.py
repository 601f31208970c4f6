"""The search of a tuning: few settings of a grid of batches and streams are measured, the others are predicted.

The time of a call grows with its batch about as a straight line: a fixed part, and a part for each image. More
streams scale that line. So the time of every setting is predicted from those measured so far, with optimism where
nothing is known. The setting with the best prediction is measured next, until none is better than what there is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np

from ..performance.cost import cost
from ..progress import Progress, silent
from ..records import ModelSpec

#: The share of the grid that may be measured.
SHARE = 1 / 3
#: The search begins at the smallest batch that has this share of the arithmetic intensity of the largest one.
SATURATED = 0.9
#: A point is better where it gains this share; less is within the spread of a measurement.
GAIN = 0.01
#: The share of a call that is taken for fixed while only one batch was measured.
FIXED = 0.8
#: A number of streams that was never measured is hoped to be this much faster than one that was.
HOPE = 1.2


@dataclass(frozen=True, order=True)
class Setting:
    """Images per call, and how many calls run at a time."""

    batch: int
    streams: int

    def __str__(self) -> str:
        return f"batch {self.batch} with {self.streams} stream{'s' * (self.streams > 1)}"


@dataclass(frozen=True)
class Point:
    """A setting that was measured.

    Attributes:
        setting: batch and streams.
        images_per_second: images completed; in an open loop at most those that arrived.
        p50_ms: of a call, or in an open loop from an image's arrival to its logits.
        p99_ms: likewise.
        allowed: whether it is within the latency limit, or keeps up with the load.
    """

    setting: Setting
    images_per_second: float
    p50_ms: float
    p99_ms: float
    allowed: bool


@dataclass(frozen=True)
class Grid:
    """The powers of two of batch and streams."""

    batches: tuple[int, ...]
    streams: tuple[int, ...]

    @property
    def size(self) -> int:
        """How many settings it has."""
        return len(self.batches) * len(self.streams)

    @property
    def budget(self) -> int:
        """How many settings may be measured: a third, but never fewer than two."""
        return max(2, math.floor(self.size * SHARE))

    def settings(self) -> Iterator[Setting]:
        """All settings."""
        return (Setting(batch, streams) for batch in self.batches for streams in self.streams)

    def neighbours(self, setting: Setting) -> Iterator[Setting]:
        """The settings one step away: along one axis, or up one and down the other, with as many images in work."""
        for batch_factor, streams_factor in ((2, 1), (1, 2), (1, 0.5), (0.5, 1), (2, 0.5), (0.5, 2)):
            batch, streams = setting.batch * batch_factor, setting.streams * streams_factor
            if batch in self.batches and streams in self.streams:
                yield Setting(int(batch), int(streams))

    def between(self, setting: Setting) -> Iterator[Setting]:
        """The batches in the middle between a setting and its neighbours."""
        for batch in (setting.batch * 3 // 2, setting.batch * 3 // 4):
            if self.batches[0] < batch < self.batches[-1] and batch not in self.batches:
                yield Setting(batch, setting.streams)


def first_setting(grid: Grid, spec: ModelSpec | None) -> Setting:
    """Where the search begins: a batch that hardly waits for weights, on two streams where there are two."""
    batch = grid.batches[len(grid.batches) // 2]
    if spec is not None:
        most = cost(spec, grid.batches[-1]).intensity
        batch = next(b for b in grid.batches if cost(spec, b).intensity >= SATURATED * most)
    return Setting(batch, grid.streams[min(1, len(grid.streams) - 1)])


@dataclass
class Search:
    """The settings that were measured, each once.

    Attributes:
        grid: what may be measured, and how much of it.
        measure: measures a setting.
        progress: gets the stage ``tuning``, in settings.
        points: what was measured, in this order.
    """

    grid: Grid
    measure: Callable[[Setting], Point]
    progress: Progress = silent
    points: dict[Setting, Point] = field(default_factory=dict)

    def point(self, setting: Setting) -> Point:
        """Measure a setting."""
        self.progress("tuning", len(self.points), self.grid.budget)
        self.points[setting] = point = self.measure(setting)
        return point

    def left(self, settings: Iterator[Setting]) -> list[Setting]:
        """Those settings that were not measured; none once the budget is spent."""
        return [s for s in settings if s not in self.points] if len(self.points) < self.grid.budget else []

    # ---- the best throughput within a latency ---------------------------------------------------------------

    def best_throughput(self, first: Setting, limit_ms: float | None = None) -> Point:
        """The setting that completes the most images per second, its p99 within a limit."""
        self.point(first)
        while (setting := self._next(limit_ms)) is not None:
            self.point(setting)
        return self._fastest()

    def _next(self, limit_ms: float | None) -> Setting | None:
        """What to measure next: the most promising setting, else a neighbour of the best, which may be better."""
        fastest = self._fastest().setting
        for settings in (self.grid.settings(), self.grid.between(fastest)):
            if (promising := self._promising(settings, limit_ms)) is not None:
                return promising
        beside = [s for s in self.left(self.grid.neighbours(fastest)) if not self._is_beyond(s)]
        return max(beside, key=self._rate, default=None)

    def _is_beyond(self, setting: Setting) -> bool:
        """Whether one with fewer images and streams is beyond the limit: more of them make each call longer."""
        return any(
            not point.allowed and known.batch <= setting.batch and known.streams <= setting.streams
            for known, point in self.points.items()
        )

    def _fastest(self) -> Point:
        """The best so far; where none is allowed the one with the shortest calls."""
        return max(self.points.values(), key=lambda p: (p.allowed, p.images_per_second if p.allowed else -p.p99_ms))

    def _promising(self, settings: Iterator[Setting], limit_ms: float | None) -> Setting | None:
        """The setting with the best predicted throughput, if that is better than the best one measured."""
        best, limit = self._fastest(), math.inf if limit_ms is None else limit_ms
        possible = [s for s in self.left(settings) if not self._is_beyond(s)]
        within = [s for s in possible if self._p99_ms(s) <= limit]
        if not within:
            shortest = min(possible, key=self._p99_ms, default=None)
            return shortest if not best.allowed else None
        setting = max(within, key=self._rate)
        better = self._rate(setting) > (1 + GAIN) * best.images_per_second
        return setting if better or not best.allowed else None

    def _rate(self, setting: Setting) -> float:
        """The predicted throughput, images per second."""
        return setting.batch * setting.streams / self._seconds(setting)

    def _p99_ms(self, setting: Setting) -> float:
        """The predicted p99: that of the nearest setting measured, in proportion to the time of a call."""
        nearest = min(self.points, key=lambda known: _distance(known, setting))
        return self.points[nearest].p99_ms * self._seconds(setting) / self._seconds(nearest)

    def _seconds(self, setting: Setting) -> float:
        """The time of a call, measured or predicted: from this number of streams, or from the nearest one."""
        curves = self._curves()
        own = curves.get(setting.streams, {})
        if len(own) > 1:
            return _on_line(own, setting.batch)
        like = min(curves, key=lambda n: (-len(curves[n]), abs(math.log2(n / setting.streams))))
        seconds = _on_line(curves[like], setting.batch)
        if own and len(curves[like]) == 1:
            return _on_line(own, setting.batch)
        for batch, known in own.items():  # of one
            return seconds * known / _on_line(curves[like], batch)
        return seconds * min(1.0, setting.streams / like) / HOPE

    def _curves(self) -> dict[int, dict[int, float]]:
        """Streams -> batch -> seconds of a call."""
        curves: dict[int, dict[int, float]] = {}
        for setting, point in sorted(self.points.items()):
            seconds = setting.batch * setting.streams / point.images_per_second
            curves.setdefault(setting.streams, {})[setting.batch] = seconds
        return curves

    # ---- the least latency at a load ------------------------------------------------------------------------

    def least_latency(self, first: Setting) -> Point:
        """The setting with the shortest p99 among those that keep up, uphill from the first one."""
        best = self.point(first)
        while better := self._better(best, self.grid.neighbours(best.setting)):
            best = better
        return self._better(best, self.grid.between(best.setting)) or best

    def _better(self, best: Point, settings: Iterator[Setting]) -> Point | None:
        """The first of some settings that is better than the best so far, or None."""
        for setting in settings:
            if self.left(iter([setting])) and _is_better(point := self.point(setting), best):
                return point
        return None


def _is_better(point: Point, best: Point) -> bool:
    """Whether a point keeps up and the other does not, or has the shorter latency; else whether it does more."""
    if point.allowed != best.allowed:
        return point.allowed
    if point.allowed:
        return point.p99_ms * (1 + GAIN) < best.p99_ms
    return point.images_per_second > (1 + GAIN) * best.images_per_second


def _distance(a: Setting, b: Setting) -> float:
    return abs(math.log2(a.batch / b.batch)) + abs(math.log2(a.streams / b.streams))


def _on_line(known: dict[int, float], batch: int) -> float:
    """Seconds at a batch: on the line through the nearest two that are known, or through one and its fixed part."""
    if len(known) == 1:
        ((one, seconds),) = known.items()
        return seconds * (FIXED + (1 - FIXED) * batch / one)
    batches = np.array(sorted(known))
    right = int(np.clip(np.searchsorted(batches, batch), 1, len(batches) - 1))
    (a, b) = batches[right - 1], batches[right]
    slope = (known[b] - known[a]) / (b - a)
    return max(known[a] + slope * (batch - a), 0.5 * min(known.values()) * min(1.0, batch / batches[0]))
