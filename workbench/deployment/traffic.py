"""Traffic: clients in threads that ask a service again and again, and what became of their requests over time."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from ..errors import WorkbenchError, refuse_unless
from ..progress import Progress, silent
from ..records import quantile, whole
from .fallback import ENGINE, ORIGINAL
from .service import Deployment

#: Seconds of one interval, of which each is a row.
EVERY_S = 0.25


@dataclass(frozen=True)
class Traffic:
    """How much is asked.

    Attributes:
        clients: threads; each asks again as soon as it was answered.
        images: of a request.
        seconds: for how long.
    """

    clients: int = 2
    images: int = 1
    seconds: float = 5.0

    def __post_init__(self):
        fits = all((whole(number) or 0) > 0 for number in (self.clients, self.images))
        refuse_unless(
            fits and isinstance(self.seconds, int | float) and 0 < self.seconds < math.inf,
            "Traffic has at least one client, one image a request, and takes some time",
            why=f"it is {self!r}",
            remedy="give numbers above 0",
        )


@dataclass(frozen=True)
class Interval:
    """What happened in one interval.

    Attributes:
        end_s: its end, seconds since the start.
        active: ``engine`` or ``original``, at its end.
        engine: images/s that the engine answered.
        original: images/s that the original answered.
        median_ms: time of the requests that were answered, NaN where none was.
        p99_ms: likewise.
        answered: requests.
        failed: requests that were refused, or raised another error.
        queued: images that waited at its end.
    """

    end_s: float
    active: str
    engine: float
    original: float
    median_ms: float
    p99_ms: float
    answered: int
    failed: int
    queued: int


@dataclass(eq=False)
class _Clients:
    """Threads that ask until they are told to stop, and the times of their requests."""

    service: Deployment
    images: np.ndarray
    traffic: Traffic
    times: list[float] = field(default_factory=list)
    errors: list[WorkbenchError] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    def start(self) -> list[threading.Thread]:
        threads = [threading.Thread(target=self._ask, args=(i,), daemon=True) for i in range(self.traffic.clients)]
        for thread in threads:
            thread.start()
        return threads

    def _ask(self, client: int) -> None:
        step, first = self.traffic.images, client * self.traffic.images
        while not self.stop.is_set():
            chosen = np.arange(first, first + step) % len(self.images)
            begin = time.perf_counter()
            try:
                self.service.predict(self.images[chosen])
            except WorkbenchError as error:
                self.errors.append(error)
                self.stop.wait(0.01)  # a full queue is not asked in a tight loop
            else:
                self.times.append(time.perf_counter() - begin)
            first += step * self.traffic.clients


def send_traffic(
    service: Deployment,
    images: np.ndarray,
    traffic: Traffic | None = None,
    *,
    each: Callable[[Interval], object] = lambda interval: None,
    progress: Progress = silent,
) -> list[Interval]:
    """Ask a service for some seconds.

    Args:
        service: what ``deploy`` returned.
        images: (N, H, W, 3), normalised float32 or uint8 pixels; the clients take them in turn.
        traffic: how much is asked.
        each: called with every interval when it ends.
        progress: raises ``Cancelled`` to stop.

    Returns:
        One row per ``EVERY_S``; the last one ends when the requests that were under way are answered.
    """
    traffic, rows = traffic or Traffic(), []
    clients = _Clients(service, images, traffic)
    intervals = _Intervals(service, clients)
    threads = clients.start()
    try:
        while (left := traffic.seconds - intervals.elapsed_s) > 0:
            progress("requests", round(intervals.elapsed_s * 1e3), round(traffic.seconds * 1e3))
            time.sleep(min(EVERY_S, left))
            rows.append(intervals.next())
            each(rows[-1])
    finally:
        clients.stop.set()
        for thread in threads:
            thread.join()
    rows.append(intervals.next())
    each(rows[-1])
    return rows


class _Intervals:
    """Reads the counters of a service and of its clients, and gives what was added since it last did."""

    def __init__(self, service: Deployment, clients: _Clients):
        self._service, self._clients = service, clients
        self._begin = self._last = time.perf_counter()
        self._counts = self._counters()

    @property
    def elapsed_s(self) -> float:
        return time.perf_counter() - self._begin

    def next(self) -> Interval:
        """The interval since the last call."""
        now, before, counts = time.perf_counter(), self._counts, self._counters()
        took, self._last, self._counts = now - self._last, now, counts
        times = [1e3 * seconds for seconds in self._clients.times[before["answered"] : counts["answered"]]]
        return Interval(
            end_s=now - self._begin,
            active=self._service.active,
            engine=(counts[ENGINE] - before[ENGINE]) / took,
            original=(counts[ORIGINAL] - before[ORIGINAL]) / took,
            median_ms=quantile(times, 0.5) if times else math.nan,
            p99_ms=quantile(times, 0.99) if times else math.nan,
            answered=len(times),
            failed=counts["failed"] - before["failed"],
            queued=self._service.queued,
        )

    def _counters(self) -> dict[str, int]:
        answered = {model: int(self._service.answered(model)) for model in (ENGINE, ORIGINAL)}
        return answered | {"answered": len(self._clients.times), "failed": len(self._clients.errors)}
