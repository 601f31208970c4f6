"""One count over many steps never goes back, ends at the whole, and says how many seconds are left."""

import pytest

from workbench.errors import Cancelled
from workbench.progress import PARTS, Meter, Work, part


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def counted(works):
    """A meter on a clock of its own, and the calls that it makes."""
    clock, calls = Clock(), []
    return Meter(lambda *call: calls.append(call), works, clock), clock, calls


def test_the_progress_of_steps_becomes_the_progress_of_the_whole():
    meter, clock, calls = counted({"long": Work(3), "short": Work(1)})
    first = meter.step("first", "long", weight=3)
    clock.now = 1.5
    first("reading", 5, 10)
    first("writing", 1, 10)  # a second stage of the same step
    clock.now = 3.0
    first("writing", 10, 10)
    second = meter.step("second", "short")
    clock.now = 4.0
    second("", 1, 1)
    assert calls[:2] == [("first", 0, PARTS), ("first: reading", 375, PARTS)]
    counts = [done for _, done, _ in calls]
    assert counts == sorted(counts)
    assert calls[-2:] == [("second", 750, PARTS), ("second", PARTS, PARTS)]


def test_steps_that_ended_say_how_long_the_others_of_their_kind_will_take():
    meter, clock, calls = counted({"engine": Work(4, 1.0), "cell": Work(2, 10.0)})
    meter.step("first", "engine")
    clock.now = 20.0
    meter.step("second", "engine")  # 20 s so far; three more such and two cells of 10 s are left
    assert calls[-1] == ("second", round(PARTS * 20 / (20 + 60 + 20)), PARTS)


def test_the_first_step_of_a_kind_tells_by_its_own_pace_when_it_is_slower_than_expected():
    meter, clock, calls = counted({"engine": Work(2, 1.0)})
    first = meter.step("first", "engine")
    clock.now = 10.0
    first("", 1, 4)  # 30 s are left of this one, and 40 s of the next
    assert calls[-1] == ("first", round(PARTS * 10 / 80), PARTS)


def test_skipped_steps_are_not_waited_for():
    meter, clock, calls = counted({"engine": Work(5, 10.0)})
    first = meter.step("first", "engine")
    meter.skip("engine", 3)
    clock.now = 10.0
    first("", 1, 1)
    assert calls[-1] == ("first", PARTS // 2, PARTS)


def test_equal_parts_count_on():
    calls = []
    for index in range(2):
        each = part(lambda *call: calls.append(call), index, 2)
        each("reading", 0, 10)
        each("reading", 10, 10)
    assert [done / total for _, done, total in calls] == [0, 0.5, 0.5, 1]


def test_a_step_can_cancel_the_work():
    def cancel(stage, done, total):
        if stage.endswith("reading"):
            raise Cancelled

    step = Meter(cancel, {"only": Work(1)}).step("only", "only")
    with pytest.raises(Cancelled):
        step("reading", 1, 2)
