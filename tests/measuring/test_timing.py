import itertools

import pytest

from workbench.backends.base import Session
from workbench.errors import Cancelled
from workbench.measuring.timing import (
    MIN_CALLS,
    OPENINGS,
    WINDOWS,
    interleaved_rounds,
    joined,
    openings_in,
    rounds_in,
    time_calls,
    warm_up,
)


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
    assert warm == (2 + WINDOWS, 0.1, True)
    assert warm.per_window == 1
    assert session.calls == warm.calls
    assert warm_up(Scripted(0.001), {}, limit=1).per_window == 100


def test_warming_up_goes_on_while_the_times_fall():
    falling = [0.1 * 1.03**-n for n in range(20)]  # each 3 % under the one before: never three within 2 %
    warm = warm_up(Scripted(*falling, falling[-1]), {}, limit=60)
    assert warm.steady
    assert warm.calls >= len(falling)


def test_times_that_wander_end_the_warm_up_at_its_limit_and_say_so():
    wandering = itertools.islice(itertools.cycle([0.1, 0.105]), 10_000_000)
    session = Scripted(0.1)
    session._script = wandering
    assert not warm_up(session, {}, limit=0.02).steady


def test_what_was_called_to_warm_up_is_not_among_the_timed_calls():
    slow_start = [1.0] * 4
    latency = time_calls(Scripted(*slow_start, 0.02), {}, seconds=0.01)
    assert set(latency.seconds) == {0.02}
    assert latency.warmup_calls > len(slow_start)
    assert latency.steady


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


def interleaved(sessions, taken=None, **arguments):
    """Rounds by the name of their session, and the names in the order in which rounds were taken."""
    rounds, order = {name: [] for name in sessions}, []
    taken = {name: () for name in sessions} | (taken or {})
    for name, one in interleaved_rounds(taken, lambda name: (sessions[name], {}), **arguments):
        rounds[name].append(one)
        order.append(name)
    return rounds, "".join(order)


def test_every_round_times_each_session_once_in_random_order():
    rounds, order = interleaved({name: Scripted(0.01) for name in "ab"}, seconds=4)
    assert {len(of_one) for of_one in rounds.values()} == {100}
    assert [one.number for one in rounds["a"]] == list(range(100))
    pairs = [order[i : i + 2] for i in range(0, 200, 2)]
    assert set(pairs) == {"ab", "ba"}
    assert 20 < pairs.count("ab") < 80  # a fair coin: 50, with a deviation of 5


def test_each_interleaved_session_is_timed_for_the_seconds_asked_for_and_ten_times_at_least():
    sessions = {
        "fast": Scripted(0.001),
        "slow": Scripted(0.05),
        "slower": Scripted(0.15),
        "slowest": Scripted(60.0),
    }
    rounds, _ = interleaved(sessions, seconds=2)
    calls = {name: [seconds for one in rounds[name] for seconds in one.seconds] for name in rounds}
    assert sum(calls["fast"]) == pytest.approx(2, rel=0.01)
    assert 2 <= sum(calls["slow"]) < 3
    assert 2 <= sum(calls["slower"]) < 4
    assert MIN_CALLS <= len(calls["slowest"]) < 2 * MIN_CALLS
    assert [set(of_one) for of_one in calls.values()] == [{0.001}, {0.05}, {0.15}, {60.0}]


def test_of_two_slow_sessions_one_takes_part_wherever_the_other_does():
    rounds, _ = interleaved({"slow": Scripted(0.15), "slowest": Scripted(60.0)}, seconds=2)
    slow, slowest = ({one.number for one in rounds[name]} for name in ("slow", "slowest"))
    assert slowest < slow < set(range(rounds_in(2)))
    assert len(slowest) >= MIN_CALLS


def test_long_timings_have_more_rounds_and_not_longer_ones():
    rounds, _ = interleaved({"a": Scripted(0.01), "b": Scripted(0.01)}, seconds=10)
    assert len(rounds["a"]) == 250
    assert sum(rounds["a"][0].seconds) == pytest.approx(0.04)


def test_rounds_that_were_taken_earlier_are_not_taken_again_and_their_session_stays_closed():
    sessions = {"a": Scripted(0.1), "b": Scripted(0.1)}
    earlier, _ = interleaved(sessions, seconds=1)
    rounds, order = interleaved(sessions, {"a": earlier["a"][:-1]}, seconds=1)
    assert [one.number for one in rounds["a"]] == [earlier["a"][-1].number]
    assert order.count("b") == len(earlier["b"])
    assert interleaved({}, earlier, seconds=1) == ({}, "")  # a session that is asked for raises KeyError


class Opened(Scripted):
    """Writes down when it is opened and closed."""

    def __enter__(self):
        self._heard.append(f"open {self._name}")
        return self

    def close(self):
        self._heard.append(f"close {self._name}")


def test_sessions_are_closed_together_and_opened_anew_in_random_order_every_few_rounds():
    heard = []
    sessions = {name: Opened(0.001, heard=heard, name=name) for name in "abc"}
    rounds, _ = interleaved(sessions, seconds=4)
    turns = [word for word in heard if " " in word]
    opened = [[turns.pop(0) for _ in range(6)] for _ in range(len(turns) // 6)]
    assert len(opened) == OPENINGS == 8
    assert all({word.split()[0] for word in six[:3]} == {"open"} for six in opened)
    assert all({word.split()[0] for word in six[3:]} == {"close"} for six in opened)
    assert len({tuple(six[:3]) for six in opened}) > 1
    for of_one in rounds.values():
        lengths = [len(list(group)) for _, group in itertools.groupby(one.opening for one in of_one)]
        assert len(lengths) == 8
        assert set(lengths) == {12, 13}
    assert [one.opening for one in rounds["a"]] == [one.opening for one in rounds["b"]]


def test_every_opening_is_warmed_up_before_it_is_timed():
    cold = {name: [] for name in "ab"}

    class Cold(Scripted):
        """Its first two calls after it was opened take a second."""

        def __enter__(self):
            self._script = itertools.chain([1.0, 1.0], itertools.repeat(0.01))
            cold[self._name].append(self.calls)
            return self

    rounds, _ = interleaved({name: Cold(0.01, name=name) for name in "ab"}, seconds=4)
    assert all(len(calls) > 1 for calls in cold.values())
    assert {seconds for of_one in rounds.values() for one in of_one for seconds in one.seconds} == {0.01}


@pytest.mark.parametrize(
    ("seconds", "reopening_s", "expected"),
    [
        (4, 0.25, 8),
        (10, 0.25, 20),  # one for each half second, so that a longer run narrows the interval of a verdict
        (4, 1.0, 5),  # four more of a second each
        (2, 3.0, 1),
        (0.05, 0.1, 1),
    ],
)
def test_openings_after_the_first_take_no_longer_than_the_timed_calls(seconds, reopening_s, expected):
    assert openings_in(seconds, reopening_s) == expected


def test_before_a_round_a_call_of_every_session_is_left_out_where_one_makes_several_calls():
    fast, slow = Scripted(0.001), Scripted(0.03)
    rounds, _ = interleaved({"fast": fast, "slow": slow}, seconds=1)
    assert len(rounds["fast"][0].seconds) >= 4 > len(rounds["slow"][0].seconds)
    openings = 1 + rounds["slow"][-1].opening
    timed = sum(len(one.seconds) for one in rounds["slow"])
    again = 2 + 4  # calls of 30 ms that warm it up again: two, and those of a window
    assert slow.calls == rounds["slow"][0].warmup_calls + again * (openings - 1) + timed + len(rounds["slow"])


def test_rounds_that_are_taken_later_belong_to_new_openings():
    sessions = {"a": Scripted(0.001), "b": Scripted(0.001)}
    earlier, _ = interleaved(sessions, seconds=4)
    half = {name: rounds[:50] for name, rounds in earlier.items()}
    later, _ = interleaved(sessions, half, seconds=4)
    assert min(one.opening for one in later["a"]) == 1 + max(one.opening for one in half["a"])
    assert [one.number for one in later["a"]] == list(range(50, 100))


def test_closing_the_rounds_closes_the_sessions():
    heard = []
    rounds = interleaved_rounds({"a": ()}, lambda name: (Opened(0.01, heard=heard, name=name), {}), seconds=1)
    next(rounds)
    assert "close a" not in heard
    rounds.close()
    assert heard[-1] == "close a"


def test_joined_rounds_hold_the_number_of_the_round_of_every_call():
    rounds, _ = interleaved({"a": Scripted(0.01)}, seconds=1)
    latency = joined(rounds["a"][::-1], "t")
    assert latency.rounds == tuple(n for n in range(rounds_in(1)) for _ in range(4))
    assert len(latency.seconds) == len(latency.rounds) == len(latency.openings)
    assert latency.openings == tuple(one.opening for one in rounds["a"] for _ in one.seconds)


def test_cancelling_in_the_warm_up_of_interleaved_sessions_stops_it():
    told = []

    def cancel(stage, done, total):
        told.append((stage, done, total))
        if len(told) == 3:
            raise Cancelled

    with pytest.raises(Cancelled):
        interleaved({"a": Scripted(0.1)}, seconds=1000, progress=cancel)
    assert set(told) == {("latency", 0, 25000)}
