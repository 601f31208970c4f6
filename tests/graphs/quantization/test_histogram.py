import numpy as np
import pytest

from workbench.graphs.quantization.histogram import BINS, Histogram, magnitudes


def gathered(*parts):
    histogram = Histogram()
    for part in parts:
        histogram.add(np.asarray(part, np.float32))
    return histogram


@pytest.fixture
def values():
    return np.random.default_rng(0).standard_normal(50_000).astype(np.float32)


def test_counts_are_those_of_numpy(values):
    histogram = gathered(values)
    expected, _ = np.histogram(values, bins=2 * BINS, range=(-histogram.reach, histogram.reach))
    np.testing.assert_array_equal(histogram.counts, expected)


def test_extremes_are_exact_and_at_least_half_of_the_bins_lie_within(values):
    histogram = gathered(values)
    assert (histogram.low, histogram.high) == (values.min(), values.max())
    assert histogram.reach / 2 < np.abs(values).max() <= histogram.reach


def test_the_cut_and_the_order_of_the_stream_do_not_matter(values):
    small, large = values * np.float32(0.01), values * np.float32(37)
    whole = gathered(np.concatenate([small, values, large]))
    for parts in ((small, values, large), (large, small, values), (values[:7], small, values[7:], large)):
        pieces = gathered(*parts)
        assert pieces.reach == whole.reach
        np.testing.assert_array_equal(pieces.counts, whole.counts)


def test_the_reach_itself_is_counted_in_the_last_bin():
    histogram = gathered([1.0, -1.0, 0.0])
    assert histogram.reach == 1.0
    assert (histogram.counts[0], histogram.counts[BINS], histogram.counts[-1]) == (1, 1, 1)


def test_zeros_are_counted_before_and_after_the_range_is_known():
    histogram = gathered(np.zeros(5), [2.0], np.zeros(3))
    assert histogram.counts[BINS] == 8
    assert histogram.counts.sum() == 9


@pytest.mark.parametrize(("bad", "name"), [(np.nan, "NaN"), (np.inf, "infinity"), (-np.inf, "infinity")])
def test_what_is_not_finite_is_refused_and_nothing_is_counted(bad, name):
    histogram = gathered([1.0])
    with pytest.raises(ValueError, match=name):
        histogram.add(np.array([0.5, bad], np.float32))
    assert histogram.counts.sum() == 1


def test_magnitudes_fold_both_sides_and_stop_at_the_largest():
    histogram = gathered([0.1, -0.1, 0.3, -0.7])
    counts, width = magnitudes(histogram.counts, histogram.reach, 0.7)
    assert counts.sum() == 4
    assert counts[int(0.1 / width)] == 2
    assert len(counts) == int(0.7 / width) + 1
    assert counts[-1] == 1
