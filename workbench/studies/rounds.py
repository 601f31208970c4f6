"""Latencies of several engines, taken in rounds that alternate between them.

A noisy minute of the machine then falls on all engines alike instead of on the one that was being timed. Every
round is stored as soon as it is taken, so that a killed process loses one round of one engine.
"""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ..backends import open_engine
from ..backends.base import Progress, Session
from ..records import Engine
from ..workspace import Workspace

ROUNDS = 8
ROUND = "round"
#: Calls in one round: enough for a percentile over all rounds, and an end for very fast models.
FEWEST, MOST = 3, 500
WARMUP_CALLS = 3


@dataclass(frozen=True)
class Round:
    """The calls of one round, and the session's memory after its warm-up."""

    latencies_s: tuple[float, ...]
    memory_bytes: int


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
        images: (N, ...) float32; the first ``batch`` of them are fed, repeated where there are fewer.
        batch: images per call.
        seconds: how long each engine is timed, over all rounds.
        workspace: its ledger keeps the rounds.
        progress: told after every round.
    """
    taken = {key: workspace.observations(ROUND, Round, key) for key in engines}
    missing = [(turn, key) for turn in range(ROUNDS) for key in engines if len(taken[key]) <= turn]
    feed = np.ascontiguousarray(np.resize(images, (batch, *images.shape[1:])))
    with contextlib.ExitStack() as stack:
        open_sessions: dict[str, tuple[Session, Mapping, int, int]] = {}
        for done, (_, key) in enumerate(missing):
            progress("latency", done, len(missing))
            if key not in open_sessions:
                session = stack.enter_context(open_engine(engines[key]))
                feeds = {engines[key].variant.graph.input_name: feed}
                calls = _calls(session, feeds, seconds / ROUNDS)
                open_sessions[key] = session, feeds, calls, session.memory()  # before another one is opened
            workspace.append(ROUND, key, one := _round(*open_sessions[key]))
            taken[key].append(one)
    return taken


def _calls(session: Session, feeds: Mapping, seconds: float) -> int:
    """How many calls fill a round, from the warm-up's."""
    warm = session.time(feeds, WARMUP_CALLS)
    warm += session.time(feeds, WARMUP_CALLS)
    return int(np.clip(seconds / statistics.median(warm), FEWEST, MOST))


def _round(session: Session, feeds: Mapping, calls: int, memory: int) -> Round:
    session.time(feeds, 1)  # another engine has used the caches since
    return Round(tuple(session.time(feeds, calls)), memory)
