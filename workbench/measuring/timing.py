"""How long a call takes: warm-up until the times settle, then raw times of single calls."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import NamedTuple

import numpy as np

from ..backends.base import Session
from ..progress import Progress, silent

#: One batch under the names of a session's inputs.
Feeds = Mapping[str, np.ndarray]
#: Calls are made in windows of about this many seconds; between two of them progress is told.
WINDOW_S = 0.1
#: A warm-up ends when the medians of as many successive windows as this ...
WINDOWS = 3
#: ... lie within this share of each other.
SETTLED = 0.02
#: A slow model is timed at least this often, whatever the time limit.
MIN_CALLS = 10


@dataclass(frozen=True)
class Latency:
    """Seconds of every timed call in the order taken, and how the warm-up before them went.

    ``device_seconds`` are compute alone, by the device's clock; empty where there is none. ``settled`` is False
    when the warm-up ended by its time limit. Latencies of one ``turns`` were taken call by call beside each other.
    """

    seconds: tuple[float, ...] = ()
    device_seconds: tuple[float, ...] = ()
    warmup_calls: int = 0
    settled: bool = True
    turns: str = ""


class WarmUp(NamedTuple):
    """Calls made, calls that fill a window, and whether the times settled within the limit."""

    calls: int
    per_window: int
    settled: bool


def time_calls(session: Session, feeds: Feeds, *, seconds: float = 2.0, progress: Progress = silent) -> Latency:
    """Warm a session up and time its calls one after the other.

    Args:
        session: what is timed.
        feeds: one batch.
        seconds: how long calls are timed; the warm-up takes at most as long again, but for its first three windows.
        progress: gets the stages ``warm-up`` and ``latency``, in milliseconds.
    """
    warm = warm_up(session, feeds, limit=seconds, progress=progress)
    times: list[float] = []
    begin, limit_ms = time.perf_counter(), int(1e3 * seconds)
    while (elapsed := time.perf_counter() - begin) < seconds or len(times) < MIN_CALLS:
        progress("latency", min(int(1e3 * elapsed), limit_ms), limit_ms)
        times += session.time(feeds, warm.per_window)
    progress("latency", limit_ms, limit_ms)
    on_device = session.device_time(feeds, min(len(times), 100)) or ()
    return Latency(tuple(times), tuple(on_device), warm.calls, warm.settled)


def time_in_turns(
    sessions: Sequence[tuple[Session, Feeds]], *, seconds: float = 2.0, turns: str = "", progress: Progress = silent
) -> tuple[Latency, ...]:
    """Time several sessions by turns, so that whatever disturbs the machine disturbs all of them alike.

    Every round gives each session the same number of calls, in an order that is reversed from round to round.

    Args:
        sessions: each with its own batch.
        seconds: how long each is timed; all of them warm up first.
        turns: a name for these runs, kept with the results.
        progress: gets the stages ``warm-up`` and ``latency``, in milliseconds.
    """
    warm = [warm_up(session, feeds, limit=seconds, progress=progress) for session, feeds in sessions]
    per_turn = min(w.per_window for w in warm)
    times: list[list[float]] = [[] for _ in sessions]
    order, begin, limit = list(range(len(sessions))), time.perf_counter(), seconds * len(sessions)
    while (elapsed := time.perf_counter() - begin) < limit or len(times[0]) < MIN_CALLS:
        progress("latency", min(int(1e3 * elapsed), int(1e3 * limit)), int(1e3 * limit))
        for index in order:
            session, feeds = sessions[index]
            times[index] += session.time(feeds, per_turn)
        order.reverse()
    progress("latency", int(1e3 * limit), int(1e3 * limit))
    return tuple(Latency(tuple(t), (), w.calls, w.settled, turns) for t, w in zip(times, warm))


def warm_up(session: Session, feeds: Feeds, *, limit: float, progress: Progress = silent) -> WarmUp:
    """Call a session until its times settle: the medians of three windows in a row agree within 2 %.

    The first calls allocate memory, wake threads and raise the clock; how many do so differs by model and machine,
    so their number is found, not fixed. After ``limit`` seconds and three windows the warm-up ends unsettled.
    """
    first = session.time(feeds, 2)  # of the two the faster one is nearer to what follows
    per_window = max(1, math.ceil(WINDOW_S / max(min(first), 1e-6)))
    medians: list[float] = []
    begin, limit_ms = time.perf_counter(), int(1e3 * limit)
    while True:
        elapsed = time.perf_counter() - begin
        progress("warm-up", min(int(1e3 * elapsed), limit_ms), limit_ms)
        settled = _agree(medians[-WINDOWS:])
        if settled or (elapsed >= limit and len(medians) >= WINDOWS):
            return WarmUp(len(first) + per_window * len(medians), per_window, settled)
        medians.append(median(session.time(feeds, per_window)))


def _agree(medians: list[float]) -> bool:
    return len(medians) == WINDOWS and max(medians) <= (1 + SETTLED) * min(medians)
