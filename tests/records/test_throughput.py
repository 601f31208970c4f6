"""Counted throughput, against figures computed by hand."""

import pytest

from workbench.errors import WorkbenchError
from workbench.records import Window, decode, encode


def test_a_rate_is_all_calls_over_all_seconds_and_not_the_mean_of_the_stretches():
    window = Window((10, 0, 20), (1.0, 2.0, 1.0))
    assert window.calls_per_second == 30 / 4
    assert window.rates == (10, 0, 20)
    assert decode(Window, encode(window)) == window


def test_completions_are_cut_into_stretches_of_equal_length_that_lose_no_call():
    window = Window.of_completions([0.4, 1.0, 0.1, 0.9, 0.2], 2)
    assert window == Window((3, 2), (0.5, 0.5))
    assert Window.of_completions([3.0], 25) == Window((1,), (3.0,))
    many = Window.of_completions([0.001 * n for n in range(1, 1001)], 7)
    assert sum(many.calls) == 1000
    assert many.calls_per_second == pytest.approx(1000)


def test_joined_windows_lie_one_after_the_other():
    assert Window.joined([Window((1,), (0.5,)), Window((2, 3), (1.0, 2.0))]) == Window((1, 2, 3), (0.5, 1.0, 2.0))


@pytest.mark.parametrize(
    ("calls", "seconds"), [((), ()), ((1,), ()), ((1, 2), (1.0,)), ((-1,), (1.0,)), ((1,), (0.0,))]
)
def test_a_window_of_no_time_or_with_other_counts_than_seconds_is_refused(calls, seconds):
    with pytest.raises(WorkbenchError, match="calls and the seconds of each stretch"):
        Window(calls, seconds)


def test_the_energy_of_joined_windows_is_known_where_that_of_each_is():
    known, unknown = Window((1,), (0.5,), 2.0), Window((1,), (0.5,))
    assert Window.joined([known, known]).joules == 4.0
    assert Window.joined([known, unknown]).joules is None
    with pytest.raises(WorkbenchError, match="number of joules"):
        Window((1,), (0.5,), -1.0)
