"""Latency at a given load: images arrive at random moments, whether the engine is free or not, so waiting counts.

A closed loop sends the next call when the last one has ended, so that it never sees a queue. In an open loop the
arrivals do not wait for the engine (Schroeder, Wierman and Harchol-Balter, "Open Versus Closed: A Cautionary Tale",
NSDI 2006).
"""

from __future__ import annotations

import contextlib
import functools
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from ..backends import open_streams
from ..backends.base import Session
from ..errors import refuse_unless
from ..progress import Progress, silent
from ..records import Engine, quantile
from .measurement import one_batch
from .subject import Subject
from .timing import warm_up

#: A run whose last images wait longer than this share of its length has a queue that grows.
GROWING = 0.1
#: An engine that is still busy at this many times the moment of the last arrival does not keep up, and is stopped.
PATIENCE = 3.0
#: A waiting stream looks this often whether the run was cancelled, in seconds.
LOOK_S = 0.05


@dataclass(frozen=True)
class OpenLoop:
    """What the images of an open loop waited and took.

    Attributes:
        load: images that arrive in a second, on average.
        batch: the most images of one call: a free stream takes all that wait, up to these.
        streams: how many calls run at a time.
        latencies_s: from the arrival of each image to its logits, in the order of arrival; where the queue was so
            long that the run was stopped, of the images that were served.
        waits_s: the part of these before the call began.
        calls: how many calls the images shared.
        seconds: from the first arrival to the last logits.
    """

    load: float
    batch: int
    streams: int
    latencies_s: tuple[float, ...]
    waits_s: tuple[float, ...]
    calls: int
    seconds: float

    @property
    def p50_ms(self) -> float:
        """Median time from arrival to logits, ms."""
        return 1e3 * quantile(self.latencies_s, 0.5)

    @property
    def p99_ms(self) -> float:
        """The time that 99 of 100 images take at most, from arrival to logits, ms."""
        return 1e3 * quantile(self.latencies_s, 0.99)

    @property
    def keeps_up(self) -> bool:
        """Whether the queue stays short: it does not grow until the end of the run."""
        last = self.waits_s[-max(1, len(self.waits_s) // 10) :]
        return float(np.median(last)) <= GROWING * self.seconds


def measure_open_loop(
    engine: Engine,
    load: float,
    *,
    batch: int | None = None,
    streams: int = 1,
    images: np.ndarray | None = None,
    seconds: float = 2.0,
    seed: int = 0,
    progress: Progress = silent,
) -> OpenLoop:
    """Let images arrive as a Poisson process, and measure how long each of them takes.

    Args:
        engine: what ``build_engine`` made.
        load: images per second on average.
        batch: the most images of one call; None takes the size that the engine is tuned for.
        streams: how many calls may run at a time.
        images: float32 (N, H, W, 3), of which one batch is used; None takes noise.
        seconds: how long images arrive.
        seed: of the moments of arrival.
        progress: gets the stage ``open loop``, in images.

    Raises:
        WorkbenchError: the engine does not take the batch, or a number is not above zero.
    """
    subject = Subject.of(engine)
    batch = engine.batches.opt if batch is None else batch
    subject.check_batch(batch)
    refuse_unless(
        min(load, seconds, streams) > 0 and load * seconds >= 10,
        "An open loop cannot be run like this",
        why=f"load is {load!r} images/s, seconds is {seconds!r}, streams is {streams!r}",
        remedy="give numbers above zero, and enough seconds for 10 images or more",
    )
    stack = one_batch(subject, None if images is None else subject.checked_images(images), batch)
    moments = np.cumsum(np.random.default_rng(seed).exponential(1 / load, max(10, round(load * seconds))))
    queue = _Queue(moments, batch, functools.partial(progress, "open loop"))
    with contextlib.ExitStack() as opened:
        sessions = open_streams(engine, streams)
        for session in reversed(sessions):  # the first is closed last: it owns what the others share
            opened.callback(session.close)
        for session in sessions:
            warm_up(session, subject.feeds(stack), limit=seconds / 4)
        queue.begin = time.perf_counter()
        with ThreadPoolExecutor(streams) as pool:
            for done in [pool.submit(_serve, session, subject, stack, queue) for session in sessions]:
                done.result()
    return queue.result(load, streams)


def _serve(session: Session, subject: Subject, stack: np.ndarray, queue: _Queue) -> None:
    """Take what waits, compute it, and so on until all images have been served."""
    least = _fewest(subject)
    try:
        while taken := queue.take():
            session.run(subject.feeds(stack[: max(len(taken), least)]))
            queue.finished(taken)
    except BaseException:
        queue.stopped.set()
        raise


def _fewest(subject: Subject) -> int:
    """The fewest images of a call; fewer that wait are filled up to these."""
    return subject.batches.min if subject.batches else 1


@dataclass
class _Queue:
    """Images by their moments of arrival: those up to now wait, unless a stream took them."""

    moments: np.ndarray
    most: int
    report: functools.partial
    begin: float = 0.0
    next: int = 0
    calls: int = 0
    taken_at: np.ndarray = field(init=False)
    finished_at: np.ndarray = field(init=False)
    lock: threading.Lock = field(default_factory=threading.Lock)
    stopped: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self):
        self.taken_at, self.finished_at = np.zeros(len(self.moments)), np.zeros(len(self.moments))

    def take(self) -> range:
        """The images that wait now, up to ``most``, or the next one as soon as it arrives; empty at the end."""
        while not self.stopped.is_set():
            with self.lock:
                now = time.perf_counter() - self.begin
                arrived = int(np.searchsorted(self.moments, now, side="right"))
                if self.next == len(self.moments) or (now > PATIENCE * self.moments[-1] and self.next > 0):
                    break
                if arrived > self.next:
                    taken = range(self.next, min(arrived, self.next + self.most))
                    self.next, self.calls = taken.stop, self.calls + 1
                    self.taken_at[taken.start : taken.stop] = now
                    self.report(taken.stop, len(self.moments))
                    return taken
                pause = self.moments[self.next] - now
            time.sleep(min(pause, LOOK_S))
        return range(0)

    def finished(self, taken: range) -> None:
        """Write down that the logits of these images are there."""
        self.finished_at[taken.start : taken.stop] = time.perf_counter() - self.begin

    def result(self, load: float, streams: int) -> OpenLoop:
        served = slice(0, self.next)
        latencies, waits = (at[served] - self.moments[served] for at in (self.finished_at, self.taken_at))
        seconds = float(self.finished_at.max() - self.moments[0])
        return OpenLoop(
            load, self.most, streams, tuple(latencies.tolist()), tuple(waits.tolist()), self.calls, seconds
        )
