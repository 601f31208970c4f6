import itertools

import pytest

from workbench.backends.base import Session
from workbench.errors import Cancelled
from workbench.measuring.timing import MIN_CALLS, WINDOWS, time_calls, time_in_turns, warm_up


class Scripted(Session):
    """Answers ``time`` from a script of seconds, the last of which goes on for ever, without waiting for any."""

    def __init__(self, *seconds: float, heard: list | None = None, name: str = ""):
        self._script = itertools.chain(seconds, itertools.repeat(seconds[-1]))
        self.calls, self._heard, self._name = 0, heard if heard is not None else [], name

    def run(self, feeds):
        raise NotImplementedError

    def time(self, feeds, repeats):
        self.calls += repeats
        self._heard.append(self._name)
        return list(itertools.islice(self._script, repeats))

    def memory(self):
        return 0


def test_a_steady_session_is_warm_after_three_windows_that_agree():
    session = Scripted(0.1)  # one call fills a window of 0.1 s
    warm = warm_up(session, {}, limit=5)
    assert warm == (2 + WINDOWS, 1, True)
    assert session.calls == warm.calls


def test_warming_up_goes_on_while_the_times_fall():
    falling = [0.1 * 1.03**-n for n in range(20)]  # each 3 % under the one before: never three within 2 %
    warm = warm_up(Scripted(*falling, falling[-1]), {}, limit=60)
    assert warm.settled
    assert warm.calls >= len(falling)


def test_times_that_wander_end_the_warm_up_at_its_limit_and_say_so():
    wandering = itertools.islice(itertools.cycle([0.1, 0.105]), 10_000_000)
    session = Scripted(0.1)
    session._script = wandering
    assert not warm_up(session, {}, limit=0.02).settled


def test_a_window_holds_as_many_calls_as_fill_a_tenth_of_a_second():
    assert warm_up(Scripted(0.001), {}, limit=1).per_window == 100


def test_what_was_called_to_warm_up_is_not_among_the_timed_calls():
    slow_start = [1.0] * 4
    latency = time_calls(Scripted(*slow_start, 0.02), {}, seconds=0.01)
    assert set(latency.seconds) == {0.02}
    assert latency.warmup_calls > len(slow_start)
    assert latency.settled


def test_a_session_slower_than_the_time_limit_is_still_timed_ten_times():
    assert len(time_calls(Scripted(60.0), {}, seconds=1e-9).seconds) == MIN_CALLS == 10


def test_progress_names_the_stages_and_can_cancel():
    told = []
    time_calls(Scripted(0.05), {}, seconds=0.01, progress=lambda *call: told.append(call))
    assert [stage for stage, _ in itertools.groupby(told, lambda call: call[0])] == ["warm-up", "latency"]
    assert told[-1] == ("latency", 10, 10)

    def cancel(stage, done, total):
        if stage == "latency":
            raise Cancelled

    session = Scripted(0.05)
    with pytest.raises(Cancelled):
        time_calls(session, {}, seconds=1000, progress=cancel)


def test_sessions_take_turns_in_an_order_that_is_reversed_each_round():
    heard = []
    pairs = [(Scripted(0.1, heard=heard, name=name), {}) for name in "ab"]
    first, second = time_in_turns(pairs, seconds=1e-9, turns="t")
    timed = "".join(heard[-2 * MIN_CALLS :])
    assert timed == "abba" * (MIN_CALLS // 2)
    assert len(first.seconds) == len(second.seconds) == MIN_CALLS
    assert first.turns == second.turns == "t"


def test_sessions_of_different_speed_get_equally_many_calls_per_turn():
    fast, slow = time_in_turns([(Scripted(0.001), {}), (Scripted(0.05), {})], seconds=1e-9)
    assert len(fast.seconds) == len(slow.seconds)
    assert (set(fast.seconds), set(slow.seconds)) == ({0.001}, {0.05})
