"""Throughput and latency of one engine that several streams call at the same time."""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait

import numpy as np

from ..backends import open_streams
from ..backends.base import Session
from ..backends.hardware.cpu import environment
from ..errors import refuse_unless
from ..progress import Progress, silent
from ..records import Engine, Measurement
from .measurement import measurement_of, one_batch
from .subject import Subject
from .timing import Feeds, Latency, warm_up

#: Reports progress; may raise ``Cancelled``.
Report = Callable[[], None]


def measure_streams(
    engine: Engine,
    streams: Iterable[int] = (1, 2, 4),
    *,
    images: np.ndarray | None = None,
    batch: int | None = None,
    seconds: float = 2.0,
    progress: Progress = silent,
) -> tuple[Measurement, ...]:
    """Measure an engine under 1, 2, 4 ... streams that each call back to back; weights are loaded once.

    Args:
        engine: what ``build_engine`` made. By default one call of ONNX Runtime uses all cores, so that more streams
            gain nothing: build the engine with ``options={"threads": 1}``.
        streams: the numbers of streams to try.
        images: float32 (N, H, W, 3), of which one batch is used; None takes noise.
        batch: images per call; None takes the size that the engine is tuned for.
        seconds: how long each number of streams is timed.
        progress: gets the stage ``streams``, in numbers of streams tried.

    Returns:
        One measurement for each number of streams, latencies of all streams together, without accuracy.
    """
    subject = Subject.of(engine)
    batch = engine.batches.opt if batch is None else batch
    subject.check_batch(batch)
    if images is not None:
        images = subject.checked_images(images)
    counts = tuple(streams) if isinstance(streams, Iterable) else ()
    refuse_unless(
        bool(counts) and all(_is_count(n) for n in counts) and seconds > 0,
        "Streams cannot be measured like this",
        why=f"streams is {counts or streams}, seconds is {seconds}",
        remedy="give numbers of streams of 1 or more, and a time above zero",
    )
    feeds = subject.feeds(one_batch(subject, images, batch))
    measured = []
    for count in map(int, counts):
        report = functools.partial(progress, "streams", len(measured), len(counts))
        measured.append(_measure(engine, subject, feeds, batch, count, seconds, report))
    progress("streams", len(counts), len(counts))
    return tuple(measured)


def _is_count(value) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and value >= 1


def diminishing_returns(measurements: Sequence[Measurement], share: float = 0.95) -> int:
    """The smallest number of streams whose throughput reaches ``share`` of the best throughput measured.

    More streams gain less than 1 / share - 1 (5 %) in throughput, and each call takes longer.
    """
    refuse_unless(
        len(measurements) > 0,
        "There is no point of diminishing returns",
        why="no measurement was given",
        remedy="give what measure_streams returned",
    )
    best = max(m.images_per_second for m in measurements)
    return min(m.streams for m in measurements if m.images_per_second >= share * best)


def _measure(
    engine: Engine, subject: Subject, feeds: Feeds, batch: int, count: int, seconds: float, report: Report
) -> Measurement:
    before = environment()
    sessions = open_streams(engine, count)
    try:
        report()
        warm = warm_up(sessions[0], feeds, limit=seconds)
        times = time_together(sessions, feeds, seconds, report)
        latency = Latency(tuple(times), warmup_calls=warm.calls, steady=warm.steady)
        facts = {**before, **sessions[0].environment}
        return measurement_of(subject, batch, latency, sessions[0].memory(), facts, streams=count)
    finally:
        for session in reversed(sessions):  # the first owns what the others share
            session.close()


def time_together(
    sessions: Sequence[Session], feeds: Feeds, seconds: float, report: Report = lambda: None
) -> list[float]:
    """Call all sessions for ``seconds``, each in a thread of its own; returns the seconds of every call.

    ``report`` is called ten times a second. When a stream fails or ``report`` raises, all streams stop.
    """
    for session in sessions:
        session.time(feeds, 1)  # the first call of a stream allocates its buffers
    stop, end = threading.Event(), time.perf_counter() + seconds
    with ThreadPoolExecutor(len(sessions)) as pool:
        futures = [pool.submit(_call_until, end, stop, session, feeds) for session in sessions]
        try:
            while wait(futures, timeout=0.1, return_when=FIRST_EXCEPTION).not_done and not _failed(futures):
                report()
        finally:
            stop.set()
    return [value for future in futures for value in future.result()]


def _failed(futures: list[Future]) -> bool:
    return any(future.done() and future.exception() for future in futures)


def _call_until(end: float, stop: threading.Event, session: Session, feeds: Feeds) -> list[float]:
    times = session.time(feeds, 1)  # one call at least, however busy the machine is
    while time.perf_counter() < end and not stop.is_set():
        times += session.time(feeds, 1)
    return times
