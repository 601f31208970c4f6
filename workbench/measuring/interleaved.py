"""Latencies of several engines, taken in rounds that alternate between them.

A noisy minute of the machine then falls on all engines alike instead of on the one that was being timed. Every
round is stored as soon as it is taken, so that a killed process loses one round of one engine.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..backends import open_engine
from ..backends.base import Session
from ..progress import Progress
from ..records import Engine
from ..workspace import Workspace
from . import Subject, timing
from .measurement import one_batch

ROUNDS = 8
ROUND = "round"


@dataclass(frozen=True)
class Round:
    """The calls of one round, how the warm-up before them went, and the session's memory after it."""

    seconds: tuple[float, ...]
    device_seconds: tuple[float, ...]
    warmup_calls: int
    settled: bool
    memory_bytes: int


@dataclass(frozen=True)
class Turn:
    """An open session that is warm and takes its turns."""

    session: Session
    feeds: Mapping[str, np.ndarray]
    calls: int
    warmup_calls: int
    settled: bool
    memory_bytes: int

    def round(self) -> Round:
        """Time one round; the first call is left out, because another engine has used the caches since."""
        self.session.time(self.feeds, 1)
        seconds = self.session.time(self.feeds, self.calls)
        on_device = self.session.device_time(self.feeds, self.calls) or ()
        return Round(tuple(seconds), tuple(on_device), self.warmup_calls, self.settled, self.memory_bytes)


def time_in_rounds(
    engines: Mapping[str, Engine],
    images: np.ndarray,
    batch: int,
    seconds: float,
    workspace: Workspace,
    progress: Progress,
) -> dict[str, list[Round]]:
    """Time engines at one batch size, each about ``seconds`` long in all.

    Args:
        engines: by the key under which their rounds are kept; rounds that are already there are not repeated.
        images: (N, H, W, 3) float32; the first ``batch`` of them are fed, repeated where there are fewer.
        batch: images per call.
        seconds: how long each engine is timed, over all rounds.
        workspace: its ledger keeps the rounds.
        progress: told before every round.
    """
    taken = {key: workspace.observations(ROUND, Round, key) for key in engines}
    missing = [key for number in range(ROUNDS) for key in engines if len(taken[key]) <= number]
    turns: dict[str, Turn] = {}
    with contextlib.ExitStack() as stack:
        for done, key in enumerate(missing):
            progress("latency", done, len(missing))
            if key not in turns:
                session = stack.enter_context(open_engine(engines[key]))
                turns[key] = _warm(session, engines[key], images, batch, seconds)
            workspace.append(ROUND, key, one := turns[key].round())
            taken[key].append(one)
    return taken


def _warm(session: Session, engine: Engine, images: np.ndarray, batch: int, seconds: float) -> Turn:
    """Warm a session up; its memory is read here, before the next session is opened in the same process."""
    subject = Subject.of(engine)
    feeds = subject.feeds(one_batch(subject, images, batch))
    warmup_calls, per_window, settled = timing.warm_up(session, feeds, limit=seconds)
    calls = math.ceil(max(per_window / timing.WINDOW_S * seconds, timing.MIN_CALLS) / ROUNDS)
    return Turn(session, feeds, calls, warmup_calls, settled, session.memory())


def joined(rounds: list[Round]) -> timing.Latency:
    """All rounds of one engine as one record, in the order taken."""
    return timing.Latency(
        tuple(second for one in rounds for second in one.seconds),
        tuple(second for one in rounds for second in one.device_seconds),
        max((one.warmup_calls for one in rounds), default=0),
        all(one.settled for one in rounds),
    )
