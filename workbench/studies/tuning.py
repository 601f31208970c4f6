"""Which batch and how many streams: the best throughput within a latency, or the least latency at a load."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import pandas as pd

from ..backends import build_engine
from ..backends.hardware.cpu import cores
from ..errors import WorkbenchError, refuse_unless
from ..measuring.open_loop import measure_open_loop
from ..measuring.throughput import measure_streams
from ..progress import Progress, silent
from ..records import Batches, Engine, Variant, whole
from ..workspace import Workspace
from .tuning_search import Grid, Point, Search, Setting, first_setting

#: The kind of a tuning's points in the ledger.
POINT = "tuning"


@dataclass(frozen=True)
class Tuning:
    """The best setting, and everything that was measured on the way.

    Attributes:
        best: the point to take.
        points: all points in the order in which they were measured.
        grid: how many settings the whole grid has.
        max_latency_ms: the limit on the p99 of a call, or None.
        load: the images that arrive in a second, or None.
        engine: what was measured; it opens with the threads that belong to the best number of streams.
    """

    best: Point
    points: tuple[Point, ...]
    grid: int
    max_latency_ms: float | None
    load: float | None
    engine: Engine

    @property
    def batch(self) -> int:
        """Images per call."""
        return self.best.setting.batch

    @property
    def streams(self) -> int:
        """Calls that run at a time."""
        return self.best.setting.streams

    def frame(self) -> pd.DataFrame:
        """A row for every point, in the order in which they were measured."""
        return frame_of(self.points)

    def __str__(self) -> str:
        best, count = self.best, f"{len(self.points)} of {self.grid} settings were measured."
        if self.load is not None:
            return (
                f"At {self.load:g} images/s that arrive at random moments, {best.setting} at most has the least"
                f" latency: 99 of 100 images take {best.p99_ms:.3g} ms or less, waiting included. {count}"
            )
        limit = "" if self.max_latency_ms is None else f" within {self.max_latency_ms:g} ms (p99)"
        return (
            f"The best throughput{limit} has {best.setting}: {best.images_per_second:,.0f} images/s, and 99 of 100"
            f" calls take {best.p99_ms:.3g} ms or less. {count}"
        )


def frame_of(points: Iterable[Point]) -> pd.DataFrame:
    """A row for every point: batch, streams, images_per_second, p50_ms, p99_ms, allowed."""
    rows = [dataclasses.asdict(point.setting) | dataclasses.asdict(point) for point in points]
    return pd.DataFrame(rows).drop(columns="setting")


def tune(
    variant: Variant,
    backend: str,
    workspace,
    *,
    max_latency_ms: float | None = None,
    load: float | None = None,
    max_batch: int = 64,
    max_streams: int | None = None,
    seconds: float = 1.0,
    card: str | None = None,
    options: dict | None = None,
    progress: Progress = silent,
    each: Callable[[Point], object] = lambda point: None,
) -> Tuning:
    """Find the batch and the streams with the best throughput within a latency, or the least latency at a load.

    Args:
        variant: what ``apply_recipe`` made.
        backend: the runtime, on this machine.
        workspace: where the engine goes, and the points (kind ``tuning``).
        max_latency_ms: what 99 of 100 calls may take; None is no limit. Calls follow each other without a pause.
        load: images that arrive in a second; the latency of an image then counts from its arrival.
        max_batch: the largest batch to try.
        max_streams: the most streams to try; None is 4, or on a CPU as many as it has cores, up to 4.
        seconds: how long each setting is measured.
        card: the GPU to build for, see ``build_engine``.
        options: of the backend. ONNX Runtime without ``threads`` gets the cores over the streams.
        progress: gets the stage ``tuning``, in settings.
        each: called with every point as it is measured.

    Raises:
        WorkbenchError: no setting is within the limit or keeps up with the load; the error names the nearest. Or
            what ``build_engine`` refuses.
    """
    for name, value in {"max_latency_ms": max_latency_ms, "load": load, "seconds": seconds}.items():
        refuse_unless(
            value is None or (isinstance(value, int | float) and 0 < value < math.inf),
            f"{name} must be a number above zero",
            why=f"it is {value!r}",
            remedy="give milliseconds, images per second, and seconds; or None for no limit",
        )
    refuse_unless(
        max_latency_ms is None or load is None,
        "A tuning has one aim",
        why="both max_latency_ms and load are given",
        remedy="give max_latency_ms for the best throughput within it, or load for the least latency at it",
    )
    workspace, batches = Workspace.of(workspace), _powers("max_batch", max_batch)
    streams = _powers("max_streams", max_streams or _streams(backend))
    if static := variant.graph.batch:
        batches = (static,)
    engine = build_engine(
        variant,
        backend,
        workspace,
        batches=Batches(batches[0], batches[-1], batches[-1]),
        card=card,
        options=options,
    )
    grid = Grid(batches, streams)

    def measured(setting: Setting) -> Point:
        if load is None:
            point = measured_closed(engine, setting, max_latency_ms, seconds)
        else:
            point = _open(for_streams(engine, setting.streams), setting, load, seconds)
        workspace.append(POINT, variant.digest, point)
        each(point)
        return point

    search, first = Search(grid, measured, progress), first_setting(grid, variant.graph.spec)
    best = search.least_latency(first) if load else search.best_throughput(first, max_latency_ms)
    progress("tuning", grid.budget, grid.budget)
    if not best.allowed:
        raise _none_allowed(best, max_latency_ms, load)
    fit = for_streams(engine, best.setting.streams)
    return Tuning(best, tuple(search.points.values()), grid.size, max_latency_ms, load, fit)


def _powers(name: str, most) -> tuple[int, ...]:
    """The powers of two up to ``most``."""
    number = whole(most) or 0
    refuse_unless(
        number > 0, f"{name} must be a positive whole number", why=f"it is {most!r}", remedy="give 1 or more"
    )
    return tuple(1 << power for power in range(number.bit_length()))


def _streams(backend: str) -> int:
    return min(cores(), 4) if backend == "onnxruntime" else 4


def for_streams(engine: Engine, streams: int) -> Engine:
    """The engine as it is opened for so many streams: on a CPU they share the cores, unless threads were given."""
    if engine.backend != "onnxruntime" or "threads" in engine.options:
        return engine
    return dataclasses.replace(engine, options={**engine.options, "threads": max(1, cores() // streams)})


def measured_closed(engine: Engine, setting: Setting, limit: float | None, seconds: float) -> Point:
    """A setting in a closed loop: calls follow each other without a pause; ``limit`` is the p99 in ms, or None."""
    fit = for_streams(engine, setting.streams)
    (found,) = measure_streams(fit, (setting.streams,), batch=setting.batch, seconds=seconds)
    allowed = limit is None or found.p99_ms <= limit
    return Point(setting, found.images_per_second, found.p50_ms, found.p99_ms, allowed)


def _open(engine: Engine, setting: Setting, load: float, seconds: float) -> Point:
    long_enough = max(seconds, 10 / load)
    found = measure_open_loop(engine, load, batch=setting.batch, streams=setting.streams, seconds=long_enough)
    completed = len(found.latencies_s) / found.seconds
    return Point(setting, completed, found.p50_ms, found.p99_ms, found.keeps_up)


def _none_allowed(nearest: Point, limit: float | None, load: float | None) -> WorkbenchError:
    if load is not None:
        return WorkbenchError(
            f"No setting keeps up with {load:g} images/s",
            why=f"the nearest is {nearest.setting}, which completes {nearest.images_per_second:,.0f} images/s",
            remedy="lower the load, choose a faster recipe, or spread it over several machines",
        )
    return WorkbenchError(
        f"No setting is within {limit:g} ms (p99)",
        why=f"the nearest is {nearest.setting}, of whose calls 99 in 100 take up to {nearest.p99_ms:.3g} ms",
        remedy=f"allow {nearest.p99_ms:.3g} ms, or choose a faster recipe",
    )
