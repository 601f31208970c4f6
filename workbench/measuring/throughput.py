"""Throughput and latency of one engine that several streams call at the same time."""

from __future__ import annotations

import dataclasses
import functools
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from typing import TypeVar

import numpy as np

from ..backends import open_streams
from ..backends.base import Session
from ..backends.hardware.cpu import environment
from ..backends.hardware.load import watched
from ..errors import refuse_unless
from ..progress import Progress, silent
from ..records import Engine, Measurement, Window
from .measurement import measurement_of, one_batch
from .subject import Subject
from .timing import Feeds, Latency, joules_since, warm_up

#: Reports progress; may raise ``Cancelled``.
Report = Callable[[], None]
#: Whether another call is to be made.
More = Callable[[], bool]
#: What the thread of one stream returns.
Found = TypeVar("Found")
#: A window of several streams is stored as this many stretches, so that its spread can be shown.
STRETCHES = 25
#: The first calls of a stream, which are not counted: they allocate the buffers of all batches in flight.
ALLOCATING = 3


def measure_streams(
    engine: Engine,
    streams: Iterable[int] = (1, 2, 4),
    *,
    images: np.ndarray | None = None,
    batch: int | None = None,
    seconds: float = 2.0,
    progress: Progress = silent,
) -> tuple[Measurement, ...]:
    """Count what an engine completes under 1, 2, 4 ... streams that call without a pause; weights are loaded once.

    Each stream takes batches from the caller's memory and gives logits back there, by ``Session.run_all``: that is
    the measurement's ``end_to_end``, and its latencies are of these calls. Where the runtime computes on a device,
    a second window of the same length counts calls with a batch that is there already: ``compute``.

    Args:
        engine: what ``build_engine`` made. By default one call of ONNX Runtime uses all cores, so that more streams
            gain nothing: build the engine with ``options={"threads": 1}``.
        streams: the numbers of streams to try.
        images: float32 (N, H, W, 3), of which one batch is used; None takes noise.
        batch: images per call; None takes the size that the engine is tuned for.
        seconds: how long each window is.
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
        with watched() as watch:
            times, end_to_end = count_end_to_end(sessions, feeds, seconds, report)
        compute = count_compute(sessions, feeds, seconds, report) or end_to_end
        latency = Latency(
            tuple(times),
            warmup_calls=warm.calls,
            steady=warm.steady,
            end_to_end=end_to_end,
            compute=compute,
            load=watch.load,
        )
        facts = {**before, **sessions[0].environment}
        return measurement_of(subject, batch, latency, sessions[0].memory(), facts, streams=count)
    finally:
        for session in reversed(sessions):  # the first owns what the others share
            session.close()


def count_end_to_end(
    sessions: Sequence[Session], feeds: Feeds, seconds: float, report: Report = lambda: None
) -> tuple[list[float], Window]:
    """Call all sessions for ``seconds``, each in a thread of its own, from array to array.

    ``report`` is called ten times a second. When a stream fails or ``report`` raises, all streams stop.

    Returns:
        The seconds of every call, from when the stream took its batch until the logits were there; and the window,
        which closes when the last call that was begun is completed.
    """
    for session in sessions:
        for _ in session.run_all([feeds] * ALLOCATING):
            pass
    before, begin = sessions[0].joules(), time.perf_counter()
    calls = [call for of_stream in _together(_calls_of, sessions, feeds, seconds, report) for call in of_stream]
    window = Window.of_completions([completed - begin for _, completed in calls], STRETCHES)
    window = dataclasses.replace(window, joules=joules_since(sessions[0], before))
    return [completed - begun for begun, completed in calls], window


def count_compute(
    sessions: Sequence[Session], feeds: Feeds, seconds: float, report: Report = lambda: None
) -> Window | None:
    """Compute a batch that is on the device in all sessions for ``seconds``; None where there is no device.

    The window opens when the first stream begins and closes at the last completion, so that no call lies partly
    outside it.
    """
    found = _together(lambda session, feeds, more: session.compute(feeds, more), sessions, feeds, seconds, report)
    streams = [moments for moments in found if moments is not None]
    if not streams:
        return None
    opened = min(moments[0] for moments in streams)
    completed = [moment - opened for _, *moments in streams for moment in moments]
    return Window.of_completions(completed, STRETCHES)


def _together(
    work: Callable[[Session, Feeds, More], Found],
    sessions: Sequence[Session],
    feeds: Feeds,
    seconds: float,
    report: Report,
) -> list[Found]:
    """What ``work`` returns for each session, in a thread of its own; it calls for as long as it is told to."""
    stop, end = threading.Event(), time.perf_counter() + seconds
    with ThreadPoolExecutor(len(sessions)) as pool:
        futures = [pool.submit(work, session, feeds, _until(end, stop)) for session in sessions]
        try:
            while wait(futures, timeout=0.1, return_when=FIRST_EXCEPTION).not_done and not _failed(futures):
                report()
        finally:
            stop.set()
    return [future.result() for future in futures]


def _failed(futures: list[Future]) -> bool:
    return any(future.done() and future.exception() for future in futures)


def _until(end: float, stop: threading.Event) -> More:
    """True once at least, however busy the machine is, and then until the end."""
    first = iter((True,))
    return lambda: next(first, False) or (time.perf_counter() < end and not stop.is_set())


def _calls_of(session: Session, feeds: Feeds, more: More) -> list[tuple[float, float]]:
    """When each call of one stream began and when it was completed, by ``time.perf_counter``."""
    begun: deque[float] = deque()

    def batches() -> Iterator[Feeds]:
        while more():
            begun.append(time.perf_counter())
            yield feeds

    return [(begun.popleft(), time.perf_counter()) for _ in session.run_all(batches())]
