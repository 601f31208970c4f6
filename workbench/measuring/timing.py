"""How long a call takes: warm-up to the steady state, single calls, and rounds that interleave several sessions."""

from __future__ import annotations

import contextlib
import math
import random
import time
from collections.abc import Callable, Generator, Hashable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Generic, NamedTuple, TypeVar

import numpy as np

from ..backends.base import Session
from ..backends.hardware.load import Load, watched
from ..progress import Progress, silent
from ..records import Window

#: One batch under the names of a session's inputs.
Feeds = Mapping[str, np.ndarray]
#: A caller's key for a session.
Key = TypeVar("Key", bound=Hashable)
#: The warm-up calls a session in windows of about this many seconds.
WINDOW_S = 0.1
#: In the steady state the medians of this many successive windows agree.
WINDOWS = 3
#: They agree where the largest exceeds the smallest by this share at most.
STEADY = 0.02
#: A slow model is timed at least this often, whatever the time limit.
MIN_CALLS = 10
#: The fewest rounds of interleaved sessions, and about how many seconds a round times each of them. Shorter rounds
#: leave a machine less time to change within one.
ROUNDS, ROUND_S = 20, 0.04
#: Where a session makes so many calls in a round, one call of each session before them is left out: another one has
#: used the caches since. Where all make fewer, calls are so long that caches do not matter.
UNCOUNTED_FROM = 4
#: Interleaved sessions are opened anew so often, or more often where they are timed for so many seconds a time.
OPENINGS, OPENING_S = 8, 0.5


@dataclass(frozen=True)
class Latency:
    """Seconds of every timed call in the order taken, and how the warm-up before them ended.

    ``device_seconds`` are compute alone, by the device's clock; empty where it has none. ``end_to_end`` and
    ``compute`` count calls, see ``Measurement``. ``steady`` is False where the warm-up ended by its time limit,
    before the steady state. ``load`` is what else the machine did meanwhile, None where nobody watched.
    Latencies with one name in ``interleaved`` were taken in the same rounds; ``rounds`` and ``openings`` hold the
    numbers of the round and of the opening of every call.
    """

    seconds: tuple[float, ...] = ()
    device_seconds: tuple[float, ...] = ()
    warmup_calls: int = 0
    steady: bool = True
    interleaved: str = ""
    rounds: tuple[int, ...] = ()
    openings: tuple[int, ...] = ()
    end_to_end: Window | None = None
    compute: Window | None = None
    load: Load | None = None


class WarmUp(NamedTuple):
    """Calls made, seconds of one call at the end, and whether the steady state was reached within the limit."""

    calls: int
    call_s: float
    steady: bool

    @property
    def per_window(self) -> int:
        """Calls that fill a window."""
        return _calls_in(WINDOW_S, self.call_s)


def _calls_in(seconds: float, call_s: float) -> int:
    return max(1, math.ceil(seconds / max(call_s, 1e-6)))


def warm_up(session: Session, feeds: Feeds, *, limit: float, progress: Progress = silent) -> WarmUp:
    """Call a session until its steady state: the medians of three windows in a row agree within 2 %.

    The first calls allocate memory, wake threads and raise the clock; how many do so differs by model and machine,
    so their number is found, not fixed. The warm-up takes three windows at least; after ``limit`` seconds it ends
    without a steady state.
    """
    first = session.time(feeds, 2)  # of the two the faster one is nearer to the calls that follow
    per_window = _calls_in(WINDOW_S, min(first))
    medians: list[float] = []
    begin, limit_ms = time.perf_counter(), int(1e3 * limit)
    while True:
        elapsed = time.perf_counter() - begin
        progress("warm-up", min(int(1e3 * elapsed), limit_ms), limit_ms)
        steady = _agree(medians[-WINDOWS:])
        if steady or (elapsed >= limit and len(medians) >= WINDOWS):
            return WarmUp(len(first) + per_window * len(medians), median(medians[-WINDOWS:]), steady)
        medians.append(median(session.time(feeds, per_window)))


def _agree(medians: list[float]) -> bool:
    return len(medians) == WINDOWS and max(medians) <= (1 + STEADY) * min(medians)


def time_calls(session: Session, feeds: Feeds, *, seconds: float = 2.0, progress: Progress = silent) -> Latency:
    """Warm a session up and time its calls one after the other.

    Args:
        session: what is timed.
        feeds: one batch.
        seconds: how long calls are timed; the warm-up takes at most as long, or three windows if these take longer.
        progress: gets the stages ``warm-up`` and ``latency``, in milliseconds.
    """
    warm = warm_up(session, feeds, limit=seconds, progress=progress)
    times: list[float] = []
    stretches: list[Window] = []
    begin, limit_ms = time.perf_counter(), int(1e3 * seconds)
    with watched() as watch:
        while (elapsed := time.perf_counter() - begin) < seconds or len(times) < MIN_CALLS:
            progress("latency", min(int(1e3 * elapsed), limit_ms), limit_ms)
            found, stretch = _counted(session, feeds, warm.per_window)
            times += found
            stretches.append(stretch)
    progress("latency", limit_ms, limit_ms)
    calls, end_to_end = min(len(times), 100), Window.joined(stretches)
    on_device = session.device_time(feeds, calls) or ()
    compute = _compute_window(session, feeds, calls) or end_to_end
    return Latency(
        tuple(times),
        tuple(on_device),
        warm.calls,
        warm.steady,
        end_to_end=end_to_end,
        compute=compute,
        load=watch.load,
    )


def _counted(session: Session, feeds: Feeds, calls: int) -> tuple[list[float], Window]:
    """Seconds of calls one after the other, and how many were completed in how much time of the wall clock."""
    before, begin = session.joules(), time.perf_counter()
    times = session.time(feeds, calls)
    seconds = time.perf_counter() - begin
    return times, Window((len(times),), (seconds,), joules_since(session, before))


def joules_since(session: Session, before: float | None) -> float | None:
    """The energy used since ``session.joules()`` returned ``before``; None where it cannot be read."""
    now = session.joules()
    return None if now is None or before is None else max(0.0, now - before)


def _compute_window(session: Session, feeds: Feeds, calls: int) -> Window | None:
    """So many calls with the batch on the device; None where the session computes in the caller's memory."""
    left = iter(range(calls))
    moments = session.compute(feeds, lambda: next(left, None) is not None)
    if moments is None:
        return None
    begin, *completed = moments
    return Window((len(completed),), (completed[-1] - begin,))


# ---- interleaved rounds ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Round:
    """The calls of one session in one round, how its warm-up ended, and its peak memory after the warm-up.

    ``number`` is that of the round; ``opening`` counts how often all sessions were opened anew before it. A session
    whose call is longer than a round takes part in every ``stride``-th round only, so that it is timed no longer
    than the others. A round that an old version stored has no windows, and its session was opened once.
    """

    seconds: tuple[float, ...]
    device_seconds: tuple[float, ...]
    warmup_calls: int
    steady: bool
    memory_bytes: int
    number: int = 0
    stride: int = 1
    end_to_end: Window | None = None
    compute: Window | None = None
    opening: int = 0


def interleaved_rounds(
    taken: Mapping[Key, Sequence[Round]],
    open_session: Callable[[Key], tuple[Session, Feeds]],
    *,
    seconds: float,
    progress: Progress = silent,
) -> Generator[tuple[Key, Round]]:
    """Time several sessions in short rounds, each of which times every session once, in random order.

    A busy moment of the machine falls on all sessions of a round, or on one of them by chance alone. So of two
    equal sessions either is as likely to be the faster one of a round, whatever else the machine does.

    Two sessions of one engine differ too, by a percent or so for as long as they are open, because their memory
    lies in other places. So every few rounds all sessions are closed, and then opened anew in random order: either
    of two equal ones is as likely to get the better place. ``statistics.compare`` relies on both chances. An
    opening after the first is warmed up with a window of calls, because the machine is warm by then. There are 8
    openings, or one for each half second of ``seconds`` where these are more; but only so many that all after the
    first one take no longer than ``seconds`` for each session, by what opening and warming up took the first time.

    Each round is yielded as soon as it is taken, so that a caller who keeps it can continue after the process was
    killed. Closing the generator closes the sessions.

    Args:
        taken: for each session its rounds that were taken earlier and need not be repeated.
        open_session: opens the session of a key, and gives it with its batch.
        seconds: how long each session is timed, over all rounds.
        progress: gets the stage ``latency``, in rounds.
    """
    count, openings = rounds_in(seconds), 1
    left = {key: _missing(rounds, count) for key, rounds in taken.items()}
    opening = 1 + max((one.opening for rounds in taken.values() for one in rounds), default=-1)
    sessions = _Sessions(open_session, seconds, {key: rounds[0].stride for key, rounds in taken.items() if rounds})
    while numbers := set().union(*left.values()):
        begin = min(numbers)
        due = [key for key, missing in left.items() if min(missing, default=count) < _end(begin, openings, count)]
        report = _same_count(progress, begin, count)
        with contextlib.ExitStack() as stack:
            ready = {key: sessions.opened(key, opening, stack, report) for key in random.sample(due, len(due))}
            openings = openings_in(seconds, sessions.reopening_s)
            for key, session in ready.items():
                left[key].intersection_update(range(0, count, session.stride))
            for number in range(begin, _end(begin, openings, count)):
                progress("latency", number, count)
                for key in random.sample(due, len(due)):
                    if number in left[key]:
                        yield key, ready[key].round(number, settle=sessions.settle)
                        left[key].remove(number)
        opening += 1
    progress("latency", count, count)


def _missing(rounds: Sequence[Round], count: int) -> set[int]:
    """The numbers of the rounds that a session is still to take part in; its stride is known from its first one."""
    return {*range(0, count, rounds[0].stride if rounds else 1)} - {one.number for one in rounds}


def _end(begin: int, openings: int, count: int) -> int:
    """The round after the last one of an opening that begins with round ``begin``; openings are equally long."""
    return math.ceil((begin * openings // count + 1) * count / openings)


def openings_in(seconds: float, reopening_s: float) -> int:
    """How often a session that is timed for so many seconds is opened, where another opening takes so long."""
    wanted = max(OPENINGS, math.ceil(seconds / OPENING_S))
    return min(wanted, 1 + math.floor(seconds / max(reopening_s, 1e-6)))


def rounds_in(seconds: float) -> int:
    """How many rounds are taken to time each session for so many seconds."""
    return max(ROUNDS, math.ceil(seconds / ROUND_S))


def _same_count(progress: Progress, done: int, total: int) -> Progress:
    """A callback for the warm-up that keeps the count of rounds: it can still cancel, and no bar moves back."""
    return lambda stage, _done, _total: progress("latency", done, total)


class _Pace(NamedTuple):
    """How a session was warmed up first, its calls in a round, and the seconds that another opening takes."""

    warm_up: WarmUp
    calls: int
    stride: int
    reopening_s: float


class _Sessions(Generic[Key]):
    """Opens sessions for rounds. What the first opening of each one finds holds for all its rounds."""

    def __init__(self, open_session: Callable[[Key], tuple[Session, Feeds]], seconds: float, strides: dict):
        self._open, self._seconds, self._strides = open_session, seconds, strides
        self._paces: dict[Key, _Pace] = {}

    @property
    def reopening_s(self) -> float:
        """Seconds in which a session is opened and warmed up again, on average."""
        return fmean(pace.reopening_s for pace in self._paces.values())

    @property
    def settle(self) -> bool:
        """Whether a call before those of a round is left out; of all sessions, or equal ones would not be alike."""
        return any(pace.calls >= UNCOUNTED_FROM for pace in self._paces.values())

    def opened(self, key: Key, opening: int, stack: contextlib.ExitStack, progress: Progress) -> _Warm:
        """A session that is warm; ``stack`` closes it."""
        progress("opening", 0, 1)
        begin = time.perf_counter()
        session, feeds = self._open(key)
        stack.enter_context(session)
        if key in self._paces:
            session.time(feeds, _calls_again(self._paces[key].warm_up))
        else:
            opening_s = time.perf_counter() - begin
            warm = warm_up(session, feeds, limit=self._seconds, progress=progress)
            self._paces[key] = self._pace(
                warm, opening_s + _calls_again(warm) * warm.call_s, self._strides.get(key)
            )
        return _Warm(session, feeds, self._paces[key], opening)

    def _pace(self, warm: WarmUp, reopening_s: float, stride: int | None) -> _Pace:
        rounds, calls = rounds_in(self._seconds), max(_calls_in(self._seconds, warm.call_s), MIN_CALLS)
        stride = stride or _power_of_two(rounds / calls)
        return _Pace(warm, math.ceil(calls * stride / rounds), stride, reopening_s)


def _calls_again(warm: WarmUp) -> int:
    """Calls that warm a session up which was warm before: two, which allocate its memory, and a window."""
    return 2 + warm.per_window


class _Warm:
    """A session that is warm; its memory is read here, before the next one is opened in the same process."""

    def __init__(self, session: Session, feeds: Feeds, pace: _Pace, opening: int):
        self._session, self._feeds, self._pace, self._opening = session, feeds, pace, opening
        self._memory = session.memory()

    @property
    def stride(self) -> int:
        """It takes part in every so-many-th round."""
        return self._pace.stride

    def round(self, number: int, *, settle: bool) -> Round:
        """Its calls of one round, after one that is left out where it is to settle."""
        calls = self._pace.calls
        if settle:
            self._session.time(self._feeds, 1)
        times, end_to_end = _counted(self._session, self._feeds, calls)
        on_device = self._session.device_time(self._feeds, calls) or ()
        compute = _compute_window(self._session, self._feeds, calls) or end_to_end
        return Round(
            tuple(times),
            tuple(on_device),
            self._pace.warm_up.calls,
            self._pace.warm_up.steady,
            self._memory,
            number,
            self._pace.stride,
            end_to_end,
            compute,
            self._opening,
        )


def _power_of_two(most: float) -> int:
    """The largest one up to ``most``, 1 at least: of two such strides, one meets every round of the other."""
    return 1 << max(0, math.floor(math.log2(most)))


def joined(rounds: Sequence[Round], interleaved: str) -> Latency:
    """All rounds of one session as one record, in the order of their numbers."""
    rounds = sorted(rounds, key=lambda one: one.number)
    return Latency(
        tuple(second for one in rounds for second in one.seconds),
        tuple(second for one in rounds for second in one.device_seconds),
        max((one.warmup_calls for one in rounds), default=0),
        all(one.steady for one in rounds),
        interleaved,
        tuple(one.number for one in rounds for _ in one.seconds),
        tuple(one.opening for one in rounds for _ in one.seconds),
        _joined_windows([one.end_to_end for one in rounds]),
        _joined_windows([one.compute for one in rounds]),
    )


def _joined_windows(windows: Sequence[Window | None]) -> Window | None:
    """The windows of all rounds; None where a round has none, because the latencies are then of more calls."""
    known = [one for one in windows if one is not None]
    return Window.joined(known) if known and len(known) == len(windows) else None
