"""One count over many steps never goes back, and ends at the whole."""

import pytest

from workbench.errors import Cancelled
from workbench.progress import PARTS, Meter


def test_the_progress_of_steps_becomes_the_progress_of_the_whole():
    calls = []
    meter = Meter(lambda *call: calls.append(call), total=4)
    first = meter.step("first", weight=3)
    first("reading", 5, 10)
    first("writing", 1, 10)  # a second stage of the same step
    first("writing", 10, 10)
    meter.step("second")("", 1, 1)
    assert calls[:2] == [("first", 0, PARTS), ("first: reading", 375, PARTS)]
    counts = [done for _, done, _ in calls]
    assert counts == sorted(counts)
    assert calls[-2:] == [("second", 750, PARTS), ("second", PARTS, PARTS)]


def test_a_step_can_cancel_the_work():
    def cancel(stage, done, total):
        if done:
            raise Cancelled

    step = Meter(cancel, total=1).step("only")
    with pytest.raises(Cancelled):
        step("reading", 1, 2)
